"""How many Events one object may cause, after client-go's EventSourceObjectSpamFilter.

https://pkg.go.dev/k8s.io/client-go/tools/record: a burst of 25 an object, then one every five minutes. Here each reason
has a smaller burst of its own: a server that becomes ready and unready all the time must not hide who disturbs it.
"""

from collections import OrderedDict
from dataclasses import dataclass

from kimi_linear_operator.kubernetes.kinds import Manifest

BURST = 5
SECONDS_A_EVENT = 300.0
# maxLruCacheEntries of client-go, for a few reasons each. What is forgotten may have another burst.
_MOST_ALLOWANCES = 4 * 4096


@dataclass
class _Allowance:
    """What an object has left for a reason.

    Attributes:
        tokens: Events that may be recorded now.
        at: When that was worked out, by the monotonic clock.
        suppressed: Events since the last one that was recorded.
    """

    tokens: float
    at: float
    suppressed: int = 0

    def take(self, now: float) -> bool:
        """Take a token if there is one."""
        self.tokens = min(BURST, self.tokens + (now - self.at) / SECONDS_A_EVENT)
        self.at = now
        if self.tokens < 1:
            self.suppressed += 1
            return False
        self.tokens -= 1
        return True


class EventLimiter:
    """A token bucket for every object that Events are about and every reason that they give."""

    def __init__(self) -> None:
        """Begin with full buckets."""
        # By uid and reason, the one that was used last comes last.
        self._allowances: OrderedDict[tuple[str, str], _Allowance] = OrderedDict()

    def admit(self, event: Manifest, now: float) -> Manifest | None:
        """Return an Event as it may be recorded, with the number of those before it that were not; None if it may not.

        Args:
            event: The Event.
            now: The time by the monotonic clock, in seconds.
        """
        key = event["involvedObject"]["uid"], event["reason"]
        allowance = self._allowances.setdefault(key, _Allowance(BURST, now))
        self._allowances.move_to_end(key)
        if len(self._allowances) > _MOST_ALLOWANCES:
            self._allowances.popitem(last=False)
        if not allowance.take(now):
            return None
        suppressed, allowance.suppressed = allowance.suppressed, 0
        if not suppressed:
            return event
        return {**event, "message": f"{event['message']} ({suppressed} changes before this one were not recorded)"}
