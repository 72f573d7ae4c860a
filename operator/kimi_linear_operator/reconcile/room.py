"""The room that the cache has for objects."""

from heapq import nsmallest

from kimi_linear_operator.reconcile.cached_object import Key, RoomGroup

# The maximum sum of all large children in a namespace, in bytes. The same maximum applies to all large specs and
# statuses of a kind. Beyond it, only the essence of an object is cached.
MOST_OF_LARGE = 32 * 2**20

# The maximum sum of everything in the cache, in bytes. 5,000 servers with a router need 64 MiB.
MOST_OF_ALL = 192 * 2**20

# How many objects a message names.
_MOST_NAMED = 3


class Room:
    """The large objects of a group, with their sizes in bytes."""

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


class CommonRoom:
    """The sum of the sizes of all cached objects, large or small, for each group.

    All groups share the room. A group can take two thirds of what the others leave. So the first group finds 128 MiB,
    and there is always room for another group. Each group can take its equal share, whatever the others have taken.
    """

    def __init__(self) -> None:
        """Begin with an empty room."""
        self._totals: dict[RoomGroup, int] = {}
        self._total = 0

    def add(self, group: RoomGroup, size: int) -> None:
        """Note that the objects of a group now take this many bytes more, or less if it is negative."""
        total = self._totals.pop(group, 0) + size
        self._total += size
        if total:
            self._totals[group] = total

    def can_hold(self, group: RoomGroup, size: int) -> bool:
        """Return whether there is room for this many bytes more. Objects that only become smaller have room."""
        taken = self._totals.get(group, 0)
        left_by_others = MOST_OF_ALL - (self._total - taken)
        equal_share = MOST_OF_ALL // max(len(self._totals), 1)
        return size <= 0 or taken + size <= max(left_by_others * 2 // 3, equal_share)

    def clear(self) -> None:
        """Forget all sizes."""
        self._totals.clear()
        self._total = 0
