"""What others may ask the operator over HTTP: is it alive, is it ready, and its metrics."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from kimi_linear_operator.metrics import REGISTRY

Check = Callable[[], list[str]]
"""Returns what is wrong, nothing if all is well."""


class AddressError(Exception):
    """The address to answer on cannot be had."""


@asynccontextmanager
async def serving(host: str, port: int, healthz: Check, readyz: Check) -> AsyncIterator[int]:
    """Answer meanwhile on /healthz, /readyz and /metrics; gives the port, which the system chooses if it is 0.

    Raises:
        AddressError: Somebody else has the port, or there is no such address.
    """
    application = web.Application()
    application.router.add_get("/healthz", _checking(healthz))
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


def _checking(check: Check) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(_: web.Request) -> web.Response:
        problems = check()
        return web.Response(text="\n".join(problems or ["ok"]) + "\n", status=503 if problems else 200)

    return answer


async def _metrics(_: web.Request) -> web.Response:
    return web.Response(body=generate_latest(REGISTRY), headers={"Content-Type": CONTENT_TYPE_LATEST})
