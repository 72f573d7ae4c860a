"""In which order keys that are due are taken: sources take turns, and no namespace takes all workers."""

import heapq
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from kimi_linear_operator.reconcile.cached_object import Key

PROGRESS = "progress"
"""The source of what can only change a status: nobody waits for that as for a first Deployment."""

# How many places a key takes; others take one. So eight keys of each other source come before one of these.
_STRIDES = {PROGRESS: 8}


# How many sources of one namespace have turns of their own; all others share one. Whoever may write in a namespace can
# do so under any number of names, and would have as many turns.
MOST_SOURCES = 8
_OTHERS = "others"


class Turns:
    """Which source's key is next: start-time fair queueing, which knows no time and no speed.

    The keys of a source get places one after the other, the first one right after that of the key taken last. So many
    keys reach far ahead, and the first of another source comes right after the one of them that is next. The same name
    in two namespaces is two sources: what comes in bulk in one does not delay another.
    https://dl.acm.org/doi/10.1145/248157.248171
    """

    def __init__(self) -> None:
        """Begin with no source."""
        self._current = 0
        # The last place of each source that has any ahead, by namespace.
        self._last: dict[str, dict[str, int]] = {}

    def take_place(self, namespace: str, source: str, before: int | None) -> int | None:
        """Return the place of the next key that a source adds; None if the key has one before that already."""
        last = self._last.get(namespace, {})
        name = source if source in last or len(last) < MOST_SOURCES else _OTHERS
        place = last.get(name, self._current) + _STRIDES.get(name, 1)
        if before is not None and before <= place:
            return None
        self._last.setdefault(namespace, {})[name] = place
        return place

    def reach(self, place: int) -> None:
        """Go on to a place whose key is being taken."""
        if place <= self._current:
            return
        self._current = place
        for namespace, last in list(self._last.items()):
            ahead = {source: at for source, at in last.items() if at > place}
            if ahead:
                self._last[namespace] = ahead
            else:
                del self._last[namespace]


class Shares:
    """How many workers each namespace has, so that one whose passes all hang leaves some to the others.

    A namespace gets another worker only while more are free than it has. So one gets half of them at most, a second one
    half of the rest, and so on: of sixteen, it takes five whose passes all hang to hold all.
    https://doi.org/10.1109/90.664262
    """

    def __init__(self, *, is_shared: bool) -> None:
        """Begin with no workers.

        Args:
            is_shared: Whether there may be several namespaces. Else one may have all workers.
        """
        self._is_shared = is_shared
        self._free = 0
        self._busy = Counter[str]()

    def join(self) -> None:
        """Count one more worker, which is free."""
        self._free += 1

    def may_take(self, namespace: str) -> bool:
        """Return whether a free worker may take a key of a namespace."""
        return not self._is_shared or self._busy[namespace] < self._free

    def take(self, namespace: str) -> None:
        """Note that a worker works for a namespace."""
        self._free -= 1
        self._busy[namespace] += 1

    def give_back(self, namespace: str) -> None:
        """Note that a worker is free again."""
        self._free += 1
        self._busy[namespace] -= 1
        if not self._busy[namespace]:
            del self._busy[namespace]


class Due(NamedTuple):
    """Where in the order a key is to be worked on: the first place first, among equals the one that came first."""

    place: int
    number: int
    since: float


class Order:
    """Keys that are due. Those of a namespace that may take none keep their places, and delay no other."""

    def __init__(self) -> None:
        """Begin with none."""
        self._due: dict[Key, Due] = {}
        # In order, by namespace. An entry counts only while it is what is due: none is taken out of the middle.
        self._of: dict[str, list[tuple[Due, Key]]] = {}
        # The first entry of each namespace, in order. It counts only while it is the first.
        self._first: list[tuple[Due, str]] = []

    def __len__(self) -> int:
        """Return how many keys are due."""
        return len(self._due)

    def get(self, key: Key) -> Due | None:
        """Return where a key is, None if it is not due."""
        return self._due.get(key)

    def add(self, key: Key, due: Due) -> None:
        """Add a key, or move it up."""
        self._due[key] = due
        entries = self._of.setdefault(key.namespace, [])
        heapq.heappush(entries, (due, key))
        if entries[0][0] == due:
            heapq.heappush(self._first, (due, key.namespace))

    def take(self, shares: Shares) -> tuple[Due, Key] | None:
        """Take the first key of a namespace that may have another worker, None if there is none."""
        # As many as have workers at most: whoever has none may take one.
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
                heapq.heappush(self._first, (due, namespace))

    def clear(self) -> None:
        """Drop all keys."""
        self._due.clear()
        self._of.clear()
        self._first.clear()

    def oldest(self) -> float | None:
        """Return since when the key is due that has waited longest, None if none waits."""
        return min((due.since for due in self._due.values()), default=None)

    def _take_first(self) -> Iterator[tuple[Due, str]]:
        """Yield the first place of each namespace, each taken out of their order."""
        while self._first:
            due, namespace = heapq.heappop(self._first)
            entries = self._of.get(namespace)
            if entries and entries[0][0] == due:
                yield due, namespace

    def _take_from(self, namespace: str) -> tuple[Due, Key]:
        due, key = heapq.heappop(self._of[namespace])
        del self._due[key]
        self._note_first(namespace)
        return due, key

    def _note_first(self, namespace: str) -> None:
        """Put the entry of a namespace that is now its first into the order of namespaces."""
        entries = self._of[namespace]
        while entries and self._due.get(entries[0][1]) != entries[0][0]:
            heapq.heappop(entries)
        if entries:
            heapq.heappush(self._first, (entries[0][0], namespace))
        else:
            del self._of[namespace]
