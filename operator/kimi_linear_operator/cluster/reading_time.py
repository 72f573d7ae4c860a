"""How much processor time the large events of each namespace may take."""

from dataclasses import dataclass, field

# The part of one processor that the large events of a namespace may take for a long time.
SHARE = 0.1
# In seconds of processor time: about 1,000 events of large servers, or five of the most costly ones.
BURST_SECONDS = 1.0
# After this many namespaces, those without a debt are forgotten.
_MANY_NAMESPACES = 256


@dataclass
class ReadingTime:
    """The debts of namespaces, in seconds of processor time. A debt grows with each event, and shrinks all the time."""

    _debts: dict[str, tuple[float, float]] = field(default_factory=dict)
    """By namespace: the debt, and the time when it was noted."""

    def is_left(self, namespace: str, now: float) -> bool:
        """Return whether a namespace has time for another event."""
        return self._debt(namespace, now) < BURST_SECONDS

    def spend(self, namespace: str, seconds: float, now: float) -> None:
        """Note that an event of a namespace has taken this long."""
        self._debts[namespace] = (self._debt(namespace, now) + seconds, now)
        if len(self._debts) > _MANY_NAMESPACES:
            self._debts = {name: debt for name, debt in self._debts.items() if self._debt(name, now)}

    def _debt(self, namespace: str, now: float) -> float:
        debt, since = self._debts.get(namespace, (0.0, now))
        return max(0.0, debt - SHARE * (now - since))
