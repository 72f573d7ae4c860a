"""Lists, which come in pages: of many objects if they are small, and of few if somebody made large ones."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field

from kimi_linear_operator import jsontext
from kimi_linear_operator.cluster.answer import Answer, decoded, following, items, resource_version
from kimi_linear_operator.cluster.errors import GONE
from kimi_linear_operator.cluster.paths import path
from kimi_linear_operator.cluster.request import Request
from kimi_linear_operator.cluster.transport import TooLongError, Transport
from kimi_linear_operator.kubernetes.essence import essence, event_essence
from kimi_linear_operator.kubernetes.kinds import EVENT, Kind, Manifest

# Half of what client-go's pager takes (https://pkg.go.dev/k8s.io/client-go/tools/pager): at a busy API server each page
# waits for its turn, and a page is held as objects, twenty times its size in the store.
LIST_CHUNK = 250
# A page may be as long as 250 pods usually are. Where objects are larger it has fewer of them: somebody may store
# hundreds of 1 MB each, which is more memory than the operator has.
PAGE_BYTES = 4 * 2**20
# As `jsontext.weight` has it: five times that of 250 pods. As objects, 8 MB of empty lists are half a gigabyte.
PAGE_WEIGHT = 1_000_000
_FEWER = 8
# How often a list begins anew because the moment that it shows is forgotten before its last page.
MOST_BEGINNINGS = 3
# A kubelet writes some dozens of Events about a pod. Somebody else may write thousands, as large as any object.
MOST_EVENT_PAGES = 4


@dataclass(frozen=True)
class Page:
    """Some of the objects of a kind at one moment, and the resource version of that moment."""

    manifests: list[Manifest]
    version: int


@dataclass(frozen=True)
class Pages:
    """Reads lists page by page, and one page of all of them at a time. Every method raises ApiError."""

    transport: Transport
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def of(self, kind: Kind, namespace: str | None, selector: str) -> AsyncGenerator[Page, None]:
        """Yield all objects of a kind in a namespace, or in all, as they were at one moment.

        A page with another version begins the list anew: the moment before was forgotten too soon. Of all lists
        together, one page is held as objects, until the next one is asked for. Other tasks go on between two pages.
        """
        first = query = {"limit": str(LIST_CHUNK), "labelSelector": selector}
        beginnings = 1
        while True:
            received, query = await self._fitting(path(kind, namespace), query)
            if received.status == GONE and "continue" in query and beginnings < MOST_BEGINNINGS:
                query, beginnings = first, beginnings + 1
                continue
            async with self._turn:
                await asyncio.sleep(0)
                answer = decoded(received)
                begin = following(answer)
                limit = _next_limit(query, received)
                page = _page(kind, answer)
                del answer, received
                yield page
                del page
            if not begin:
                return
            query = {**query, "limit": limit, "continue": begin}

    async def all(
        self, kind: Kind, namespace: str, selector: str, kept: Callable[[Manifest], Manifest]
    ) -> list[Manifest]:
        """Return what is kept of each object of a kind in a namespace, as they were at one moment."""
        version, objects = 0, list[Manifest]()
        async with aclosing(self.of(kind, namespace, selector)) as pages:
            async for page in pages:
                if page.version != version:
                    version, objects = page.version, []
                objects += map(kept, page.manifests)
        return objects

    async def essences(self, kind: Kind, namespace: str, selector: str) -> list[Manifest]:
        """Return the essence of all objects of a kind in a namespace that somebody has given a label.

        Anybody can make hundreds of 1.5 MB with the label of another: of these, one page at a time is held.
        """
        return await self.all(kind, namespace, selector, essence)

    async def events_of(self, involved: Manifest) -> list[Manifest]:
        """Return what is told by the Events about an object: some dozens, as they are kept for an hour.

        Of very many, or very large ones, those of the first pages are read, and one page at a time is held.
        """
        metadata = involved["metadata"]
        target = path(EVENT, metadata["namespace"])
        query = {"limit": str(LIST_CHUNK), "fieldSelector": f"involvedObject.uid={metadata['uid']}"}
        told: list[Manifest] = []
        for _ in range(MOST_EVENT_PAGES):
            received, query = await self._fitting(target, query)
            async with self._turn:
                await asyncio.sleep(0)
                answer = decoded(received)
                begin = following(answer)
                told += map(event_essence, items(answer))
                del answer, received
            if not begin:
                break
            query = {**query, "continue": begin}
        return told

    async def _fitting(self, target: str, query: dict[str, str]) -> tuple[Answer, dict[str, str]]:
        """Ask for a page, and for fewer objects until it is small enough to read; return it, and what was asked for."""
        while True:
            # Of one object there is no smaller page.
            is_last = query["limit"] == "1"
            try:
                answer = await self.transport.answer(Request("LIST", target, query), None if is_last else PAGE_BYTES)
                if is_last or jsontext.weight(answer.content) <= PAGE_WEIGHT:
                    return answer, query
            except TooLongError:
                pass
            query = {**query, "limit": str(max(1, int(query["limit"]) // _FEWER))}


def _next_limit(query: Mapping[str, str], received: Answer) -> str:
    """Return the limit of the next page: twice as many if these were small, as a few large objects may be over."""
    is_small = 2 * len(received.content) <= PAGE_BYTES and 2 * jsontext.weight(received.content) <= PAGE_WEIGHT
    return str(min(LIST_CHUNK, 2 * int(query["limit"]))) if is_small else query["limit"]


def _page(kind: Kind, answer: Manifest) -> Page:
    """Return the page of a list that an answer is.

    Raises:
        ApiError: It is none.
    """
    # Items of a list carry neither.
    what = {"apiVersion": kind.api_version, "kind": kind.kind}
    return Page([what | item for item in items(answer)], int(resource_version(answer)))
