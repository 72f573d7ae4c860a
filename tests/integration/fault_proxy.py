"""A proxy between an operator and the API server. It causes the faults that a test asks for.

It forwards every request with its token, and every line of a watch as it comes, and records each call. At any moment, a
test may inject faults into calls that it selects, freeze or cut watches, or refuse connections.
"""

import asyncio
import io
import selectors
import socket
import ssl
import threading
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import urlencode

import aiohttp
import yaml
from aiohttp import web

from control_plane import LocalCluster, free_ports
from integration.faults import Call, DroppedError, Fault, Forward, Matches, Silence, everything
from integration.waiting import wait_for

Result = TypeVar("Result")

_LOOPBACK = "127.0.0.1"
_PATIENCE_SECONDS = 60.0
# Objects with their managed fields are longer than aiohttp's own limit of a line.
_LONGEST_LINE = 2**22
# Headers that belong to a single connection, and the header for compression, because compressed answers cannot be cut
# into lines.
_NOT_PASSED_ON = {"host", "connection", "content-length", "transfer-encoding", "accept-encoding"}


@dataclass(eq=False)
class _Watch:
    """A watch that the proxy passes on."""

    call: Call
    passing: asyncio.Task[None]
    flows: asyncio.Event
    last: bytes = b""


@dataclass
class FaultProxy:
    """A proxy before the API server of a cluster, on its own port. It is used as a context.

    It ends TLS with the certificate of the API server, which kwokctl also gives to the administrator as a client.
    """

    cluster: LocalCluster
    calls: list[Call] = field(default_factory=list)
    """All calls so far, in order."""
    _faults: list[tuple[Matches, Fault]] = field(default_factory=list)
    _watches: set[_Watch] = field(default_factory=set)
    _selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)

    def __post_init__(self) -> None:
        content = yaml.safe_load(self.cluster.kubeconfig.read_text())
        cluster, user = content["clusters"][0]["cluster"], content["users"][0]["user"]
        [self._port] = free_ports(1)
        self._loop = asyncio.SelectorEventLoop(self._selector)
        self._at_rest = len(self._selector.get_map())
        self._upstream_tls = ssl.create_default_context(cafile=cluster["certificate-authority"])
        self._tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._tls.load_cert_chain(user["client-certificate"], user["client-key"])
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault proxy", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._do(self._open())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._do(self._close())
            wait_for(self._open_connections, "all connections are closed", lambda count: count == 0)
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def kubeconfig_for(self, kubeconfig: Path, file: Path) -> Path:
        """Write a copy of a kubeconfig that uses this proxy."""
        content = yaml.safe_load(kubeconfig.read_text())
        content["clusters"][0]["cluster"]["server"] = f"https://{_LOOPBACK}:{self._port}"
        file.touch(mode=0o600)
        file.write_text(yaml.safe_dump(content))
        return file

    def begin(self, fault: Fault, matches: Matches = everything) -> None:
        """Inject a fault into the calls that match, with precedence over earlier faults."""
        self._faults = [(matches, fault), *self._faults]

    def heal(self) -> None:
        """Remove all faults, resume frozen watches, deliver delayed calls, and accept connections again."""
        for _, fault in self._faults:
            if isinstance(fault, Silence):
                fault.end()
        self._faults = []
        self._do(self._thaw())
        self._do(self._listen())

    @contextmanager
    def fault(self, fault: Fault, matches: Matches = everything) -> Iterator[None]:
        """Keep a fault for a while."""
        self.begin(fault, matches)
        try:
            yield
        finally:
            self._faults = [item for item in self._faults if item != (matches, fault)]

    def freeze_watches(self, matches: Matches = everything) -> None:
        """Send no more to the open watches. Their connections stay open."""
        self._do(self._freeze(matches))

    def cut_watches(self, matches: Matches = everything, last: bytes = b"") -> None:
        """End the open watches with these last bytes."""
        self._do(self._cut(matches, last))

    def refuse_connections(self) -> None:
        """Drop all connections and accept no new ones."""
        self._do(self._refuse_connections())

    def count(self, matches: Matches) -> int:
        """Return how many calls so far match."""
        return sum(map(matches, list(self.calls)))

    def _open_connections(self) -> int:
        return len(self._selector.get_map()) - self._at_rest

    def _do(self, work: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_PATIENCE_SECONDS)

    async def _open(self) -> None:
        connector = aiohttp.TCPConnector(ssl=self._upstream_tls, limit=0)
        self._session = aiohttp.ClientSession(
            self.cluster.server,
            connector=connector,
            timeout=aiohttp.ClientTimeout(),
            read_bufsize=_LONGEST_LINE,
            skip_auto_headers=("Accept-Encoding", "Content-Type"),
        )
        application = web.Application(client_max_size=2**24)
        application.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(application, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        self._site: web.SockSite | None = None
        await self._listen()

    async def _close(self) -> None:
        await self._refuse_connections()
        await self._runner.cleanup()
        await self._session.close()

    async def _listen(self) -> None:
        if self._site is None:
            self._socket = socket.create_server((_LOOPBACK, self._port))
            self._site = web.SockSite(self._runner, self._socket, ssl_context=self._tls)
            await self._site.start()

    async def _refuse_connections(self) -> None:
        if self._site:
            # If a connection is accepted at the moment when the server closes, it is lost but not closed
            # (https://github.com/python/cpython/issues/109564). So accept no more connections, and let the last one
            # begin.
            self._loop.remove_reader(self._socket)
            await asyncio.sleep(0)
            await self._site.stop()
            self._site = None
        for connection in self._runner.server.connections if self._runner.server else ():
            if connection.transport:
                connection.transport.abort()

    async def _freeze(self, matches: Matches) -> None:
        for watch in self._watches:
            if matches(watch.call):
                watch.flows.clear()

    async def _thaw(self) -> None:
        for watch in self._watches:
            watch.flows.set()

    async def _cut(self, matches: Matches, last: bytes) -> None:
        for watch in [watch for watch in self._watches if matches(watch.call)]:
            watch.last = last
            watch.passing.cancel()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        call = Call(
            method=request.method,
            path=request.path,
            query=dict(request.query),
            agent=request.headers.get("User-Agent", ""),
            token=request.headers.get("Authorization", "").partition(" ")[2],
            body=await request.read(),
            began=time.monotonic(),
        )
        self.calls.append(call)
        forward = self._forward(request, call)
        for matches, fault in reversed(self._faults):
            if matches(call):
                forward = _through(fault, call, forward)
        try:
            if self._site is None:
                raise DroppedError("this connection was about to open when all were dropped")
            response = await forward()
        except (DroppedError, aiohttp.ClientError):
            if request.transport:
                request.transport.abort()
            return web.Response()
        call.status, call.ended = response.status, time.monotonic()
        return response

    def _forward(self, request: web.Request, call: Call) -> Forward:
        async def forward() -> web.StreamResponse:
            headers = {key: value for key, value in request.headers.items() if key.lower() not in _NOT_PASSED_ON}
            target = f"{call.path}?{urlencode(call.query)}"
            async with self._session.request(
                call.method, target, data=io.BytesIO(call.body) if call.body else None, headers=headers
            ) as answer:
                passed = {key: value for key, value in answer.headers.items() if key.lower() not in _NOT_PASSED_ON}
                if call.is_watch and answer.status == 200:
                    response = web.StreamResponse(headers=passed)
                    await response.prepare(request)
                    await self._pass_on(call, answer, response)
                    return response
                return web.Response(status=answer.status, body=await answer.read(), headers=passed)

        return forward

    async def _pass_on(self, call: Call, answer: aiohttp.ClientResponse, response: web.StreamResponse) -> None:
        """Pass on a watch line by line until its end, or until a test ends it."""
        flows = asyncio.Event()
        flows.set()

        async def passing() -> None:
            async for line in answer.content:
                await flows.wait()
                await response.write(line)

        call.status = answer.status
        watch = _Watch(call, asyncio.create_task(passing()), flows)
        self._watches.add(watch)
        try:
            await asyncio.wait([watch.passing])
            await response.write(watch.last)
        finally:
            self._watches.discard(watch)
            watch.passing.cancel()
            with suppress(asyncio.CancelledError, aiohttp.ClientError, ConnectionError):
                await watch.passing


def _through(fault: Fault, call: Call, forward: Forward) -> Forward:
    async def through() -> web.StreamResponse:
        return await fault(call, forward)

    return through
