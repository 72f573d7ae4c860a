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
        is_active: Whether a suite of it runs.
    """

    namespace: str
    name: str
    created: str
    is_active: bool


def first(contenders: Iterable[Contender]) -> Contender | None:
    """Return whose turn it is: who runs goes on, then the older comes first, then the alphabet decides."""
    return min(contenders, key=lambda one: (not one.is_active, one.created, one.namespace, one.name), default=None)
