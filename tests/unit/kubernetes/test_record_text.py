"""Records in annotations: what is read again, and what counts as missing because it is too large or no record."""

import json
from typing import Any

import pytest

from kimi_linear_operator.kubernetes import record_text
from kimi_linear_operator.kubernetes.record_text import HEAVIEST, Reader
from processor_time import cost

LONGEST = 65_536
LISTS = f"[{','.join(['[]'] * 900)}]"


@pytest.mark.parametrize("value", [{}, [], {"a": [1, None, "ä", {"b": 1.5}]}, 0, False, [[["a", 0, "b"], {"c": 1}]]])
def test_a_record_is_read_as_it_was_written(value: Any) -> None:
    text = json.dumps(value)
    assert record_text.fits(text, LONGEST)
    assert record_text.decode(text, LONGEST) == value


@pytest.mark.parametrize("text", ["", "x", "[1", '"\\ud800"', "[" * 1000 + "]" * 1000, '["\ud800"]', "1" * 5000])
def test_a_text_that_the_operator_never_writes_is_missing(text: str) -> None:
    assert record_text.decode(text, LONGEST) is None


def test_a_text_that_is_not_read_is_not_written() -> None:
    for text in (
        json.dumps("x" * LONGEST),
        json.dumps([[]] * HEAVIEST),
        json.dumps({str(n): 0 for n in range(HEAVIEST)}),
    ):
        assert not record_text.fits(text, LONGEST)
        assert record_text.decode(text, LONGEST) is None


def test_a_large_record_of_a_real_spec_is_read() -> None:
    variables = [{"name": f"VARIABLE_{n}", "value": "x" * 20} for n in range(900)]
    text = json.dumps({"inputs": {"podTemplate": {"spec": {"containers": [{"env": variables}]}}}})
    assert record_text.decode(text, LONGEST)


def test_texts_have_a_bound_together() -> None:
    reader = Reader()
    found = [reader.decode(LISTS, LONGEST) is not None for _ in range(10)]
    assert found == [True] * 2 + [False] * 8
    assert reader.decode("[1]", LONGEST) == [1]


@pytest.mark.parametrize("text", ["[" + "x" * 32_000, '["' + r"\"" * 16_000 + '"]', f"[{','.join(['[]'] * 10_900)}]"])
def test_texts_that_are_not_read_take_little_time(text: str) -> None:
    reader = Reader()
    assert cost(lambda: [reader.decode(text, LONGEST) for _ in range(200)]) < 5


@pytest.mark.parametrize(
    "paths",
    [None, {}, "ab", ["a"], [[]], [["a", -1]], [["a", True]], [["a", None]], [["a", 1.0]], [["a"] * 101]],
    ids=str,
)
def test_what_is_no_path_is_not_read(paths: Any) -> None:
    assert record_text.paths(paths, 1024) is None
    assert record_text.values([[path, 1] for path in paths or ()], 1024) == {}


def test_paths_are_read_once_each() -> None:
    paths: list[list[str | int]] = [["a", 0, "b"], ["c"], ["a", 0, "b"]]
    assert record_text.paths(paths, 3) == (("a", 0, "b"), ("c",))
    assert record_text.paths(paths, 2) is None
    assert record_text.values([[path, path[0]] for path in paths], 3) == {("a", 0, "b"): "a", ("c",): "c"}


@pytest.mark.parametrize("entries", [None, {}, [1], [[["a"]]], [[["a"], 1, 2]], ["ab"]], ids=str)
def test_what_is_no_list_of_pairs_is_not_read(entries: Any) -> None:
    assert record_text.values(entries, 1024) == {}
