"""Reads lists in pages. A page contains many small objects, or a few large objects."""

import asyncio
import itertools
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field, replace
from heapq import nlargest
from typing import TypeVar

from kimi_linear_operator import jsontext
from kimi_linear_operator.backoff import Backoff
from kimi_linear_operator.cluster.answer import Answer, decoded, following, items, metadata_list_in, resource_version
from kimi_linear_operator.cluster.errors import GONE, UNREACHABLE, ApiError
from kimi_linear_operator.cluster.light import unread_object
from kimi_linear_operator.cluster.paths import path
from kimi_linear_operator.cluster.refusals import REFUSALS, refusal
from kimi_linear_operator.cluster.request import Request
from kimi_linear_operator.cluster.transport import LIST_SECONDS, Transport
from kimi_linear_operator.jsontext import TooLongError
from kimi_linear_operator.kubernetes.bounds import HEAVIEST_OBJECT, LONGEST_OBJECT
from kimi_linear_operator.kubernetes.essence import event_essence
from kimi_linear_operator.kubernetes.kinds import EVENT, Kind, Manifest
from kimi_linear_operator.kubernetes.refusals import last_seen

Summary = TypeVar("Summary")

# Number of objects in a page. It is half the number of client-go's pager
# (https://pkg.go.dev/k8s.io/client-go/tools/pager), because a decoded page needs twenty times the memory of its text.
# It is not smaller, because a busy API server makes each page wait.
LIST_CHUNK = 250
# More than 100 of the operator's Deployments, or 250 Services. A page of larger objects contains fewer objects. A user
# may store hundreds of objects of 1 MB, which need more memory than the operator has. Twice this size would raise the
# operator's memory after a start by 20 MiB for good.
PAGE_BYTES = LONGEST_OBJECT
# In units of `jsontext.weight`: more than the weight of 250 pods. Decoded, 8 MB of empty lists take half a gigabyte.
PAGE_WEIGHT = 250_000
_SHRINKING = 8
# If a list expires before its last page and the API server gives no token to continue, the list starts again with
# longer pages, so that it needs fewer pages. The last attempt is usually a single page, as in client-go's pager.
_GROWTH = 8
_LONGEST_CHUNK = LIST_CHUNK * _GROWTH**2
# How often to request a page again. client-go, which also respects `Retry-After`, uses the same number
# (https://pkg.go.dev/k8s.io/client-go/rest, maxRetries). A new start of the list would lose all earlier pages.
MOST_PAGE_ATTEMPTS = 10
PAGE_BACKOFF = Backoff(first=0.5, longest=5.0)
# Pauses end this long after the first request for the page, so that other lists get their turn.
PAGE_SECONDS = LIST_SECONDS
# Within this time, all pages of Events must be read. The same pass has other work.
EVENTS_SECONDS = LIST_SECONDS
# A kubelet writes some dozens of Events about a pod. Users can write thousands, each as large as an object can be.
MOST_EVENT_PAGES = 16
# The number of Events of each reason that stay in memory, the newest ones. One with the longest message takes up to
# 16 KiB.
MOST_EVENTS = 4


@dataclass(frozen=True)
class Page:
    """Some objects of a list, and the resource version of the list."""

    manifests: list[Manifest]
    version: int


