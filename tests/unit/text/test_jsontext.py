"""Any JSON of the API server can be read and written again, without deep recursion."""

import gc
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kimi_linear_operator import jsontext
from kimi_linear_operator.jsontext import DEEPEST_LEVEL
from kimi_linear_operator.runtime.process import GARBAGE
from processor_time import cost

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=30,
)
# The API server uses Go's json.Valid. In a string, it checks only quotes, backslashes and control characters.
BYTES = st.binary(max_size=8).map(lambda raw: bytes(byte for byte in raw if byte >= 0x20 and byte not in b'"\\'))
ESCAPES = st.sampled_from(
    [
        rb"\ud800",
        rb"\uDBFF",
        rb"\udc00",
        rb"\uDFFF",
        rb"\ud83d\ude00",
        rb"\\",
        rb"\"",
        rb"\n",
        rb"\/",
        rb"\u0000",
        b"ud800",
    ]
)
STRINGS = st.lists(BYTES | ESCAPES, max_size=6).map(lambda parts: b'"' + b"".join(parts) + b'"')
NUMBERS = st.sampled_from(
    [b"0", b"-0", b"1e5", b"-1.5E-3", b"1E400", b"9" * 4300, b"1." + b"1" * 5_000, b"true", b"null"]
)
TEXTS = st.recursive(
    STRINGS | NUMBERS,
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda found: b"[" + b" ,".join(found) + b"]")
        | st.lists(st.tuples(STRINGS, inner).map(b": ".join), max_size=3).map(
            lambda found: b"{" + b",".join(found) + b"}"
        )
    ),
    max_leaves=8,
)
LONG = [b"1" * 4_301, b"-" + b"9" * 5_000, b"1" * 5_000 + b".5", b"1" * 5_000 + b"e-4999"]
# Texts of 1.5 MB, the maximum that the API server stores.
LARGE = [
    "[" + "[],".join(["["] * 2) + "[]," * 400_000 + "1" + "]" * 3,
    "[" + "[[]]," * 250_000 + "1]",
    "[" + '"[",' * 300_000 + "1]",
    '{"a":"' + "[" * 1_400_000 + '"}',
]
# Texts that need the most time in the parts of the reader for unusual input.
ODD = {
    "surrogate": b"[" + b"[]," * 460_000 + rb'"\ud800"]',
    "surrogates": b"[" + rb'"\ud800",' * 150_000 + b"1]",
    "bytes": b'"' + b"\xff" * 1_400_000 + b'"',
    "byte in a key": b"[" + b'{"":1},' * 200_000 + b'{"\xff":1}]',
    "escapes": rb'["\ud800' + rb"\\" * 700_000 + b'"]',
    "levels": b"[" * 99 + b"[]," * 460_000 + b"1" + b"]" * 99,
    "digits": b"[" + b"1" * 1_400_000 + b"]",
}


def levels(value: Any) -> int:
    """Return how deep a value is nested, following the first value of each level."""
    count = 0
    while value and isinstance(value, dict | list):
        value = next(iter(value.values())) if isinstance(value, dict) else value[0]
        count += 1
    return count


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": "<&>"}, rb'{"a": "\u003c\u0026\u003e"}'),
        (["\u2028\u2029"], rb'["\u2028\u2029"]'),
        (
            ["é\x7f\U0001f600", '"\\', "\b\f\n\r\t\x01"],
            '["é\x7f\U0001f600", "\\"\\\\", "\\b\\f\\n\\r\\t\\u0001"]'.encode(),
        ),
        ([{"<": None}, True, 5], rb'[{"\u003c": null}, true, 5]'),
    ],
    ids=ascii,
)
def test_text_is_written_as_go_writes_it(value: Any, text: bytes) -> None:
    assert jsontext.encode_like_go(value) == text


@given(JSON)
def test_text_for_yaml_is_json_and_has_an_escape_for_every_character_that_yaml_may_not_allow(value: Any) -> None:
    text = jsontext.encode_for_yaml(value)
    assert json.loads(text) == value
    assert all(character < "\x7f" or character > "\uffff" for character in text.decode())
    assert rb"\ud83d" not in jsontext.encode_for_yaml("\U0001f680")


@given(JSON)
def test_decoding_gives_back_the_encoded_value(value: Any) -> None:
    text = jsontext.encode(value)
    assert jsontext.decode(text) == json.loads(text) == value


def with_characters(value: Any) -> Any:
    """Return a value as the standard library reads it, with U+FFFD for the lone surrogates that it leaves."""
    if isinstance(value, dict):
        return {with_characters(key): with_characters(item) for key, item in value.items()}
    if isinstance(value, list):
        return list(map(with_characters, value))
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace") if isinstance(value, str) else value


