"""JSON in an annotation: a record that the operator wrote. Anybody who may write the object can edit the record.

The API server treats the whole text as one string. So its bounds on objects do not limit the values in the text.
"""

from typing import Any

from kimi_linear_operator import jsontext
from kimi_linear_operator.kubernetes.stored import FieldPath

HEAVIEST = 10_000
"""The largest cost of a text. A usual text of 64 KiB has a weight (`jsontext.weight`) below 8,000, and decoding this
weight takes 3 ms."""

# Characters that cost as much as one unit of weight, because it takes time to measure the weight.
_CHARACTERS = 64


class Reader:
    """Decodes texts, up to a bound on their cost together.

    When the bound is reached, further texts count as missing.
    """

    def __init__(self, most: int = HEAVIEST) -> None:
        """Take the largest cost of all texts together."""
        self._left = most

    def decode(self, text: str, longest: int) -> Any:
        """Return the value of a text, None if it is empty, longer than this, too heavy or no JSON.

        The operator never writes what Python's parsers refuse, so an unreadable text is not repaired.
        """
        if not text or len(text) > longest or not self._pay(len(text) // _CHARACTERS):
            return None
        content = text.encode(errors="surrogatepass")
        return jsontext.decode_unrepaired(content) if self._pay(jsontext.weight(content)) else None

    def _pay(self, cost: int) -> bool:
        """Return whether this cost is within the bound. If it is, subtract it from the bound."""
        is_within = cost <= self._left
        self._left -= cost if is_within else 0
        return is_within


def decode(text: str, longest: int) -> Any:
    """Return the value of a single text, None if it is empty, longer than this, too heavy or no JSON."""
    return Reader().decode(text, longest)


def fits(text: str, longest: int) -> bool:
    """Return whether `decode` reads a text of this length and weight. Only such a text may be written."""
    return len(text) <= longest and len(text) // _CHARACTERS + jsontext.weight(text.encode()) <= HEAVIEST


def paths(value: Any, most: int) -> tuple[FieldPath, ...] | None:
    """Return recorded paths, each once; None if they are missing, unreadable or more than this number."""
    if not isinstance(value, list) or len(value) > most or not all(map(_is_path, value)):
        return None
    return tuple(dict.fromkeys(map(tuple, value)))


def values(entries: Any, most: int) -> dict[FieldPath, Any]:
    """Return recorded fields with their values, empty if they are missing, unreadable or more than this number."""
    pairs = isinstance(entries, list) and all(isinstance(entry, list) and len(entry) == 2 for entry in entries)
    is_readable = pairs and paths([path for path, _ in entries], most) is not None
    return {tuple(path): value for path, value in entries} if is_readable else {}


def _is_path(value: Any) -> bool:
    """Return whether a value is a path: names of fields, and indexes of items. True and -1 are no indexes."""
    names = value if isinstance(value, list) else ()
    is_short = 0 < len(names) <= jsontext.DEEPEST_LEVEL
    return is_short and all(isinstance(name, str) or (type(name) is int and name >= 0) for name in names)
