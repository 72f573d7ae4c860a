"""Lists come in pages. A page contains many small objects, or a few large objects."""

import asyncio
import json
import time
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web

from answering import answering, refused
from kimi_linear_operator.backoff import Backoff
from kimi_linear_operator.cluster import pages as module
from kimi_linear_operator.cluster.client import Cluster
from kimi_linear_operator.cluster.errors import ApiError
from kimi_linear_operator.cluster.pages import LIST_CHUNK
from kimi_linear_operator.server.spec import SERVER
from make import make_server


def listed(sizes: list[int], monkeypatch: pytest.MonkeyPatch, page_bytes: int) -> tuple[list[int], list[int]]:
    """List servers with specs of these sizes. Return the length of each page, and the requested limits."""
    monkeypatch.setattr(module, "PAGE_BYTES", page_bytes)
    servers = [make_server(f"kimi-{number}", note="x" * size) for number, size in enumerate(sizes)]
    limits: list[int] = []

    async def answer(request: web.Request) -> web.Response:
        begin, limit = int(request.query.get("continue", "0")), int(request.query["limit"])
        limits.append(limit)
        end = begin + limit
        metadata: dict[str, Any] = {"resourceVersion": "5", **({"continue": str(end)} if end < len(servers) else {})}
        return web.json_response({"metadata": metadata, "items": servers[begin:end]})

    async def test() -> list[int]:
        async with answering(answer) as cluster:
            pages = [page async for page in cluster.pages(SERVER)]
        assert [manifest for page in pages for manifest in page.manifests] == servers
        return [len(page.manifests) for page in pages]

    return asyncio.run(test()), limits


def test_small_objects_come_in_long_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    assert listed([10] * (LIST_CHUNK + 1), monkeypatch, 2**20) == ([LIST_CHUNK, 1], [LIST_CHUNK, LIST_CHUNK])


