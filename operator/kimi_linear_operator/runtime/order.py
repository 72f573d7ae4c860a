"""The order in which workers take keys. Sources take turns, and no namespace can occupy all workers."""

import heapq
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from kimi_linear_operator.reconcile.cached_object import Key

PROGRESS = "progress"
"""The source of changes that can only affect a status.

They are less urgent than, for example, the first Deployment of a server.
"""

# How many places a key of this source takes. The default is 1, so every other source gets eight keys before this source
# gets one.
_STRIDES = {PROGRESS: 8}

# How many sources of a namespace have their own turns. All other sources share one. Otherwise a user could get any
# number of turns by writing under many names.
MOST_SOURCES = 8
_OTHER_SOURCES = "others"


class Turns:
    """Assigns places to the keys of sources. This is start-time fair queueing, without times and speeds.

    Workers take the keys in the order of their places. A source gets consecutive places for its keys. The first comes
    after the place of the key that a worker took last. So a source with many keys has places far ahead, and the first
    key of another source comes before most of them.

    The same source name in two namespaces is two sources. So bulk changes in one namespace do not delay another.
    https://dl.acm.org/doi/10.1145/248157.248171
    """

    def __init__(self) -> None:
        """Begin without sources."""
        self._current = 0
        # By namespace and source: the last place, if it is still ahead.
        self._last_places: dict[str, dict[str, int]] = {}

    def take_place(self, namespace: str, source: str, before: int | None) -> int | None:
        """Return the place for a key that a source adds.

        None if the key already has this place or an earlier place.
        """
        last = self._last_places.get(namespace, {})
        name = source if source in last or len(last) < MOST_SOURCES else _OTHER_SOURCES
        place = last.get(name, self._current) + _STRIDES.get(name, 1)
        if before is not None and before <= place:
            return None
        self._last_places.setdefault(namespace, {})[name] = place
        return place

    def reach(self, place: int) -> None:
        """Advance to the place of a key that a worker takes."""
        if place <= self._current:
            return
        self._current = place
        for namespace, last in list(self._last_places.items()):
            ahead = {source: at for source, at in last.items() if at > place}
            if ahead:
                self._last_places[namespace] = ahead
            else:
                del self._last_places[namespace]


class Shares:
    """Limits the workers of each namespace. If all passes of a namespace hang, other namespaces still get workers.

    A namespace that has N workers gets another worker only while more than N workers are free. So the first namespace
    gets at most half of the workers, the second namespace gets half of the rest, and so on. All 32 workers are
    occupied only if six namespaces hang. https://doi.org/10.1109/90.664262
    """

    def __init__(self, *, is_shared: bool) -> None:
        """Begin with no workers.

        Args:
            is_shared: Whether there may be several namespaces. If not, the only namespace can get all workers.
        """
        self._is_shared = is_shared
        self._free = 0
        self._busy = Counter[str]()

    def join(self) -> None:
        """Add a free worker."""
        self._free += 1

    def may_take(self, namespace: str) -> bool:
        """Return whether a free worker may take a key of a namespace."""
        return not self._is_shared or self._busy[namespace] < self._free

    def take(self, namespace: str) -> None:
        """Give a free worker to a namespace."""
        self._free -= 1
        self._busy[namespace] += 1

    def give_back(self, namespace: str) -> None:
        """Take a worker back from a namespace."""
        self._free += 1
        self._busy[namespace] -= 1
        if not self._busy[namespace]:
            del self._busy[namespace]


class Due(NamedTuple):
    """The position of a key.

    It consists of three values: the place, a number that orders keys with the same place, and the time when the key
    became due.
    """

    place: int
    number: int
    since: float


class Waiting(NamedTuple):
    """A key that is due. A heap compares its entries by their position first."""

    due: Due
    key: Key


class _First(NamedTuple):
    """The position of the first key of a namespace."""

    due: Due
    namespace: str


class Order:
    """Keys that are due.

    If a namespace cannot get another worker, its keys keep their places and do not delay other keys.
    """

    def __init__(self) -> None:
        """Begin with none."""
        self._due: dict[Key, Due] = {}
        # Heaps by namespace. An entry is valid only if it equals the entry in `_due`. Invalid entries are removed
        # lazily.
        self._by_namespace: dict[str, list[Waiting]] = {}
        # A heap with the first entry of each namespace. An entry is valid only while it is the first.
        self._first_entries: list[_First] = []

    def __len__(self) -> int:
        """Return how many keys are due."""
        return len(self._due)

    def get(self, key: Key) -> Due | None:
        """Return the position of a key, None if it is not due."""
        return self._due.get(key)

    def add(self, key: Key, due: Due) -> None:
        """Add a key, or move it forward."""
        self._due[key] = due
        entries = self._by_namespace.setdefault(key.namespace, [])
        heapq.heappush(entries, Waiting(due, key))
        if entries[0].due == due:
            heapq.heappush(self._first_entries, _First(due, key.namespace))

    def take(self, shares: Shares) -> Waiting | None:
        """Take the first key whose namespace can get another worker, None if there is no such key."""
        # Only namespaces that have workers. A namespace without workers can always get one.
        skipped: dict[str, Due] = {}
        try:
            for due, namespace in self._take_first():
                if namespace in skipped:
                    continue
                if shares.may_take(namespace):
                    return self._take_from(namespace)
                skipped[namespace] = due
            return None
        finally:
            for namespace, due in skipped.items():
                heapq.heappush(self._first_entries, _First(due, namespace))

    def clear(self) -> None:
        """Drop all keys."""
        self._due.clear()
        self._by_namespace.clear()
        self._first_entries.clear()

    def oldest(self) -> float | None:
        """Return since when the oldest key is due, None if no key is due."""
        return min((due.since for due in self._due.values()), default=None)

    def _take_first(self) -> Iterator[_First]:
        """Pop and yield the valid first entry of each namespace, in order."""
        while self._first_entries:
            first = heapq.heappop(self._first_entries)
            entries = self._by_namespace.get(first.namespace)
            if entries and entries[0].due == first.due:
                yield first

    def _take_from(self, namespace: str) -> Waiting:
        waiting = heapq.heappop(self._by_namespace[namespace])
        del self._due[waiting.key]
        self._update_first(namespace)
        return waiting

    def _update_first(self, namespace: str) -> None:
        """Find the new first entry of a namespace after a worker took the last first entry."""
        entries = self._by_namespace[namespace]
        while entries and self._due.get(entries[0].key) != entries[0].due:
            heapq.heappop(entries)
        if entries:
            heapq.heappush(self._first_entries, _First(entries[0].due, namespace))
        else:
            del self._by_namespace[namespace]
