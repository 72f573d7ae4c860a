"""Whatever JSON the API server sends is read, whatever was read can be written, and nothing needs a deep stack."""

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kimi_linear_operator import jsontext
from kimi_linear_operator.jsontext import DEEPEST_LEVEL

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=30,
)
# Of 1.5 MB, which is the most that the API server stores.
LARGE = [
    "[" + "[],".join(["["] * 2) + "[]," * 400_000 + "1" + "]" * 3,
    "[" + "[[]]," * 250_000 + "1]",
    "[" + '"[",' * 300_000 + "1]",
    '{"a":"' + "[" * 1_400_000 + '"}',
]


def levels(value: Any) -> int:
    """Return how deep the first value of each level is nested."""
    count = 0
    while value and isinstance(value, dict | list):
        value = next(iter(value.values())) if isinstance(value, dict) else value[0]
        count += 1
    return count


@given(JSON)
def test_what_is_read_is_what_was_written(value: Any) -> None:
    text = jsontext.encode(value)
    assert jsontext.decode(text) == json.loads(text) == value


@pytest.mark.parametrize("depth", [DEEPEST_LEVEL, 150, 199, 201, 1_000, 9_999, 300_000])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"]}\\"[":', "}"), ('{"z":[', "]}")])
def test_deep_levels_are_cut_off_and_everything_else_is_right(opening: str, closing: str, depth: int) -> None:
    deep = opening * depth + "7" + closing * depth
    text = f'{{"metadata":{{"name":"]}}\\\\"}},"spec":{deep},"then":[{deep},"["],"status":{{"ok":true}}}}'
    read = jsontext.decode(text)
    assert (read["metadata"], read["status"], read["then"][1]) == ({"name": "]}\\"}, {"ok": True}, "[")
    assert levels(read["spec"]) <= max(DEEPEST_LEVEL, 2 * 199)
    jsontext.encode(read)


def test_as_many_levels_are_left_as_are_read() -> None:
    read = jsontext.decode(b"[" * 9_999 + b"]" * 9_999)
    assert (levels(read), jsontext.encode(read)) == (DEEPEST_LEVEL, b"[" * 100 + b"null" + b"]" * 100)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b'"\\ud800"', "?"),
        (b'{"\\udfff":["\\ud800\\ud800"]}', {"?": ["??"]}),
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
def test_odd_values_are_read_and_can_be_written(text: bytes, value: Any) -> None:
    read = jsontext.decode(text)
    assert read == value
    assert jsontext.decode(jsontext.encode(read)) == value


@pytest.mark.parametrize("text", [b"", b"nul", b"[1,2", b'{"a"', b'"', b"[" * 100_000, b"]" * 9, b'"\\'])
def test_what_is_no_json_is_a_value_error(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        jsontext.decode(text)


@pytest.mark.parametrize("text", LARGE, ids=[text[:8] for text in LARGE])
def test_a_large_object_that_is_too_deep_is_read_in_a_moment(text: str) -> None:
    deep = f"[{text},{'[' * 500}{']' * 500}]".encode()
    begin = time.thread_time()
    jsontext.decode(deep)
    # Some 0.3 s alone. What grows faster than the text would take minutes.
    assert time.thread_time() - begin < 5.0