def test_large_objects_come_in_short_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    pages, limits = listed([10_000] * 99, monkeypatch, 100_000)
    fewer = LIST_CHUNK // 64
    assert limits == [LIST_CHUNK, LIST_CHUNK // 8, fewer] + [2 * fewer] * 16
    assert pages == limits[2:]


def test_pages_grow_when_small_objects_follow_large_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    pages, _ = listed([90_000] * 3 + [10] * 40, monkeypatch, 100_000)
    assert pages == [1, 1, 1, 1, 2, 4, 8, 16, 9]


def test_a_page_with_very_many_values_is_as_short_as_one_with_many_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Python objects, empty lists need a hundred times the memory of a string of the same length."""
    monkeypatch.setattr(module, "PAGE_WEIGHT", 10_000)
    servers = [make_server(f"kimi-{number}", note=[[]] * 2_000) for number in range(3)]

    async def answer(request: web.Request) -> web.Response:
        begin, limit = int(request.query.get("continue", "0")), int(request.query["limit"])
        more = {"continue": str(begin + limit)} if begin + limit < len(servers) else {}
        return web.json_response(
            {"metadata": {"resourceVersion": "5", **more}, "items": servers[begin : begin + limit]}
        )

    async def test() -> list[int]:
        async with answering(answer) as cluster:
            return [len(page.manifests) async for page in cluster.pages(SERVER)]

    assert asyncio.run(test()) == [1, 1, 1]


@dataclass
class Forgetful:
    """An API server that forgets the version of each list after some pages, as a busy one does after minutes."""

    pages_until_forgotten: int
    has_tokens: bool
    servers: list[Any] = field(default_factory=lambda: [make_server(f"kimi-{n:05}") for n in range(2_000)])
    version: int = 5
    page_objects: int = LIST_CHUNK
    asked: int = 0
    given: int = 0

    async def answer(self, request: web.Request) -> web.Response:
        self.asked += 1
        begin, version = map(int, request.query.get("continue", f"0:{self.version}").split(":"))
        end = begin + min(self.page_objects, int(request.query["limit"]))
        if self.given >= self.pages_until_forgotten and begin and version == self.version:
            self.given, self.version = 0, self.version + 1
        if version != self.version:
            token = {"continue": f"{begin}:{self.version}"} if self.has_tokens else {}
            return web.json_response({"kind": "Status", "message": "old", "code": 410, "metadata": token}, status=410)
        self.given += 1
        more = {"continue": f"{end}:{version}"} if end < len(self.servers) else {}
        metadata = {"resourceVersion": str(version), **more}
        return web.json_response({"metadata": metadata, "items": self.servers[begin:end]})


@pytest.mark.parametrize("page_objects", [100, 250])
def test_a_list_that_outlives_its_version_continues_where_it_was(page_objects: int) -> None:
    """A list that starts again would never end, because it would take as long as before."""

    async def test() -> None:
        forgetful = Forgetful(3, has_tokens=True, page_objects=page_objects)
        async with answering(forgetful.answer) as cluster:
            pages = [page async for page in cluster.pages(SERVER)]
            assert [manifest for page in pages for manifest in page.manifests] == forgetful.servers
            assert {page.version for page in pages} == {5}, "watches show later deletions"
            assert forgetful.asked <= 1.5 * len(pages)
            assert await cluster.list(SERVER, "default") == forgetful.servers

    asyncio.run(test())


def test_a_list_that_cannot_continue_starts_again_in_longer_pages() -> None:
    async def test() -> None:
        forgetful = Forgetful(3, has_tokens=False, page_objects=100_000)
        async with answering(forgetful.answer) as cluster:
            assert await cluster.list(SERVER, "default") == forgetful.servers

    asyncio.run(test())


def test_a_list_that_cannot_continue_in_the_longest_pages_is_an_error() -> None:
    async def test() -> None:
        forgetful = Forgetful(1, has_tokens=False)
        async with answering(forgetful.answer) as cluster:
            with pytest.raises(ApiError, match="410: old"):
                await cluster.list(SERVER, "default")
        assert forgetful.asked < 20

    asyncio.run(test())


def test_a_list_that_continues_from_an_older_state_is_an_error() -> None:
    """In the meantime, a backup of etcd was restored."""
    forgetful = Forgetful(3, has_tokens=True)

    async def answer(request: web.Request) -> web.Response:
        if forgetful.given == 2:
            forgetful.version = 4
        return await forgetful.answer(request)

    async def test() -> None:
        async with answering(answer) as cluster:
            with pytest.raises(ApiError, match="older state"):
                await cluster.list(SERVER, "default")

    asyncio.run(test())


def test_a_list_whose_pages_are_always_the_same_page_is_an_error() -> None:
    """A proxy answers without a look at the query, so the list would never end."""
    asked = 0

    async def answer(_: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        metadata = {"resourceVersion": "5", "continue": "next"}
        return web.json_response({"metadata": metadata, "items": [make_server()]} if asked < 9 else {})

    async def test() -> None:
        async with answering(answer) as cluster:
            with pytest.raises(ApiError, match="same page of the list twice"):
                await cluster.list(SERVER, "default")

    asyncio.run(test())
    assert asked == 2


@pytest.mark.parametrize("status", [429, 500, 503, 504, None])
def test_a_refused_page_is_requested_again_without_restarting_the_list(
    status: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A busy API server refuses some of many pages, so a list that starts again would never end."""
    monkeypatch.setattr(module, "PAGE_BACKOFF", Backoff(first=0.01, longest=0.01))
    asked, servers = list[str](), [make_server(f"kimi-{number}") for number in range(20)]

    async def answer(request: web.Request) -> web.Response:
        position = request.query.get("continue", "0")
        asked.append(position)
        if position != "0" and asked.count(position) <= int(position) % 4:
            return _fail(request, status)
        begin = int(position)
        more = {"continue": str(begin + 1)} if begin + 1 < len(servers) else {}
        return web.json_response({"metadata": {"resourceVersion": "5", **more}, "items": [servers[begin]]})

    async def test() -> list[Any]:
        async with answering(answer) as cluster:
            return await cluster.list(SERVER, "default")

    assert asyncio.run(test()) == servers
    assert asked.count("0") == 1


def _fail(request: web.Request, status: int | None) -> web.Response:
    """Answer with an error, or break the connection if the status is None."""
    if status is None and request.transport:
        request.transport.abort()
    return web.json_response({"kind": "Status", "message": "busy"}, status=status or 500)


def test_a_page_is_requested_again_only_after_the_time_in_retry_after() -> None:
    asked = list[float]()

    async def answer(request: web.Request) -> web.Response:
        if "continue" not in request.query:
            return web.json_response({"metadata": {"resourceVersion": "5", "continue": "next"}, "items": []})
        asked.append(time.monotonic())
        if len(asked) == 1:
            return refused(429, "busy", {"Retry-After": "2"})
        return web.json_response({"metadata": {"resourceVersion": "5"}, "items": [make_server()]})

    async def test() -> None:
        async with answering(answer) as cluster:
            assert await cluster.list(SERVER, "default") == [make_server()]

    asyncio.run(test())
    assert asked[1] - asked[0] >= 1.9


@pytest.mark.parametrize(("status", "most"), [(429, module.MOST_PAGE_ATTEMPTS), (403, 1), (404, 1)])
def test_a_permanent_refusal_of_a_page_ends_the_list(status: int, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAGE_BACKOFF", Backoff(first=0.01, longest=0.01))
    count = 0

    async def answer(request: web.Request) -> web.Response:
        nonlocal count
        if "continue" not in request.query:
            return web.json_response({"metadata": {"resourceVersion": "5", "continue": "next"}, "items": []})
        count += 1
        return refused(status, "no", reason="Forbidden")

    async def test() -> None:
        async with answering(answer) as cluster:
            with pytest.raises(ApiError, match=f"{status}: no"):
                await cluster.list(SERVER, "default")

    asyncio.run(test())
    assert count == most


def test_a_list_that_must_wait_too_long_leaves_its_place_to_others() -> None:
    async def answer(request: web.Request) -> web.Response:
        if "continue" not in request.query:
            return web.json_response({"metadata": {"resourceVersion": "5", "continue": "next"}, "items": []})
        return refused(429, "busy", {"Retry-After": "60"})

    async def test() -> None:
        async with answering(answer) as cluster:
            with pytest.raises(ApiError) as error:
                await cluster.list(SERVER, "default")
            assert error.value.retry_seconds == 60

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(module, "PAGE_SECONDS", 30.0)
        asyncio.run(asyncio.wait_for(test(), 30))


def test_only_one_page_of_all_lists_is_in_memory_at_a_time() -> None:
    """Otherwise the pages of several lists would be in memory at the same time."""
    held, most = 0, 0

    async def answer(request: web.Request) -> web.Response:
        begin = int(request.query.get("continue", "0"))
        more = {"continue": str(begin + 1)} if begin < 3 else {}
        return web.json_response({"metadata": {"resourceVersion": "5", **more}, "items": [make_server()]})

    async def test() -> None:
        nonlocal held, most

        async def read(cluster: Cluster) -> None:
            nonlocal held, most
            async for _ in cluster.pages(SERVER):
                held += 1
                most = max(most, held)
                await asyncio.sleep(0.01)
                held -= 1

        async with answering(answer) as cluster:
            await asyncio.gather(*(read(cluster) for _ in range(4)))

    asyncio.run(test())
    assert most == 1


def test_an_object_that_is_longer_than_a_page_comes_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    pages, _ = listed([10, 200_000, 10], monkeypatch, 100_000)
    assert pages == [1, 1, 1]
    assert len(json.dumps(make_server(note="x" * 200_000))) > 100_000


@pytest.mark.parametrize(
    "body",
    [
        '{"status":"maintenance"}',
        '{"metadata":{"resourceVersion":"5"}}',
        '{"metadata":{"resourceVersion":"5"},"items":null}',
        '{"metadata":{"resourceVersion":"5"},"items":[null]}',
        '{"metadata":{"resourceVersion":"5"},"items":{}}',
        '{"metadata":{},"items":[]}',
        '{"metadata":null,"items":[]}',
        '{"metadata":{"resourceVersion":5},"items":[]}',
        '{"metadata":{"resourceVersion":"five"},"items":[]}',
        '{"items":[]}',
        "[]",
        "[[1, 2]]",
        "null",
        "1",
        "<html>",
        "",
    ],
)
def test_an_answer_that_is_no_list_is_an_error_of_the_api_server(body: str) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=body, content_type="application/json")

    async def test() -> None:
        async with answering(answer) as cluster:
            with pytest.raises(ApiError, match="not "):
                await cluster.list(SERVER, "default")

    asyncio.run(test())
