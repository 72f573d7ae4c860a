"""Places for benchmarks that check for running clients before they start. Namespaces share the places fairly."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from kimi_linear_operator.reconcile.pauses import LONGEST_PAUSE_SECONDS

# Before a start, a benchmark lists Jobs and pods ("a look"). This is the number of looks at the same time. Each look
# occupies a worker until the API server has answered.
LOOKS_AT_ONCE = 4
# How many of these looks can be of one namespace.
LOOKS_OF_NAMESPACE = 2
# How soon a benchmark without a place tries again. The pauses grow up to LONGEST_PAUSE_SECONDS.
LOOK_RETRY_SECONDS = 5.0
# How long a place is reserved for a namespace that found none, longer than it waits until it tries again.
_KEPT_SECONDS = LONGEST_PAUSE_SECONDS + LOOK_RETRY_SECONDS


@dataclass
class Looks:
    """The places, and the namespaces that hold them.

    One place is reserved for the namespace that has waited longest. Otherwise namespaces with many benchmarks would
    take every free place. The other places go to the first benchmarks that ask, because most looks are short and
    hundreds of benchmarks may begin at the same time.

    Attributes:
        clock: Returns monotonic seconds.
    """

    clock: Callable[[], float]
    _places: Counter[str] = field(default_factory=Counter)
    # The namespaces that found no place, with the time of their last attempt. The one that waits longest comes first.
    _turned_away: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def place(self, namespace: str) -> Iterator[bool]:
        """Yield whether a benchmark of a namespace has a place within the context."""
        if self._places[namespace] >= LOOKS_OF_NAMESPACE:
            yield False
            return
        if not self._has_place(namespace):
            # The namespace keeps its position in the order.
            self._turned_away[namespace] = self.clock()
            yield False
            return
        self._turned_away.pop(namespace, None)
        self._places[namespace] += 1
        try:
            yield True
        finally:
            self._places[namespace] -= 1
            self._places = +self._places

    def _has_place(self, namespace: str) -> bool:
        oldest = self.clock() - _KEPT_SECONDS
        self._turned_away = {name: since for name, since in self._turned_away.items() if since > oldest}
        is_first = next(iter(self._turned_away), namespace) == namespace
        return self._places.total() < (LOOKS_AT_ONCE if is_first else LOOKS_AT_ONCE - 1)
