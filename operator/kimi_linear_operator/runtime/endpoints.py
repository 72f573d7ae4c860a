"""What others may ask the operator over HTTP: is it alive, is it ready, and its metrics."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST


class Readiness(NamedTuple):
    """Whether a replica may be relied on.

    Attributes:
        problems: Why not, nothing if it may.
        degraded: What it does not know, or cannot do, while all else works.
    """

    problems: list[str]
    degraded: list[str]


Exposition = Callable[[], Callable[[], bytes]]
"""Takes what is known of the cluster, without waiting; returns what makes metrics of it, which takes long."""


# Sending tens of megabytes at once would keep the event loop from going on.
_CHUNK = 2**18


class AddressError(Exception):
    """The address to answer on cannot be had."""


@asynccontextmanager
async def serving(
    host: str, port: int, healthz: Callable[[], list[str]], readyz: Callable[[], Readiness], exposition: Exposition
) -> AsyncIterator[int]:
    """Answer meanwhile on /healthz, /readyz and /metrics; gives the port, which the system chooses if it is 0.

    Raises:
        AddressError: Somebody else has the port, or there is no such address.
    """
    application = web.Application()
    application.router.add_get("/healthz", _checking(lambda: Readiness(healthz(), [])))
    application.router.add_get("/readyz", _checking(readyz))
    application.router.add_get("/metrics", _showing(exposition))
    runner = web.AppRunner(application, access_log=None, handle_signals=False)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host or None, port).start()
        except OSError as error:
            raise AddressError(str(error.strerror or error)) from error
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()


def _checking(check: Callable[[], Readiness]) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(_: web.Request) -> web.Response:
        problems, degraded = check()
        lines = [*(problems or ["ok"]), *(f"degraded: {what}" for what in degraded)]
        return web.Response(text="\n".join(lines) + "\n", status=503 if problems else 200)

    return answer


def _showing(exposition: Exposition) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """Return what answers with the metrics, of one request at a time: each may take a core for seconds.

    The event loop, which renews the Lease, takes the snapshot; a thread makes the text.
    """
    lock = asyncio.Lock()

    async def answer(request: web.Request) -> web.StreamResponse:
        compressed = "gzip" in request.headers.get("Accept-Encoding", "")
        async with lock:
            body = await asyncio.to_thread(_render, exposition(), compressed=compressed)
        encoding = {"Content-Encoding": "gzip"} if compressed else {}
        response = web.StreamResponse(headers={"Content-Type": CONTENT_TYPE_LATEST, **encoding})
        response.content_length = len(body)
        await response.prepare(request)
        for start in range(0, len(body), _CHUNK):
            await response.write(body[start : start + _CHUNK])
        return response

    return answer


def _render(expose: Callable[[], bytes], *, compressed: bool) -> bytes:
    text = expose()
    return gzip.compress(text, compresslevel=1) if compressed else text
