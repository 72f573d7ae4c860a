"""Paths of fields as one short text, for tables that keep the paths for a long time.

A path is a tuple of names. The name of an object is in the path of each of its fields. So the paths of a spec of 16 KiB
can take half a megabyte as tuples.
"""

from collections.abc import Sequence
from itertools import chain

from kimi_linear_operator import jsontext
from kimi_linear_operator.kubernetes.stored import FieldPath

# In bytes. The forty or so fields with a default take about 1 KiB.
MOST_BYTES = 4096


def packed(paths: Sequence[FieldPath]) -> bytes | None:
    """Return paths as JSON, None if the JSON has more than MOST_BYTES.

    Before the JSON is built, the names are measured, because the JSON of the paths of a large spec can take a hundred
    megabytes.
    """
    if sum(len(str(name)) for name in chain.from_iterable(paths)) > MOST_BYTES:
        return None
    text = jsontext.encode(paths)
    return text if len(text) <= MOST_BYTES else None


def unpacked(text: bytes) -> tuple[FieldPath, ...]:
    """Return the paths in a text."""
    return tuple(map(tuple, jsontext.decode(text)))
