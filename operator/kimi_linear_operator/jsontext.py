"""JSON, read and written by pydantic's parser: about twice as fast as the standard library's.

The API server stores what Go's parser accepts: JSON nested 10,000 levels deep, and any bytes in strings. Python's
parsers are recursive and fail on such depth, so everything below DEEPEST_LEVEL is read as null. `kubernetes/bounds.py`
refuses such an object long before that level. Invalid characters become U+FFFD, as in Go.
"""

import json
import re
from array import array
from collections.abc import Iterable
from contextlib import suppress
from itertools import accumulate
from typing import Any

import pydantic_core

DEEPEST_LEVEL = 100
"""The deepest level that is read. Lists and objects nested in it are read as null."""

LONGEST_REPAIRED = 256 * 1024
"""In bytes. A longer text that the parser refuses is not read. The repair of 7 MB takes half a second."""

# Python does not convert longer integers: https://docs.python.org/3/library/stdtypes.html#int-max-str-digits
_LONG_NUMBER = re.compile(rb"(?<![0-9.eE+-])-?[1-9][0-9]{4300,}+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
# An escaped surrogate without its other half.
_LONE_SURROGATE = re.compile(
    rb"\\u[dD](?:[89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])"
    rb"|(?<!\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD])[c-fC-F][0-9a-fA-F]{2})"
)
# Characters in strings that Go writes as an escape (https://pkg.go.dev/encoding/json#HTMLEscape).
_ESCAPED_BY_GO = re.compile("[<>&\u2028\u2029\ud800-\udfff]")
# YAML allows only some of these characters, so each is written as an escape. A character above U+FFFF would need two
# escapes, which YAML does not read as one character.
_ESCAPED_FOR_YAML = re.compile("[\x7f-\uffff]")
_DEEP = re.compile(rb"\x01+")
# Most objects have a smaller weight. For these, it is not worth the time to exclude the contents of strings.
_LIGHT_WEIGHT = 300
# The change of the level by each byte outside of strings. As a signed byte, 255 is -1.
_STEPS = bytes(1 if byte in b"[{" else 255 if byte in b"]}" else 0 for byte in range(256))


class TooLongError(Exception):
    """A text is longer than allowed, or it would take too long to decode it."""


def decode(text: bytes | str) -> Any:
    """Return the value of a JSON text.

    Levels below DEEPEST_LEVEL become null. So do numbers that have more digits before the point than Python converts.
    Lone surrogates and bytes that are not UTF-8 become U+FFFD.

    Raises:
        ValueError: The text is not JSON.
    """
    try:
        return pydantic_core.from_json(text)
    except (ValueError, TypeError):  # TypeError: a string with a lone surrogate
        return _repair_and_decode(_as_bytes(text))


def decode_unrepaired(text: bytes) -> Any:
    """Return the value of a JSON text, None if the parser refuses it. So no text takes longer than its weight says."""
    try:
        return pydantic_core.from_json(text)
    except (ValueError, TypeError):
        return None


def decode_quickly(text: bytes) -> Any:
    """Return the value of a JSON text, like `decode`. So no text takes longer than its length and weight say.

    Raises:
        ValueError: The text is not JSON.
        TooLongError: The parser refuses the text, and the text is longer than LONGEST_REPAIRED.
    """
    try:
        return pydantic_core.from_json(text)
    except (ValueError, TypeError) as error:
        if len(text) > LONGEST_REPAIRED:
            raise TooLongError from error
        return _repair_and_decode(text)


def _repair_and_decode(text: bytes) -> Any:
    """Return the value of a JSON text that the parser refused.

    First repair only the strings and try again, because an attempt takes less time than the search for deep levels.
    """
    readable = _with_readable_strings(text)
    if readable != text:
        with suppress(ValueError):
            return pydantic_core.from_json(readable)
    return pydantic_core.from_json(_without_long_numbers(_without_deep_levels(readable)))


def encode(value: Any) -> bytes:
    """Return a value as JSON text."""
    return pydantic_core.to_json(value)


def encode_like_go(value: Any) -> bytes:
    """Return a value as JSON text in which strings are written as Go writes them."""
    return _escaped(value, _ESCAPED_BY_GO)


def encode_for_yaml(value: Any) -> bytes:
    """Return a value as JSON text that a parser of YAML reads in the same way."""
    return _escaped(value, _ESCAPED_FOR_YAML)


def _escaped(value: Any, characters: re.Pattern[str]) -> bytes:
    text = json.dumps(value, ensure_ascii=False)
    return characters.sub(lambda found: f"\\u{ord(found[0]):04x}", text).encode()


def weight(text: bytes) -> int:
    """Return the cost of decoding a JSON text, in units of about a third of a microsecond of processor time.

    The length is a bad measure: a tree of empty lists takes a hundred times as long as a string of the same length. A
    list counts four times, because it takes four times as long as a number or a pair.
    """
    upper_bound = _count_tokens(text)
    return (
        upper_bound
        if upper_bound <= _LIGHT_WEIGHT
        else _count_tokens(b"".join(_without_quotes_in_strings(text).split(b'"')[::2]))
    )


def _count_tokens(text: bytes) -> int:
    return text.count(b",") + text.count(b"{") + 4 * text.count(b"[")


def _as_bytes(text: bytes | str) -> bytes:
    """Return a text as UTF-8, with U+FFFD for lone surrogates."""
    if isinstance(text, bytes):
        return text
    return text.encode("utf-16", errors="surrogatepass").decode("utf-16", errors="replace").encode()


def _with_readable_strings(text: bytes) -> bytes:
    """Return a JSON text with U+FFFD for everything that is not a character.

    This and the following functions have no loop over the tokens of the text, because such a loop would take a second
    for the largest object.
    """
    # UTF-8 never contains byte 255, so it replaces escaped backslashes. Otherwise these would look like the beginning
    # of another escape.
    without_escaped_backslashes = text.decode(errors="replace").encode().replace(rb"\\", b"\xff\xff")
    return _LONE_SURROGATE.sub(rb"\\ufffd", without_escaped_backslashes).replace(b"\xff\xff", rb"\\")


def _without_deep_levels(text: bytes) -> bytes:
    """Return a JSON text with null for every list and object below the deepest level."""
    levels = accumulate(array("b", _without_strings(text).translate(_STEPS)))
    is_deep = bytes(map(DEEPEST_LEVEL.__lt__, levels))
    # Each match ends before the closing bracket, because this bracket belongs to the level above. So add 1.
    return _with_null(text, ((run.start(), run.end() + 1) for run in _DEEP.finditer(is_deep)))


def _without_long_numbers(text: bytes) -> bytes:
    """Return a JSON text with null for every number that is too long."""
    return _with_null(text, (number.span() for number in _LONG_NUMBER.finditer(_without_strings(text))))


def _with_null(text: bytes, spans: Iterable[tuple[int, int]]) -> bytes:
    """Return a text with null in place of these spans."""
    parts, end = [], 0
    for start, next_end in spans:
        parts += [text[end:start], b"null"]
        end = next_end
    return b"".join([*parts, text[end:]])


def _without_strings(text: bytes) -> bytes:
    """Return a JSON text of the same length, with zero bytes in its strings."""
    parts = _without_quotes_in_strings(text).split(b'"')
    parts[1::2] = map(bytes, map(len, parts[1::2]))
    return b'"'.join(parts)


def _without_quotes_in_strings(text: bytes) -> bytes:
    """Return a JSON text of the same length in which each quote begins or ends a string."""
    return text.replace(rb"\\", b"..").replace(rb"\"", b"..")
