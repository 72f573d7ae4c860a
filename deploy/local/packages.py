"""Python packages outside the development environment, in the user's cache."""

import fcntl
import hashlib
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from commands import LocalClusterError, say


def installed(cache: Path, name: str, what: str, requirements: Sequence[Path]) -> Path:
    """Return a folder with only the packages that these files pin by hash; install them if the folder does not exist.

    Raises:
        LocalClusterError: They could not be installed.
    """
    made_of = [*(file.read_text() for file in requirements), sys.version, platform.machine()]
    folder = cache / f"{name}-{hashlib.sha256(''.join(made_of).encode()).hexdigest()[:12]}"
    cache.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            say(f"{what} is installed into the cache, once ...")
            _install(folder, requirements)
    return folder


def _install(folder: Path, requirements: Sequence[Path]) -> None:
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as partial:
        unpacked = Path(partial) / "unpacked"
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        options = ["--require-hashes", "--only-binary", ":all:", "--target", str(unpacked)]
        files = [word for file in requirements for word in ("--requirement", str(file))]
        done = subprocess.run([*pip, *options, *files], stdout=sys.stderr)
        if done.returncode:
            names = ", ".join(file.name for file in requirements)
            raise LocalClusterError(f"pip could not install {names} (see above). Run the same command again to retry.")
        unpacked.rename(folder)
