"""Events about one pod or Job.

Users can write thousands of them, and large ones. The operator reads only some of them, and cuts them.
"""

import asyncio
from typing import Any

import pytest
from aiohttp import web

from answering import answering, refused
from kimi_linear_operator.cluster import pages as module
from kimi_linear_operator.cluster.errors import ApiError
from kimi_linear_operator.cluster.pages import LIST_CHUNK, MOST_EVENT_PAGES, MOST_EVENTS
from kimi_linear_operator.kubernetes.kinds import Manifest

REASONS = ("FailedMount", "Pulled")
POD = {"metadata": {"name": "pod", "namespace": "default", "uid": "u"}}


def event(number: int, size: int = 10, second: int = 0) -> Manifest:
    return {
        "metadata": {"name": f"pod.{number}", "managedFields": ["x" * 100] * 10},
        "reason": "FailedMount",
        "message": "x" * size,
        "lastTimestamp": f"2026-11-24T09:{number % 60:02}:00Z",
        "series": {"count": 2, "lastObservedTime": f"2026-11-24T10:00:{second:02}.000000Z"},
    }


def essence_of(event: Manifest) -> Manifest:
    return {key: value for key, value in event.items() if key != "metadata"}


def read(events: list[Manifest], gone_at: int | None = None) -> tuple[list[Manifest], list[int]]:
    """Read Events from an API server with these Events; return the Events and the limit of each request."""
    limits: list[int] = []

    async def answer(request: web.Request) -> web.Response:
        assert request.query["fieldSelector"] == "involvedObject.uid=u"
        begin, limit = int(request.query.get("continue", "0")), int(request.query["limit"])
        limits.append(limit)
        end = begin + limit
        if begin == gone_at:
            return refused(410, "expired")
        metadata: dict[str, Any] = {"continue": str(end)} if end < len(events) else {}
        return web.json_response({"metadata": metadata, "items": events[begin:end]})

    async def test() -> list[Manifest]:
        async with answering(answer) as cluster:
            return await cluster.events_of(POD, REASONS)

    return asyncio.run(test()), limits


def test_the_contents_of_an_event_are_kept() -> None:
    told, limits = read([event(1)])
    assert told == [essence_of(event(1))]
    assert limits == [LIST_CHUNK]


def test_events_of_the_second_page_are_read_too() -> None:
    told, limits = read([event(number, second=number // LIST_CHUNK) for number in range(LIST_CHUNK + 5)])
    assert told == [essence_of(event(LIST_CHUNK + number, second=1)) for number in range(MOST_EVENTS)]
    assert limits == [LIST_CHUNK, LIST_CHUNK]


def test_only_a_few_pages_of_thousands_of_events_are_read() -> None:
    told, limits = read([event(number) for number in range(5000)])
    assert (len(told), limits) == (MOST_EVENTS, [LIST_CHUNK] * MOST_EVENT_PAGES)


def test_the_newest_of_thousands_of_events_are_kept() -> None:
    """The API server lists Events by name, and not by time."""
    newest = [event(number, second=1) for number in range(0, 4000, 1000)]
    others = {number: event(number) for number in range(4000)} | {
        int(item["metadata"]["name"][4:]): item for item in newest
    }
    told, _ = read(list(others.values()))
    assert told[: len(newest)] == [essence_of(item) for item in newest]


def test_newer_events_of_other_reasons_hide_none_and_stay_in_no_memory() -> None:
    others = [{**event(number, second=1), "reason": "Other"} for number in range(1000)]
    pulled = {**event(0), "reason": "Pulled"}
    told, _ = read([event(1), *others, pulled])
    assert told == [essence_of(event(1)), essence_of(pulled)]


def test_large_events_are_read_in_short_pages_and_their_messages_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAGE_BYTES", 100_000)
    told, limits = read([event(number, 60_000) for number in range(2 * MOST_EVENT_PAGES)])
    assert limits[-MOST_EVENT_PAGES:] == [1] * MOST_EVENT_PAGES
    assert (len(told), {len(item["message"]) for item in told}) == (MOST_EVENTS, {4096})


def test_an_event_longer_than_a_page_is_read_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAGE_BYTES", 100_000)
    told, _ = read([event(0, 200_000), event(1)])
    assert len(told) == 2


def test_a_list_that_expires_between_pages_is_an_error_of_the_api_server() -> None:
    with pytest.raises(ApiError, match="expired"):
        read([event(number) for number in range(LIST_CHUNK + 5)], gone_at=LIST_CHUNK)


def test_reading_events_takes_only_a_limited_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each page may take long, and is requested again while the API server is busy."""
    monkeypatch.setattr(module, "EVENTS_SECONDS", 1.0)

    async def answer(request: web.Request) -> web.Response:
        if "continue" in request.query:
            return refused(429, "busy", {"Retry-After": "20"})
        return web.json_response({"metadata": {"continue": "1"}, "items": [event(1)]})

    async def test() -> None:
        async with answering(answer) as cluster:
            with pytest.raises(ApiError, match="the Events could not be read within 1 s") as raised:
                await asyncio.wait_for(cluster.events_of(POD, REASONS), 10)
            assert raised.value.is_passing

    asyncio.run(test())
