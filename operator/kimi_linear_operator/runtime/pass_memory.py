"""Limits how many bytes all large passes take together.

A pass keeps everything that it has decoded until its end. Most passes decode a few objects. But a server can have a
thousand pods, and users can create many objects with its label, or add managed fields to its children.
"""

from collections import Counter
from dataclasses import dataclass, field

# Bytes, as `CachedObject.decoded_size` counts them: four servers with a thousand pods. If their text contains rare
# characters, it takes four times as much.
MOST_OF_PASSES = 48 * 2**20


@dataclass
class PassMemory:
    """The bytes that large passes take, by namespace.

    The passes of one namespace can together take an eighth of the room, its share. Only a single pass can take more,
    and all such passes together can take half of the room. So namespaces with slow passes leave room for the others.
    """

    most: int = MOST_OF_PASSES
    _taken: Counter[str] = field(default_factory=Counter)
    # Of these bytes, those of passes that take more than the share of a namespace.
    _beyond_share: int = 0

    def take(self, namespace: str, size: int) -> bool:
        """Take room for a pass; return False if there is none now.

        Args:
            namespace: The namespace of the resource.
            size: The bytes that the pass takes, 0 for a usual pass.
        """
        size = self._counted(size)
        if size and not (self._is_allowed(namespace, size) and self._taken.total() + size <= self.most):
            return False
        self._taken[namespace] += size
        self._beyond_share += self._beyond(size)
        return True

    def _is_allowed(self, namespace: str, size: int) -> bool:
        """Return whether a pass leaves enough room for the passes of other namespaces."""
        if self._beyond(size):
            return not self._taken[namespace] and self._beyond_share + size <= self.most // 2
        return not self._taken[namespace] or self._taken[namespace] + size <= self._share

    def give_back(self, namespace: str, size: int) -> None:
        """Give back the room that a pass has taken."""
        size = self._counted(size)
        self._taken[namespace] -= size
        self._beyond_share -= self._beyond(size)
        self._taken += Counter()  # Drops namespaces without passes.

    @property
    def _share(self) -> int:
        return self.most // 8

    def _beyond(self, size: int) -> int:
        """Return the size of a pass that takes more than the share of a namespace, 0 for any other pass."""
        return size if size > self._share else 0

    def _counted(self, size: int) -> int:
        """Return the size, but at most half of all room, so that the largest pass can run while no other one does."""
        return min(size, self.most // 2)
