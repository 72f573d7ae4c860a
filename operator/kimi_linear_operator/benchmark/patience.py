"""How long other benchmarks wait for a benchmark that has its turn but starts no suite, for any reason."""

from collections.abc import Callable
from dataclasses import dataclass, field

from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.reconcile.fair_memory import FairMemory

PATIENCE_SECONDS = 600.0
"""A benchmark that can go on starts its next suite within seconds, or within a minute if a webhook is slow."""

# How many benchmarks to remember, more than any cluster should have. If there are more, nobody waits for further ones
# of the namespace that has the most. Otherwise their waits would begin again and again.
_MOST_WAITED_FOR = 4096


@dataclass
class Patience:
    """The waits for benchmarks that have their turn. A restart of the operator forgets the times.

    Attributes:
        clock: Returns monotonic seconds.
    """

    clock: Callable[[], float]
    _since: FairMemory[Key, tuple[str, float]] = field(default_factory=lambda: FairMemory(_MOST_WAITED_FOR))

    def seconds_left(self, key: Key, last_end: str) -> float:
        """Return for how many more seconds others wait for a benchmark without a running suite, 0 if the wait is over.

        Args:
            key: The benchmark.
            last_end: When its last suite ended. If this time has changed, the benchmark has made progress.
        """
        known = self._since.get(key.namespace, key)
        if known is None and self._since.is_full_of(key.namespace):
            return 0.0
        if known is None or known[0] != last_end:
            known = last_end, self.clock()
            self._since.put(key.namespace, key, known)
        return max(0.0, known[1] + PATIENCE_SECONDS - self.clock())

    def forget(self, key: Key) -> None:
        """Forget a benchmark that has a running suite again, or that is complete or deleted."""
        self._since.forget(key.namespace, key)
