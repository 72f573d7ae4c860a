"""Sends requests to the API server, one at a time, and gives back what it answers.

Authentication and TLS are those of the official client. The connections are our own: a write has to know when it is
sent, and the official client hands nothing on to its requests.
"""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
from aiohttp.connector import Connection
from kubernetes.aio.client import ApiClient, Configuration

from kimi_linear_operator import clock
from kimi_linear_operator.cluster import credentials
from kimi_linear_operator.cluster.answer import Answer
from kimi_linear_operator.cluster.errors import UNREACHABLE, ApiError
from kimi_linear_operator.cluster.request import Request

REQUEST_TIMEOUT_SECONDS = 30.0
# Where there is much to list or too much to do, the API server takes up to a minute, its --request-timeout, and then
# says so. The rest is for the answer to arrive.
LIST_SECONDS = 90.0
# As the official client has it: enough for a large object at once.
_BUFFER_BYTES = 2**21

Observe = Callable[[str, int], None]
"""Takes the verb of a request and the status of its answer, 0 if there was none."""


def tell_nobody(_verb: str, _status: int) -> None:
    """Keep an answer to oneself."""


class TooLongError(Exception):
    """An answer is longer than it may be."""


class _PunctualRequest(aiohttp.ClientRequest):
    """A request that the API server gives what is left of its time when it is sent, and that is not sent if none is.

    A process that stood still while its connection opened may find it open before it finds that its time is over.
    """

    deadline: float | None = None
    """When it must have ended, by `clock`; None if it may end at any time."""

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        if self.deadline is not None:
            left = self.deadline - clock.seconds()
            if left <= 0:
                raise TimeoutError("its time was over before it was sent")
            self.url = self.url.update_query(timeout=f"{left:.3f}s")
        return await super().send(conn)


def _ending_by(deadline: float) -> aiohttp.ClientMiddlewareType:
    """Return what gives a request its deadline, also one that aiohttp makes to try again on another connection."""

    async def limit(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        if not isinstance(request, _PunctualRequest):
            raise TypeError(f"{type(request).__name__} knows no deadline")
        request.deadline = deadline
        return await handler(request)

    return limit


@dataclass
class PendingWrites:
    """Writes that the API server may still commit: those without an answer whose time is not over."""

    _limits: dict[int, float] = field(default_factory=dict)
    _sent: int = 0

    def begin(self, limit: float) -> int:
        """Count a write that must have ended at this moment by `clock`; return its number."""
        now = clock.seconds()
        self._limits = {number: known for number, known in self._limits.items() if known > now}
        self._sent += 1
        self._limits[self._sent] = limit
        return self._sent

    def end(self, number: int) -> None:
        """Count a write no longer: its answer says what became of it."""
        self._limits.pop(number, None)

    def __bool__(self) -> bool:
        """Return whether any may still be committed."""
        return any(limit > clock.seconds() for limit in self._limits.values())


def _may_always_write() -> float:
    return REQUEST_TIMEOUT_SECONDS


@dataclass(frozen=True)
class Transport:
    """The way to the API server and back.

    Attributes:
        client: Credentials.
        session: Connections.
        observe: Called for every answer.
        write_seconds: Asked right before every write: how long the write may take. Raises ApiError to forbid it.
        pending: The writes that may still be committed.
    """

    client: ApiClient
    session: aiohttp.ClientSession
    observe: Observe = tell_nobody
    write_seconds: Callable[[], float] = _may_always_write
    pending: PendingWrites = field(default_factory=PendingWrites)

    @property
    def server(self) -> str:
        """Return the address of the API server."""
        return str(self.client.configuration.host)

    async def answer(self, request: Request, most_bytes: int | None = None) -> Answer:
        """Send a request, and once more with new credentials if these were refused; return the answer, whatever it is.

        Args:
            request: What to send.
            most_bytes: How long the answer may be.

        Raises:
            ApiError: There is no answer, there are no credentials, or nothing may be written.
            TooLongError: The answer is longer.
        """
        answer = await self._exchange(request, most_bytes)
        if answer.status == 401:
            # The token may have been rotated since it was read.
            await credentials.load(self.client.configuration)
            answer = await self._exchange(request, most_bytes)
        return answer

    async def _exchange(self, request: Request, most_bytes: int | None) -> Answer:
        if request.is_write:
            return await self._write(request)
        seconds = LIST_SECONDS if request.verb == "LIST" else REQUEST_TIMEOUT_SECONDS
        return await self._observed(request, seconds, most_bytes=most_bytes)

    async def _write(self, request: Request) -> Answer:
        deadline = clock.seconds() + min(REQUEST_TIMEOUT_SECONDS, self.write_seconds())
        number = self.pending.begin(deadline)
        answer = await self._observed(request, deadline - clock.seconds(), deadline=deadline)
        if answer.status < 500:
            # One that fails may have failed after it wrote, or may write yet.
            self.pending.end(number)
        return answer

    async def _observed(
        self, request: Request, seconds: float, *, deadline: float | None = None, most_bytes: int | None = None
    ) -> Answer:
        try:
            response = await self._send(request, seconds, deadline)
            content = await _read(response, most_bytes)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            self.observe(request.verb, UNREACHABLE)
            why = str(error) or type(error).__name__
            raise ApiError(UNREACHABLE, f"no answer from {self.server}: {why}") from error
        self.observe(request.verb, response.status)
        return Answer(response.status, content, response.headers.get("Retry-After", ""))

    async def _send(self, request: Request, seconds: float, deadline: float | None) -> aiohttp.ClientResponse:
        configuration, method, url = self.client.configuration, request.method, request.url(self.server)
        headers = request.headers()
        await self.client.update_params_for_auth(headers, [], ["BearerToken"], url, method, request.body)
        return await self.session.request(
            method,
            url,
            headers=headers,
            data=None if request.body is None else json.dumps(request.body),
            timeout=aiohttp.ClientTimeout(total=seconds),
            server_hostname=configuration.tls_server_name or None,
            proxy_headers=configuration.proxy_headers,
            middlewares=() if deadline is None else (_ending_by(deadline),),
        )


async def _read(response: aiohttp.ClientResponse, most: int | None) -> bytes:
    """Return what an answer holds.

    Raises:
        TooLongError: It holds more than this.
    """
    if most is None:
        return await response.read()
    content = bytearray()
    async for part in response.content.iter_any():
        content += part
        if len(content) > most:
            response.close()
            raise TooLongError
    return bytes(content)


@asynccontextmanager
async def opened(configuration: Configuration, observe: Observe = tell_nobody) -> AsyncIterator[Transport]:
    """Open a way to an API server."""
    client = ApiClient(configuration)
    # It does not trust the environment: then aiohttp would read it and ~/.netrc in another thread, twice a request.
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=configuration.connection_pool_maxsize, ssl=client.rest_client.ssl_context),
        proxy=configuration.proxy,
        read_bufsize=_BUFFER_BYTES,
        request_class=_PunctualRequest,
        trust_env=False,
    )
    async with session:
        yield Transport(client, session, observe)
