"""Lists and watches for kopf. Replaces answers of the API server that would end kopf."""

import asyncio
import gc
import math
import re
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, cast
from urllib.parse import urlsplit

import aiohttp
from kubernetes.aio.client import ApiClient

from kimi_linear_operator import clock, jsontext
from kimi_linear_operator.backoff import Backoff
from kimi_linear_operator.cluster import credentials
from kimi_linear_operator.cluster.answer import resource_version, retry_seconds_of
from kimi_linear_operator.cluster.errors import GONE, UNREACHABLE, ApiError
from kimi_linear_operator.cluster.light import may_decode
from kimi_linear_operator.cluster.reading_time import ReadingTime
from kimi_linear_operator.cluster.request import USER_AGENT
from kimi_linear_operator.cluster.transport import LONGEST_ANSWER, ignore_answer
from kimi_linear_operator.jsontext import TooLongError
from kimi_linear_operator.kubernetes.bounds import LONGEST_OBJECT

# Called with the verb of a request and the status of its answer.
_Observe = Callable[[str, int], object]

# After this many bytes of a watch's events, run a garbage collection, even if there were few objects.
UNFREED_BYTES = 4 * 2**20
# In bytes. kopf gets no longer events: it keeps the events of many objects, and decoded, 1.3 MB can take 50 MiB.
# Children of the operator have a few kilobytes.
LARGE_EVENT = 16 * 2**10

# The namespace of an object in an event. In a string, quotes are escaped. The API server sorts the fields of a custom
# resource. So an annotation and a label of the same name can come before the namespace, and nothing else can.
_NAMESPACE = re.compile(rb'"namespace":"([^"]*)"')
_MOST_BEFORE = 2

_REFUSED_BACKOFF = Backoff(first=0.1, longest=5.0)
# No object can have this name, so these queries give empty lists: _EMPTY with any resource version in the memory of the
# API server, _NEWEST with the newest one.
_NOTHING = {"fieldSelector": "metadata.name=-"}
_EMPTY = {**_NOTHING, "resourceVersion": "0"}
_NEWEST = {**_NOTHING, "limit": "1"}
# The type of an error in a watch, and the error that makes kopf list and watch again.
_ERROR = "ERROR"
# The types of the events that are about an object.
_CHANGES = ("ADDED", "MODIFIED", "DELETED")
_EXPIRED = b'{"type":"ERROR","object":{"kind":"Status","code":410}}\n'
# In bytes. These lists are empty, but a proxy in front of the API server can answer with something endless.
_LONGEST_LIST = 64 * 2**10
# The part of a list that kopf needs.
_EMPTY_LIST = '{"metadata":{"resourceVersion":"%s"},"items":[]}'
# A watch that ends before this time counts as failed. The API server keeps a watch open for minutes.
SHORTEST_WATCH_SECONDS = 5.0
# If a list has shown an object that is newer than the version from which a watch continues, a working API server sends
# the object at once. So a watch that is silent for this time is blind. Other silent watches may be healthy: if nothing
# of a kind has changed since the API server started, it sends no bookmarks either (k8s.io/apiserver, storage/cacher).
SILENT_SECONDS = 60.0
# The pause after failed watches. kopf itself lists and watches again every two seconds, or without any pause. client-go
# also waits for up to 30 s (https://pkg.go.dev/k8s.io/client-go/tools/cache, Reflector).
WATCH_BACKOFF = Backoff(first=2.0, longest=30.0)
# How often to check whether kopf may watch a path again that the operator need not watch. This can be slow: the
# objects have been listed when the watch may begin, and kopf itself takes some seconds to reconnect.
_DORMANT_SECONDS = 5.0


def _always() -> bool:
    return True


def _never() -> bool:
    return False


def _unknown() -> int:
    return 0


def _ignore(*_: object) -> None:
    """Do nothing."""


