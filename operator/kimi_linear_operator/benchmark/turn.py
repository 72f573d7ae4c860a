"""Which of several benchmarks of one server may run: they would measure each other."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

REST_SECONDS = 300.0
"""How long a benchmark that gave its turn back lets others go first before it tries again."""

# An image that cannot be pulled is mostly a mistake in the spec; a node that is being added takes about as long.
_BLOCKED_SECONDS = 300.0
# An image of tens of gigabytes takes as long as it takes.
_ON_THE_WAY = ("ModelLoading", "Starting")
# A queue takes its time, and a Job that leaves it has to queue up again.
_QUEUED = ("JobSuspended", "Queued")
_QUEUED_SECONDS = 3600.0


Rank = tuple[bool, bool, str, bool, str, str, str, str]


@dataclass(frozen=True)
class Contender:
    """A benchmark that runs or wants to.

    Attributes:
        namespace: Its namespace.
        name: Its name.
        created: When it was created, as RFC 3339.
        started: When its first suite started, empty if none has.
        is_active: Whether a suite of it runs.
        failed: When it could not start and gave its turn back, empty if it has not, or has started since.
        is_guest: Whether it measures a server of another namespace.
    """

    namespace: str
    name: str
    created: str
    started: str
    is_active: bool
    failed: str = ""
    is_guest: bool = False


def may_hold_seconds(reason: str) -> float:
    """Return how long a suite that cannot start may hold its turn while other benchmarks of the server wait."""
    if reason in _ON_THE_WAY:
        return math.inf
    return _QUEUED_SECONDS if reason in _QUEUED else _BLOCKED_SECONDS


def first(contenders: Iterable[Contender]) -> Contender | None:
    """Return whose turn it is: who runs goes on; else who has begun, then the oldest; the alphabet decides the rest.

    Those of the server's own namespace come before all others, or other namespaces could keep them waiting without end.
    Those that could not start come after the rest of these, the one that has waited longest since then first.
    """
    return min(contenders, key=rank, default=None)


def rank(one: Contender) -> Rank:
    """Return what contenders are ordered by, the first one first."""
    order = (one.failed, not one.started, one.started, one.created, one.namespace, one.name)
    return not one.is_active, one.is_guest, *order
