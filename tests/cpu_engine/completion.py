"""Completes an environment with SGLang's server.

It adds parts that the packages lack, and removes parts that are not needed.

Python's bytecode is written here, because a server may be unable to write it: a pod mounts the environment read-only,
and some machines tell Python to write no bytecode. Without it, each of a server's three processes compiles thousands of
modules.
"""

import os
import shutil
import subprocess
from pathlib import Path

from commands import LocalClusterError, last_lines
from cpu_engine import cuda_libraries
from virtual_environment import packages_in

# Headers for extensions in C++, and NVIDIA's profiler: 190 MB.
_FOR_GPUS = ("torch/include", "triton/backends/nvidia/lib/cupti")
# As a regular expression. Kimi-Linear is in SGLang itself, so only a few models of transformers are imported.
_NOT_IMPORTED = r"/tests?/|/transformers/models/|/pip/"


def complete(environment: Path) -> None:
    """Add the missing libraries and the bytecode to a virtual environment, and remove files that only GPUs need.

    Raises:
        LocalClusterError: Python could not compile.
    """
    cuda_libraries.complete(environment)
    for name in _FOR_GPUS:
        shutil.rmtree(packages_in(environment) / name)
    _compile(environment)


def _compile(environment: Path) -> None:
    python, packages = str(environment / "bin/python"), str(packages_in(environment))
    command = [python, "-m", "compileall", "-qq", "-j0", "-x", _NOT_IMPORTED, packages]
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    # Some packages have files that this Python cannot read, and never imports.
    done = subprocess.run(command, env=variables, capture_output=True, text=True)
    if done.returncode not in (0, 1):
        raise LocalClusterError(f"Python could not compile {environment}:\n{last_lines(done.stderr)}")