@dataclass(frozen=True)
class Listener:
    """Observes the lists and watches of a path.

    Attributes:
        note_answer: Called for every answer with LIST or WATCH and the status.
        may_ask: Returns whether a request may be sent now. If not, the request waits.
        note_event: Called for every event of a watch, also for a bookmark.
        read_large: Called with each decoded event of more than LARGE_EVENT, which kopf does not get. Must not keep it.
        request_list: Called after an event that was too large to read, or for which its namespace had no time left.
            Only a list shows its object.
        listed_version: Returns the newest version of an object that a list of this path has shown, 0 if there is none.
        note_blind: Called when a watch has ended that was silent although it had to deliver a listed object.
        is_blind: Returns whether the next watch starts again from a list, because the last watches were blind.
    """

    note_answer: _Observe
    may_ask: Callable[[], bool] = _always
    note_event: Callable[[], None] = _ignore
    read_large: Callable[[Mapping[str, Any]], None] = _ignore
    request_list: Callable[[], None] = _ignore
    listed_version: Callable[[], int] = _unknown
    note_blind: Callable[[], None] = _ignore
    is_blind: Callable[[], bool] = _never


@dataclass(frozen=True)
class WatchSession:
    """The API server's address, and the session for requests to it."""

    server: str
    client: aiohttp.ClientSession


async def watch_session(listeners: Mapping[str, Listener], observe: _Observe = ignore_answer) -> WatchSession:
    """Return a session for lists and watches, which belongs to the caller's event loop.

    Every request gets the current credentials. They are read again when the API server refuses them, so a rotated token
    is used as soon as the kubelet has written it. No answer can end kopf and all other watches: see `_answer_for_kopf`.

    kopf gets an empty list with only the resource version from which to watch, because the operator reads the objects
    with `Cluster.pages`. Any version in the API server's memory is good enough, so such a list reads nothing from etcd.

    Args:
        listeners: By URL path. Requests for other paths are passed on unchanged.
        observe: Also called for each of these answers.
    """
    client = ApiClient(await credentials.configuration())
    address = str(client.configuration.host)
    answers = _AnswersForKopf(client, urlsplit(address).path.rstrip("/"), listeners, observe)
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=client.rest_client.ssl_context, limit=0),
        middlewares=(answers.authenticated,),
        proxy=client.configuration.proxy,
    )
    return WatchSession(address, session)


@dataclass
class Pause:
    """How long the requests for a path must wait after failed watches.

    Attributes:
        was_silent: Whether the last watch delivered nothing, not even a bookmark.
        has_news: Whether the current watch has to deliver an object that a list has already shown.
    """

    was_silent: bool = False
    has_news: bool = False
    _failures: int = 0
    _ends_at: float = float("-inf")

    def note_end(self, began: float, now: float, retry_seconds: float = 0.0, *, has_failed: bool) -> None:
        """Note that a watch ended. If it ended soon or has failed, a pause begins, longer each time in a row.

        Args:
            began: When the watch began.
            now: The time.
            retry_seconds: The seconds of the answer's `Retry-After`.
            has_failed: Whether the watch ended with an error.
        """
        if now - began >= SHORTEST_WATCH_SECONDS:
            self._failures = 0
            if not has_failed:
                return
        self._ends_at = now + max(retry_seconds, WATCH_BACKOFF.delay(self._failures))
        self._failures += 1

    def remaining(self, now: float) -> float:
        """Return the seconds until the pause ends."""
        return max(0.0, self._ends_at - now)


