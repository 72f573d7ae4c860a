"""The stand-in's endpoints of OpenAI's API, with SGLang's answers: models, chat with tools, completions."""

import json
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from stand_in import answers
from stand_in.engine import Engine
from stand_in.keys import ENGINE

# The longest answer of a chat without a limit. In SGLang, the limit is the rest of the context.
_DEFAULT_LENGTH = 4096
# SGLang's name for the model in a request without one.
_DEFAULT_MODEL = "default"
_METADATA = {"weight_version": "default"}


def add_routes(app: web.Application) -> None:
    """Add the endpoints to an application."""
    app.router.add_get("/v1/models", _models)
    app.router.add_post("/v1/chat/completions", _chat)
    app.router.add_post("/v1/completions", _complete)


async def stream(request: web.Request, events: AsyncIterator[dict[str, Any]]) -> web.StreamResponse:
    """Send events when they come. A failure before the first event is an ordinary answer."""
    first = await anext(events, None)
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
    await response.prepare(request)
    if first is not None:
        await response.write(_event(first))
    async for event in events:
        await response.write(_event(event))
    await response.write(b"data: [DONE]\n\n")
    return response


def _event(value: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


async def _models(request: web.Request) -> web.Response:
    settings = request.app[ENGINE].arguments
    name = settings.served_model_name
    card = {"id": name, "object": "model", "created": int(time.time()), "owned_by": "sglang", "root": name}
    return web.json_response({"object": "list", "data": [card | {"max_model_len": settings.context_length}]})


@dataclass(frozen=True)
class _Chat:
    """An answer of the model to one conversation."""

    id: str
    model: str
    prompt_tokens: int
    answer: answers.Answer
    tool: tuple[str, str] | None
    """A call that the parser found in the answer: name and arguments."""

    @property
    def finish_reason(self) -> str:
        return "tool_calls" if self.tool else self.answer.reason

    def usage(self) -> dict[str, Any]:
        return _usage(self.prompt_tokens, len(self.answer.text))

    def tool_call(self, name: str | None, arguments: str) -> dict[str, Any]:
        """Return a call of the tool, or a part of a call. Kimi's ids contain the name of the function."""
        identifier = f"functions.{name}:0" if name else None
        return {
            "id": identifier,
            "index": 0,
            "type": "function",
            "function": {"name": name, "arguments": arguments},
        }

    def whole(self) -> dict[str, Any]:
        """Return the answer of a request that does not stream."""
        message: dict[str, Any] = {"role": "assistant", "content": self.answer.text, "reasoning_content": None}
        message["tool_calls"] = None
        if self.tool:
            message |= {"content": None, "tool_calls": [self.tool_call(*self.tool)]}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": self.finish_reason}
        whole = self._envelope("chat.completion", [choice | {"matched_stop": None}], self.usage())
        return whole | {"metadata": _METADATA}

    def chunk(self, delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
        """Return one event of a stream."""
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason, "matched_stop": None}
        return self._envelope("chat.completion.chunk", [choice], None)

    def usage_chunk(self) -> dict[str, Any]:
        """Return the event that SGLang sends last, if it was requested."""
        return self._envelope("chat.completion.chunk", [], self.usage())

    def _envelope(self, kind: str, choices: list[Any], usage: dict[str, Any] | None) -> dict[str, Any]:
        created = int(time.time())
        return {
            "id": self.id,
            "object": kind,
            "created": created,
            "model": self.model,
            "choices": choices,
            "usage": usage,
        }


async def _chat(request: web.Request) -> web.StreamResponse:
    engine = request.app[ENGINE]
    body = await request.json()
    messages = body.get("messages")
    if not messages:
        return _bad_request("Messages cannot be empty.")
    chat = _answer(messages, body, engine)
    lengths = engine.generate(chat.prompt_tokens, chat.answer)
    if body.get("stream"):
        wants_usage = (body.get("stream_options") or {}).get("include_usage", False)
        return await stream(request, _chunks(chat, lengths, wants_usage))
    async for _length in lengths:
        pass
    return web.json_response(chat.whole())


def _answer(messages: list[dict[str, Any]], body: dict[str, Any], engine: Engine) -> _Chat:
    longest = body.get("max_completion_tokens") or body.get("max_tokens") or _DEFAULT_LENGTH
    tool = answers.choose_tool(messages, body)
    if tool and engine.behaviour.mangles(engine.requests + 1):
        tool = (tool[0], tool[1][: len(tool[1]) // 2])
    text = answers.as_tokens(*tool) if tool else answers.reply(messages)
    return _Chat(
        id=uuid.uuid4().hex,
        model=body.get("model", _DEFAULT_MODEL),
        prompt_tokens=len(json.dumps(messages)),
        answer=answers.repeat(text, longest) if body.get("ignore_eos") else answers.shorten(text, longest),
        # Without the parser, the model's call of a tool is the text of the answer.
        tool=tool if engine.arguments.tool_call_parser == "kimi_k2" else None,
    )


async def _chunks(chat: _Chat, lengths: AsyncIterator[int], wants_usage: bool) -> AsyncIterator[dict[str, Any]]:
    told = 0
    async for length in lengths:
        if not told:
            yield chat.chunk({"role": "assistant", "content": ""})
        if not chat.tool:
            yield chat.chunk({"content": chat.answer.text[told:length]})
        told = length
    if chat.tool:
        name, arguments = chat.tool
        yield chat.chunk({"tool_calls": [chat.tool_call(name, "")]})
        yield chat.chunk({"tool_calls": [chat.tool_call(None, arguments)]})
    yield chat.chunk({}, chat.finish_reason)
    if wants_usage:
        yield chat.usage_chunk()


async def _complete(request: web.Request) -> web.StreamResponse:
    engine = request.app[ENGINE]
    body = await request.json()
    prompt = body.get("prompt")
    if not isinstance(prompt, str) or not prompt:
        return _bad_request("The prompt must be a text.")
    longest = body.get("max_tokens") or 16
    accuracy = engine.behaviour.accuracy
    answer = answers.complete(prompt, longest, ignores_end=body.get("ignore_eos", False), accuracy=accuracy)
    tokens = len(prompt.encode())
    completion = {
        "id": uuid.uuid4().hex,
        "object": "text_completion",
        "created": int(time.time()),
        "model": body.get("model", _DEFAULT_MODEL),
    }
    lengths = engine.generate(tokens, answer)
    if body.get("stream"):
        return await stream(request, _parts(completion, answer, lengths))
    async for _length in lengths:
        pass
    usage = _usage(tokens, len(answer.text))
    choice = {"index": 0, "text": answer.text, "logprobs": None, "finish_reason": answer.reason}
    return web.json_response(completion | {"choices": [choice], "usage": usage, "metadata": _METADATA})


async def _parts(
    completion: dict[str, Any], answer: answers.Answer, lengths: AsyncIterator[int]
) -> AsyncIterator[dict[str, Any]]:
    told = 0
    async for length in lengths:
        reason = answer.reason if length == len(answer.text) else None
        choice = {"index": 0, "text": answer.text[told:length], "logprobs": None, "finish_reason": reason}
        yield completion | {"choices": [choice], "usage": None}
        told = length


def _usage(prompt_tokens: int, generated: int) -> dict[str, Any]:
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": generated,
        "total_tokens": prompt_tokens + generated,
        "prompt_tokens_details": None,
        "reasoning_tokens": 0,
    }


def _bad_request(message: str) -> web.Response:
    error = {"object": "error", "message": message, "type": "BadRequestError", "param": None, "code": 400}
    return web.json_response(error, status=400)
