"""The processes of one local cluster. They are found by their command lines, not by stored process ids.

After a restart of the machine, a stored process id may belong to another process.
"""

import os
import signal
import time
from pathlib import Path

from commands import LocalClusterError, run

# Programs outside the state folder. All other programs run from a copy in the state folder.
_STARTED_FROM_ELSEWHERE = ("kwok", "kwokctl", "unshare", "containerd", "kubelet", "kube-proxy", "coredns")
# A program that waits for a disk ends only after the disk has answered.
_SECONDS_TO_DIE = 60


def belongs_to(command: list[str], state: Path) -> bool:
    """Whether a command line belongs to the cluster in that state folder."""
    if not command:
        return False
    inside = f"{state}/"
    if command[0].startswith(inside):
        return True
    return Path(command[0]).name in _STARTED_FROM_ELSEWHERE and any(inside in word for word in command[1:])


def of_cluster(state: Path) -> dict[int, str]:
    """The running processes of the cluster in that state folder, as names of programs by process id."""
    commands = _commands_from_proc() if Path("/proc/self/cmdline").exists() else _commands_from_ps()
    return {pid: Path(words[0]).name for pid, words in commands.items() if belongs_to(words, state)}


def kill_all(state: Path) -> None:
    """Kill them. Their data is deleted, too, so they need not save anything."""
    deadline = time.monotonic() + _SECONDS_TO_DIE
    while alive := of_cluster(state):
        if time.monotonic() > deadline:
            raise LocalClusterError(f"These processes do not end: {alive}")
        for pid in alive:
            _kill(pid)
        time.sleep(0.05)


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _commands_from_proc() -> dict[int, list[str]]:
    commands = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        # The command line of a zombie process is empty.
        commands[int(folder.name)] = [word for word in words if word]
    return commands


def _commands_from_ps() -> dict[int, list[str]]:
    lines = run(["ps", "-axww", "-o", "pid=,command="]).splitlines()
    return {int(pid): words for pid, *words in (line.split() for line in lines)}
