"""The kernels that replace SGLang's on a CPU give the same results; the replaced CUDA libraries do nothing."""

import ctypes
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cpu_engine import cuda_libraries, environment

COMPARE = Path(__file__).with_name("compare_kernels.py")
MISSING = cuda_libraries.Missing(
    "libnothing.so.1", {"": frozenset({"cuNothing"}), "libnothing.so.1": frozenset({"cuLess", "cuLeast"})}
)


def test_cpu_kernels_compute_the_same_as_sglangs_own() -> None:
    if reason := environment.obstacle():
        pytest.skip(reason)
    release = environment.environment("0.5.7")
    release.ensure_made()
    variables = os.environ | dict(environment.VARIABLES) | {"TRITON_INTERPRET": "1"}
    done = subprocess.run([release.python, COMPARE], env=variables, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    errors = json.loads(done.stdout.splitlines()[-1])
    assert len(errors) == 6
    assert {name: error for name, error in errors.items() if error > 1e-6} == {}


@pytest.mark.parametrize("release", environment.RELEASES)
def test_sglang_needs_at_most_three_gigabytes_of_disk(release: str) -> None:
    if reason := environment.obstacle():
        pytest.skip(reason)
    made = environment.environment(release)
    made.ensure_made()
    assert sum(file.lstat().st_size for file in made.folder.rglob("*")) < 3e9


@pytest.fixture
def library(tmp_path: Path) -> Path:
    file = tmp_path / MISSING.name
    file.write_bytes(cuda_libraries.build(MISSING))
    return file


def test_a_stub_library_has_exactly_the_required_functions(library: Path) -> None:
    loaded = ctypes.CDLL(str(library))
    assert all(hasattr(loaded, name) for name in ("cuNothing", "cuLess", "cuLeast"))
    assert not hasattr(loaded, "cuMore")


def test_a_call_of_a_stub_function_ends_the_process(library: Path) -> None:
    code = f"import ctypes; ctypes.CDLL({str(library)!r}).cuLess()"
    assert subprocess.run([sys.executable, "-c", code]).returncode == -signal.SIGILL