@given(TEXTS)
def test_invalid_utf_8_in_strings_and_keys_is_read_and_replaced(text: bytes) -> None:
    expected = with_characters(json.loads(text.decode(errors="replace")))
    assert jsontext.decode(text) == expected
    assert jsontext.decode(text.decode(errors="replace")) == expected
    # As a surrogate, each byte of invalid UTF-8 is one character.
    jsontext.decode(text.decode(errors="surrogateescape"))
    assert jsontext.decode(jsontext.encode(expected)) == expected


@given(TEXTS, st.sampled_from([150, 201, 9_999]), st.sampled_from(LONG))
def test_several_oddities_in_one_text_are_read_together(text: bytes, depth: int, number: bytes) -> None:
    deep = b'{"\xff]":[' * (depth // 2) + number + b"]}" * (depth // 2)
    read = jsontext.decode(b'{"odd":%b,"deep":%b,"long":[%b,%b],"odd too":%b}' % (text, deep, number, text, text))
    expected = with_characters(json.loads(text.decode(errors="replace")))
    long, beside = read["long"]
    assert (read["odd"], beside, read["odd too"], long in (None, float("inf"))) == (expected, expected, expected, True)
    assert levels(read["deep"]) <= 199
    jsontext.encode(read)


@pytest.mark.parametrize("depth", [DEEPEST_LEVEL, 150, 199, 201, 1_000, 9_999, 300_000])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"]}\\"[":', "}"), ('{"z":[', "]}")])
def test_deep_levels_are_cut_off_and_the_rest_is_read(opening: str, closing: str, depth: int) -> None:
    deep = opening * depth + "7" + closing * depth
    text = f'{{"metadata":{{"name":"]}}\\\\"}},"spec":{deep},"then":[{deep},"["],"status":{{"ok":true}}}}'
    read = jsontext.decode(text)
    assert (read["metadata"], read["status"], read["then"][1]) == ({"name": "]}\\"}, {"ok": True}, "[")
    assert levels(read["spec"]) <= max(DEEPEST_LEVEL, 2 * 199)
    jsontext.encode(read)


def test_a_hundred_levels_are_kept() -> None:
    read = jsontext.decode(b"[" * 9_999 + b"]" * 9_999)
    assert (levels(read), jsontext.encode(read)) == (DEEPEST_LEVEL, b"[" * 100 + b"null" + b"]" * 100)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b'"\\ud800"', "\ufffd"),
        (b'{"\\udfff":["\\ud800\\ud800"]}', {"\ufffd": ["\ufffd\ufffd"]}),
        (b'{"f:a\xff":{"\xed\xa0\x80":"\xe2"}}', {"f:a\ufffd": {"\ufffd" * 3: "\ufffd"}}),
        (rb'"\\ud800\ud83d\ude00\udc00"', "\\ud800\U0001f600\ufffd"),
        ('"\ud800\\n\udcff"', "\ufffd\n\ufffd"),
        (b'"\\ud83d\\ude00"', "\U0001f600"),
        (b'"\\u0000\\u2028"', "\0\u2028"),
        (b"1e308", 1e308),
        (b"5e-324", 5e-324),
        (b"-0.0", -0.0),
        (b"-9223372036854775808", -(2**63)),
        (b'{"a":1,"a":2}', {"a": 2}),
        (b"1" * 4300, int("1" * 4300)),
        (b'{"a":' + b"1" * 5_000 + b',"b":[-' + b"1" * 5_000 + b"]}", {"a": None, "b": [None]}),
    ],
)
def test_odd_values_are_read_and_can_be_written(text: bytes | str, value: Any) -> None:
    read = jsontext.decode(text)
    assert read == value
    assert jsontext.decode(jsontext.encode(read)) == value


@pytest.mark.parametrize(
    "text", [b"", b"nul", b"[1,2", b'{"a"', b'"', b"[" * 100_000, b"]" * 9, b'"\\', b"\xff", b'"\0"', b"01" * 5_000]
)
def test_text_that_is_not_json_is_a_value_error(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        jsontext.decode(text)


@pytest.mark.parametrize("text", LARGE, ids=[text[:8] for text in LARGE])
def test_a_large_object_that_is_too_deep_is_read_in_a_moment(text: str) -> None:
    deep = f"[{text},{'[' * 500}{']' * 500}]".encode()
    # It costs about 30. Code whose time grows faster than the text would need minutes.
    assert cost(lambda: jsontext.decode(deep)) < 200


@pytest.mark.parametrize("text", ODD.values(), ids=ODD)
def test_a_large_odd_object_takes_little_longer_than_a_usual_one(text: bytes) -> None:
    usual = gc.get_threshold()
    gc.set_threshold(GARBAGE)
    assert cost(lambda: jsontext.decode(text)) < 40
    gc.set_threshold(*usual)
