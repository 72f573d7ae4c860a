"""A process's use of processor and memory, and the requests to the API server."""

import json
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from integration.audit import Request, request_of

_TICKS = os.sysconf("SC_CLK_TCK")
_KIB_PER_MIB = 1024


@dataclass(frozen=True)
class Memory:
    """Resident memory of a process, in MiB."""

    now: float
    peak: float


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process and its threads have used: https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html."""
    # The name of the program is in parentheses and can contain any text. User and system time are fields 14 and 15.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def memory(pid: int) -> Memory:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    values = dict(line.split(":", 1) for line in lines)
    now, peak = (int(values[name].split()[0]) / _KIB_PER_MIB for name in ("VmRSS", "VmHWM"))
    return Memory(now, peak)


def busy_seconds() -> float:
    """Return the processor time that this machine has used since its start, including time that its host has taken.

    https://man7.org/linux/man-pages/man5/proc_stat.5.html: user, nice, system, idle, iowait, irq, softirq, steal.
    """
    user, nice, system, _idle, _iowait, *interrupts_and_steal = map(
        int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    )
    return (user + nice + system + sum(interrupts_and_steal)) / _TICKS


@dataclass
class Ledger:
    """The requests in an audit log from some moment on, without requests for leases.

    A watch has two lines, at its start and at its end; only the first counts.
    """

    file: Path
    requests: list[Request] = field(default_factory=list)
    _position: int = 0
    _rest: bytes = b""

    def begin(self) -> None:
        """Forget the requests so far, and begin with the next one."""
        self.collect()
        self.requests.clear()

    def collect(self) -> list[Request]:
        """Read the log from the last position. Return the new requests."""
        with self.file.open("rb") as file:
            file.seek(self._position)
            new = file.read()
        self._position += len(new)
        *lines, self._rest = (self._rest + new).split(b"\n")
        events = (json.loads(line) for line in lines)
        started = (event for event in events if event["verb"] != "watch" or event["stage"] == "ResponseStarted")
        found = [request for request in map(request_of, started) if request.resource != "leases"]
        self.requests += found
        return found

    def of(self, user: str) -> list[Request]:
        """Return a user's requests."""
        return [request for request in self.requests if request.user == user]


def count_by_kind(requests: Iterable[Request]) -> dict[str, int]:
    """Return the number of requests for each verb and resource, the largest number first."""
    return dict(Counter(f"{request.verb} {request.resource}" for request in requests).most_common())
