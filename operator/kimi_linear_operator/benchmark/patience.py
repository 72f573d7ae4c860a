"""How long other benchmarks wait for a benchmark that has its turn but starts no suite, for any reason."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from kimi_linear_operator.reconcile.cached_object import Key

PATIENCE_SECONDS = 600.0
"""A benchmark that can go on starts its next suite within seconds, or within a minute if a webhook is slow."""

# How many benchmarks to remember, more than any cluster should have. For a forgotten benchmark, the wait starts again.
_MOST_WAITED_FOR = 4096


@dataclass
class Patience:
    """The waits for benchmarks that have their turn. A restart of the operator forgets the times.

    Attributes:
        clock: Returns monotonic seconds.
    """

    clock: Callable[[], float]
    _since: OrderedDict[Key, tuple[str, float]] = field(default_factory=OrderedDict)

    def seconds_left(self, key: Key, last_end: str) -> float:
        """Return for how many more seconds others wait for a benchmark without a running suite, 0 if the wait is over.

        Args:
            key: The benchmark.
            last_end: When its last suite ended. If this time has changed, the benchmark has made progress.
        """
        known, since = self._since.get(key, ("", self.clock()))
        if key not in self._since or known != last_end:
            since = self.clock()
        self._since[key] = last_end, since
        if len(self._since) > _MOST_WAITED_FOR:
            self._since.popitem(last=False)
        return max(0.0, since + PATIENCE_SECONDS - self.clock())

    def forget(self, key: Key) -> None:
        """Forget a benchmark that has a running suite again."""
        self._since.pop(key, None)
