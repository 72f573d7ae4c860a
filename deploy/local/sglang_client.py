"""SGLang's own benchmark clients, without its server and torch: a virtual environment in the user's cache.

`sglang_client.py` makes it, once for all checkouts.
"""

import fcntl
import hashlib
import platform
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from binaries import cache_folder
from commands import LocalClusterError, say

REQUIREMENTS = Path(__file__).parents[2] / "requirements/sglang-client.txt"


def folder() -> Path:
    """The folder of the environment; its name has a hash of the contents."""
    made_of = REQUIREMENTS.read_text() + sys.version + platform.machine()
    return cache_folder() / f"sglang-client-{hashlib.sha256(made_of.encode()).hexdigest()[:12]}"


def python() -> Path:
    """The environment's Python, which can import sglang."""
    return folder() / "bin/python"


def package() -> Path:
    """The folder of the package sglang."""
    return next(folder().glob("lib/python*/site-packages/sglang"))


def ensure_made() -> None:
    """Make the environment, unless it exists.

    Raises:
        LocalClusterError: Its packages could not be installed.
    """
    if folder().exists():
        return
    folder().parent.mkdir(parents=True, exist_ok=True)
    with folder().with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # Another process may have made it while this process waited.
        if not folder().exists():
            _make()


def _make() -> None:
    say("Installing SGLang's benchmark clients into the cache, once (about 500 MB, a minute) ...")
    with tempfile.TemporaryDirectory(dir=folder().parent, prefix=".sglang-client-") as partial:
        environment = Path(partial) / "environment"
        venv.create(environment, with_pip=True)
        pip = [str(environment / "bin/python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        # The list has all that the clients need; most of sglang's own requirements are for its server.
        options = ["--no-deps", "--require-hashes", "--only-binary", ":all:", "--requirement", str(REQUIREMENTS)]
        done = subprocess.run([*pip, *options], stdout=sys.stderr)
        if done.returncode:
            raise LocalClusterError("SGLang's benchmark clients could not be installed (see above).")
        # It can be moved: only the scripts in its bin contain its path, and they are not used.
        environment.rename(folder())


if __name__ == "__main__":
    try:
        ensure_made()
    except LocalClusterError as error:
        sys.exit(str(error))
