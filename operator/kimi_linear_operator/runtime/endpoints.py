"""The HTTP endpoints: liveness, readiness and metrics."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST


class Readiness(NamedTuple):
    """Whether a replica is ready.

    Attributes:
        problems: Why it is not ready, empty if it is.
        degraded: What it cannot read or watch although it is ready.
    """

    problems: list[str]
    degraded: list[str]


Exposition = Callable[[], Callable[[], bytes]]
"""Takes a snapshot of the cache, which is quick; returns the function that makes the metrics of it, which is slow."""


# Bytes. Writing tens of megabytes at once would block the event loop.
_CHUNK = 2**18
# How long the process waits at its end for clients that still read an answer. Without it, that would be two minutes.
SHUTDOWN_SECONDS = 1.0


class AddressError(Exception):
    """The address for the endpoints is not available."""


@asynccontextmanager
async def serving(
    host: str, port: int, *, healthz: Callable[[], list[str]], readyz: Callable[[], Readiness], exposition: Exposition
) -> AsyncIterator[int]:
    """Serve /healthz, /readyz and /metrics within the context; yield the port, which the system chooses if it is 0.

    Raises:
        AddressError: The port is in use, or the address does not exist.
    """
    application = web.Application()
    application.router.add_get("/healthz", _check_handler(lambda: Readiness(healthz(), [])))
    application.router.add_get("/readyz", _check_handler(readyz))
    application.router.add_get("/metrics", _metrics_handler(exposition))
    runner = web.AppRunner(application, access_log=None, handle_signals=False, shutdown_timeout=SHUTDOWN_SECONDS)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host or None, port).start()
        except OSError as error:
            raise AddressError(str(error.strerror or error)) from error
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()


def _check_handler(check: Callable[[], Readiness]) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(_: web.Request) -> web.Response:
        problems, degraded = check()
        lines = [*(problems or ["ok"]), *(f"degraded: {message}" for message in degraded)]
        return web.Response(text="\n".join(lines) + "\n", status=503 if problems else 200)

    return answer


def _metrics_handler(exposition: Exposition) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """Return a handler for metrics. It answers one request at a time, because each may use a core for seconds.

    The event loop takes the snapshot, and a thread makes the text, so that the Lease is renewed meanwhile.
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
