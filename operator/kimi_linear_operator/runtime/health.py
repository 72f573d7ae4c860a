"""Whether a replica is alive, and whether it may be relied on."""

import time
from dataclasses import dataclass, field

from kimi_linear_operator.runtime.endpoints import Readiness
from kimi_linear_operator.runtime.kopf_watch import Watch
from kimi_linear_operator.runtime.scopes import Scopes
from kimi_linear_operator.runtime.unreadable import Unreadable
from kimi_linear_operator.runtime.work import Work

# However slow the API server is, not all passes take that long. Looks before a start may, and are a few at a time. Any
# other pass asks for some pages of Events, each given up after 90 s, and a dozen things that are given up after 30 s.
STUCK_SECONDS = 900.0
SILENT_SECONDS = 60.0


@dataclass
class Health:
    """What the health checks of a replica ask.

    Attributes:
        watch: The watching thread.
        scopes: What was read.
        unreadable: Objects that cannot be read.
        work: What is done while this replica leads.
        has_read: Whether everything was read once that can be.
    """

    watch: Watch
    scopes: Scopes
    unreadable: Unreadable
    work: Work
    has_read: bool = field(default=False, init=False)

    def liveness_problems(self) -> list[str]:
        """Return what only a restart can cure."""
        silent, stuck = self.watch.silent_seconds(), self.work.stuck_seconds()
        return [
            *([f"the watching thread gave no sign for {silent:.0f} s"] if silent > SILENT_SECONDS else []),
            *([f"no worker began or ended with a server for {stuck:.0f} s"] if stuck > STUCK_SECONDS else []),
        ]

    def readiness(self) -> Readiness:
        """Return whether this replica knows the state of the cluster, and which parts of it it does not know."""
        unread, unwatched = self.scopes.unreadable(time.monotonic()), self.watch.unwatched()
        unknown = [
            *(f"cannot list {scope}: {why}" for scope, why in unread.items()),
            *(f"not watching {scope}" for scope in unwatched if scope not in unread),
            *self.unreadable.told(),
        ]
        if not self.has_read:
            return Readiness(["the cluster has not been read yet"], unknown)
        if not self.scopes.is_anything_readable() or len(unwatched) == len(tuple(self.scopes)):
            return Readiness(["nothing can be read"], unknown)
        return Readiness([], unknown)
