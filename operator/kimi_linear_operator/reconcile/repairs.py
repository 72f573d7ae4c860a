"""Counts repairs of children's fields, so that the operator and a rival do not overwrite a field in turns without end.

A rival is another field manager that changes the same field. Counts and rivals are in memory only, like the failures in
the queue: a restart begins with none.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import islice

from kimi_linear_operator.reconcile.cached_object import Key

# Repairs of a field without a wait: people edit a field several times while they try something.
QUICK_REPAIRS = 5
# Then each repair waits twice as long as the one before.
FIRST_WAIT_SECONDS = 30.0
LONGEST_WAIT_SECONDS = 300.0
# A field without a repair for so long is no longer contested. This is longer than the longest wait.
PEACE_SECONDS = 900.0
# Bounds for one child: a tenant may change thousands of fields of many children, under as many names.
MOST_FIELDS = 64
LONGEST_FIELD = 256
MOST_RIVALS = 3
LONGEST_RIVAL = 64


@dataclass
class _Field:
    """How often a field was repaired in a row, and when last."""

    repairs: int
    last: float


@dataclass
class _Child:
    """The repaired fields of a child, the latest last, and its rivals as text, empty if unknown."""

    fields: dict[str, _Field] = field(default_factory=dict)
    rivals: str = ""


@dataclass
class Repairs:
    """The repairs of all children. Of each repair, only the first MOST_FIELDS fields count.

    Attributes:
        clock: Returns monotonic seconds.
    """

    clock: Callable[[], float]
    _children: dict[Key, _Child] = field(default_factory=dict)
    _swept: float = 0.0

    def wait_seconds(self, child: Key, fields: Iterable[str]) -> float:
        """Return how many seconds to wait before repairing these fields, 0 if one of them need not wait."""
        recorded = self._recorded_fields(child)
        waits = [self._wait(recorded[name]) if name in recorded else 0.0 for name in _names(fields)]
        return max(0.0, min(waits, default=0.0))

    def record(self, child: Key, fields: Iterable[str], *, is_refused: bool = False) -> None:
        """Note that fields of a child were repaired.

        Args:
            child: The child.
            fields: The fields.
            is_refused: Whether somebody changed them during the write, so that they count as contested at once.
        """
        self._sweep()
        recorded = self._children.setdefault(child, _Child()).fields
        for name in _names(fields):
            previous = recorded.pop(name, None)
            repairs = previous.repairs if previous and not self._is_over(previous) else 0
            recorded[name] = _Field(max(repairs, QUICK_REPAIRS) if is_refused else repairs + 1, self.clock())
        for name in list(recorded)[:-MOST_FIELDS]:
            del recorded[name]

    def blame(self, child: Key, names: Iterable[str]) -> None:
        """Note the rivals of a child, MOST_RIVALS of them by name. Without any, keep those noted before."""
        rivals = sorted({name[:LONGEST_RIVAL] for name in names})
        others = len(rivals) - MOST_RIVALS
        shown = [*rivals[:MOST_RIVALS], *([f"{others} more"] if others > 0 else [])]
        if shown and (record := self._children.get(child)):
            record.rivals = " and ".join(shown)

    def rivals(self, child: Key) -> str:
        """Return the rivals of a child as text."""
        record = self._children.get(child)
        return (record.rivals if record else "") or "somebody"

    def forget(self, child: Key) -> None:
        """Forget a deleted child."""
        self._children.pop(child, None)

    def contested(self, child: Key) -> list[str]:
        """Return the contested fields of a child: those that somebody else keeps changing."""
        self._sweep()
        recorded = self._recorded_fields(child)
        return [
            name
            for name, repaired in recorded.items()
            if repaired.repairs >= QUICK_REPAIRS and not self._is_over(repaired)
        ]

    def _recorded_fields(self, child: Key) -> dict[str, _Field]:
        record = self._children.get(child)
        return record.fields if record else {}

    def _wait(self, repaired: _Field) -> float:
        if repaired.repairs < QUICK_REPAIRS or self._is_over(repaired):
            return 0.0
        length = min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2.0 ** (repaired.repairs - QUICK_REPAIRS))
        return repaired.last + length - self.clock()

    def _is_over(self, repaired: _Field) -> bool:
        return self.clock() - repaired.last > PEACE_SECONDS

    def _sweep(self) -> None:
        """Forget children whose fields are no longer contested. Does nothing most of the time."""
        if self.clock() - self._swept > PEACE_SECONDS:
            self._swept = self.clock()
            self._children = {
                child: record
                for child, record in self._children.items()
                if not all(self._is_over(repaired) for repaired in record.fields.values())
            }


def _names(fields: Iterable[str]) -> list[str]:
    return [name[:LONGEST_FIELD] for name in islice(fields, MOST_FIELDS)]
