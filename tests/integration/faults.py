"""Faults of calls to the API server, with realistic answers."""

import asyncio
import concurrent.futures
import json
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from kimi_linear_operator.kubernetes.kinds import Kind

# https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status/
_REASONS = {
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    409: "Conflict",
    410: "Expired",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
}

TRUNCATED = b'{"type":"MODIFIED","object":{"kind":"Kimi'
"""The end of a watch after its sender died in the middle of a line."""


@dataclass
class Call:
    """A request and its answer."""

    method: str
    path: str
    query: dict[str, str]
    agent: str
    token: str
    body: bytes
    began: float
    ended: float | None = None
    status: int = 0
    """The status of the answer, 0 without an answer."""

    @property
    def is_write(self) -> bool:
        return self.method != "GET"

    @property
    def is_watch(self) -> bool:
        return self.query.get("watch") == "true"

    @property
    def is_list(self) -> bool:
        return "limit" in self.query

    def concerns(self, kind: Kind, name: str = "") -> bool:
        """Return whether this is about a kind, or about one object of it."""
        _, found, rest = self.path.partition(f"/{kind.plural}")
        return bool(found) and name in ("", rest.split("/")[1] if rest else "")


Matches = Callable[[Call], bool]
Forward = Callable[[], Awaitable[web.StreamResponse]]
Fault = Callable[[Call, Forward], Awaitable[web.StreamResponse]]
"""Answers a call with a fault. `forward` gets the answer without this fault."""


class DroppedError(Exception):
    """The connection ends without an answer."""


def everything(_: Call) -> bool:
    """Match every call."""
    return True


def refuse(status: int, headers: dict[str, str] | None = None) -> Fault:
    """Answer with an error of the API server."""

    async def fault(_: Call, __: Forward) -> web.StreamResponse:
        return web.json_response(_status(status), status=status, headers=headers)

    return fault


def answer(content: dict[str, Any]) -> Fault:
    """Answer with status 200 and this JSON, like a proxy in maintenance."""

    async def fault(_: Call, __: Forward) -> web.StreamResponse:
        return web.json_response(content)

    return fault


def page(status: int, text: str) -> Fault:
    """Answer with an error of a proxy in front of the API server."""

    async def fault(_: Call, __: Forward) -> web.StreamResponse:
        return web.Response(status=status, text=text)

    return fault


def refuse_every(nth: int, *statuses: int) -> Fault:
    """Answer every nth call with one of these errors, in turn."""
    count = 0

    async def fault(call: Call, forward: Forward) -> web.StreamResponse:
        nonlocal count
        count += 1
        if count % nth:
            return await forward()
        return await refuse(statuses[count // nth % len(statuses)])(call, forward)

    return fault


def end_with(line: bytes) -> Fault:
    """Answer a watch with one line and end it."""

    async def fault(_: Call, __: Forward) -> web.StreamResponse:
        return web.Response(body=line, content_type="application/json")

    return fault


def delay(seconds: float) -> Fault:
    """Answer late."""

    async def fault(_: Call, forward: Forward) -> web.StreamResponse:
        await asyncio.sleep(seconds)
        return await forward()

    return fault


def commit_late(seconds: float) -> Fault:
    """Deliver a call to the API server late, even if its client has given up, like a slow webhook or etcd."""

    async def fault(_: Call, forward: Forward) -> web.StreamResponse:
        async def late() -> web.StreamResponse:
            await asyncio.sleep(seconds)
            return await forward()

        return await asyncio.shield(asyncio.create_task(late()))

    return fault


def in_pages_of(count: int) -> Fault:
    """Give a list in smaller pages than it was asked for."""

    async def fault(call: Call, forward: Forward) -> web.StreamResponse:
        call.query["limit"] = str(count)
        return await forward()

    return fault


async def drop(_: Call, __: Forward) -> web.StreamResponse:
    """End the connection without an answer."""
    raise DroppedError


class Silence:
    """Gives no answer until the fault ends. Then delivers the calls of clients that have not given up."""

    def __init__(self) -> None:
        self._over = concurrent.futures.Future[None]()

    def end(self) -> None:
        self._over.set_result(None)

    async def __call__(self, _: Call, forward: Forward) -> web.StreamResponse:
        await asyncio.shield(asyncio.wrap_future(self._over))
        return await forward()


class Hold:
    """Holds the nth call for ever, either before the API server gets the call or before the client gets the answer.

    It also holds every later call: the test kills the client when the nth call is reached.
    """

    def __init__(self, nth: int, *, after: bool) -> None:
        self.reached = threading.Event()
        self._nth = nth
        self._after = after
        self._count = 0

    async def __call__(self, call: Call, forward: Forward) -> web.StreamResponse:
        self._count += 1
        if self._count < self._nth:
            return await forward()
        if self._after and self._count == self._nth:
            await forward()
        self.reached.set()
        return await Silence()(call, forward)


def error_event(code: int) -> bytes:
    """Return the line with which the API server ends a watch that it cannot continue."""
    return json.dumps({"type": "ERROR", "object": _status(code)}).encode() + b"\n"


def _status(code: int) -> dict[str, Any]:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": f"injected: {_REASONS[code]}",
        "reason": _REASONS[code],
        "code": code,
    }
