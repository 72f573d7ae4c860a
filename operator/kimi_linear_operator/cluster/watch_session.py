"""Lists and watches for kopf: whatever the API server answers, kopf survives it."""

import asyncio
import functools
import gc
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlsplit

import aiohttp
from kubernetes.aio.client import ApiClient

from kimi_linear_operator import clock, jsontext
from kimi_linear_operator.backoff import Backoff
from kimi_linear_operator.cluster import credentials
from kimi_linear_operator.cluster.answer import resource_version, retry_seconds_of
from kimi_linear_operator.cluster.errors import GONE, UNREACHABLE, ApiError
from kimi_linear_operator.cluster.request import USER_AGENT
from kimi_linear_operator.cluster.transport import Observe, tell_nobody

# Bytes of a watch's events after which Python looks for cycles among what is new, however few objects they were.
UNFREED_BYTES = 4 * 2**20

_REFUSED_BACKOFF = Backoff(first=0.1, longest=5.0)
# No object can have this name.
_NOTHING = "metadata.name=-"
# The type of an error in a watch, and the error that means: list, and watch from there.
_ERROR = "ERROR"
_EXPIRED = b'{"type":"ERROR","object":{"kind":"Status","code":410}}\n'
# What kopf needs of a list.
_LIST_OF_NOTHING = '{"metadata":{"resourceVersion":"%s"},"items":[]}'
# A watch that ends sooner without a line was none. The API server keeps one open for minutes.
_SHORTEST_WATCH_SECONDS = 1.0


async def watch_session(
    hear: Mapping[str, Observe], observe: Observe = tell_nobody
) -> tuple[str, aiohttp.ClientSession]:
    """Return the API server's address and a session for lists and watches, which belongs to the caller's event loop.

    Credentials are asked for anew at every request, and read anew when they are refused: a rotated token is used as
    soon as the kubelet wrote it. No answer ends kopf, and with it all other watches: see `_survivable`.

    A list shows nothing but the version from which to watch: `Cluster.pages` lists once, for all who want to know. Any
    version will do that the API server has in memory, so it reads nothing from etcd.

    Args:
        hear: Called for every answer, with LIST or WATCH, by the path of what was asked for. What else is asked for is
            answered as it is.
        observe: Called for each of these answers, too.
    """
    client = ApiClient(await credentials.configuration())
    address = str(client.configuration.host)
    answers = _Answers(client, urlsplit(address).path.rstrip("/"), hear, observe)
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=client.rest_client.ssl_context, limit=0),
        middlewares=(answers.authenticated,),
        proxy=client.configuration.proxy,
    )
    return address, session


