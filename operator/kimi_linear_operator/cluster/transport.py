"""Sends single requests to the API server and returns its answers.

Authentication and TLS come from the official client. The connections are our own, because a write must check its
deadline when it is sent, and the official client cannot do that.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol

import aiohttp
from aiohttp.connector import Connection
from kubernetes.aio.client import ApiClient, Configuration

from kimi_linear_operator import clock
from kimi_linear_operator.cluster import credentials
from kimi_linear_operator.cluster.answer import Answer
from kimi_linear_operator.cluster.errors import NO_ANSWER, UNREACHABLE, ApiError, lacks_permission, may_be_stored
from kimi_linear_operator.cluster.request import Request
from kimi_linear_operator.jsontext import TooLongError

REQUEST_TIMEOUT_SECONDS = 30.0
# The API server works on a list for up to a minute (its --request-timeout), and then answers with an error. The rest of
# the time is for the transfer of the answer.
LIST_SECONDS = 90.0
# The API server asks the kubelet for a log, and a lost node does not answer. A log is not worth a longer wait.
LOG_SECONDS = 5.0
_READ_SECONDS = {"LIST": LIST_SECONDS, "LOG": LOG_SECONDS}
# An answer that is longer needs a place for the rest of it. The usual objects of the operator are shorter.
_LARGE_ANSWER = 64 * 1024
# In bytes. No answer may be longer: the API server sends at most about 9 MB for an object.
LONGEST_ANSWER = 16 * 2**20
# How many large answers are in memory at the same time, from their first bytes until they are decoded. A page of a list
# has 2 MiB. An object has up to 1.5 MB in etcd, and six times as much as JSON, because Go escapes some characters.
LARGE_ANSWERS_AT_ONCE = 8
# An answer of which nothing arrives for this time gives up its place until more arrives. Otherwise eight answers that
# stall would delay all others for as long as a list may take.
STALL_SECONDS = 2.0
# After this time, an answer that still arrives lets the answers that wait have its place, and waits for another one.
# Otherwise eight answers that trickle through a slow proxy would delay all others for as long as a list may take.
PLACE_SECONDS = 5.0
# aiohttp keeps twice as much of an answer that nobody reads.
_BUFFER_BYTES = _LARGE_ANSWER


class Observe(Protocol):
    """Called for every answer."""

    def __call__(self, verb: str, status: int, *, lacks_permission: bool = False) -> None:
        """Take an answer.

        Args:
            verb: The verb of the request.
            status: The status of the answer, 0 without an answer.
            lacks_permission: Whether the operator lacks the permission for the request.
        """


def ignore_answer(verb: str, status: int, *, lacks_permission: bool = False) -> None:
    """Do nothing."""


class _PunctualRequest(aiohttp.ClientRequest):
    """A request with a deadline. The deadline is checked when the request is sent.

    The request passes the remaining time to the API server as its timeout, and fails if no time is left. Otherwise a
    process that was suspended while the connection opened could send the request before it notices the timeout.
    """

    deadline: float | None = None
    """When the request must be finished, in seconds of `clock`; None for no deadline."""

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        if self.deadline is not None:
            remaining = self.deadline - clock.seconds()
            if remaining <= 0:
                raise TimeoutError("the time limit of the request passed before it was sent")
            self.url = self.url.update_query(timeout=f"{remaining:.3f}s")
        return await super().send(conn)


def _with_deadline(deadline: float) -> aiohttp.ClientMiddlewareType:
    """Return middleware that sets a request's deadline. It also runs when aiohttp retries on another connection."""

    async def set_deadline(
        request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        if not isinstance(request, _PunctualRequest):
            raise TypeError(f"{type(request).__name__} does not support a deadline")
        request.deadline = deadline
        return await handler(request)

    return set_deadline


@dataclass
class PendingWrites:
    """Writes that the API server may still commit: writes without an answer whose deadline has not passed."""

    _deadlines: dict[int, float] = field(default_factory=dict)
    _sent: int = 0

    def begin(self, deadline: float) -> int:
        """Add a write with its deadline, in seconds of `clock`; return the number of the write."""
        now = clock.seconds()
        self._deadlines = {number: pending for number, pending in self._deadlines.items() if pending > now}
        self._sent += 1
        self._deadlines[self._sent] = deadline
        return self._sent

    def end(self, number: int) -> None:
        """Remove a write, because its answer says whether it was committed."""
        self._deadlines.pop(number, None)

    def __bool__(self) -> bool:
        """Return whether any write may still be committed."""
        return any(deadline > clock.seconds() for deadline in self._deadlines.values())


def _may_always_write() -> float:
    return REQUEST_TIMEOUT_SECONDS


async def _at_once() -> None:
    """Go on at once."""


@dataclass(frozen=True)
class Transport:
    """Sends requests to the API server.

    Attributes:
        client: Holds the credentials.
        session: Holds the connections.
        observe: Called for every answer.
        write_seconds: Called right before every write. Returns how many seconds the write may take, and raises ApiError
            to forbid it.
        pending: The writes that may still be committed.
        turn: Awaited at the end of every request, also of a failed one, before the caller goes on.
        places: For large answers. An answer that waits for its place stays at the API server, except for its beginning.
    """

    client: ApiClient
    session: aiohttp.ClientSession
    observe: Observe = ignore_answer
    write_seconds: Callable[[], float] = _may_always_write
    pending: PendingWrites = field(default_factory=PendingWrites)
    turn: Callable[[], Awaitable[None]] = _at_once
    places: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(LARGE_ANSWERS_AT_ONCE))

    @property
    def server(self) -> str:
        """Return the address of the API server."""
        return str(self.client.configuration.host)

    async def answer(self, request: Request, most_bytes: int | None = None) -> Answer:
        """Send a request; retry it once with new credentials if the API server refused them.

        The caller decodes the answer at once.

        Args:
            request: The request.
            most_bytes: The longest allowed answer, None for LONGEST_ANSWER.

        Returns:
            The answer, which may be an error.

        Raises:
            ApiError: There is no answer, there are no credentials, or the write is forbidden. Or the answer is longer
                than LONGEST_ANSWER.
            TooLongError: The answer is longer than `most_bytes`.
        """
        async with AsyncExitStack() as place:
            return await self.answer_in(place, request, most_bytes)

    async def answer_in(self, place: AsyncExitStack, request: Request, most_bytes: int | None = None) -> Answer:
        """Send a request as `answer` does, for a caller that cannot decode the answer at once.

        Args:
            place: Gets the place of a large answer, and gives up any earlier place. The caller closes it when the
                answer is decoded, and sends no other request before.
            request: The request.
            most_bytes: The longest allowed answer, None for LONGEST_ANSWER.
        """
        try:
            answer = await self._accepted(request, most_bytes, place)
        except (ApiError, TooLongError):
            await self.turn()
            raise
        await self.turn()
        return answer

    async def _accepted(self, request: Request, most_bytes: int | None, place: AsyncExitStack) -> Answer:
        answer = await self._exchange(request, most_bytes, place)
        if answer.status == 401:
            # The token may have been rotated after we read it.
            await credentials.load(self.client.configuration)
            answer = await self._exchange(request, most_bytes, place)
        return answer

    async def _exchange(self, request: Request, most_bytes: int | None, place: AsyncExitStack) -> Answer:
        await place.aclose()
        if request.is_write:
            return await self._write(request, place)
        seconds = _READ_SECONDS.get(request.verb, REQUEST_TIMEOUT_SECONDS)
        return await self._observed(request, seconds, place, most_bytes=most_bytes)

    async def _write(self, request: Request, place: AsyncExitStack) -> Answer:
        deadline = clock.seconds() + min(REQUEST_TIMEOUT_SECONDS, self.write_seconds())
        number = self.pending.begin(deadline)
        answer = await self._observed(request, deadline - clock.seconds(), place, deadline=deadline)
        if not may_be_stored(answer.status):
            self.pending.end(number)
        return answer

    async def _observed(
        self,
        request: Request,
        seconds: float,
        place: AsyncExitStack,
        *,
        deadline: float | None = None,
        most_bytes: int | None = None,
    ) -> Answer:
        try:
            response = await self._send_trusting(request, seconds, deadline)
            content = await self._read(response, place, most_bytes)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            self.observe(request.verb, UNREACHABLE)
            cause = str(error) or type(error).__name__
            raise ApiError(UNREACHABLE, f"{NO_ANSWER} {self.server}: {cause}") from error
        self.observe(request.verb, response.status, lacks_permission=lacks_permission(response.status, content))
        return Answer(response.status, content, response.headers.get("Retry-After", ""))

    async def _read(self, response: aiohttp.ClientResponse, place: AsyncExitStack, most_bytes: int | None) -> bytes:
        """Return the body of an answer. A large one waits for its place.

        Raises:
            TooLongError: The body is longer than this.
        """
        content, has_place, place_since = bytearray(), False, 0.0
        try:
            while True:
                part = await _part_within(STALL_SECONDS, response.content)
                if part is None:
                    await place.aclose()
                    has_place, part = False, await response.content.readany()
                if not part:
                    return bytes(content)
                content += part
                if len(content) > (most_bytes or LONGEST_ANSWER):
                    raise TooLongError if most_bytes else aiohttp.ClientPayloadError("the answer is too long")
                if has_place and clock.seconds() - place_since > PLACE_SECONDS:
                    await place.aclose()
                    has_place = False
                if len(content) > _LARGE_ANSWER and not has_place:
                    await place.enter_async_context(self.places)
                    has_place, place_since = True, clock.seconds()
        except BaseException:
            response.close()  # Otherwise nobody reads the rest, and the connection stays open.
            raise

    async def _send_trusting(self, request: Request, seconds: float, deadline: float | None) -> aiohttp.ClientResponse:
        """Send a request.

        If the request was not sent because the certificates were not trusted, retry once with new certificates.
        """
        try:
            return await self._send(request, seconds, deadline)
        except aiohttp.ClientSSLError:
            # The cluster's authority may have been replaced after we read it.
            await credentials.renew_certificates(self.client)
            return await self._send(request, seconds, deadline)

    async def _send(self, request: Request, seconds: float, deadline: float | None) -> aiohttp.ClientResponse:
        configuration, method, url = self.client.configuration, request.method, request.url(self.server)
        headers = request.headers()
        await credentials.add_to(headers, self.client, method, url)
        return await self.session.request(
            method,
            url,
            headers=headers,
            data=request.content(),
            timeout=aiohttp.ClientTimeout(total=seconds),
            server_hostname=configuration.tls_server_name or None,
            proxy_headers=configuration.proxy_headers,
            middlewares=() if deadline is None else (_with_deadline(deadline),),
        )


@asynccontextmanager
async def opened(
    configuration: Configuration, observe: Observe = ignore_answer, *, keep_alive: bool = True
) -> AsyncIterator[Transport]:
    """Open connections to an API server.

    Args:
        configuration: The address and the credentials.
        observe: Called for every answer.
        keep_alive: Whether requests use the connections of earlier requests.
    """
    client = ApiClient(configuration)
    # There is no limit on connections. With a limit, hanging requests would delay the requests for the Lease. Instead,
    # the code that sends requests limits them: workers, the lanes of lists, and the checks before a start. With
    # trust_env, aiohttp would read the environment and ~/.netrc in another thread, twice for each request.
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, force_close=not keep_alive, ssl=client.rest_client.ssl_context),
        proxy=configuration.proxy,
        read_bufsize=_BUFFER_BYTES,
        request_class=_PunctualRequest,
        trust_env=False,
    )
    async with session:
        yield Transport(client, session, observe)


async def _part_within(seconds: float, content: aiohttp.StreamReader) -> bytes | None:
    """Return the next bytes of a body, none at its end; None if nothing arrives for this time."""
    try:
        async with asyncio.timeout(seconds):
            return await content.readany()
    except TimeoutError:
        return None
