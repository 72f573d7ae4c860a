"""The room that the cache has for the objects of a namespace."""

from heapq import nsmallest

from kimi_linear_operator.reconcile.cached_object import Key

# The maximum sum of all large children in a namespace, in bytes. The same maximum applies to all large specs of a kind.
# Beyond it, only the essence of an object is cached.
MOST_OF_LARGE = 32 * 2**20

# The maximum sum of all other children in a namespace, in bytes of packed text. 300 servers with 25 children of 15 KiB
# each need 43 MiB. Beyond the maximum, only the essence of a child is cached.
MOST_OF_SMALL = 64 * 2**20

# How many objects a message names.
_MOST_NAMED = 3


class Room:
    """The objects that share one room, with their sizes in bytes."""

    def __init__(self) -> None:
        """Begin with an empty room."""
        self._sizes: dict[Key, int] = {}
        self._total = 0

    def put(self, key: Key, size: int) -> None:
        """Note that an object now has this size. An object without a size leaves the room."""
        self._total += size - self._sizes.pop(key, 0)
        if size:
            self._sizes[key] = size

    def can_hold(self, key: Key, size: int) -> bool:
        """Return whether there is room for an object if it has this size from now on."""
        return self._total - self._sizes.get(key, 0) + size <= MOST_OF_LARGE

    @property
    def is_empty(self) -> bool:
        """Return whether no object is in the room."""
        return not self._sizes

    def largest(self) -> str:
        """Return the names and sizes of the largest objects, as text for people."""
        first = nsmallest(_MOST_NAMED, self._sizes, key=lambda key: (-self._sizes[key], key.name))
        return ", ".join(f"{key.name} ({self._sizes[key] // 1024} KiB)" for key in first)


class SmallRoom:
    """The sum of the sizes of all small children of each namespace. It keeps no entry for each child."""

    def __init__(self) -> None:
        """Begin with an empty room."""
        self._totals: dict[str, int] = {}

    def add(self, namespace: str, size: int) -> None:
        """Note that the children of a namespace now take this many bytes more, or less if it is negative."""
        total = self._totals.pop(namespace, 0) + size
        if total:
            self._totals[namespace] = total

    def can_hold(self, namespace: str, size: int) -> bool:
        """Return whether there is room for this many bytes more."""
        return self._totals.get(namespace, 0) + size <= MOST_OF_SMALL

    def clear(self) -> None:
        """Forget all sizes."""
        self._totals.clear()
