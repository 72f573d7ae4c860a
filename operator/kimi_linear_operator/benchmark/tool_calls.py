"""Asks a server to call tools, and prints the share of valid calls. It is the client of tool-call suites.

The operator mounts this file beside `runner.py`, which runs it, so it uses only the standard library of Python 3.10:

    KIMI_LINEAR_URL=http://kimi:30000 python3 tool_calls.py --requests 20

SGLang has no client for this. Each request is a chat that asks for one of a few tools. Half of the requests are
streamed, because parsers use other code for streams. The requests do not force the call of a tool: with a forced call,
SGLang would constrain the answer to JSON, and the parser would not be tested.

An answer is valid if it consists of calls of the named tool, with arguments in JSON that the tool's schema allows. The
values do not matter.
"""

import argparse
import concurrent.futures
import json
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]

URL = "KIMI_LINEAR_URL"
API_KEY = "OPENAI_API_KEY"
# Requests at a time.
_PARALLEL = 8
# In seconds. A call needs some hundred tokens, and the first request may wait for the compilation of kernels.
_TIMEOUT = 300
_MOST_TOKENS = 512
# Status codes for a wrong key, and for servers that are busy or missing. They say nothing about tool calls.
_NO_ANSWERS = (401, 403, 404, 429, 502, 503, 504)
_LONGEST_QUOTE = 200
# In bytes. The longest answer has `_MOST_TOKENS` tokens, each of them in an event of some hundred bytes.
_LONGEST_ANSWER = 2**21
# Markers of Kimi's format. In the text of an answer, they show that the parser has missed a call.
_MARKER = "<|tool_call"

_UNITS: Json = {"type": "string", "enum": ["celsius", "fahrenheit"]}
_TEXT: Json = {"type": "string"}
_NUMBER: Json = {"type": "number"}


def _schema(**properties: Json) -> Json:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


TOOLS: dict[str, tuple[str, Json]] = {
    "get_weather": ("Return the weather of a city.", _schema(city=_TEXT, unit=_UNITS)),
    "add": ("Add two numbers.", _schema(first=_NUMBER, second=_NUMBER)),
    "create_reminder": ("Create a reminder.", _schema(text=_TEXT, in_minutes={"type": "integer"})),
    "set_light": ("Switch a lamp.", _schema(room=_TEXT, on={"type": "boolean"})),
    "order": (
        "Order goods.",
        _schema(
            customer=_schema(name=_TEXT, city=_TEXT),
            items={"type": "array", "items": _schema(name=_TEXT, count={"type": "integer"})},
        ),
    ),
}
"""The tools by their names, each with its description and the schema of its arguments."""

_CITIES = ("Paris", "São Paulo", "東京", "Cork", "New York")
_QUESTIONS = {
    "get_weather": "What is the weather in {city} in degrees celsius?",
    "add": "What is {number} plus 2.5?",
    "create_reminder": 'Remind me in {number} minutes to say "hello" in {city}.',
    "set_light": "Switch off the lamp in the kitchen of our house in {city}.",
    "order": "Order {number} apples and one cake for Ann in {city}.",
}


class CallError(Exception):
    """An answer without a valid call. The message names the problem."""


@dataclass(frozen=True)
class Request:
    """A chat that asks for a call of a tool."""

    tool: str
    body: Json

    @property
    def is_streamed(self) -> bool:
        """Return whether the answer comes as a stream."""
        return bool(self.body["stream"])


