"""Virtual environments with SGLang's server, in the user's cache.

    PYTHONPATH=tests:deploy/local python -m cpu_engine.environment

makes the missing ones. The recipe's release needs a download of 1.2 GB and 2.9 GB of disk; the newest release needs 0.9
GB and 2.7 GB.
"""

import platform
import sys
from collections.abc import Mapping
from pathlib import Path

from commands import exit_code, say
from cpu_engine import completion, cuda_libraries
from virtual_environment import VirtualEnvironment

_REQUIREMENTS = Path(__file__).parents[2] / "requirements"
RELEASES = ("0.5.7", "0.5.23")
"""The recipe's release, and the newest release that runs on a CPU."""
SITE = Path(__file__).with_name("site")
"""The folder on the PYTHONPATH of SGLang's processes."""

VARIABLES: Mapping[str, str] = {
    "SGLANG_USE_CPU_ENGINE": "1",
    # If other programs run, threads that wait for each other make SGLang 40 times slower.
    "OMP_NUM_THREADS": "1",
    # Otherwise PyTorch would compile some functions with g++ for more than a minute in each start.
    "TORCHDYNAMO_DISABLE": "1",
    "PYTHONPATH": str(SITE),
}
"""The environment variables that SGLang needs on a CPU."""

# Without the first two, SGLang makes its caches as large as the machine's memory. Without the third, an idle server
# uses a whole processor.
_COMMON = ("--max-total-tokens=20000", "--max-running-requests=16", "--sleep-on-idle")
ARGUMENTS: Mapping[str, tuple[str, ...]] = {
    "0.5.7": _COMMON,
    # On a CPU, SGLang cannot share the beginnings of prompts between requests of a model with delta attention.
    "0.5.23": (*_COMMON, "--disable-radix-cache"),
}
"""The arguments that SGLang needs, by release."""


def environment(release: str) -> VirtualEnvironment:
    """Return the environment of a release. If it does not exist, create it."""
    return VirtualEnvironment(
        name=f"sglang-server-{release}",
        what=f"SGLang {release} for a CPU",
        requirements=_REQUIREMENTS / f"sglang-server-{release}.txt",
        complete=completion.complete,
        made_by=[Path(cuda_libraries.__file__), Path(completion.__file__)],
    )


def obstacle() -> str | None:
    """Return why SGLang cannot run on this machine; None if it can."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return (
            f"SGLang's packages for a CPU are for Linux on x86-64, and this is {sys.platform} on {platform.machine()}"
        )
    if sys.version_info >= (3, 13):
        return "SGLang's packages for a CPU are for Python 3.11 and 3.12"
    return None


def ensure_made() -> None:
    """Create all environments that can run on this machine.

    Raises:
        LocalClusterError: Packages could not be installed.
    """
    if reason := obstacle():
        say(f"Left out: {reason}.")
        return
    for release in RELEASES:
        environment(release).ensure_made()


if __name__ == "__main__":
    sys.exit(exit_code(ensure_made))
