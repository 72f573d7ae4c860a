"""How often fields of children were repaired: two who disagree about a field must not write in turns without end.

The counts are kept in memory only, as the queue keeps its failures: after a restart, they begin anew.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from kimi_linear_operator.store import Address

# Repairs of a field that are made at once: people edit a field several times while they try something.
QUICK_REPAIRS = 5
# Then each waits twice as long as the one before.
FIRST_WAIT_SECONDS = 30.0
LONGEST_WAIT_SECONDS = 300.0
# A field that nobody changed for so long is no longer contested. Longer than the longest wait.
PEACE_SECONDS = 900.0


@dataclass
class _Field:
    """How often a field was repaired in a row, and when last."""

    repairs: int
    last: float


@dataclass
class Repairs:
    """The repairs of all children.

    Attributes:
        clock: Monotonic seconds.
    """

    clock: Callable[[], float]
    _fields: dict[Address, dict[str, _Field]] = field(default_factory=dict)
    _swept: float = 0.0

    def wait_seconds(self, child: Address, fields: Iterable[str]) -> float:
        """Return how long to wait before these fields of a child are repaired, 0 if one of them need not wait."""
        known = self._fields.get(child, {})
        waits = [self._wait(known[name]) if name in known else 0.0 for name in fields]
        return max(0.0, min(waits, default=0.0))

    def record(self, child: Address, fields: Iterable[str], *, is_refused: bool = False) -> None:
        """Note that fields of a child were repaired.

        Args:
            child: The child.
            fields: The fields.
            is_refused: Whether they were changed back while they were written.
        """
        self._sweep()
        known = self._fields.setdefault(child, {})
        for name in fields:
            repairs = known[name].repairs if name in known and not self._is_over(known[name]) else 0
            known[name] = _Field(max(repairs, QUICK_REPAIRS) if is_refused else repairs + 1, self.clock())

    def contested(self, child: Address) -> list[str]:
        """Return the fields of a child that somebody else keeps changing."""
        known = self._fields.get(child, {})
        return [name for name, told in known.items() if told.repairs >= QUICK_REPAIRS and not self._is_over(told)]

    def _wait(self, told: _Field) -> float:
        if told.repairs < QUICK_REPAIRS or self._is_over(told):
            return 0.0
        length = min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2.0 ** (told.repairs - QUICK_REPAIRS))
        return told.last + length - self.clock()

    def _is_over(self, told: _Field) -> bool:
        return self.clock() - told.last > PEACE_SECONDS

    def _sweep(self) -> None:
        """Forget, now and then, what is over."""
        if self.clock() - self._swept > PEACE_SECONDS:
            self._swept = self.clock()
            self._fields = {
                child: known
                for child, known in self._fields.items()
                if not all(self._is_over(told) for told in known.values())
            }
