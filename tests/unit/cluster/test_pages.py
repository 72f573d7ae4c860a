"""Lists come in pages: of many objects if they are small, and of few if somebody made large ones."""

import asyncio
import json
from typing import Any

import pytest
from aiohttp import web

from answering import answering
from kimi_linear_operator.cluster import pages as module
from kimi_linear_operator.cluster.client import Cluster
from kimi_linear_operator.cluster.errors import ApiError
from kimi_linear_operator.cluster.pages import LIST_CHUNK
from kimi_linear_operator.server.spec import SERVER
from make import make_server


def listed(sizes: list[int], monkeypatch: pytest.MonkeyPatch, page_bytes: int) -> tuple[list[int], list[int]]:
    """List servers with specs of these sizes; return the length of each page, and the requested limits."""
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


def test_small_objects_behind_large_ones_come_in_longer_and_longer_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    pages, _ = listed([90_000] * 3 + [10] * 40, monkeypatch, 100_000)
    assert pages == [1, 1, 1, 1, 2, 4, 8, 16, 9]


def test_a_page_of_countless_values_is_as_short_as_one_of_many_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """As objects, empty lists take a hundred times the memory of a string of the same length."""
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


@pytest.mark.parametrize("forgotten", [1, module.MOST_LIST_ATTEMPTS - 1, module.MOST_LIST_ATTEMPTS])
def test_a_moment_that_is_forgotten_begins_the_list_anew_in_pages_a_few_times(forgotten: int) -> None:
    servers = [make_server(f"kimi-{number}") for number in range(LIST_CHUNK + 1)]
    limits, beginnings, left = [], 0, iter([True] * forgotten)

    async def answer(request: web.Request) -> web.Response:
        nonlocal beginnings
        limits.append(request.query.get("limit"))
        if "continue" not in request.query:
            beginnings += 1
            metadata = {"resourceVersion": str(beginnings), "continue": "next"}
            return web.json_response({"metadata": metadata, "items": servers[:LIST_CHUNK]})
        if next(left, False):
            return web.json_response({"kind": "Status", "message": "too old", "code": 410}, status=410)
        return web.json_response({"metadata": {"resourceVersion": str(beginnings)}, "items": servers[LIST_CHUNK:]})

    async def test() -> list[Any]:
        async with answering(answer) as cluster:
            return await cluster.list(SERVER, "default")

    if forgotten < module.MOST_LIST_ATTEMPTS:
        assert asyncio.run(test()) == servers
    else:
        with pytest.raises(ApiError, match="410: too old"):
            asyncio.run(test())
    assert set(limits) == {str(LIST_CHUNK)}


def test_one_page_of_all_lists_is_held_at_a_time() -> None:
    """Otherwise the pages of several lists would add up in memory."""
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
