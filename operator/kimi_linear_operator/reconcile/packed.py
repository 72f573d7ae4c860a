"""JSON text in memory, compressed to two fifths. Nearly all of the cache is pod templates, which repeat many words."""

import zlib
from dataclasses import dataclass
from typing import Self

# Without a header and a checksum, because the text never leaves the process.
_RAW = -zlib.MAX_WBITS
# Higher levels take longer, and save little.
_LEVEL = 1


@dataclass(frozen=True, slots=True)
class PackedText:
    """A text.

    Attributes:
        content: The compressed text, or the text itself if that is not longer.
        size: The length of the text in bytes.
    """

    content: bytes
    size: int

    @classmethod
    def of(cls, text: bytes, longest: int) -> Self:
        """Pack a text, unless it is longer than `longest` bytes: a megabyte takes 20 ms."""
        content = zlib.compress(text, _LEVEL, _RAW) if len(text) <= longest else text
        return cls(min(text, content, key=len), len(text))

    def read(self) -> bytes:
        """Return the text."""
        is_compressed = len(self.content) < self.size
        return zlib.decompress(self.content, _RAW, self.size) if is_compressed else self.content
