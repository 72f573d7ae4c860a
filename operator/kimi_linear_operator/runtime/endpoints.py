"""The HTTP endpoints: liveness, readiness and metrics."""

import asyncio
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import NamedTuple

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST


class Readiness(NamedTuple):
    """Whether a replica is ready.

    Attributes:
        problems: Why it is not ready, empty if it is.
        degraded: Scopes and objects that a ready replica cannot read or watch.
    """

    problems: list[str]
    degraded: list[str]


Exposition = Callable[[], Iterator[bytes]]
"""Takes a snapshot of the cache, and returns its metrics in pieces. The snapshot is quick; the pieces take longer."""

# How long an answer with metrics may take. By default, Prometheus waits 10 s.
_SLOWEST_SECONDS = 10.0
# How many clients may read metrics at the same time. Each can keep a piece of the metrics in memory. Two or three
# replicas of Prometheus are usual.
MOST_READERS = 16
# How many of them may have the same address. Every pod of the cluster may connect, and a pod has one address. So the
# clients of one pod cannot take the places of Prometheus.
MOST_READERS_OF_ADDRESS = 2
# Open connections: more than probes, Prometheus and people need. Every pod of the cluster may connect. Each connection
# takes a file descriptor, and many systems allow a process only 1,024 of these.
MOST_CONNECTIONS = 128
# The format of gzip: https://docs.python.org/3/library/zlib.html#zlib.compressobj
_GZIP = zlib.MAX_WBITS + 16
# At its end, the process waits this long for clients that still read an answer. aiohttp's default is two minutes.
SHUTDOWN_SECONDS = 1.0


class AddressError(Exception):
    """The address for the endpoints is not available."""


@asynccontextmanager
async def serving(
    host: str, port: int, *, healthz: Callable[[], list[str]], readyz: Callable[[], Readiness], exposition: Exposition
) -> AsyncIterator[int]:
    """Serve /healthz, /readyz and /metrics within the context; yield the port. With port 0, the system chooses a port.

    Raises:
        AddressError: The port is in use, or the address does not exist.
    """
    readers: set[asyncio.BaseTransport | None] = set()
    application = web.Application()
    application.router.add_get("/healthz", _check_handler(lambda: Readiness(healthz(), [])))
    application.router.add_get("/readyz", _check_handler(readyz))
    application.router.add_get("/metrics", _metrics_handler(exposition, readers))
    runner = web.AppRunner(application, access_log=None, handle_signals=False, shutdown_timeout=SHUTDOWN_SECONDS)
    await runner.setup()
    try:
        listening = await _listen(runner, host, port, readers)
        try:
            yield int(listening.sockets[0].getsockname()[1])
        finally:
            listening.close()
    finally:
        await runner.cleanup()


async def _listen(
    runner: web.AppRunner, host: str, port: int, readers: Collection[asyncio.BaseTransport | None]
) -> asyncio.Server:
    server = runner.server
    assert server  # noqa: S101 - the runner is set up
    try:
        return await asyncio.get_running_loop().create_server(_accepting(server, readers), host or None, port)
    except OSError as error:
        raise AddressError(str(error.strerror or error)) from error


def _accepting(server: web.Server, readers: Collection[asyncio.BaseTransport | None]) -> Callable[[], asyncio.Protocol]:
    """Return the function that accepts a connection.

    If there are too many connections, it ends old connections that do not read metrics. Such connections are idle, or
    get their answers within milliseconds.
    """
    loop = asyncio.get_running_loop()

    def end_oldest() -> None:
        transports = [
            each.transport for each in server.connections if each.transport and not each.transport.is_closing()
        ]
        idle = [transport for transport in transports if transport not in readers]
        for transport in idle[: max(0, len(transports) + 1 - MOST_CONNECTIONS)]:
            # Closing would wait until the client has read all answers, and it may never read.
            transport.abort()

    def accept() -> asyncio.Protocol:
        # Many connections can come at the same time. They are counted when all of them are open.
        loop.call_soon(end_oldest)
        return server()

    return accept


def _check_handler(check: Callable[[], Readiness]) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(_: web.Request) -> web.Response:
        problems, degraded = check()
        lines = [*(problems or ["ok"]), *(f"degraded: {message}" for message in degraded)]
        return web.Response(text="\n".join(lines) + "\n", status=503 if problems else 200)

    return answer


def _metrics_handler(
    exposition: Exposition, readers: set[asyncio.BaseTransport | None]
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """Return a handler for metrics.

    It makes the answer in pieces, because the whole answer can use a core for seconds. The event loop takes the
    snapshot, and threads make the pieces. So the Lease is renewed in the meantime. Only one piece of each answer is in
    memory, because all metrics can be tens of megabytes. A slow client does not delay other clients, and clients of one
    address take few places.

    Args:
        exposition: Makes the metrics.
        readers: The connections of the clients that read metrics now.
    """
    makes_piece, places = asyncio.Lock(), Counter[str | None]()

    async def answer(request: web.Request) -> web.StreamResponse:
        if places.total() >= MOST_READERS or places[request.remote] >= MOST_READERS_OF_ADDRESS:
            return web.Response(text=f"{places.total()} other clients are reading the metrics\n", status=503)
        is_compressed = "gzip" in request.headers.get("Accept-Encoding", "")
        encoding = {"Content-Encoding": "gzip"} if is_compressed else {}
        response = web.StreamResponse(headers={"Content-Type": CONTENT_TYPE_LATEST, **encoding})
        with _place(places, request.remote):
            pieces, connection = exposition(), request.transport
            readers.add(connection)
            try:
                async with asyncio.timeout(_SLOWEST_SECONDS):
                    await _send(request, response, _compressed(pieces) if is_compressed else pieces, makes_piece)
            except TimeoutError:
                if request.transport:
                    request.transport.abort()  # Without an error, the answer would look complete.
            except ConnectionError:
                pass  # The client has gone. It may come and go as often as it likes, so the log does not name it.
            finally:
                readers.discard(connection)
        return response

    return answer


@contextmanager
def _place(places: Counter[str | None], address: str | None) -> Iterator[None]:
    """Count a client of an address within the context."""
    places[address] += 1
    try:
        yield
    finally:
        places[address] -= 1
        if not places[address]:
            del places[address]


async def _send(
    request: web.Request, response: web.StreamResponse, pieces: Iterator[bytes], makes_piece: asyncio.Lock
) -> None:
    await response.prepare(request)
    while True:
        async with makes_piece:
            piece = await asyncio.to_thread(next, pieces, None)
        if piece is None:
            return
        await response.write(piece)


def _compressed(pieces: Iterator[bytes]) -> Iterator[bytes]:
    compressor = zlib.compressobj(level=1, wbits=_GZIP)
    yield from filter(None, map(compressor.compress, pieces))
    yield compressor.flush()
