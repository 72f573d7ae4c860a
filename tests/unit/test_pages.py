"""Lists come in pages: of many objects if they are small, and of few if somebody made large ones."""

import asyncio
import json
from typing import Any

import pytest
from aiohttp import web

from answering import answering
from kimi_linear_operator.cluster import pages as module
from kimi_linear_operator.cluster.errors import ApiError
from kimi_linear_operator.cluster.pages import LIST_CHUNK
from kimi_linear_operator.server.spec import SERVER
from make import make_server


def listed(sizes: list[int], monkeypatch: pytest.MonkeyPatch, page_bytes: int) -> tuple[list[int], list[int]]:
    """List servers with specs of these sizes; return how many each page had, and the limits that were asked for."""
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
    pages, limits = listed([10_000] * 100, monkeypatch, 100_000)
    fewer = LIST_CHUNK // 64
    assert pages == [fewer] * (100 // fewer) + [100 % fewer]
    assert limits == [LIST_CHUNK, LIST_CHUNK // 8] + [fewer] * len(pages)


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
