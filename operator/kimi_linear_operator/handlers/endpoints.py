"""What others may ask the operator over HTTP: is it alive, is it ready, and its metrics."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from kimi_linear_operator.metrics import REGISTRY


class Readiness(NamedTuple):
    """Whether a replica may be relied on.

    Attributes:
        problems: Why not, nothing if it may.
        degraded: What it does not know, or cannot do, while all else works.
    """

    problems: list[str]
    degraded: list[str]


class AddressError(Exception):
    """The address to answer on cannot be had."""


@asynccontextmanager
async def serving(
    host: str, port: int, healthz: Callable[[], list[str]], readyz: Callable[[], Readiness]
) -> AsyncIterator[int]:
    """Answer meanwhile on /healthz, /readyz and /metrics; gives the port, which the system chooses if it is 0.

    Raises:
        AddressError: Somebody else has the port, or there is no such address.
    """
    application = web.Application()
    application.router.add_get("/healthz", _checking(lambda: Readiness(healthz(), [])))
    application.router.add_get("/readyz", _checking(readyz))
    application.router.add_get("/metrics", _metrics)
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


async def _metrics(_: web.Request) -> web.Response:
    return web.Response(body=generate_latest(REGISTRY), headers={"Content-Type": CONTENT_TYPE_LATEST})