@dataclass(frozen=True)
class _Answers:
    """What kopf gets for its requests.

    Attributes:
        client: Credentials.
        prefix: How paths of the API server begin at its address.
        hear: Called for answers, by the path of what was asked for.
        observe: Called for each of these answers, too.
    """

    client: ApiClient
    prefix: str
    hear: Mapping[str, Observe]
    observe: Observe

    async def authenticated(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Send a request until its credentials are taken, and return the answer."""
        delays = iter(_REFUSED_BACKOFF)
        while (response := await self._exchange(request, handler)).status == 401:
            response.release()
            await asyncio.sleep(next(delays))
            await credentials.load(self.client.configuration)
        return response

    async def _exchange(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        await self._sign(request)
        told = self.hear.get(request.url.path.removeprefix(self.prefix))
        if told is None:
            return await handler(request)
        verb = "WATCH" if "watch" in request.url.query else "LIST"
        if verb == "LIST":
            request.url = request.url.update_query(fieldSelector=_NOTHING, resourceVersion="0")
        status = UNREACHABLE
        try:
            response = await handler(request)
            status = await _status(verb, response)
        finally:
            self.observe(verb, status)
            told(verb, status)
        return response if status == 401 else await _survivable(verb, response, status, functools.partial(told, verb))

    async def _sign(self, request: aiohttp.ClientRequest) -> None:
        headers: dict[str, str] = {"User-Agent": USER_AGENT}
        url, method = str(request.url), request.method
        await self.client.update_params_for_auth(headers, [], ["BearerToken"], url, method, None)
        request.headers.update(headers)


async def _status(verb: str, response: aiohttp.ClientResponse) -> int:
    """Return the status of an answer, or that of none if it claims to be a list or a watch and is something else.

    A proxy in maintenance, for example, answers with a page of HTML and status 200. Of a list, kopf is left to see the
    resource version only.
    """
    if response.status != 200:
        return response.status
    if verb == "WATCH":
        return UNREACHABLE if response.content_type == "text/html" else 200
    try:
        version = resource_version(await response.json())
        response._body = (_LIST_OF_NOTHING % version).encode(response.get_encoding())
    except (aiohttp.ClientError, ApiError, ValueError, LookupError, RecursionError):
        return UNREACHABLE
    return 200


async def _survivable(
    verb: str, response: aiohttp.ClientResponse, status: int, fail: Callable[[int], None]
) -> aiohttp.ClientResponse:
    """Return an answer that makes kopf try again where it would end: one kind may be gone, or impossible to watch.

    Kopf reads the body and the headers of errors, and ends if it cannot. So it sees none of them, and the API server is
    left alone here for as long as it asks.

    Raises:
        ClientConnectionError: The answer is of no use; kopf asks again after a while.
    """
    if status == 200 and verb == "LIST":
        return response
    is_refused = 400 <= status < 500 and status not in (403, 429)
    if verb == "WATCH" and (is_refused or status == 200):
        lines = _WatchLines(response.content, fail, is_refused=is_refused)
        response.content = cast(aiohttp.StreamReader, lines)
        response.status = 200
        return response
    response.release()
    await asyncio.sleep(retry_seconds_of(response.headers.get("Retry-After", "")))
    raise aiohttp.ClientConnectionError(f"the {verb.lower()} was answered with {status or 'something else'}")


class _WatchLines:
    """The lines of a watch, for kopf: what is no event becomes the error after which it lists, and watches anew.

    Any other error would end kopf, and so would a line that is no event, or one that its sender did not finish.

    Args:
        content: What the API server sends.
        fail: Called with the code of each error, but the one that only says that the watch has expired.
    """

    def __init__(self, content: aiohttp.StreamReader, fail: Callable[[int], None], *, is_refused: bool) -> None:
        self._content = content
        self._fail = fail
        self._is_refused = is_refused
        self._unfreed = 0

    def __getattr__(self, name: str) -> Any:
        """Be the content in all else: aiohttp tells it when the connection ends."""
        return getattr(self._content, name)

    async def iter_chunked(self, size: int) -> AsyncIterator[bytes]:
        """Yield lines as they come."""
        if self._is_refused:
            yield _EXPIRED
            return
        began, is_silent = clock.seconds(), True
        # To join a line of megabytes anew with each chunk would take seconds.
        parts: list[bytes] = []
        async for chunk in self._content.iter_chunked(size):
            *ends, begin = chunk.split(b"\n")
            lines = [b"".join([*parts, ends[0]]), *ends[1:]] if ends else []
            parts = [begin] if ends else [*parts, begin]
            for line in filter(bytes.strip, lines):
                is_silent = False
                yield self._understood(line)
                self._tidy_up_after(line)
        if is_silent and clock.seconds() - began < _SHORTEST_WATCH_SECONDS:
            self._fail(UNREACHABLE)
            yield _EXPIRED

    def _tidy_up_after(self, line: bytes) -> None:
        """Free what kopf leaves of events in cycles: Python counts these, and a few can be as large as all others."""
        self._unfreed += len(line)
        if self._unfreed > UNFREED_BYTES:
            self._unfreed = 0
            gc.collect(1)

    def _understood(self, line: bytes) -> bytes:
        try:
            event = jsontext.decode(line)
        except ValueError:
            event = None
        if _is_event(event):
            return line + b"\n"
        code = _error_code(event)
        if code != GONE:
            self._fail(code)
        return _EXPIRED


def _is_event(event: Any) -> bool:
    """Return whether a line of a watch is an event that kopf can take: it keeps objects apart by their uid."""
    if not (isinstance(event, dict) and isinstance(event.get("object"), dict) and isinstance(event.get("type"), str)):
        return False
    metadata = event["object"].get("metadata")
    has_identity = isinstance(metadata, dict) and (event["type"] == "BOOKMARK" or isinstance(metadata.get("uid"), str))
    return event["type"] != _ERROR and has_identity


def _error_code(event: Any) -> int:
    try:
        code = event["object"]["code"]
    except (TypeError, KeyError):
        return UNREACHABLE
    return code if isinstance(code, int) else UNREACHABLE
