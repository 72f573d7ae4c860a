"""The client of tool calls.

The runner runs it against the stand-in, with valid, damaged, unparsed and refused calls.
"""

from collections.abc import Callable
from typing import Any

import pytest

from client.processes import Pod, StandIn
from kimi_linear_operator.benchmark import tool_calls

Start = Callable[..., StandIn]

PARSER = ("--tool-call-parser", "kimi_k2")
ASK = ["python3", tool_calls.__file__, "--requests", "20"]


def ask(pod: Pod, server: StandIn, key: str = "") -> dict[str, Any]:
    return pod.run(ASK, 20, server.url, {"OPENAI_API_KEY": key}, kind="tool-calls").result


def test_with_the_parser_all_calls_are_valid(start: Start, pod: Pod) -> None:
    result = ask(pod, start(*PARSER))
    assert result["metrics"].pop("latency") > 0
    shares = {"valid_tool_calls": 1.0, "valid_streamed_tool_calls": 1.0}
    assert result == {"outcome": "Succeeded", "message": "", "requested": 20, "completed": 20, "metrics": shares}


def test_truncated_arguments_count_as_invalid_and_the_first_is_quoted(start: Start, pod: Pod) -> None:
    result = ask(pod, start(*PARSER, mangle_every=4))
    shares = [result["metrics"][name] for name in ("valid_tool_calls", "valid_streamed_tool_calls")]
    assert sum(shares) == pytest.approx(1.5)
    assert "are not JSON" in result["message"]


def test_without_the_parser_no_call_is_valid(start: Start, pod: Pod) -> None:
    result = ask(pod, start())
    assert (result["metrics"]["valid_tool_calls"], result["metrics"]["valid_streamed_tool_calls"]) == (0, 0)
    assert "a call that the parser missed" in result["message"]


def test_a_wrong_api_key_is_a_failure_that_names_the_key(start: Start, pod: Pod) -> None:
    result = ask(pod, start(*PARSER, "--api-key", "right"), "wrong")
    assert result["outcome"] == "Failed"
    assert "The server refused the API key" in result["message"]
    assert ask(pod, start(*PARSER, "--api-key", "right"), "right\n")["metrics"]["valid_tool_calls"] == 1


def test_an_error_of_the_server_does_not_count_as_a_valid_call(start: Start, pod: Pod) -> None:
    result = ask(pod, start(*PARSER, fail_every=2))
    assert result["metrics"]["valid_tool_calls"] + result["metrics"]["valid_streamed_tool_calls"] == pytest.approx(1.0)
    assert "HTTP 500" in result["message"]
