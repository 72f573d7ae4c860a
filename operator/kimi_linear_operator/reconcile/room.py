"""The room that the cache has for objects."""

from collections import Counter
from heapq import nsmallest
from typing import TypeVar

from kimi_linear_operator.reconcile.cached_object import Key, RoomGroup

# The maximum sum of all large children in a namespace, in bytes. The same maximum applies to all large specs and
# statuses of a kind. Beyond it, only the essence of an object is cached.
MOST_OF_LARGE = 32 * 2**20

# The maximum sum of everything in the cache, in bytes, except what is reserved. 5,000 servers with a router take a
# third of this.
MOST_OF_ALL = 192 * 2**20

# What each group can take although the room is full, in bytes: enough for ten servers with a router.
RESERVED = 128 * 2**10

# How many objects a message names.
_MOST_NAMED = 3

_Name = TypeVar("_Name", str, RoomGroup)


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
    """The sum of the sizes of all cached objects, large or small.

    All namespaces share the room: a namespace can take two thirds of what the others leave. In the same way, the groups
    of a namespace share its part. So the first group finds 85 MiB, and there is always room for another namespace.
    """

    def __init__(self) -> None:
        """Begin with an empty room."""
        self._groups: Counter[RoomGroup] = Counter()
        self._namespaces: Counter[str] = Counter()
        self._total = 0

    def add(self, group: RoomGroup, size: int) -> None:
        """Note that the objects of a group now take this many bytes more, or less if it is negative."""
        namespace, _ = group
        self._total += size
        _add(self._groups, group, size)
        _add(self._namespaces, namespace, size)

    def can_hold(self, group: RoomGroup, size: int) -> bool:
        """Return whether there is room for this many bytes more. Objects that only become smaller have room."""
        namespace, _ = group
        in_group, in_namespace = self._groups[group], self._namespaces[namespace]
        part = _share(MOST_OF_ALL - (self._total - in_namespace))
        most = max(_share(part - (in_namespace - in_group)), RESERVED)
        return size <= 0 or in_group + size <= most

    def clear(self) -> None:
        """Forget all sizes."""
        self._groups.clear()
        self._namespaces.clear()
        self._total = 0


def _share(left: int) -> int:
    """Return how much of what the others leave can be taken."""
    return left * 2 // 3


def _add(sizes: Counter[_Name], name: _Name, size: int) -> None:
    """Add to a size. No entry stays for a name without a size."""
    sizes[name] += size
    if not sizes[name]:
        del sizes[name]
