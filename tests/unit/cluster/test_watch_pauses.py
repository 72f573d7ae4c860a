"""Watches that fail again and again are not started again at once: each pause is longer, as after any other failure."""

import asyncio
import itertools
import json
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest
from aiohttp import web
from kubernetes.aio.client import Configuration

from answering import answering
from kimi_linear_operator.backoff import Backoff
from kimi_linear_operator.cluster import credentials
from kimi_linear_operator.cluster import watch_session as module
from kimi_linear_operator.cluster.watch_session import SHORTEST_WATCH_SECONDS, WATCH_BACKOFF, Listener, Pause
from make import make_pod

PATH = "/api/v1/pods"
EVENT = json.dumps({"type": "ADDED", "object": make_pod()}).encode() + b"\n"
ERROR = b'{"type":"ERROR","object":{"kind":"Status","code":500,"message":"etcd is away"}}\n'
EXPIRED = b'{"type":"ERROR","object":{"kind":"Status","code":410,"message":"too old"}}\n'
Answer = Callable[[web.Request], Coroutine[Any, Any, web.StreamResponse]]


def lines(content: bytes, seconds: float = 0.0) -> Answer:
    """Answer a watch with these lines, and end it after a while."""

    async def answer(request: web.Request) -> web.StreamResponse:
        watch = web.StreamResponse()
        await watch.prepare(request)
        await watch.write(content)
        await asyncio.sleep(seconds)
        return watch

    return answer


async def gone(_: web.Request) -> web.Response:
    return web.json_response({"kind": "Status", "code": 410}, status=410, headers={"Retry-After": "2"})


def rewatched(
    monkeypatch: pytest.MonkeyPatch, version: str, delivered: bytes, late: str = "7", listed: Sequence[int] = (0, 0)
) -> tuple[bytes, list[int]]:
    """Watch twice from a version, while the API server is at version 7. The first watch delivers this.

    Return what the second watch delivers, and the statuses that are noted. `late` is the version of lists that need not
    be the newest ones. `listed` are the newest versions of listed objects when the watches begin.
    """
    blind, known = list[bool](), iter(listed)
    statuses, contents = list[int](), [delivered, EVENT]
    monkeypatch.setattr(module, "SHORTEST_WATCH_SECONDS", 0.1)

    async def answer(request: web.Request) -> web.StreamResponse:
        if "watch" not in request.query:
            found = late if "resourceVersion" in request.query else "7"
            return web.json_response({"metadata": {"resourceVersion": found}, "items": []})
        return await lines(contents.pop(0), seconds=0.2)(request)

    async def test() -> bytes:
        async with answering(answer) as cluster:

            async def load() -> Configuration:
                return Configuration(host=cluster.server)

            monkeypatch.setattr(credentials, "configuration", load)
            listener = Listener(
                lambda _, status: statuses.append(status),
                listed_version=lambda: next(known),
                note_blind=lambda: blind.append(True),
                is_blind=lambda: bool(blind),
            )
            session = await module.watch_session({PATH: listener})
            async with session.client as client:
                for _ in range(2):
                    url = f"{session.server}{PATH}?watch=true&resourceVersion={version}"
                    async with await client.get(url) as response:
                        seen = [line async for line in response.content.iter_chunked(1000)]
        return b"".join(seen)

    return asyncio.run(test()), statuses