def request_of(number: int, model: str) -> Request:
    """Return a request. Each two requests ask the same question, and the second one is streamed.

    Args:
        number: Number of the request, from 0.
        model: The name of the served model.
    """
    question = number // 2
    name = list(TOOLS)[question % len(TOOLS)]
    asked = _QUESTIONS[name].format(city=_CITIES[question // len(TOOLS) % len(_CITIES)], number=question + 3)
    tools = [
        {"type": "function", "function": {"name": tool, "description": text, "parameters": schema}}
        for tool, (text, schema) in TOOLS.items()
    ]
    body = {
        "model": model,
        "messages": [{"role": "user", "content": f"{asked} Call the tool {name}, and say nothing else."}],
        "tools": tools,
        "temperature": 0,
        "max_tokens": _MOST_TOKENS,
        "stream": number % 2 == 1,
    }
    return Request(name, body)


def check_answer(name: str, message: Json) -> None:
    """Check that an answer consists of valid calls of a tool.

    Args:
        name: The tool.
        message: The answer's message, in one piece.

    Raises:
        CallError: It contains no valid call, or other contents.
    """
    if _MARKER in str(message.get("content") or ""):
        raise CallError(f"the text of the answer contains a call that the parser missed: {_quoted(message['content'])}")
    calls = message.get("tool_calls")
    if not isinstance(calls, list) or not calls:
        raise CallError(f"no call of {name}, but the text {_quoted(message.get('content'))}")
    for call in calls:
        _check_call(name, call)


def _check_call(name: str, call: Any) -> None:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or function.get("name") != name:
        raise CallError(f"not a call of {name}: {_quoted(json.dumps(call))}")
    try:
        arguments = json.loads(function.get("arguments") or "")
    except (RecursionError, TypeError, ValueError):
        raise CallError(f"the arguments of {name} are not JSON: {_quoted(function.get('arguments'))}") from None
    if problem := next(_problems("", arguments, TOOLS[name][1]), ""):
        raise CallError(f"the arguments of {name} do not match its schema ({problem}): {_quoted(arguments)}")


_TYPES: dict[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
}


def _problems(path: str, value: Any, schema: Json) -> Iterator[str]:
    """Yield the problems of a value, by the few keywords of JSON Schema that the tools use."""
    here, wanted = path or "the whole", schema["type"]
    is_of_type = isinstance(value, _TYPES[wanted]) and isinstance(value, bool) == (wanted == "boolean")
    if not is_of_type:
        yield f"{here} is not of type {wanted}"
    elif wanted == "object":
        yield from _field_problems(path, value, schema)
    elif wanted == "array":
        for position, item in enumerate(value):
            yield from _problems(f"{path}[{position}]", item, schema["items"])
    elif value not in schema.get("enum", [value]):
        yield f"{here} is none of {', '.join(schema['enum'])}"


def _field_problems(path: str, value: Json, schema: Json) -> Iterator[str]:
    here, properties = path or "the whole", schema["properties"]
    yield from (f"{name} is missing in {here}" for name in schema["required"] if name not in value)
    yield from (f"{here} has the unknown field {_quoted(name)}" for name in value if name not in properties)
    for name in sorted(value.keys() & properties.keys()):
        yield from _problems(f"{path}.{name}".strip("."), value[name], properties[name])


def _quoted(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST_QUOTE else f"{text[:_LONGEST_QUOTE]}..."


def joined(events: Iterable[Json]) -> Json:
    """Return the message in the events of a stream.

    Raises:
        CallError: An event does not have the shape of OpenAI's events.
    """
    calls: dict[int, Json] = {}
    content = ""
    try:
        deltas = [choice["delta"] for event in events for choice in event.get("choices") or ()]
        for delta in deltas:
            content += delta.get("content") or ""
            for part in delta.get("tool_calls") or ():
                function = calls.setdefault(part["index"], {"function": {"name": "", "arguments": ""}})["function"]
                function["name"] += part["function"].get("name") or ""
                function["arguments"] += part["function"].get("arguments") or ""
    except (AttributeError, KeyError, TypeError) as error:
        raise CallError(f"the stream does not have the shape of OpenAI's streams ({error!r})") from None
    return {"content": content, "tool_calls": [calls[index] for index in sorted(calls)]}


def ask(address: str, key: str, request: Request) -> Json:
    """Send a request; return the answer's message, in one piece.

    Raises:
        CallError: The answer is not a message.
        OSError: The server cannot be reached, or refuses the request.
    """
    with _opened(f"{address}/v1/chat/completions", key, request.body) as answer:
        try:
            if request.is_streamed:
                lines = (line.decode().strip() for line in _read(answer).split(b"\n"))
                texts = (line.removeprefix("data:").strip() for line in lines if line.startswith("data:"))
                return joined([json.loads(text) for text in texts if text != "[DONE]"])
            message = json.loads(_read(answer))["choices"][0]["message"]
        except (IndexError, KeyError, RecursionError, TypeError, ValueError) as error:
            raise CallError(f"the answer does not have the shape of OpenAI's answers ({error!r})") from None
    if not isinstance(message, dict):
        raise CallError("the answer contains no message")
    return message


def _opened(url: str, key: str, body: Json | None = None) -> Any:
    headers = {"Content-Type": "application/json", **({"Authorization": " ".join(("Bearer", key))} if key else {})}
    data = None if body is None else json.dumps(body).encode()
    # The address has the scheme HTTP or HTTPS, and no redirect leads to another one.
    return _OPENER.open(urllib.request.Request(url, data, headers), timeout=_TIMEOUT)  # noqa: S310


def _read(answer: Any) -> bytes:
    """Return an answer.

    Raises:
        ValueError: It is too long. A server could send data until the memory is full.
    """
    data: bytes = answer.read(_LONGEST_ANSWER + 1)
    if len(data) > _LONGEST_ANSWER:
        raise ValueError(f"it has more than {_LONGEST_ANSWER} bytes")
    return data


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows no redirect. Otherwise, a server could send the client and its key to any address."""

    def redirect_request(self, *_: Any) -> None:
        """Let the redirect be an error."""


_OPENER = urllib.request.build_opener(_NoRedirect)


def served_model(address: str, key: str) -> str:
    """Return the name of the served model.

    Raises:
        OSError: The server cannot be reached, or refuses the request.
        ValueError: The answer is no JSON, or too long.
    """
    with _opened(f"{address}/v1/models", key) as answer:
        return str(json.loads(_read(answer))["data"][0]["id"])


def _problem_of(address: str, key: str, request: Request) -> str:
    """Send a request. Return the problem of the answer, empty if the answer is valid."""
    try:
        check_answer(request.tool, ask(address, key, request))
    except CallError as error:
        return str(error)
    except urllib.error.HTTPError as error:
        if error.code in _NO_ANSWERS:
            raise
        return f"HTTP {error.code}: {_quoted(error.read(_LONGEST_QUOTE).decode(errors='replace'))}"
    return ""


def main() -> int:
    """Send the requests and print the shares of valid calls; return the exit code."""
    parser = argparse.ArgumentParser(description="Asks a server to call tools.")
    parser.add_argument("--requests", required=True, type=int, help="how many requests to send; half are streamed")
    total = parser.parse_args().requests
    address, key = os.environ[URL], os.environ.get(API_KEY, "").strip()
    start = time.monotonic()
    model = served_model(address, key)
    problems: list[str] = []
    with concurrent.futures.ThreadPoolExecutor(_PARALLEL) as pool:
        requests = (request_of(number, model) for number in range(total))
        for problem in pool.map(lambda request: _problem_of(address, key, request), requests):
            problems.append(problem)
            print(f"{100 * len(problems) // total}%|tool calls| {len(problems)}/{total} [", file=sys.stderr, flush=True)
    for number, problem in enumerate(problems):
        if problem:
            print(f"Request {number + 1}: {problem}")
    print(f"Valid tool calls: {_share(problems[::2])}")
    print(f"Valid streamed tool calls: {_share(problems[1::2])}")
    print(f"Latency: {time.monotonic() - start:.3f} s")
    return 0


def _share(problems: list[str]) -> str:
    """Return the share of requests without a problem; 1 if there are none."""
    return f"{problems.count('') / len(problems):.3f}" if problems else "1.000"


if __name__ == "__main__":
    sys.exit(main())
