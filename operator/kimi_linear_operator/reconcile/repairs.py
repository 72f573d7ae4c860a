"""How often fields of children were repaired: two who disagree about a field must not write in turns without end.

Who the other one is, is kept with the counts and forgotten with them. All is kept in memory only, as the queue keeps
its failures: after a restart, it begins anew.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import islice

from kimi_linear_operator.reconcile.cached_object import Key

# Repairs of a field that are made at once: people edit a field several times while they try something.
QUICK_REPAIRS = 5
# Then each waits twice as long as the one before.
FIRST_WAIT_SECONDS = 30.0
LONGEST_WAIT_SECONDS = 300.0
# A field that nobody changed for so long is no longer contested. Longer than the longest wait.
PEACE_SECONDS = 900.0
# What is kept of one child: a tenant may change thousands of fields in many, under as many names.
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
    """The fields of a child that were repaired, the latest last, and who makes it necessary, as far as is known."""

    fields: dict[str, _Field] = field(default_factory=dict)
    rivals: str = ""


@dataclass
class Repairs:
    """The repairs of all children. Of very many fields of one child, the first ones speak for all.

    Attributes:
        clock: Monotonic seconds.
    """

    clock: Callable[[], float]
    _children: dict[Key, _Child] = field(default_factory=dict)
    _swept: float = 0.0

    def wait_seconds(self, child: Key, fields: Iterable[str]) -> float:
        """Return how long to wait before these fields of a child are repaired, 0 if one of them need not wait."""
        known = self._known(child)
        waits = [self._wait(known[name]) if name in known else 0.0 for name in _names(fields)]
        return max(0.0, min(waits, default=0.0))

    def record(self, child: Key, fields: Iterable[str], *, is_refused: bool = False) -> None:
        """Note that fields of a child were repaired.

        Args:
            child: The child.
            fields: The fields.
            is_refused: Whether they were changed back while they were written.
        """
        self._sweep()
        known = self._children.setdefault(child, _Child()).fields
        for name in _names(fields):
            told = known.pop(name, None)
            repairs = told.repairs if told and not self._is_over(told) else 0
            known[name] = _Field(max(repairs, QUICK_REPAIRS) if is_refused else repairs + 1, self.clock())
        for name in list(known)[:-MOST_FIELDS]:
            del known[name]

    def blame(self, child: Key, names: Iterable[str]) -> None:
        """Note who makes repairs of a child necessary, a few of them; nobody leaves what is known."""
        rivals = sorted({name[:LONGEST_RIVAL] for name in names})
        more = len(rivals) - MOST_RIVALS
        told = [*rivals[:MOST_RIVALS], *([f"{more} more"] if more > 0 else [])]
        if told and (known := self._children.get(child)):
            known.rivals = " and ".join(told)

    def rivals(self, child: Key) -> str:
        """Return who makes repairs of a child necessary."""
        known = self._children.get(child)
        return (known.rivals if known else "") or "somebody"

    def forget(self, child: Key) -> None:
        """Forget a child that is gone."""
        self._children.pop(child, None)

    def contested(self, child: Key) -> list[str]:
        """Return the fields of a child that somebody else keeps changing."""
        self._sweep()
        known = self._known(child)
        return [name for name, told in known.items() if told.repairs >= QUICK_REPAIRS and not self._is_over(told)]

    def _known(self, child: Key) -> dict[str, _Field]:
        known = self._children.get(child)
        return known.fields if known else {}

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
            self._children = {
                child: known
                for child, known in self._children.items()
                if not all(self._is_over(told) for told in known.fields.values())
            }


def _names(fields: Iterable[str]) -> list[str]:
    return [name[:LONGEST_FIELD] for name in islice(fields, MOST_FIELDS)]