def test_a_silent_watch_continues_although_another_api_server_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind a load balancer, each request can go to another API server."""
    content, statuses = rewatched(monkeypatch, "7", b"", late="3")
    assert (content, statuses) == (EVENT, [200, 200])


def test_each_event_of_a_watch_is_noted_also_a_bookmark_but_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    bookmark = b'{"type":"BOOKMARK","object":{"kind":"Pod","metadata":{"resourceVersion":"9"}}}\n'
    events = list[str]()
    rounds(monkeypatch, lines(EVENT + bookmark + ERROR), 1, lambda: events.append("event"))
    assert events == ["event", "event"]


def rounds(
    monkeypatch: pytest.MonkeyPatch, watched: Answer, count: int, note_event: Callable[[], None] = lambda: None
) -> list[float]:
    """List and watch some times, as kopf does. Return the seconds between two watches in a row."""
    times: list[float] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        if "watch" not in request.query:
            return web.json_response({"metadata": {"resourceVersion": "1"}, "items": []})
        times.append(time.monotonic())
        return await watched(request)

    async def test() -> None:
        async with answering(answer) as cluster:

            async def load() -> Configuration:
                return Configuration(host=cluster.server)

            monkeypatch.setattr(credentials, "configuration", load)
            session = await module.watch_session({PATH: Listener(lambda _, __: None, note_event=note_event)})
            async with session.client as client:
                for _ in range(count):
                    await client.get(f"{session.server}{PATH}")
                    async with await client.get(f"{session.server}{PATH}?watch=true") as response:
                        async for _line in response.content.iter_chunked(1000):
                            pass

    asyncio.run(test())
    return [after - before for before, after in itertools.pairwise(times)]


@pytest.mark.parametrize(
    "watched",
    [lines(b""), lines(EVENT), lines(ERROR), lines(EXPIRED)],
    ids=["closed at once", "closed after an event", "an error", "expired at once"],
)
def test_pauses_grow_while_watches_fail(monkeypatch: pytest.MonkeyPatch, watched: Answer) -> None:
    monkeypatch.setattr(module, "WATCH_BACKOFF", Backoff(first=0.4, longest=1.6))
    first, second, third, fourth = rounds(monkeypatch, watched, 5)
    assert first >= 0.2
    assert second >= 0.4
    assert third >= 0.8
    assert 0.8 <= fourth <= 2.5


def test_a_refused_watch_is_repeated_only_after_the_time_in_retry_after(monkeypatch: pytest.MonkeyPatch) -> None:
    [pause] = rounds(monkeypatch, gone, 2)
    assert pause >= 2


def test_a_watch_that_worked_for_a_while_ends_the_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHORTEST_WATCH_SECONDS", 0.3)
    assert max(rounds(monkeypatch, lines(EVENT, seconds=0.4), 4)) < 1.0


def test_no_pause_is_longer_than_the_longest_or_than_the_api_server_asks_for() -> None:
    pause = Pause()
    for _ in range(20):
        pause.note_end(100.0, 100.0, has_failed=True)
    assert WATCH_BACKOFF.longest / 2 <= pause.remaining(100.0) <= WATCH_BACKOFF.longest
    pause.note_end(100.0, 100.0, 45.0, has_failed=True)
    assert pause.remaining(100.0) == 45.0
    assert pause.remaining(200.0) == 0.0


def test_a_watch_that_expires_after_it_worked_is_repeated_soon() -> None:
    pause = Pause()
    for _ in range(20):
        pause.note_end(0.0, 0.0, has_failed=True)
    pause.note_end(100.0, 100.0 + SHORTEST_WATCH_SECONDS, has_failed=True)
    assert pause.remaining(100.0 + SHORTEST_WATCH_SECONDS) <= WATCH_BACKOFF.first


def test_a_silent_watch_from_a_version_of_the_future_is_replaced_by_a_list(monkeypatch: pytest.MonkeyPatch) -> None:
    content, statuses = rewatched(monkeypatch, "99999999999", b"")
    assert json.loads(content)["object"]["code"] == 410
    assert statuses == [200, 410]


@pytest.mark.parametrize(
    ("version", "delivered"),
    [("7", b""), ("6", b""), ("8", EVENT)],
    ids=["silent at the current version", "silent at an older version", "a list that is behind a watch that works"],
)
def test_other_watches_continue_without_a_list(monkeypatch: pytest.MonkeyPatch, version: str, delivered: bytes) -> None:
    assert rewatched(monkeypatch, version, delivered) == (EVENT, [200, 200])


def test_a_silent_watch_that_has_missed_a_listed_object_is_replaced_by_a_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SILENT_SECONDS", 0.2)
    content, statuses = rewatched(monkeypatch, "5", b"", listed=(6, 6))
    assert json.loads(content)["object"]["code"] == 410
    assert statuses == [200, 410]


@pytest.mark.parametrize(
    ("delivered", "listed", "seconds"),
    [(b"", (5, 6), 0.2), (b"", (0, 0), 0.2), (EVENT, (6, 6), 0.2), (b"", (6, 6), 60.0)],
    ids=["listed during the watch", "nothing listed", "the watch delivers", "cut soon by a load balancer"],
)
def test_a_silent_watch_that_has_missed_nothing_continues_without_a_list(
    monkeypatch: pytest.MonkeyPatch, delivered: bytes, listed: Sequence[int], seconds: float
) -> None:
    """A kind of which nothing changes has no bookmarks either."""
    monkeypatch.setattr(module, "SILENT_SECONDS", seconds)
    assert rewatched(monkeypatch, "5", delivered, listed=listed) == (EVENT, [200, 200])
