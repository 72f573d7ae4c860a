"""A bounded memory that namespaces share fairly."""

from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


def _one(_: object) -> int:
    return 1


class FairMemory(Generic[K, V]):
    """Values by namespace and key.

    If there are too many, the oldest values of the namespace with the most are forgotten. So no namespace displaces
    the values of another namespace that has fewer.
    """

    def __init__(self, most: int, size: Callable[[V], int] = _one) -> None:
        """Begin with nothing.

        Args:
            most: The largest sum of all sizes.
            size: Returns the size of a value. By default, only the number of values is limited.
        """
        self._most = most
        self._size = size
        # By namespace. The value that was put in first comes first.
        self._values: dict[str, OrderedDict[K, V]] = {}
        self._sizes: Counter[str] = Counter()
        self._total = 0

    def __len__(self) -> int:
        """Return the number of values."""
        return sum(map(len, self._values.values()))

    @property
    def namespaces(self) -> Collection[str]:
        """Return the namespaces with values. It is a copy."""
        return tuple(self._values)

    def keys(self, namespace: str) -> Collection[K]:
        """Return the keys of a namespace, the oldest first. It is a copy."""
        return tuple(self._values.get(namespace, ()))

    def get(self, namespace: str, key: K) -> V | None:
        """Return a value, None if there is none."""
        values = self._values.get(namespace)
        return values.get(key) if values else None

    def put(self, namespace: str, key: K, value: V) -> None:
        """Remember a value as the newest one of its namespace, in place of the earlier value of this key."""
        self.forget(namespace, key)
        self._values.setdefault(namespace, OrderedDict())[key] = value
        self._count(namespace, self._size(value))
        while self._total > self._most:
            crowded = max(self._sizes, key=self._sizes.__getitem__)
            self.forget(crowded, next(iter(self._values[crowded])))

    def is_full_of(self, namespace: str) -> bool:
        """Return whether there is no more room, and no other namespace takes more of it than this one."""
        return self._total >= self._most and self._sizes[namespace] >= max(self._sizes.values())

    def forget(self, namespace: str, key: K) -> None:
        """Forget a value, if there is one."""
        values = self._values.get(namespace)
        if not values or key not in values:
            return
        self._count(namespace, -self._size(values.pop(key)))
        if not values:
            del self._values[namespace], self._sizes[namespace]

    def clear(self) -> None:
        """Forget everything."""
        self._values.clear()
        self._sizes.clear()
        self._total = 0

    def _count(self, namespace: str, size: int) -> None:
        self._sizes[namespace] += size
        self._total += size
