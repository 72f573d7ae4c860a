"""Limits the Events about one object, as client-go's EventSourceObjectSpamFilter does.

https://pkg.go.dev/k8s.io/client-go/tools/record: client-go allows a burst of 25 Events for an object, and then one
every five minutes. Our limit allows a smaller burst, but for each reason. Otherwise a server that becomes ready and
unready again and again would use up the Events about other problems.
"""

from dataclasses import dataclass

from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.reconcile.fair_memory import FairMemory

BURST = 5
SECONDS_PER_EVENT = 300.0
# client-go's maxLruCacheEntries, multiplied by a few reasons per object. A forgotten limit starts with a full burst.
_MOST_ALLOWANCES = 4 * 4096


@dataclass
class _Allowance:
    """The Events that are still allowed for one object and one reason.

    Attributes:
        tokens: Number of Events that may be recorded now.
        updated_at: When `tokens` was computed, in seconds of the monotonic clock.
        suppressed: Number of Events that were not recorded since the last recorded Event.
    """

    tokens: float
    updated_at: float
    suppressed: int = 0

    def take(self, now: float) -> bool:
        """Take a token; return whether there was one."""
        self.tokens = min(BURST, self.tokens + (now - self.updated_at) / SECONDS_PER_EVENT)
        self.updated_at = now
        if self.tokens < 1:
            self.suppressed += 1
            return False
        self.tokens -= 1
        return True


class EventLimiter:
    """A token bucket for each object and each reason."""

    def __init__(self) -> None:
        """Begin with full buckets."""
        # By UID and reason, the least recently used first.
        self._allowances: FairMemory[tuple[str, str], _Allowance] = FairMemory(_MOST_ALLOWANCES)

    def admit(self, event: Manifest, now: float) -> Manifest | None:
        """Return an Event to record, None to suppress it. The message contains the number of suppressed Events.

        Args:
            event: The Event.
            now: Seconds of the monotonic clock.
        """
        involved = event["involvedObject"]
        namespace, key = involved["namespace"], (involved["uid"], event["reason"])
        allowance = self._allowances.get(namespace, key) or _Allowance(BURST, now)
        self._allowances.put(namespace, key, allowance)
        if not allowance.take(now):
            return None
        suppressed, allowance.suppressed = allowance.suppressed, 0
        if not suppressed:
            return event
        return {**event, "message": f"{event['message']} ({suppressed} changes before this one were not recorded)"}
