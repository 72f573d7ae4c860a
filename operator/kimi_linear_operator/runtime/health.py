"""Liveness and readiness of a replica."""

import time
from collections.abc import Collection
from dataclasses import dataclass, field

from kimi_linear_operator.runtime.endpoints import Readiness
from kimi_linear_operator.runtime.kopf_watch import Watch
from kimi_linear_operator.runtime.scopes import Scope, Scopes
from kimi_linear_operator.runtime.unreadable import Unreadable
from kimi_linear_operator.runtime.work import Work

# If no worker finishes a pass for this long, the workers are stuck. Even with a slow API server, not all passes take so
# long: a pass reads Events for 90 s at most, lists the pods of a suite (90 s for a page), and makes a dozen other
# requests, each with a timeout of 30 s. Only checks before a start may take longer, and only a few of these run at a
# time.
STUCK_SECONDS = 900.0
SILENT_SECONDS = 60.0


@dataclass
class Health:
    """Answers the health checks of a replica.

    Attributes:
        watch: The watching thread.
        scopes: The scopes that were read, and the scopes that cannot be read.
        unreadable: The objects that cannot be read.
        work: The passes that this replica makes while it leads.
        has_read: Whether everything that can be read was read once.
    """

    watch: Watch
    scopes: Scopes
    unreadable: Unreadable
    work: Work
    has_read: bool = field(default=False, init=False)

    def liveness_problems(self) -> list[str]:
        """Return the problems that only a restart of the process can solve."""
        silent, stuck = self.watch.silent_seconds(), self.work.stuck_seconds()
        return [
            *(
                [f"the thread that watches the cluster has not run for {silent:.0f} s"]
                if silent > SILENT_SECONDS
                else []
            ),
            *([f"no worker started or finished a pass for {stuck:.0f} s"] if stuck > STUCK_SECONDS else []),
        ]

    def readiness(self) -> Readiness:
        """Return whether this replica knows the state of the cluster, and which parts are missing."""
        unreadable, unwatched = self.scopes.unreadable(time.monotonic()), self.watch.watched.unwatched()
        degraded = [
            *(f"cannot list {scope}: {reason}" for scope, reason in unreadable.items()),
            *(f"not watching {scope}" for scope in unwatched if scope not in unreadable),
            *self.unreadable.messages(),
        ]
        if not self.has_read:
            return Readiness(["the operator has not read the cluster yet"], degraded)
        if not self.scopes.is_anything_readable() or not self._is_anything_watched(unwatched):
            return Readiness(["the operator cannot read any kind of objects"], degraded)
        return Readiness([], degraded)

    def _is_anything_watched(self, unwatched: Collection[Scope]) -> bool:
        """Return whether the watch of any scope works. Dormant scopes have no watch."""
        return any(scope not in unwatched and not self.scopes.is_dormant(scope) for scope in self.scopes)
