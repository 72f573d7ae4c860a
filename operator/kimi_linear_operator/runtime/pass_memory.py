"""Limits how many bytes all large passes take together.

A pass keeps everything that it has decoded until its end. Most passes decode a few objects. But a server can have a
thousand pods, and users can create many objects with its label.
"""

from collections import Counter
from dataclasses import dataclass, field

# Bytes, as `CachedObject.decoded_size` counts them: four servers with a thousand pods. If their text contains rare
# characters, it takes four times as much.
MOST_OF_PASSES = 48 * 2**20


@dataclass
class PassMemory:
    """The bytes that large passes take, by namespace.

    The passes of one namespace can together take an eighth of the room. Only a single pass can take more. So a
    namespace with slow passes leaves room for the others.
    """

    most: int = MOST_OF_PASSES
    _taken: Counter[str] = field(default_factory=Counter)

    def take(self, namespace: str, size: int) -> bool:
        """Take room for a pass; return False if there is none now.

        Args:
            namespace: The namespace of the resource.
            size: The bytes that the pass takes, 0 for a usual pass.
        """
        size, taken = self._counted(size), self._taken[namespace]
        has_share = not taken or taken + size <= self.most // 8
        if size and not (has_share and self._taken.total() + size <= self.most):
            return False
        self._taken[namespace] += size
        return True

    def give_back(self, namespace: str, size: int) -> None:
        """Give back the room that a pass has taken."""
        self._taken[namespace] -= self._counted(size)
        self._taken += Counter()  # Drops namespaces without passes.

    def _counted(self, size: int) -> int:
        """Return the size, but at most half of all room, so that the largest pass can run while no other one does."""
        return min(size, self.most // 2)
