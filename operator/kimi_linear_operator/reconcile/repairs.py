"""Counts repairs of children's fields.

A rival is another field manager that changes the same field as the operator. The counts keep the operator and a rival
from overwriting a field again and again. Counts and rivals are only in memory, so a restart of the operator forgets
them.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

from kimi_linear_operator.backoff import Backoff
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.reconcile.fair_memory import FairMemory

# The number of repairs of a field without a wait. People may edit a field several times while they try something.
QUICK_REPAIRS = 5
# After that, each repair waits twice as long as the one before.
WAIT = Backoff(first=30.0, longest=300.0)
# After this time without a repair, a field is no longer contested. This is longer than the longest wait.
PEACE_SECONDS = 900.0
# Limits for one child, because a tenant can change thousands of fields under many names.
MOST_FIELDS = 8
LONGEST_FIELD = 128
MOST_RIVALS = 3
LONGEST_RIVAL = 64
# How many children to remember, more than one for each server that a cluster should have. With the longest names, they
# need 30 MiB.
MOST_CHILDREN = 8192


class Child(NamedTuple):
    """A child and the resource that wants it. Two resources can want the same child."""

    owner: Key
    key: Key


@dataclass(slots=True)
class _Field:
    """How often a field was repaired in a row, and the time of the last repair."""

    repairs: int
    last: float


@dataclass(slots=True)
class _Record:
    """The record of a child.

    Attributes:
        last: When the child was last written.
        applied: The fingerprint of the wanted object that the operator applied last, empty if unknown.
        fields: Its repaired fields. The field that was repaired last is the last.
        rivals: Its rivals as text, empty if unknown.
    """

    last: float
    applied: str = ""
    fields: dict[str, _Field] = field(default_factory=dict)
    rivals: str = ""

    def find(self, name: str) -> _Field | None:
        """Return how often a field was repaired.

        If there is no room for more fields, a new field continues the count of the oldest field. Without this, a rival
        that changes many fields in turns would always change a new field. The result can be too high, as in the
        algorithm *Space-Saving*: https://doi.org/10.1007/978-3-540-30570-5_27
        """
        is_full = len(self.fields) >= MOST_FIELDS
        return self.fields.get(name) or (next(iter(self.fields.values())) if is_full else None)

    def replace(self, name: str, repaired: _Field) -> None:
        """Store a field as the latest field. If there is no room, drop the oldest field."""
        self.fields.pop(name, None)
        if len(self.fields) >= MOST_FIELDS:
            del self.fields[next(iter(self.fields))]
        self.fields[name] = repaired


@dataclass
class Repairs:
    """The repairs of all children. In each repair, only the first MOST_FIELDS fields count.

    Attributes:
        clock: Returns monotonic seconds.
    """

    clock: Callable[[], float]
    # The child that was written last is the newest.
    _records: FairMemory[Child, _Record] = field(default_factory=lambda: FairMemory(MOST_CHILDREN))
    _swept: float = 0.0

    def wait_seconds(self, child: Child, fields: Iterable[str]) -> float:
        """Return how many seconds to wait before these fields are repaired, 0 if a field need not wait."""
        record = self._find(child) or _Record(0.0)
        waits = [self._wait(repaired) if (repaired := record.find(name)) else 0.0 for name in _names(fields)]
        return max(0.0, min(waits, default=0.0))

    def record(self, child: Child, fields: Iterable[str], *, is_refused: bool = False) -> None:
        """Note that fields of a child were repaired.

        Args:
            child: The child.
            fields: The fields.
            is_refused: Whether somebody changed them during the write, so that they count as contested immediately.
        """
        record = self._written(child)
        for name in _names(fields):
            previous = record.find(name)
            repairs = previous.repairs if previous and not self._is_over(previous.last) else 0
            repairs = max(repairs, QUICK_REPAIRS) if is_refused else repairs + 1
            record.replace(name, _Field(repairs, record.last))

    def note_applied(self, child: Child, fingerprint: str) -> None:
        """Note which wanted object was applied last.

        If the operator must apply the same object again, that is a repair.
        """
        self._written(child).applied = fingerprint

    def was_applied(self, child: Child, fingerprint: str) -> bool:
        """Return whether this wanted object was applied last."""
        record = self._find(child)
        return record is not None and record.applied == fingerprint

    def blame(self, child: Child, names: Iterable[str]) -> None:
        """Note the rivals of a child, at most MOST_RIVALS of them, sorted by name.

        If there are none, keep the earlier rivals.
        """
        rivals = sorted({name[:LONGEST_RIVAL] for name in names})
        others = len(rivals) - MOST_RIVALS
        shown = [*rivals[:MOST_RIVALS], *([f"{others} more"] if others > 0 else [])]
        if shown and (record := self._find(child)):
            record.rivals = " and ".join(shown)

    def rivals(self, child: Child) -> str:
        """Return the rivals of a child as text."""
        record = self._find(child)
        return (record.rivals if record else "") or "somebody"

    def forget(self, child: Child) -> None:
        """Forget a child that the operator has deleted.

        A child that the watch no longer shows is not forgotten, because somebody may only have removed its label.
        """
        self._records.forget(child.owner.namespace, child)

    def forget_owner(self, owner: Key) -> None:
        """Forget all children of a deleted resource."""
        for child in self._records.keys(owner.namespace):
            if child.owner == owner:
                self.forget(child)

    def contested(self, child: Child) -> list[str]:
        """Return the contested fields of a child: those that somebody else keeps changing."""
        self._sweep()
        record = self._find(child) or _Record(0.0)
        return [
            name
            for name, repaired in record.fields.items()
            if repaired.repairs >= QUICK_REPAIRS and not self._is_over(repaired.last)
        ]

    def _find(self, child: Child) -> _Record | None:
        return self._records.get(child.owner.namespace, child)

    def _written(self, child: Child) -> _Record:
        """Return the record of a child that is written now."""
        self._sweep()
        record = self._find(child) or _Record(0.0)
        record.last = self.clock()
        self._records.put(child.owner.namespace, child, record)
        return record

    def _wait(self, repaired: _Field) -> float:
        if repaired.repairs < QUICK_REPAIRS or self._is_over(repaired.last):
            return 0.0
        return repaired.last + WAIT.length(repaired.repairs - QUICK_REPAIRS) - self.clock()

    def _is_over(self, last: float) -> bool:
        return self.clock() - last > PEACE_SECONDS

    def _sweep(self) -> None:
        """Forget children that were not written for PEACE_SECONDS. Most of the time, there is nothing to do."""
        if self._is_over(self._swept):
            self._swept = self.clock()
            for child in (child for namespace in self._records.namespaces for child in self._records.keys(namespace)):
                record = self._find(child)
                if record and self._is_over(record.last):
                    self.forget(child)


def _names(fields: Iterable[str]) -> list[str]:
    return [name[:LONGEST_FIELD] for name in islice(fields, MOST_FIELDS)]
