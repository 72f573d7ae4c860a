"""Which answers count as valid tool calls."""

import ast
import contextlib
import http.server
import json
import sys
import threading
import tracemalloc
import urllib.error
from pathlib import Path
from typing import Any

import pytest

from kimi_linear_operator.benchmark import tool_calls
from kimi_linear_operator.benchmark.tool_calls import CallError, ask, check_answer, joined, request_of, served_model

FILE = Path(tool_calls.__file__)
ARGUMENTS: dict[str, Any] = {
    "customer": {"name": "Ann", "city": "Cork"},
    "items": [{"name": "apples", "count": 3}],
}


def call(name: str, arguments: object) -> dict[str, Any]:
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return {"id": "functions.x:0", "type": "function", "function": {"name": name, "arguments": text}}


def test_the_program_needs_only_the_standard_library_of_python_3_10() -> None:
    tree = ast.parse(FILE.read_text(), feature_version=(3, 10))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {alias.name for node in imports if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in imports if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in names} <= sys.stdlib_module_names


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("get_weather", {"city": "Paris", "unit": "celsius"}),
        ("add", {"first": 1, "second": 2.5}),
        ("set_light", {"room": "kitchen", "on": False}),
        ("order", ARGUMENTS),
    ],
)
def test_arguments_that_match_the_schema_are_valid(name: str, arguments: dict[str, Any]) -> None:
    check_answer(name, {"content": None, "tool_calls": [call(name, arguments)]})
    check_answer(name, {"content": "", "tool_calls": [call(name, arguments), call(name, arguments)]})


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        ({"content": "It is sunny."}, "no call of order, but the text 'It is sunny.'"),
        ({"content": "", "tool_calls": []}, "no call of order"),
        ({"content": "<|tool_call_begin|>", "tool_calls": [call("order", ARGUMENTS)]}, "a call that the parser missed"),
        ({"tool_calls": [call("add", {})]}, "not a call of order"),
        ({"tool_calls": ["order"]}, "not a call of order"),
        ({"tool_calls": [{"function": None}]}, "not a call of order"),
        ({"tool_calls": [call("order", '{"customer": ')]}, "are not JSON"),
        ({"tool_calls": [{"function": {"name": "order", "arguments": None}}]}, "are not JSON"),
        ({"tool_calls": [{"function": {"name": "order", "arguments": {}}}]}, "are not JSON"),
        ({"tool_calls": [call("order", "[" * 100_000)]}, "are not JSON"),
        ({"tool_calls": [call("order", [])]}, "the whole is not of type object"),
        ({"tool_calls": [call("order", {**ARGUMENTS, "items": {}})]}, "items is not of type array"),
        ({"tool_calls": [call("order", {"items": []})]}, "customer is missing"),
        ({"tool_calls": [call("order", {**ARGUMENTS, "extra": 1})]}, "has the unknown field 'extra'"),
        ({"tool_calls": [call("order", {**ARGUMENTS, "items": [{"name": "a", "count": True}]})]}, "items[0].count"),
        ({"tool_calls": [call("order", {**ARGUMENTS, "items": [{"name": "a", "count": 1.5}]})]}, "items[0].count"),
    ],
)
def test_the_problem_of_an_invalid_answer_is_named(message: dict[str, Any], problem: str) -> None:
    with pytest.raises(CallError) as raised:
        check_answer("order", message)
    assert problem in str(raised.value)


def test_a_value_outside_an_enum_and_a_number_in_place_of_a_boolean_are_problems() -> None:
    with pytest.raises(CallError, match="unit is none of celsius, fahrenheit"):
        check_answer("get_weather", {"tool_calls": [call("get_weather", {"city": "Paris", "unit": "kelvin"})]})
    with pytest.raises(CallError, match="on is not of type boolean"):
        check_answer("set_light", {"tool_calls": [call("set_light", {"room": "kitchen", "on": 0})]})


def test_parts_of_a_streamed_call_are_joined_by_position() -> None:
    def part(index: int, **function: str | None) -> dict[str, Any]:
        return {"choices": [{"delta": {"tool_calls": [{"index": index, "function": function}]}}]}

    events = [
        {"choices": [{"delta": {"role": "assistant", "content": "Let me see. "}}]},
        part(0, name="add", arguments=""),
        part(1, name="add", arguments='{"first": 3,'),
        part(0, name=None, arguments='{"first": 1, "second": 2}'),
        part(1, arguments=' "second": 4}'),
        {"choices": [{"delta": {}, "finish_reason": "tool_calls"}]},
        {"choices": [], "usage": {}},
    ]
    message = joined(events)
    assert [json.loads(item["function"]["arguments"]) for item in message["tool_calls"]] == [
        {"first": 1, "second": 2},
        {"first": 3, "second": 4},
    ]
    check_answer("add", message)
    with pytest.raises(CallError, match="does not have the shape"):
        joined([{"choices": [{"delta": {"tool_calls": [{"function": {}}]}}]}])


def test_every_tool_is_requested_streamed_and_not() -> None:
    requests = [request_of(number, "kimi") for number in range(20)]
    assert [request.is_streamed for request in requests] == [False, True] * 10
    assert {(request.tool, request.is_streamed) for request in requests} == {
        (tool, is_streamed) for tool in tool_calls.TOOLS for is_streamed in (True, False)
    }
    pairs = zip(requests[::2], requests[1::2], strict=True)
    assert all(whole.body["messages"] == streamed.body["messages"] for whole, streamed in pairs)
    assert len({str(request.body["messages"]) for request in requests}) == 10


def test_the_client_sends_its_key_to_no_redirected_address() -> None:
    asked: list[str] = []

    class Redirecting(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(302)
            self.send_header("Location", "/elsewhere")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    with http.server.HTTPServer(("127.0.0.1", 0), Redirecting) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(urllib.error.HTTPError, match="302"):
            served_model(f"http://127.0.0.1:{server.server_port}", "key")
        server.shutdown()
    assert asked == ["/v1/models"]


class Endless(http.server.BaseHTTPRequestHandler):
    """Sends data until the client ends the connection."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        with contextlib.suppress(OSError):
            for _ in range(64):
                self.wfile.write(b"data: " + b" " * 2**20)

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        """Print nothing."""


def test_an_answer_without_an_end_takes_little_memory() -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Endless) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        tracemalloc.start()
        with pytest.raises(ValueError, match="more than 2097152 bytes"):
            served_model(address, "")
        for number in (0, 1):
            with pytest.raises(CallError, match="more than 2097152 bytes"):
                ask(address, "", request_of(number, "kimi"))
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        server.shutdown()
    assert most < 8 * 2**20
