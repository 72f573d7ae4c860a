"""Termination messages are untrusted: only messages in the runner's format are read."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kimi_linear_operator.benchmark import metric, runner
from kimi_linear_operator.benchmark.result import ResultError, read
from kimi_linear_operator.benchmark.spec import Suite

GOOD: dict[str, Any] = {
    "outcome": "Succeeded",
    "message": "",
    "requested": 10,
    "completed": 10,
    "metrics": {"output_throughput": 176.86, "request_throughput": 0.4, "duration": 23.9, "completed": 10},
}
LOW = Suite.model_validate({"name": "speed-low"})


def test_messages_of_the_runner_are_read() -> None:
    assert read(runner.encode(GOOD), LOW) == GOOD


def test_every_metric_of_the_runner_is_known() -> None:
    assert {name for name in runner.SPEED_METRICS if metric.find("speed", name) is None} == set()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"outcome": "Passed"}, "neither Succeeded nor Failed"),
        ({"outcome": None}, "lacks outcome of type str"),
        ({"requested": "10"}, "lacks requested of type int"),
        ({"requested": True}, "lacks requested of type int"),
        ({"completed": -1}, "an impossible count: completed"),
        ({"completed": 10**30}, "an impossible count: completed"),
        ({"metrics": []}, "lacks metrics of type dict"),
        ({"metrics": {"accuracy": 0.7}}, "a metric that the client of this suite does not report"),
        ({"metrics": {"duration": "1"}}, "a metric that is not a number: duration"),
        ({"metrics": {"duration": True}}, "a metric that is not a number: duration"),
        ({"metrics": {"duration": -1}}, "an impossible value of the metric duration"),
        ({"metrics": {"duration": 1e300}}, "an impossible value of the metric duration"),
        ({"metrics": {"duration": 10**400}}, "an impossible value of the metric duration"),
        ({"metrics": {"duration": float("inf")}}, "an impossible value of the metric duration"),
        ({"metrics": {"duration": float("nan")}}, "an impossible value of the metric duration"),
    ],
    ids=str,
)
def test_values_that_no_runner_writes_are_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ResultError, match=words):
        read(json.dumps(GOOD | change), LOW)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "NaN", "Traceback (most recent call last):", "[" * 5000])
def test_text_that_is_no_result_is_refused(text: str) -> None:
    with pytest.raises(ResultError):
        read(text, LOW)


def test_a_message_is_one_line_of_bounded_length() -> None:
    message = read(json.dumps(GOOD | {"message": "a\n b\t" * 2000}), LOW)["message"]
    assert (len(message) <= 1000, message[:7]) == (True, "a b a b")


@given(st.text() | st.recursive(st.none() | st.integers() | st.text(), st.lists, max_leaves=4).map(json.dumps))
def test_any_text_is_refused_with_a_result_error(text: str) -> None:
    with pytest.raises(ResultError):
        read(text, LOW)
