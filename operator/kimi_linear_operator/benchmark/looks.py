"""Places for benchmarks that check for running clients before they start. Namespaces share the places fairly."""

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.reconcile.pauses import LONGEST_PAUSE_SECONDS

# Before a start, a benchmark lists Jobs and pods ("a look"). This is the number of looks at the same time. Each look
# occupies a worker until the API server has answered.
LOOKS_AT_ONCE = 4
# How many of these looks can be of one namespace.
LOOKS_OF_NAMESPACE = 2
# How soon a benchmark without a place tries again if nothing calls it. The pauses grow up to LONGEST_PAUSE_SECONDS.
LOOK_RETRY_SECONDS = 5.0
# How long a place is reserved for a namespace that found none, longer than it waits until it tries again.
_KEPT_SECONDS = LONGEST_PAUSE_SECONDS + LOOK_RETRY_SECONDS


@dataclass
class Looks:
    """The places, the namespaces that hold them, and the benchmarks that wait for them.

    One place is reserved for the namespace that has waited longest. Otherwise namespaces with many benchmarks would
    take every free place. The other places go to the first benchmarks that ask, because most looks are short and
    hundreds of benchmarks may begin at the same time.

    When a place becomes free, benchmarks that wait for one are called: they are enqueued and ask again.

    Attributes:
        clock: Returns monotonic seconds.
        enqueue: Enqueues benchmarks.
    """

    clock: Callable[[], float]
    enqueue: Callable[[Iterable[Key]], None]
    _places: Counter[str] = field(default_factory=Counter)
    # The namespaces that found no place, with the time of their last attempt. The one that waits longest comes first.
    _turned_away: dict[str, float] = field(default_factory=dict)
    # By namespace: the benchmarks that wait and were not called since they last asked, longest first.
    _waiting: dict[str, OrderedDict[Key, None]] = field(default_factory=dict)
    # The benchmarks that were called and have not asked since.
    _called: set[Key] = field(default_factory=set)

    @contextmanager
    def place(self, key: Key) -> Iterator[bool]:
        """Yield whether a benchmark has a place within the context."""
        namespace = key.namespace
        if not self._has_place(namespace):
            self._turn_away(key)
            yield False
            return
        self._remove(key)
        self._turned_away.pop(namespace, None)
        self._places[namespace] += 1
        try:
            yield True
        finally:
            self._places[namespace] -= 1
            self._places = +self._places
            self._call_next(namespace)

    def forget(self, key: Key) -> None:
        """Forget a benchmark that does not wait for a place any more. If it was called, call the next one."""
        if self._remove(key):
            self._call_next(key.namespace)

    def _turn_away(self, key: Key) -> None:
        """Note that a benchmark waits. It keeps its position. If it was called, it has waited longest."""
        waiting = self._waiting.setdefault(key.namespace, OrderedDict())
        waiting.setdefault(key)
        if key in self._called:
            self._called.remove(key)
            waiting.move_to_end(key, last=False)

    def _remove(self, key: Key) -> bool:
        """Remove a benchmark from those that wait; return whether it was called."""
        waiting = self._waiting.get(key.namespace, OrderedDict())
        waiting.pop(key, None)
        if not waiting:
            self._waiting.pop(key.namespace, None)
        was_called = key in self._called
        self._called.discard(key)
        return was_called

    def _call_next(self, namespace: str) -> None:
        """Call the next benchmark of the namespace that was turned away first, and the next one of this namespace."""
        self._forget_old()
        first = next((name for name in self._turned_away if name in self._waiting), namespace)
        called = [next(iter(self._waiting[name])) for name in {first, namespace} if name in self._waiting]
        for key in called:
            self._remove(key)
        self._called.update(called)
        self.enqueue(sorted(called))

    def _has_place(self, namespace: str) -> bool:
        """Return whether a place is free for a namespace. If only its own looks are too many, none is reserved."""
        if self._places[namespace] >= LOOKS_OF_NAMESPACE:
            return False
        self._forget_old()
        is_first = next(iter(self._turned_away), namespace) == namespace
        if self._places.total() < (LOOKS_AT_ONCE if is_first else LOOKS_AT_ONCE - 1):
            return True
        # The namespace keeps its position in the order.
        self._turned_away[namespace] = self.clock()
        return False

    def _forget_old(self) -> None:
        oldest = self.clock() - _KEPT_SECONDS
        self._turned_away = {name: since for name, since in self._turned_away.items() if since > oldest}
