"""The stand-in's answers. They are invented, the same every time, and only ASCII. A token is a byte."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_SENTENCE = "This is no model, only a stand-in that repeats itself. "
_QUESTION = re.compile(r"Question: Ann has (\d+) apples and gets (\d+) more\. How many apples has Ann\?\nAnswer:$")
_QUESTIONS = 200
# This number has no common factor with 200, so the wrong answers are spread over the questions.
_STRIDE = 59


@dataclass(frozen=True)
class Answer:
    """A text, and why it ends: `stop` means by itself, `length` means that no more tokens were requested."""

    text: str
    reason: str


def complete(prompt: str, longest: int, *, ignores_end: bool, accuracy: float) -> Answer:
    """Continue a prompt with the answer to a question of `data.py`, or else with our sentence."""
    if question := _QUESTION.search(prompt):
        return shorten(answer_to(int(question[1]), int(question[2]), accuracy), longest)
    if ignores_end:
        return repeat(_SENTENCE, longest)
    return shorten(_SENTENCE.strip(), longest)


def shorten(text: str, longest: int) -> Answer:
    """Stop at the end of a text, or at the requested length."""
    return Answer(text, "stop") if len(text) <= longest else Answer(text[:longest], "length")


def repeat(text: str, longest: int) -> Answer:
    """Repeat a text up to the requested length."""
    return Answer((text * (longest // len(text) + 1))[:longest], "length")


def is_right(apples: int, accuracy: float) -> bool:
    """Whether the question about this number of apples gets the right answer.

    Of 200 such questions in a row, the share `accuracy` gets it.
    """
    return apples * _STRIDE % _QUESTIONS < round(accuracy * _QUESTIONS)


def answer_to(apples: int, more: int, accuracy: float) -> str:
    """Return the answer to a question, which may be wrong by one."""
    total = apples + more + (0 if is_right(apples, accuracy) else 1)
    return f" {apples} and {more} are {total}.\n#### {total}\n"


def reply(messages: Sequence[dict[str, Any]]) -> str:
    """Answer the last message of a conversation."""
    last = messages[-1]
    content = last.get("content") or ""
    text = content if isinstance(content, str) else "".join(part.get("text", "") for part in content)
    said = "The tool said" if last["role"] == "tool" else "You said"
    return f"{said}: {text}".encode("ascii", "replace").decode()


def choose_tool(messages: Sequence[dict[str, Any]], request: dict[str, Any]) -> tuple[str, str] | None:
    """Return name and arguments of the tool to call: the requested tool, the one that the question names, or the first.

    None after a tool's answer.
    """
    tools = [tool["function"] for tool in request.get("tools") or ()]
    choice = request.get("tool_choice") or "auto"
    if not tools or choice == "none" or messages[-1]["role"] == "tool":
        return None
    question = str(messages[-1].get("content"))
    asked = next((tool["name"] for tool in tools if re.search(rf"\b{re.escape(tool['name'])}\b", question)), None)
    name = choice["function"]["name"] if isinstance(choice, dict) else asked or tools[0]["name"]
    tool = next(tool for tool in tools if tool["name"] == name)
    return name, json.dumps(_sample(tool.get("parameters") or {"type": "object"}))


def as_tokens(name: str, arguments: str) -> str:
    """Return a call of a tool in Kimi's own format. The parser recognises it, and without a parser it is plain text."""
    call = f"<|tool_call_begin|>functions.{name}:0<|tool_call_argument_begin|>{arguments}<|tool_call_end|>"
    return f"<|tool_calls_section_begin|>{call}<|tool_calls_section_end|>"


def _sample(schema: dict[str, Any], name: str = "") -> Any:
    """Return a value that a schema allows. Texts are the names of their fields."""
    if schema.get("enum"):
        return schema["enum"][0]
    if schema.get("type") == "object":
        return {field: _sample(part, field) for field, part in (schema.get("properties") or {}).items()}
    if schema.get("type") == "array":
        return [_sample(schema["items"], name)] if "items" in schema else []
    return {"integer": 1, "number": 1.5, "boolean": True}.get(schema.get("type", "string"), name)
