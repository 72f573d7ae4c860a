"""Places for benchmarks that look for running clients before they start, shared fairly between namespaces."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

# How many benchmarks may list Jobs and pods at the same time before they start ("a look"). Each of them occupies a
# worker until the API server has answered.
LOOKS_AT_ONCE = 4
# How many of them may be of one namespace.
LOOKS_OF_NAMESPACE = 2
# How often to try again without a place.
LOOK_RETRY_SECONDS = 5.0
# For how long a place is kept for a namespace that found none: it comes again within LOOK_RETRY_SECONDS.
_KEPT_SECONDS = 3 * LOOK_RETRY_SECONDS


@dataclass
class Looks:
    """The places and who has them.

    One place is kept for the namespace that waits longest: namespaces with many benchmarks that are always due would
    otherwise take each place that becomes free. The other places go to the first that ask, because most looks are
    short, and hundreds of benchmarks may begin at the same time.

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
            # Its place in the order stays the same.
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
