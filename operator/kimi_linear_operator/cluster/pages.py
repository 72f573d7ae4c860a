"""Lists, which come in pages: of many objects if they are small, and of few if somebody made large ones."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

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
# A page may be twice as long as 250 pods usually are. Where objects are larger it has fewer of them: somebody may store
# hundreds of 1 MB each, which is more memory than the operator has.
PAGE_BYTES = 8 * 2**20
_FEWER = 8
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

    async def of(self, kind: Kind, namespace: str | None, selector: str) -> AsyncIterator[Page]:
        """Yield all objects of a kind in a namespace, or in all, as they were at one moment.

        Where that moment is forgotten before the last page, everything comes once more, as one page of a later moment:
        client-go's pager does the same. However many are asked for, one page at a time is held as objects, and whoever
        else waits for the event loop has a turn between two.
        """
        query = {"limit": str(LIST_CHUNK), "labelSelector": selector}
        while True:
            received, query = await self._fitting(path(kind, namespace), query)
            if received.status == GONE and "continue" in query:
                query = {"labelSelector": selector}
                continue
            answer = await self._decoded_in_turn(received)
            yield _page(kind, answer)
            if not (begin := following(answer)):
                return
            query = {**query, "continue": begin}

    async def essences(self, kind: Kind, namespace: str, selector: str) -> list[Manifest]:
        """Return the essence of all objects of a kind in a namespace that somebody has given a label.

        Anybody can make hundreds of 1.5 MB with the label of another: of these, one page at a time is held.
        """
        pages = self.of(kind, namespace, selector)
        return [essence(manifest) async for page in pages for manifest in page.manifests]

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
            answer = await self._decoded_in_turn(received)
            told += map(event_essence, items(answer))
            if not (begin := following(answer)):
                break
            query = {**query, "continue": begin}
        return told

    async def _fitting(self, target: str, query: dict[str, str]) -> tuple[Answer, dict[str, str]]:
        """Ask for a page, and for fewer objects until it is short enough to read; return it, and what was asked for."""
        while True:
            # Of one object, or of all that there are, there is no shorter page.
            most_bytes = PAGE_BYTES if query.get("limit", "1") != "1" else None
            try:
                return await self.transport.answer(Request("LIST", target, query), most_bytes), query
            except TooLongError:
                query = {**query, "limit": str(max(1, int(query["limit"]) // _FEWER))}

    async def _decoded_in_turn(self, received: Answer) -> Manifest:
        async with self._turn:
            await asyncio.sleep(0)
            return decoded(received)


def _page(kind: Kind, answer: Manifest) -> Page:
    """Return the page of a list that an answer is.

    Raises:
        ApiError: It is none.
    """
    # Items of a list carry neither.
    what = {"apiVersion": kind.api_version, "kind": kind.kind}
    return Page([what | item for item in items(answer)], int(resource_version(answer)))
