"""Virtual environments in the user's cache, created once for all checkouts."""

import fcntl
import hashlib
import platform
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from binaries import cache_folder
from commands import LocalClusterError, say


def leave_as_installed(_environment: Path) -> None:
    """Change nothing."""


@dataclass(frozen=True)
class VirtualEnvironment:
    """An environment with exactly the packages that a file pins with hashes.

    Attributes:
        name: The beginning of its folder's name.
        what: What it contains, in words for the user who waits.
        requirements: The file.
        complete: Called with the environment's folder, to add files that no package contains.
        made_by: Other files. If one of them changes, another environment is created.
    """

    name: str
    what: str
    requirements: Path
    complete: Callable[[Path], None] = leave_as_installed
    made_by: Sequence[Path] = ()

    @property
    def folder(self) -> Path:
        """Its folder. The name changes with its contents."""
        texts = [*(file.read_text() for file in (self.requirements, *self.made_by)), sys.version, platform.machine()]
        return cache_folder() / f"{self.name}-{hashlib.sha256(''.join(texts).encode()).hexdigest()[:12]}"

    @property
    def python(self) -> Path:
        """Its Python."""
        return self.folder / "bin/python"

    @property
    def packages(self) -> Path:
        """The folder of its packages."""
        return packages_in(self.folder)

    def ensure_made(self) -> None:
        """Create it, unless it exists.

        Raises:
            LocalClusterError: Its packages could not be installed.
        """
        folder = self.folder
        if folder.exists():
            return
        folder.parent.mkdir(parents=True, exist_ok=True)
        with folder.with_name(f"{folder.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            # Another process may have created it while this one waited.
            if not folder.exists():
                self._make(folder)

    def _make(self, folder: Path) -> None:
        say(f"Installing {self.what} into the cache, once ...")
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{self.name}-") as partial:
            environment = Path(partial) / "environment"
            venv.create(environment, with_pip=True)
            self._install(environment)
            self.complete(environment)
            # The environment can be moved. Only the scripts in its bin contain the original path, and these are not
            # used.
            environment.rename(folder)

    def _install(self, environment: Path) -> None:
        pip = [str(environment / "bin/python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        # The list contains all dependencies. Python compiles modules when they are imported.
        exact = ["--no-deps", "--require-hashes", "--only-binary", ":all:", "--no-compile"]
        done = subprocess.run([*pip, *exact, "--requirement", str(self.requirements)], stdout=sys.stderr)
        if done.returncode:
            what = f"{self.what[0].upper()}{self.what[1:]}"
            raise LocalClusterError(f"{what} could not be installed (see above).")


def packages_in(environment: Path) -> Path:
    """Return the folder of an environment's packages."""
    return next(environment.glob("lib/python3*/site-packages"))
