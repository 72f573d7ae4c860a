"""Events that take long to read: too large ones are not read, and those of a namespace take a part of the time."""

import asyncio
import gc
import tracemalloc
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, cast

import aiohttp
import pytest
from aiohttp import web
from kubernetes.aio.client import Configuration

from answering import answering
from kimi_linear_operator import jsontext
from kimi_linear_operator.cluster import credentials
from kimi_linear_operator.cluster import reading_time as module
from kimi_linear_operator.cluster.reading_time import BURST_SECONDS, SHARE, ReadingTime
from kimi_linear_operator.cluster.transport import LONGEST_ANSWER
from kimi_linear_operator.cluster.watch_session import Listener, Pause, _WatchLines, watch_session
from processor_time import measured
from unit.cluster.test_costly_objects import CONTENTS

CHUNK = 64 * 1024
MIB = 2**20
BOOKMARK = b'{"type":"BOOKMARK","object":{"metadata":{}}}\n'


@dataclass
class Watched:
    """What a watch has shown."""

    lines: list[bytes] = field(default_factory=list)
    large: list[Any] = field(default_factory=list)
    lists: int = 0
    statuses: list[int] = field(default_factory=list)

    def listener(self) -> Listener:
        return Listener(
            lambda _, status: self.statuses.append(status),
            read_large=lambda event: self.large.append(event["object"]["metadata"]["name"]),
            request_list=self.count_list,
        )

    def count_list(self) -> None:
        self.lists += 1


class Body:
    """The body of an answer, in chunks. Then the watch waits for more."""

    def __init__(self, parts: Iterable[bytes]) -> None:
        self.parts, self.is_read = parts, asyncio.Event()

    async def iter_chunked(self, _: int) -> AsyncIterator[bytes]:
        for part in self.parts:
            for begin in range(0, len(part), CHUNK):
                yield part[begin : begin + CHUNK]
            del part
        self.is_read.set()
        await asyncio.sleep(3600)


def event(name: str, content: bytes, namespace: str = "default") -> bytes:
    about = {"name": name, "namespace": namespace, "uid": "u", "resourceVersion": "7"}
    head = {"apiVersion": "apps/v1", "kind": "ControllerRevision", "metadata": about}
    return b'{"type":"MODIFIED","object":%s,"data":%s}}\n' % (jsontext.encode(head)[:-1], content)


async def watched(parts: Iterable[bytes], pause: Pause | None = None) -> tuple[Watched, asyncio.Task[None]]:
    """Return what a watch has shown of these parts, and its task. It still waits, unless it has ended."""
    found, body = Watched(), Body(parts)
    content = cast(aiohttp.StreamReader, body)
    lines = _WatchLines(content, found.listener(), pause or Pause(), ReadingTime())

    async def read() -> None:
        async for line in lines.iter_chunked(CHUNK):
            found.lines.append(line)

    reading = asyncio.create_task(read())
    waiting = asyncio.create_task(body.is_read.wait())
    await asyncio.wait([reading, waiting], return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    return found, reading


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
def test_an_event_that_is_too_large_to_read_requests_a_list(content: bytes) -> None:
    async def test() -> None:
        parts = [event("a", content), event("b", b'"' + b"x" * 100_000 + b'"'), event("c", b"1")]
        with measured() as whole:
            found, reading = await watched(parts)
        reading.cancel()
        assert found.lines[0] == BOOKMARK
        assert (found.large, found.lists, found.lines[2]) == (["b"], 1, parts[2])
        assert whole.cost < 9

    asyncio.run(test())


def test_large_events_of_a_namespace_take_a_part_of_the_time_and_those_of_others_are_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "BURST_SECONDS", 0.05)
    text = b"[" + b"{}," * 90_000 + b"0]"

    async def test() -> None:
        many = [event(f"a-{number}", text) for number in range(100)]
        found, reading = await watched([*many, event("other", text, "other")])
        reading.cancel()
        assert found.large[-1] == "other"
        assert 1 < len(found.large) < 60
        assert found.lists == 101 - len(found.large)

    asyncio.run(test())


@pytest.mark.parametrize("field", ["annotations", "labels"])
def test_an_object_cannot_take_the_time_of_other_namespaces(monkeypatch: pytest.MonkeyPatch, field: str) -> None:
    """The API server sorts the fields of a custom resource, so users choose what comes before its namespace."""
    monkeypatch.setattr(module, "BURST_SECONDS", 0.05)
    text = b"[" + b"{}," * 90_000 + b"0]"

    def of_another(number: int) -> bytes:
        before = jsontext.encode({"metadata": {field: {"namespace": f"other-{number}"}}})[1:-2]
        return event(f"a-{number}", text).replace(b'"metadata":{', before + b",")

    async def test() -> None:
        others = [event(f"b-{number}", text, f"other-{number}") for number in range(10)]
        found, reading = await watched([*map(of_another, range(100)), *others])
        reading.cancel()
        assert found.large[-10:] == [f"b-{number}" for number in range(10)]
        assert 1 < len(found.large) < 70

    asyncio.run(test())


def test_an_endless_list_takes_little_memory_and_counts_as_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    statuses: list[int] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        with suppress(ConnectionError):
            for _ in range(100):
                await response.write(b" " * MIB)
        return response

    async def test() -> None:
        async with answering(answer) as cluster:

            async def load() -> Configuration:
                return Configuration(host=cluster.server)

            monkeypatch.setattr(credentials, "configuration", load)
            path = "/api/v1/pods"
            session = await watch_session({path: Listener(lambda _, status: statuses.append(status))})
            async with session.client as client:
                tracemalloc.start()
                with pytest.raises(aiohttp.ClientConnectionError):
                    await client.get(f"{session.server}{path}")
                _, peak = tracemalloc.get_traced_memory()
        assert statuses == [0]
        assert peak < 20 * MIB

    try:
        asyncio.run(test())
    finally:
        tracemalloc.stop()


def test_a_namespace_pays_its_debt_with_time_and_is_then_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MANY_NAMESPACES", 3)
    times = ReadingTime()
    times.spend("a", BURST_SECONDS + 0.5, 100)
    assert not times.is_left("a", 100 + 0.4 / SHARE)
    assert times.is_left("a", 100 + 0.6 / SHARE)
    assert times.is_left("b", 100)
    for number in range(10):
        times.spend(f"n-{number}", 0.1, 1000 + 10 * number)
    assert len(times._debts) <= 3 + 1


def test_a_watch_that_waits_keeps_no_large_line() -> None:
    async def test() -> None:
        gc.collect()
        tracemalloc.start()
        _, reading = await watched(event("a", b'"' + b"x" * 1_500_000 + b'"') for _ in range(2))
        held, peak = tracemalloc.get_traced_memory()
        reading.cancel()
        assert held < MIB / 4
        assert peak < 8 * MIB

    try:
        asyncio.run(test())
    finally:
        tracemalloc.stop()


def test_an_endless_line_takes_little_memory_and_the_watch_begins_again_after_a_growing_pause() -> None:
    async def test() -> None:
        pause, part = Pause(), b"x" * MIB
        tracemalloc.start()
        found, reading = await watched((part for _ in range(100)), pause)
        _, peak = tracemalloc.get_traced_memory()
        assert reading.done()
        [line] = found.lines
        assert (jsontext.decode(line)["object"]["code"], found.statuses, found.lists) == (410, [0], 0)
        assert peak < 6 * MIB
        assert pause._failures == 1
        await watched((part for _ in range(LONGEST_ANSWER // MIB + 1)), pause)
        assert pause._failures == 2

    try:
        asyncio.run(test())
    finally:
        tracemalloc.stop()
