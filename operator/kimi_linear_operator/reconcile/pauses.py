"""Pauses between looks at something that no watch shows. While nothing changes, they become longer."""

from collections.abc import Callable
from dataclasses import dataclass, field

from kimi_linear_operator.reconcile.cached_object import Key

LONGEST_PAUSE_SECONDS = 300.0
"""The longest pause. So even thousands of resources that wait for ever cost few passes."""

# A pause is this part of the time that the resource has waited. So it makes the wait at most this much longer.
_PART = 0.25


@dataclass
class Pauses:
    """Since when resources have waited for something that no watch shows.

    The times are not read from a status, because users can write any times into a status.

    Attributes:
        clock: Returns monotonic seconds.
    """

    clock: Callable[[], float]
    # By resource: what it waits for, and since when.
    _waits: dict[Key, tuple[str, float]] = field(default_factory=dict)

    def next(self, key: Key, cause: str, shortest: float | None) -> float | None:
        """Return the seconds until the next look.

        Args:
            key: The resource that waits.
            cause: What it waits for. With another cause, the pauses begin again.
            shortest: The first pause in seconds, None if the resource does not wait any more.
        """
        if shortest is None:
            self.forget(key)
            return None
        known, since = self._waits.get(key, ("", 0.0))
        if key not in self._waits or known != cause:
            since = self.clock()
            self._waits[key] = cause, since
        return max(shortest, min((self.clock() - since) * _PART, LONGEST_PAUSE_SECONDS))

    def forget(self, key: Key) -> None:
        """Forget a resource that does not wait any more, or is gone."""
        self._waits.pop(key, None)
