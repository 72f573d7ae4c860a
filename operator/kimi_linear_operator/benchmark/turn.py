"""Which of several benchmarks of one server may run: they would measure each other."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Contender:
    """A benchmark that runs or wants to.

    Attributes:
        namespace: Its namespace.
        name: Its name.
        created: When it was created, as RFC 3339.
        started: When its first suite started, empty if none has.
        is_active: Whether a suite of it runs.
    """

    namespace: str
    name: str
    created: str
    started: str
    is_active: bool


def first(contenders: Iterable[Contender]) -> Contender | None:
    """Return whose turn it is: who runs goes on, then who has begun, then the oldest; the alphabet decides the rest."""
    return min(contenders, key=_rank, default=None)


def _rank(one: Contender) -> tuple[bool, bool, str, str, str, str]:
    return not one.is_active, not one.started, one.started, one.created, one.namespace, one.name
