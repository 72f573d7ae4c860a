"""The control groups of a real node's pods, in one or in many hierarchies (versions 2 and 1)."""

import os
import time
from pathlib import Path

from commands import LocalClusterError

_ROOT = Path("/sys/fs/cgroup")
_SECONDS_TO_EMPTY = 60


def create(name: str) -> None:
    """Make a group in every hierarchy. The kubelet makes the groups below it."""
    for hierarchy in _hierarchies():
        group = hierarchy / name
        group.mkdir(exist_ok=True)
        # In version 1, a new group has neither CPUs nor memory nodes, and without them it accepts no process.
        for file in ("cpuset.cpus", "cpuset.mems"):
            if (group / file).exists() and not (group / file).read_text().strip():
                (group / file).write_text((hierarchy / file).read_text())


def remove(name: str) -> None:
    """Remove a group and the groups below it, after their processes have ended."""
    deadline = time.monotonic() + _SECONDS_TO_EMPTY
    for hierarchy in _hierarchies():
        while left := [folder for folder in _deepest_first(hierarchy / name) if not _removed(folder)]:
            if time.monotonic() > deadline:
                raise LocalClusterError(f"These control groups still have processes in them: {left}")
            time.sleep(0.05)


def left(name: str) -> list[Path]:
    """The existing folders of a group."""
    return [hierarchy / name for hierarchy in _hierarchies() if (hierarchy / name).exists()]


def _hierarchies() -> list[Path]:
    if (_ROOT / "cgroup.controllers").exists():
        return [_ROOT]
    return [folder for folder in sorted(_ROOT.iterdir()) if (folder / "cgroup.procs").exists()]


def _deepest_first(group: Path) -> list[Path]:
    # Unlike rglob, this ignores folders that disappear during the search.
    folders = [Path(folder) for folder, _, _ in os.walk(group)]
    return sorted(folders, key=lambda folder: len(folder.parts), reverse=True)


def _removed(folder: Path) -> bool:
    try:
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
