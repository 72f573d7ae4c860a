"""Debian's packages: programs for this machine, and a small system to make images from."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from commands import LocalClusterError, last_lines, run, say

_SUITE = "bookworm"
# The packages of an image of Python, as in python:3.11-slim-bookworm.
_PACKAGES = "python3,python3-venv,ca-certificates"
# Files that an image does not need. They are half of its size.
_LEFT_OUT = ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/locale", "usr/share/man")
BASE = repr((_SUITE, _PACKAGES, _LEFT_OUT))
"""A hash that changes with the contents of the base."""
_SYSTEM_PROGRAMS = ("/usr/sbin", "/sbin")
_SECONDS = 600


def missing(packages: Mapping[str, str]) -> list[str]:
    """The missing packages among these. Each is given with one of its programs or files."""
    return sorted(package for program, package in packages.items() if not find(program))


def find(program: str) -> str | None:
    """The path of a program, even if root's folders are not on the PATH. A path is returned as it is."""
    return shutil.which(program, path=os.pathsep.join([os.environ.get("PATH", os.defpath), *_SYSTEM_PROGRAMS]))


def obstacle(packages: Mapping[str, str]) -> str | None:
    """Why the missing packages among these cannot be installed.

    None if they can be installed, or if none is missing.
    """
    if (names := missing(packages)) and (os.geteuid() or not find("apt-get")):
        return f"Needed, and only root can install them on Debian: {', '.join(names)}"
    return None


def ensure_installed(packages: Mapping[str, str]) -> None:
    """Install the missing packages among these."""
    if not (names := missing(packages)):
        return
    if reason := obstacle(packages):
        raise LocalClusterError(f"{reason}.")
    say(f"Installing Debian packages: {', '.join(names)} ...")
    # The lists of packages may be old, and images of Debian contain none. If a package source cannot be reached, the
    # installation still continues.
    _apt("update")
    if not _apt("install", "--yes", "--no-install-recommends", *names):
        raise LocalClusterError(f"apt-get could not install {', '.join(names)} (see above). Install them, then retry.")


def unpacked(package: str, cache: Path) -> Path:
    """Return a folder with the files of a package.

    The package is not installed, because that would also start its service.
    """
    return cache / f"debian-{package}"


def ensure_unpacked(package: str, cache: Path) -> bool:
    """Download a package and unpack it into the cache, unless it is there. Return whether this succeeded."""
    folder = unpacked(package, cache)
    if folder.exists() or not find("apt-get"):
        return folder.exists()
    say(f"Unpacking Debian's package {package} ...")
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        # Without root, the lists of packages cannot be updated.
        if _apt("download", package, cwd=scratch) or (_apt("update") and _apt("download", package, cwd=scratch)):
            [archive] = Path(scratch).glob("*.deb")
            run(["dpkg-deb", "--extract", archive, Path(scratch) / "files"])
            (Path(scratch) / "files").rename(folder)
    return folder.exists()


def make_base(target: Path) -> None:
    """Put a minimal Debian with Python into a new folder. It takes a minute, most of it downloads of 70 MB."""
    ensure_installed({"debootstrap": "debootstrap"})
    say(f"Making a base image of Debian {_SUITE} from packages, once (about a minute) ...")
    debootstrap = [find("debootstrap"), "--variant=minbase", f"--include={_PACKAGES}", _SUITE, target]
    # The mounts of debootstrap disappear with its mount namespace, even after an interrupt.
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", *map(str, debootstrap)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_SECONDS,
    )
    if done.returncode:
        raise LocalClusterError(f"debootstrap failed:\n{last_lines(done.stdout)}")
    for folder in _LEFT_OUT:
        shutil.rmtree(target / folder, ignore_errors=True)


def _apt(*arguments: str, cwd: str | None = None) -> bool:
    # Programs read stdout (see `cluster.py env`), so apt's output goes to stderr.
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    # Another program may hold apt's lock, for example because a new machine updates itself.
    command = ["apt-get", "--quiet=2", "--option=DPkg::Lock::Timeout=300", *arguments]
    return subprocess.run(command, env=environment, cwd=cwd, stdout=sys.stderr, timeout=_SECONDS).returncode == 0