@dataclass(frozen=True)
class _Query:
    """Which page of a list to request.

    Attributes:
        selection: Which objects to list, as parameters of the request.
        limit: The longest page, in objects.
        after: The continue token of the page before, empty for the first page.
        has_metadata_only: Whether the page contains only the metadata of its object, which is too large to read whole.
    """

    selection: Mapping[str, str]
    limit: int = LIST_CHUNK
    after: str = ""
    has_metadata_only: bool = False

    def request(self, target: str) -> Request:
        """Return the request for the page."""
        query = {**self.selection, "limit": str(self.limit), "continue": self.after}
        return Request("LIST", target, query, has_metadata_only=self.has_metadata_only)

    @property
    def most_bytes(self) -> int | None:
        """Return the longest answer to this query, None for any length."""
        if self.has_metadata_only:
            return None
        return PAGE_BYTES if self.limit > 1 else LONGEST_OBJECT

    def may_decode(self, text: bytes) -> bool:
        """Return whether this page is light enough to decode. Without managed fields, metadata are never heavy."""
        return self.has_metadata_only or jsontext.weight(text) <= (PAGE_WEIGHT if self.limit > 1 else HEAVIEST_OBJECT)

    def decoded(self, answer: Answer) -> Manifest:
        """Return the list in the answer to this query.

        Raises:
            ApiError: The answer is an error, or is not a JSON object.
            TooLongError: It would take too long to decode the answer.
        """
        return metadata_list_in(answer) if self.has_metadata_only else decoded(answer)

    def smaller(self) -> "_Query":
        """Return the query for a smaller page. A page contains at least the metadata of one object."""
        if self.limit == 1:
            return replace(self, has_metadata_only=True)
        return replace(self, limit=max(1, self.limit // _SHRINKING))

    def following(self, token: str, received: Answer, longest: int = LIST_CHUNK) -> "_Query":
        """Return the query for the next page. After a small page, it is twice as long, because objects may be small."""
        is_small = 2 * len(received.content) <= PAGE_BYTES and 2 * jsontext.weight(received.content) <= PAGE_WEIGHT
        is_growing = is_small and not self.has_metadata_only
        limit = min(longest, 2 * self.limit) if is_growing else self.limit
        return _Query(self.selection, limit, token)


@dataclass(frozen=True)
class _Fetched:
    """An answer with a page that is small enough to decode, and the query for it."""

    answer: Answer
    query: _Query


@dataclass(frozen=True)
class Pages:
    """Reads lists page by page. Only one page of all lists is decoded at a time. Every method raises ApiError.

    If a list of objects fails with a status in REFUSALS, the API server itself has refused it (`refusals.py`).
    """

    transport: Transport
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def of(self, kind: Kind, namespace: str | None, selector: str) -> AsyncGenerator[Page, None]:
        """Yield all objects of a kind in one namespace or in all, as of one resource version or later.

        The API server forgets a resource version after some minutes. The remaining pages then show a later state, but
        have the version of the first page, so a watch from that version misses nothing. If the API server does not
        allow this, the list starts again. A page with another version is the first page of a new list.

        Only one page of all lists is decoded at a time, and it stays in memory until the caller asks for the next one.
        Other tasks run between two pages.
        """
        longest, version = LIST_CHUNK, 0
        query = first = _Query({"labelSelector": selector})
        async with AsyncExitStack() as place:
            while True:
                fetched = await self._fetch(path(kind, namespace), query, place)
                received, query = fetched.answer, fetched.query
                if received.status == GONE and query.after and longest < _LONGEST_CHUNK:
                    longest, version = longest * _GROWTH, 0
                    query = replace(first, limit=longest)
                    continue
                if received.status in REFUSALS:
                    await place.aclose()
                    raise await refusal(self.transport, kind, received)
                async with self._turn:
                    await asyncio.sleep(0)
                    try:
                        answer = query.decoded(received)
                    except TooLongError:
                        query = query.smaller()
                        del fetched, received
                        await place.aclose()
                        continue
                    token = following(answer)
                    page = _page(kind, answer, version, query)
                    version, following_query = page.version, query.following(token, received, longest)
                    del answer, fetched, received
                    await place.aclose()
                    yield page
                    del page
                if not token:
                    return
                if token == query.after:
                    raise ApiError(UNREACHABLE, "the API server sent the same page of the list twice")
                query = following_query

    async def summarize(
        self,
        kind: Kind,
        namespace: str,
        selector: str,
        summary: Summary,
        add: Callable[[Summary, Sequence[Manifest]], Summary],
    ) -> Summary:
        """Return a summary of all objects of a kind in a namespace that match a label selector.

        Users can create thousands of objects with any label, and each can have 1.5 MB. So only the summary and one page
        are in memory at a time.

        Args:
            kind: The kind of the objects.
            namespace: Their namespace.
            selector: The label selector.
            summary: The summary of no objects. `add` does not change it.
            add: Returns the summary of these and more objects. It keeps little of each object, or only a few objects.
        """
        version, found = 0, summary
        async with aclosing(self.of(kind, namespace, selector)) as pages:
            async for page in pages:
                if page.version != version:
                    version, found = page.version, summary
                found = add(found, page.manifests)
        return found

    async def events_of(self, involved: Manifest, reasons: Collection[str]) -> list[Manifest]:
        """Return the essence of the newest Events about an object: at most MOST_EVENTS of each reason.

        Reads MOST_EVENT_PAGES pages at most. Only one page, and the Events to return, are in memory at a time.

        Args:
            involved: The object.
            reasons: The reasons of the Events.

        Raises:
            ApiError: A page could not be read, or all pages took longer than EVENTS_SECONDS.
        """
        try:
            async with asyncio.timeout(EVENTS_SECONDS):
                return await self._events_of(involved, reasons)
        except TimeoutError as error:
            raise ApiError(UNREACHABLE, f"the Events could not be read within {EVENTS_SECONDS:.0f} s") from error

    async def _events_of(self, involved: Manifest, reasons: Collection[str]) -> list[Manifest]:
        metadata = involved["metadata"]
        target = path(EVENT, metadata["namespace"])
        query = _Query({"fieldSelector": f"involvedObject.uid={metadata['uid']}"})
        newest: dict[str, list[Manifest]] = {reason: [] for reason in reasons}
        async with AsyncExitStack() as place:
            for _ in range(MOST_EVENT_PAGES):
                fetched = await self._fetch(target, query, place)
                async with self._turn:
                    await asyncio.sleep(0)
                    answer = _decoded_events(fetched)
                    token = following(answer)
                    page = items(answer)
                    newest = {reason: _newest(known, reason, page) for reason, known in newest.items()}
                    query = replace(fetched.query, after=token, has_metadata_only=False)
                    del answer, fetched, page
                if not token:
                    break
        return [event for events in newest.values() for event in events]

    async def _fetch(self, target: str, query: _Query, place: AsyncExitStack) -> _Fetched:
        """Request a page.

        If it is not the first page, request it again while the API server is busy or does not answer.

        If the API server has forgotten the list's resource version, request the page of a later version.
        """
        if not query.after:
            return await self._fetch_page(target, query, place)
        now = asyncio.get_running_loop().time
        latest = now() + PAGE_SECONDS
        for attempt in itertools.count(1):
            try:
                fetched = await self._fetch_page(target, query, place)
                if token := _later_token(fetched.answer):
                    query = replace(fetched.query, after=token)
                    fetched = await self._fetch_page(target, query, place)
                _raise_if_busy(fetched.answer)
            except ApiError as error:
                pause = max(error.retry_seconds, PAGE_BACKOFF.delay(attempt - 1))
                if not _is_busy(error.status) or attempt >= MOST_PAGE_ATTEMPTS or now() + pause > latest:
                    raise
                await place.aclose()
                await asyncio.sleep(pause)
            else:
                break
        return fetched

    async def _fetch_page(self, target: str, query: _Query, place: AsyncExitStack) -> _Fetched:
        """Request a page. While it is too large to decode, request it again with fewer objects."""
        while True:
            try:
                answer = await self.transport.answer_in(place, query.request(target), query.most_bytes)
                if query.may_decode(answer.content):
                    return _Fetched(answer, query)
                del answer
            except TooLongError:
                pass
            query = query.smaller()


def _newest(known: Sequence[Manifest], reason: str, page: Iterable[Manifest]) -> list[Manifest]:
    """Return the newest Events of a reason, of those that are known and those of a page."""
    more = (event_essence(event) for event in page if event.get("reason") == reason)
    return nlargest(MOST_EVENTS, [*known, *more], key=last_seen)


def _is_busy(status: int) -> bool:
    """Return whether the same request may succeed in a moment."""
    return status in (UNREACHABLE, 408, 429) or status >= 500


def _raise_if_busy(answer: Answer) -> None:
    """Raise ApiError if the same request may succeed in a moment."""
    if _is_busy(answer.status):
        decoded(answer)


def _later_token(answer: Answer) -> str:
    """Return the token with which the API server continues at a later resource version, empty if there is none.

    The token is in the answer with which the API server says that it has forgotten the first version.
    https://kubernetes.io/docs/reference/using-api/api-concepts/#retrieving-large-results-sets-in-chunks
    """
    if answer.status != GONE:
        return ""
    try:
        content = jsontext.decode(answer.content)
    except ValueError:
        return ""
    return following(content) if isinstance(content, dict) else ""


def _decoded_events(fetched: _Fetched) -> Manifest:
    try:
        return fetched.query.decoded(fetched.answer)
    except TooLongError as error:
        raise ApiError(UNREACHABLE, "the Events are not readable") from error


def _page(kind: Kind, answer: Manifest, begun: int, query: _Query) -> Page:
    """Return the page of a list in an answer, with the resource version of the first page.

    Args:
        kind: The kind of the objects.
        answer: The answer.
        begun: The resource version of the first page, 0 if this is the first page.
        query: The query for the page.

    Raises:
        ApiError: The answer is not a list, or is older than the first page, because etcd was restored.
    """
    version = int(resource_version(answer))
    if version < begun:
        raise ApiError(UNREACHABLE, "a later page of the list shows an older state than the first page")
    if query.has_metadata_only:
        found = (item.get("metadata") for item in items(answer))
        heads = [unread_object(kind.api_version, kind.kind, about) for about in found if isinstance(about, dict)]
        return Page(heads, begun or version)
    # The items of a list lack these fields.
    type_fields = {"apiVersion": kind.api_version, "kind": kind.kind}
    return Page([type_fields | item for item in items(answer)], begun or version)
