"""The API server stores objects of 1.5 MB, and many requests run at the same time. Few large answers are in memory."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, cast

import aiohttp
import pytest
from aiohttp import web
from kubernetes.aio.client import ApiClient, Configuration

from answering import answering, stored_object
from kimi_linear_operator import jsontext
from kimi_linear_operator.cluster import transport
from kimi_linear_operator.cluster.client import Cluster
from kimi_linear_operator.cluster.errors import ApiError
from kimi_linear_operator.cluster.pages import Pages
from kimi_linear_operator.cluster.transport import LARGE_ANSWERS_AT_ONCE, LONGEST_ANSWER, Transport
from kimi_linear_operator.kubernetes.kinds import CONFIG_MAP

LARGE, CHUNK, REQUESTS = 1_500_000, 64 * 1024, 40
MOST = LARGE_ANSWERS_AT_ONCE * (LARGE + CHUNK) + REQUESTS * 2 * CHUNK


@dataclass
class Body:
    """The body of an answer. It counts how much of it the operator has taken from the connection."""

    server: "Server"
    text: bytes
    hangs: bool = False
    trickles: bool = False
    taken: int = 0

    async def readany(self) -> bytes:
        if self.hangs and self.taken > 2 * CHUNK:
            await asyncio.sleep(3600)
        is_slow = self.trickles and self.taken > 2 * CHUNK
        await asyncio.sleep(0.01 if is_slow else 0)
        part = self.text[self.taken : self.taken + (1 if is_slow else CHUNK)]
        self.taken += len(part)
        self.server.take(len(part))
        return part


@dataclass
class Response:
    """An answer of the API server."""

    content: Body
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)

    def close(self) -> None:
        """Do nothing."""


@dataclass
class Server:
    """An API server. An object is large unless its name begins with "small".

    The answers to "hanging" never end, and those to "trickling" arrive byte by byte.
    """

    held: int = 0
    most: int = 0

    def take(self, size: int) -> None:
        self.held += size
        self.most = max(self.most, self.held)

    async def request(self, _: str, url: str, **__: Any) -> Response:
        name = url.split("?")[0].split("/")[-1]
        if name == "configmaps":
            listed = {"metadata": {"resourceVersion": "5"}, "items": [self.stored("large")]}
            return Response(Body(self, jsontext.encode(listed)))
        text = jsontext.encode(self.stored(name))
        return Response(Body(self, text, name.startswith("hanging"), name.startswith("trickling")))

    def stored(self, name: str) -> Any:
        size = 100 if name.startswith("small") else LARGE
        return {**stored_object(CONFIG_MAP, name), "data": {"text": "x" * size}}

    def cluster(self) -> Cluster:
        client = ApiClient(Configuration(host="http://example"))
        sends = Transport(client, cast(aiohttp.ClientSession, self))
        return Cluster(sends, Pages(sends))

    @asynccontextmanager
    async def hanging(self, cluster: Cluster, count: int, name: str = "hanging") -> AsyncIterator[None]:
        """Read this number of large objects whose answers hang, until the end of the block."""
        tasks = [asyncio.ensure_future(self.get(cluster, f"{name}-{number}")) for number in range(count)]
        await asyncio.sleep(0.1)
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def get(self, cluster: Cluster, name: str) -> str:
        """Read an object. Its text is no longer in memory when it is decoded."""
        assert await cluster.get(CONFIG_MAP, "default", name)
        self.held -= len(jsontext.encode(self.stored(name)))
        return name


def test_only_a_few_large_answers_are_in_memory_before_they_are_decoded() -> None:
    """Passes take turns, so many answers can wait until it is their turn."""
    server = Server()

    async def test() -> None:
        cluster = server.cluster().in_turns(lambda: asyncio.sleep(0.05))
        await asyncio.gather(*(server.get(cluster, f"large-{number}") for number in range(REQUESTS)))

    asyncio.run(test())
    assert LARGE < server.most < MOST


def test_an_endless_answer_counts_as_no_answer() -> None:
    sent = 0

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        with suppress(ConnectionError):
            while sent < 20 * LONGEST_ANSWER:
                await response.write(b"x" * CHUNK)
                sent += CHUNK
        return response

    async def test() -> None:
        async with answering(answer) as cluster:
            with pytest.raises(ApiError, match="too long"):
                await cluster.get(CONFIG_MAP, "default", "endless")
            with pytest.raises(ApiError, match="too long"):
                await cluster.create(CONFIG_MAP, stored_object(CONFIG_MAP, "endless"))

    asyncio.run(test())
    assert sent < 4 * LONGEST_ANSWER


def test_small_answers_do_not_wait_for_large_ones() -> None:
    async def test() -> None:
        server = Server()
        cluster = server.cluster()
        async with server.hanging(cluster, REQUESTS), asyncio.timeout(5):
            assert await server.get(cluster, "small") == "small"
        async with asyncio.timeout(5):
            assert await server.get(cluster, "large") == "large", "the cancelled answers have given up their places"

    asyncio.run(test())


def test_a_few_answers_that_hang_delay_no_large_answer() -> None:
    async def test() -> None:
        server = Server()
        cluster = server.cluster()
        async with server.hanging(cluster, LARGE_ANSWERS_AT_ONCE - 1), asyncio.timeout(5):
            await asyncio.gather(*(server.get(cluster, f"large-{number}") for number in range(5)))

    asyncio.run(test())


def test_only_a_few_pages_are_in_memory_while_another_page_is_read() -> None:
    async def test() -> None:
        server = Server()
        cluster = server.cluster()
        first = cluster.pages(CONFIG_MAP)
        await anext(first)
        server.held = server.most = 0
        lists = [asyncio.ensure_future(anext(cluster.pages(CONFIG_MAP, "default"))) for _ in range(REQUESTS)]
        await asyncio.sleep(0.5)
        assert not any(task.done() for task in lists)
        assert LARGE < server.most < MOST
        await first.aclose()
        for task in lists:
            task.cancel()

    asyncio.run(test())


def test_a_failed_answer_gives_up_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        server = Server()
        cluster = server.cluster()
        monkeypatch.setattr(server, "stored", lambda name: {**Server().stored(name), "kind": "Other"})
        for _ in range(2 * LARGE_ANSWERS_AT_ONCE):
            with pytest.raises(ApiError, match="not the ConfigMap"):
                await server.get(cluster, "large")
        monkeypatch.undo()
        async with asyncio.timeout(5):
            assert await server.get(cluster, "large") == "large"

    asyncio.run(test())


def test_answers_that_stall_give_up_their_places(monkeypatch: pytest.MonkeyPatch) -> None:
    assert transport.STALL_SECONDS <= 5
    monkeypatch.setattr(transport, "STALL_SECONDS", 0.05)

    async def test() -> None:
        server = Server()
        cluster = server.cluster()
        async with server.hanging(cluster, REQUESTS), asyncio.timeout(5):
            assert await server.get(cluster, "large") == "large"

    asyncio.run(test())


def test_answers_that_trickle_give_up_their_places_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    assert transport.PLACE_SECONDS <= 5
    monkeypatch.setattr(transport, "PLACE_SECONDS", 0.05)

    async def test() -> None:
        server = Server()
        cluster = server.cluster()
        async with server.hanging(cluster, LARGE_ANSWERS_AT_ONCE, "trickling"), asyncio.timeout(5):
            assert await server.get(cluster, "large") == "large"

    asyncio.run(test())
