"""Virtual environments with SGLang's server, in the user's cache.

    PYTHONPATH=tests:deploy/local python -m cpu_engine.environment

makes those that are missing. The recipe's release is 1.2 GB to download and takes 2.9 GB, the newest 0.9 and 2.7.
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
"""The recipe's release, and the newest one that runs."""
SITE = Path(__file__).with_name("site")
"""The folder that SGLang's processes have on PYTHONPATH."""

VARIABLES: Mapping[str, str] = {
    "SGLANG_USE_CPU_ENGINE": "1",
    # Threads that wait for each other beside other programs make it 40 times slower.
    "OMP_NUM_THREADS": "1",
    # PyTorch would compile some functions with g++ for more than a minute, in each start.
    "TORCHDYNAMO_DISABLE": "1",
    "PYTHONPATH": str(SITE),
}
"""What SGLang needs in its environment to run on a CPU."""

# Without the first two, SGLang sizes its caches for all memory of the machine; without the third, an idle server takes
# one of its processors.
_COMMON = ("--max-total-tokens=20000", "--max-running-requests=16", "--sleep-on-idle")
ARGUMENTS: Mapping[str, tuple[str, ...]] = {
    "0.5.7": _COMMON,
    # On a CPU it refuses to share the beginnings of prompts between requests of a model with delta attention.
    "0.5.23": (*_COMMON, "--disable-radix-cache"),
}
"""What SGLang needs on its command line, by release."""


def environment(release: str) -> VirtualEnvironment:
    """Return the environment of a release, which may have to be made."""
    return VirtualEnvironment(
        name=f"sglang-server-{release}",
        what=f"SGLang {release} for a CPU",
        requirements=_REQUIREMENTS / f"sglang-server-{release}.txt",
        complete=completion.complete,
        made_by=[Path(cuda_libraries.__file__), Path(completion.__file__)],
    )


def obstacle() -> str | None:
    """Return why SGLang cannot run here; None if it can."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return (
            f"SGLang's packages for a CPU are for Linux on x86-64, and this is {sys.platform} on {platform.machine()}"
        )
    if sys.version_info >= (3, 13):
        return "SGLang's packages for a CPU are for Python 3.11 and 3.12"
    return None


def ensure_made() -> None:
    """Make all environments, where they can run.

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