@dataclass(frozen=True)
class _AnswersForKopf:
    """Answers kopf's requests.

    Attributes:
        client: Holds the credentials.
        prefix: The path in the API server's address. It comes before all other paths.
        listeners: By URL path.
        observe: Also called for each of these answers.
    """

    client: ApiClient
    prefix: str
    listeners: Mapping[str, Listener]
    observe: _Observe
    _pauses: defaultdict[str, Pause] = field(default_factory=lambda: defaultdict(Pause))
    _reading_time: ReadingTime = field(default_factory=ReadingTime)

    async def authenticated(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Send a request until the API server accepts its credentials; return the answer.

        Raises:
            ClientConnectionError: The credentials cannot be read at this moment. kopf retries, and would end after
                other errors.
        """
        try:
            return await self._accepted(request, handler)
        except ApiError as error:
            raise aiohttp.ClientConnectionError(str(error)) from error

    async def _accepted(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        delays = iter(_REFUSED_BACKOFF)
        while (response := await self._exchange(request, handler)).status == 401:
            response.release()
            await asyncio.sleep(next(delays))
            await credentials.load(self.client.configuration)
        return response

    async def _exchange(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        path = request.url.path.removeprefix(self.prefix)
        listener, pause = self.listeners.get(path), self._pauses[path]
        if listener is None:
            return await self._send(request, handler)
        while not listener.may_ask():  # noqa: ASYNC110 - another thread knows
            await asyncio.sleep(_DORMANT_SECONDS)
        await asyncio.sleep(pause.remaining(clock.seconds()))
        verb = "WATCH" if "watch" in request.url.query else "LIST"
        if verb == "LIST":
            request.url = request.url.update_query(_EMPTY)
        status = UNREACHABLE
        try:
            pause.has_news = listener.listed_version() > _version(request.url.query)
            is_deaf = verb == "WATCH" and pause.was_silent and await self._is_deaf(request, handler, listener)
            response = await self._send(request, handler)
            status = await _status(verb, response)
            if is_deaf and status == 200:
                status, pause.was_silent = GONE, False
        finally:
            self.observe(verb, status)
            listener.note_answer(verb, status)
        if status == 401:
            return response
        lines = _WatchLines(response.content, listener, pause, self._reading_time)
        return await _answer_for_kopf(verb, response, status, lines)

    async def _is_deaf(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType, listener: Listener
    ) -> bool:
        """Return whether a watch would deliver nothing, after one that was silent."""
        return listener.is_blind() or await self._is_of_future(request, handler)

    async def _is_of_future(self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> bool:
        """Return whether a watch would begin at a version that is newer than the API server's.

        Such a version comes from a wrong answer. The API server accepts the watch and sends nothing, and kopf continues
        each watch from the last version that it saw. So the watch would stay blind. An empty list of the newest version
        shows which version that is. A list of any version could come from an API server that is late.
        """
        watch = request.url
        request.url = watch.with_query(_NEWEST)
        status = UNREACHABLE
        try:
            async with await self._send(request, handler) as response:
                status = await _status("LIST", response)
                return status == 200 and _is_newer(watch.query.get("resourceVersion", ""), await response.json())
        finally:
            self.observe("LIST", status)
            request.url = watch

    async def _send(self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        """Send a request. If the certificates are not trusted, read them again for the next request. kopf retries."""
        await self._add_credentials(request)
        try:
            return await handler(request)
        except aiohttp.ClientSSLError:
            with suppress(ApiError, OSError):
                await credentials.renew_certificates(self.client)
            raise

    async def _add_credentials(self, request: aiohttp.ClientRequest) -> None:
        headers: dict[str, str] = {"User-Agent": USER_AGENT}
        await credentials.add_to(headers, self.client, request.method, str(request.url))
        request.headers.update(headers)


def _version(query: Mapping[str, str]) -> float:
    """Return the version from which a request continues, infinite if it names none."""
    version = query.get("resourceVersion", "")
    return int(version) if version.isdecimal() else math.inf


async def _status(verb: str, response: aiohttp.ClientResponse) -> int:
    """Return the status of an answer, UNREACHABLE if its status is 200 but it is neither a list nor a watch.

    A proxy in maintenance, for example, answers with an HTML page and status 200. Replaces the body of a list with
    `_EMPTY_LIST`.
    """
    if response.status != 200:
        return response.status
    if verb == "WATCH":
        return UNREACHABLE if response.content_type == "text/html" else 200
    try:
        await _read_short(response)
        version = resource_version(await response.json())
        response._body = (_EMPTY_LIST % version).encode(response.get_encoding())
    except (aiohttp.ClientError, ApiError, ValueError, LookupError, RecursionError):
        return UNREACHABLE
    return 200


async def _read_short(response: aiohttp.ClientResponse) -> None:
    """Read the body of an answer, as `ClientResponse.read` does.

    Raises:
        ClientPayloadError: The body is longer than an empty list can be.
    """
    content = bytearray()
    async for part in response.content.iter_any():
        content += part
        if len(content) > _LONGEST_LIST:
            response.close()
            raise aiohttp.ClientPayloadError("the list is too long")
    response._body = bytes(content)


async def _answer_for_kopf(
    verb: str, response: aiohttp.ClientResponse, status: int, lines: "_WatchLines"
) -> aiohttp.ClientResponse:
    """Return an answer after which kopf retries.

    Other answers would end kopf, for example the answer that a kind does not exist.

    kopf reads the body and the headers of errors, and ends if it cannot read them. So kopf never gets errors, and the
    next request waits for the time of `Retry-After`.

    Raises:
        ClientConnectionError: kopf cannot use the answer, and retries after a while.
    """
    if status == 200 and verb == "LIST":
        return response
    retry_seconds = retry_seconds_of(response.headers.get("Retry-After", ""))
    is_refused = 400 <= status < 500 and status not in (403, 429)
    if is_refused and verb == "WATCH":
        lines.note_refusal(retry_seconds)
    if verb == "WATCH" and (is_refused or status == 200):
        response.content = cast(aiohttp.StreamReader, lines)
        response.status = 200
        return response
    response.release()
    await asyncio.sleep(retry_seconds)
    raise aiohttp.ClientConnectionError(f"the answer to the {verb.lower()} was {status or 'something else'}")


class _WatchLines:
    """The lines of a watch for kopf. A line that is not an event is replaced by an error that makes kopf list again.

    kopf would end after any other error, after a line that is not an event, and after an incomplete line.

    Args:
        content: The body of the API server's answer.
        listener: Is told each event, and each error except that the watch has expired.
        pause: The pause of the path. It gets longer with each watch that fails.
        reading_time: What is left of the time for large events, for all watches together.
    """

    def __init__(
        self, content: aiohttp.StreamReader, listener: Listener, pause: Pause, reading_time: ReadingTime
    ) -> None:
        self._content = content
        self._listener = listener
        self._pause = pause
        self._reading_time = reading_time
        self._is_refused = False
        self._began = clock.seconds()
        self._has_ended = False
        self._unfreed = 0

    def __getattr__(self, name: str) -> Any:
        """Pass everything else on to the content, because aiohttp reports the end of the connection to it."""
        return getattr(self._content, name)

    def note_refusal(self, retry_seconds: float) -> None:
        """Note that the API server refused the watch, so that the only line is the error."""
        now = clock.seconds()
        self._pause.note_end(now, now, retry_seconds, has_failed=True)
        self._is_refused = True

    async def iter_chunked(self, size: int) -> AsyncIterator[bytes]:
        """Yield each complete line."""
        if self._is_refused:
            yield _EXPIRED
            return
        is_silent = True
        try:
            async for line in self._lines(size):
                is_silent = False
                is_large = len(line) > LARGE_EVENT
                if is_large:
                    # Other watches and kopf get a turn between two large events.
                    await asyncio.sleep(0)
                passed_on = self._checked_in_time(line) if is_large else self._checked(line)
                del line
                yield passed_on
                self._collect_garbage_after(passed_on)
        except TooLongError:
            self._note_end(has_failed=True)
            self._listener.note_answer("WATCH", UNREACHABLE)
            is_silent = False
            yield _EXPIRED
        finally:
            self._pause.was_silent = is_silent
            if is_silent and self._pause.has_news and clock.seconds() - self._began >= SILENT_SECONDS:
                self._listener.note_blind()
            self._note_end(has_failed=False)
        if is_silent and clock.seconds() - self._began < SHORTEST_WATCH_SECONDS:
            self._listener.note_answer("WATCH", UNREACHABLE)
            yield _EXPIRED

    async def _lines(self, size: int) -> AsyncIterator[bytes]:
        """Yield each complete line. While this waits for a chunk, it keeps only the beginning of the next line.

        Raises:
            TooLongError: A line is longer than any object.
        """
        line = _Line()
        async for chunk in self._content.iter_chunked(size):
            parts = deque(chunk.split(b"\n"))
            del chunk
            while len(parts) > 1:
                line.add(parts.popleft())
                if line.is_blank:
                    line.take()
                else:
                    yield line.take()
            line.add(parts.pop())

    def _note_end(self, *, has_failed: bool) -> None:
        """Note the end of the watch. After an error, kopf no longer reads, and the end itself comes later."""
        if not self._has_ended:
            self._has_ended = True
            self._pause.note_end(self._began, clock.seconds(), has_failed=has_failed)

    def _collect_garbage_after(self, line: bytes) -> None:
        """Free events that kopf leaves in reference cycles.

        Python counts objects and not bytes, and a few events may be large.
        """
        self._unfreed += len(line)
        if self._unfreed > UNFREED_BYTES:
            self._unfreed = 0
            gc.collect(1)

    def _checked_in_time(self, line: bytes) -> bytes:
        """Return `_checked` of a large line, if its namespace has time left and the line is not too large to decode.

        Otherwise request a list, which shows the object with many others at once. Its version stays unknown to kopf.
        """
        namespace, now, began = _namespace_in(line), clock.seconds(), time.thread_time()
        if self._reading_time.is_left(namespace, now):
            try:
                if may_decode(line):
                    with _garbage_kept():
                        return self._checked(line)
            except TooLongError:
                pass
            finally:
                self._reading_time.spend(namespace, time.thread_time() - began, now)
        self._listener.note_event()
        self._listener.request_list()
        return _bookmark({})

    def _checked(self, line: bytes) -> bytes:
        """Return a line if it is an event, otherwise an error that makes kopf list again.

        A large event is read here, and kopf gets a bookmark instead. All watches run in one thread, and the event is
        freed before this returns. So only one large event is decoded at a time.

        Raises:
            TooLongError: It would take too long to decode the line.
        """
        try:
            event = jsontext.decode_quickly(line)
        except ValueError:
            event = None
        if _is_event(event):
            self._listener.note_event()
            if len(line) <= LARGE_EVENT or event["type"] not in _CHANGES:
                return line + b"\n"
            self._listener.read_large(event)
            return _bookmark(event["object"]["metadata"])
        self._note_end(has_failed=True)
        code = _error_code(event)
        if code != GONE:
            self._listener.note_answer("WATCH", code)
        return _EXPIRED


def _namespace_in(line: bytes) -> str:
    """Return the namespace of the object in an event, empty if the event could belong to several namespaces.

    All events without a clear namespace share the time of one namespace. Otherwise an annotation could take the time of
    another namespace.
    """
    names = {found[1] for found in islice(_NAMESPACE.finditer(line), _MOST_BEFORE + 1)}
    return names.pop().decode(errors="replace") if len(names) == 1 else ""


class _Line:
    """The parts of a line that is not complete yet.

    Chunks are collected first, because joining a line of megabytes again at each chunk would take seconds. If the line
    gets too long to decode it, only a part is kept, which is still too long to be decoded.
    """

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._length = 0

    def add(self, part: bytes) -> None:
        """Add the next part.

        Raises:
            TooLongError: The line is longer than any object.
        """
        if self._length <= LONGEST_OBJECT:
            self._parts.append(part)
        self._length += len(part)
        if self._length > LONGEST_ANSWER:
            raise TooLongError

    @property
    def is_blank(self) -> bool:
        """Return whether the line is only white space."""
        return not any(map(bytes.strip, self._parts))

    def take(self) -> bytes:
        """Return the line, and begin the next one."""
        text = b"".join(self._parts)
        self._parts, self._length = [], 0
        return text


@contextmanager
def _garbage_kept() -> Iterator[None]:
    """Collect no garbage for a moment. A collection during the decoding of a large event would examine all of it."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _bookmark(metadata: Mapping[str, Any]) -> bytes:
    """Return the event after which kopf continues the watch from the version of an object."""
    about = {"resourceVersion": metadata["resourceVersion"]} if "resourceVersion" in metadata else {}
    return jsontext.encode({"type": "BOOKMARK", "object": {"metadata": about}}) + b"\n"


def _is_event(event: Any) -> bool:
    """Return whether a line of a watch is an event that kopf can process. kopf needs the UID of the object."""
    if not (isinstance(event, dict) and isinstance(event.get("object"), dict) and isinstance(event.get("type"), str)):
        return False
    metadata = event["object"].get("metadata")
    has_identity = isinstance(metadata, dict) and (event["type"] == "BOOKMARK" or isinstance(metadata.get("uid"), str))
    return event["type"] != _ERROR and has_identity


def _is_newer(version: str, content: Any) -> bool:
    """Return whether a resource version is newer than that of a list."""
    return version.isdecimal() and int(version) > int(content["metadata"]["resourceVersion"])


def _error_code(event: Any) -> int:
    try:
        code = event["object"]["code"]
    except (TypeError, KeyError):
        return UNREACHABLE
    return code if isinstance(code, int) else UNREACHABLE
