"""JSON, read and written by pydantic's parser: about twice as fast as the standard library's.

The API server stores what Go's parser takes: JSON that is nested 10,000 levels deep, while parsers work recursively,
and any bytes in strings. So what is nested deeper than any object of Kubernetes is cut off before it is read; `rules`
refuses such an object long before that depth. What is no text is replaced, as Go does it.
"""

import re
from array import array
from collections.abc import Iterable
from contextlib import suppress
from itertools import accumulate
from typing import Any

import pydantic_core

DEEPEST_LEVEL = 100
"""The deepest level that is read. What is nested in it is read as null."""

# Python refuses longer ones: https://docs.python.org/3/library/stdtypes.html#int-max-str-digits
_LONG_NUMBER = re.compile(rb"(?<![0-9.eE+-])-?[1-9][0-9]{4300,}+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
# One half of a pair, escaped, without the other half.
_LONE_SURROGATE = re.compile(
    rb"\\u[dD](?:[89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])"
    rb"|(?<!\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD])[c-fC-F][0-9a-fA-F]{2})"
)
_DEEP = re.compile(rb"\x01+")
# Most objects are lighter. To find out how much of so little is in strings takes longer than it is worth.
_LIGHT = 300
# How each byte changes the level, outside of strings; as a signed byte, 255 is one level less.
_STEPS = bytes(1 if sign in b"[{" else 255 if sign in b"]}" else 0 for sign in range(256))


def decode(text: bytes | str) -> Any:
    """Return the value of a JSON text.

    What cannot be read as it is is changed: levels below DEEPEST_LEVEL are null, and so are numbers with more digits
    before the point than Python reads; lone surrogates and bytes that are no UTF-8 are U+FFFD.

    Raises:
        ValueError: It is no JSON.
    """
    try:
        return pydantic_core.from_json(text)
    except (ValueError, TypeError):  # the latter of a string that is no text
        return _decode_odd(_as_bytes(text))


def _decode_odd(text: bytes) -> Any:
    """Return the value of a JSON text that cannot be read as it is.

    To look how deep it is takes longer than to try once more, where there is anything new to try.
    """
    readable = _with_readable_strings(text)
    if readable != text:
        with suppress(ValueError):
            return pydantic_core.from_json(readable)
    return pydantic_core.from_json(_without_long_numbers(_without_deep_levels(readable)))


def encode(value: Any) -> bytes:
    """Return a value as JSON text."""
    return pydantic_core.to_json(value)


def weight(text: bytes) -> int:
    """Return how much work a JSON text is to read: about a third of a microsecond of processor time for each of these.

    Bytes say little: a tree of empty lists takes a hundred times as long as a string of the same length. A list counts
    four times, as it takes so much longer than a number or a pair.
    """
    rough = _signs(text)
    return rough if rough <= _LIGHT else _signs(b"".join(_without_quotes_in_strings(text).split(b'"')[::2]))


def _signs(text: bytes) -> int:
    return text.count(b",") + text.count(b"{") + 4 * text.count(b"[")


def _as_bytes(text: bytes | str) -> bytes:
    """Return a text as UTF-8, with U+FFFD for lone surrogates."""
    if isinstance(text, bytes):
        return text
    return text.encode("utf-16", errors="surrogatepass").decode("utf-16", errors="replace").encode()


def _with_readable_strings(text: bytes) -> bytes:
    """Return a JSON text with U+FFFD for all that is no character.

    Each step of this and of the others handles the whole text at once: a loop over its tokens would take a second for
    what one object may hold.
    """
    # No byte of UTF-8 is 255. Of two backslashes, neither begins the escape of something else.
    hidden = text.decode(errors="replace").encode().replace(rb"\\", b"\xff\xff")
    return _LONE_SURROGATE.sub(rb"\\ufffd", hidden).replace(b"\xff\xff", rb"\\")


def _without_deep_levels(text: bytes) -> bytes:
    """Return a JSON text with null for every list and object below the deepest level."""
    levels = accumulate(array("b", _without_strings(text).translate(_STEPS)))
    is_deep = bytes(map(DEEPEST_LEVEL.__lt__, levels))
    # The closing bracket is on the level above.
    return _with_null(text, ((deep.start(), deep.end() + 1) for deep in _DEEP.finditer(is_deep)))


def _without_long_numbers(text: bytes) -> bytes:
    """Return a JSON text with null for every number that is too long."""
    return _with_null(text, (number.span() for number in _LONG_NUMBER.finditer(_without_strings(text))))


def _with_null(text: bytes, places: Iterable[tuple[int, int]]) -> bytes:
    kept, end = [], 0
    for start, after in places:
        kept += [text[end:start], b"null"]
        end = after
    return b"".join([*kept, text[end:]])


def _without_strings(text: bytes) -> bytes:
    """Return a JSON text of the same length whose strings hold zeros."""
    parts = _without_quotes_in_strings(text).split(b'"')
    parts[1::2] = map(bytes, map(len, parts[1::2]))
    return b'"'.join(parts)


def _without_quotes_in_strings(text: bytes) -> bytes:
    """Return a JSON text of the same length in which every quote begins or ends a string."""
    return text.replace(rb"\\", b"..").replace(rb"\"", b"..")
