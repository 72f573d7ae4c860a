"""Decides which of several benchmarks of one server may run.

Two at the same time would distort each other's numbers.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")

REST_SECONDS = 300.0
"""How long a benchmark that gave its turn back lets others go first before it tries again."""

# If an image cannot be pulled, the spec is wrong in most cases. Adding a node takes about as long as this limit.
_BLOCKED_SECONDS = 300.0
# Reasons without a limit, because the pull of an image of tens of gigabytes can take any time.
_PROGRESSING = ("ModelLoading", "Starting")
# A suite in a queue may hold its turn longer, because a new Job starts at the end of the queue.
_QUEUED = ("JobSuspended", "Queued")
_QUEUED_SECONDS = 3600.0


Rank = tuple[bool, bool, str, bool, str, str, str, str]
"""The sort key of contenders of one namespace. The lowest goes first."""

Place = tuple[bool, bool, str, str, str, str, str]
"""The sort key of contenders of several namespaces. The lowest goes first."""

Turns = Mapping[str, str]
"""When the last ended suite of each namespace began on a server, as RFC 3339. It is the time at which the API server
created the suite's Job, because nobody can change this time. A namespace without a suite is left out."""


@dataclass(frozen=True)
class Contender:
    """A benchmark that runs or wants to run.

    Attributes:
        namespace: Its namespace.
        name: Its name.
        created: When it was created, as RFC 3339.
        started: When its first suite started, as RFC 3339; empty if none has.
        is_active: Whether one of its suites runs.
        failed: When it gave its turn back because it could not start, as RFC 3339; empty if it did not, or has started
            after that.
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
    if reason in _PROGRESSING:
        return math.inf
    return _QUEUED_SECONDS if reason in _QUEUED else _BLOCKED_SECONDS


def first(contenders: Iterable[Contender], turns: Turns) -> Contender | None:
    """Return the contender whose turn it is, None if there are none. See `rank` and `place` for the order."""
    firsts = first_of_each_namespace((contender.namespace, rank(contender), contender) for contender in contenders)
    return min(firsts, key=lambda contender: place(contender, turns), default=None)


def first_of_each_namespace(items: Iterable[tuple[str, Rank, T]]) -> Iterable[T]:
    """Return the item with the lowest rank of each namespace, given the namespace and the rank of each item."""
    best: dict[str, tuple[Rank, T]] = {}
    for namespace, item_rank, item in items:
        if namespace not in best or item_rank < best[namespace][0]:
            best[namespace] = item_rank, item
    return [item for _, item in best.values()]


def goes_before(one: Contender, other: Contender, turns: Turns) -> bool:
    """Return whether one contender's turn comes before the turn of another one."""
    if one.namespace == other.namespace:
        return rank(one) < rank(other)
    return place(one, turns) < place(other, turns)


def rank(contender: Contender) -> Rank:
    """Return the sort key of a contender among those of its namespace.

    The order is:

    1. Benchmarks with a running suite.
    2. Benchmarks that did not give their turn back. Of the others, the one that gave its turn back first.
    3. Benchmarks that have started a suite. Of these, the one that started first.
    4. The oldest benchmark; then by name.
    """
    order = (
        contender.failed,
        not contender.started,
        contender.started,
        contender.created,
        contender.namespace,
        contender.name,
    )
    return not contender.is_active, contender.is_guest, *order


def place(contender: Contender, turns: Turns) -> Place:
    """Return the sort key of a contender among the first ones of all namespaces.

    Users can write any time into a status, so a time in a status never moves a benchmark before one of another
    namespace. The order is:

    1. Benchmarks with a running suite.
    2. Benchmarks of the server's own namespace. Guests wait for them.
    3. Benchmarks that did not give their turn back. Of the others, the one that gave its turn back first.
    4. Guests of the namespace whose last suite on this server began first, or that has had none. So namespaces take
       turns.
    5. The oldest benchmark; then by namespace and name.
    """
    turn = turns.get(contender.namespace, "") if contender.is_guest else ""
    order = (contender.failed, turn, contender.created, contender.namespace, contender.name)
    return not contender.is_active, contender.is_guest, *order
