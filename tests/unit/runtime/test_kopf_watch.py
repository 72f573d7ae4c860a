"""Which kinds are not watched, and which must be listed, according to the API server's answers."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import kopf
import kopf._cogs.clients.api
import kopf._cogs.clients.scanning
import pytest

from kimi_linear_operator.kubernetes.kinds import POD, SERVICE
from kimi_linear_operator.reconcile.cached_object import CachedObject
from kimi_linear_operator.runtime.kopf_watch import Watch, _patch_kopf
from kimi_linear_operator.runtime.scopes import Scope
from kimi_linear_operator.runtime.watched_scopes import BLIND_SECONDS, LONGEST_SILENCE_SECONDS
from make import make_pod
from passes import READER

PODS, SERVICES = Scope(POD, "default"), Scope(SERVICE, "default")
# After this time without an event, kopf ends a watch, or a request for one, and starts it again.
KOPF_SECONDS = int(kopf.OperatorSettings().watching.inactivity_timeout)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time in seconds, which the test sets."""
    now = [1000.0]
    monkeypatch.setattr("kimi_linear_operator.runtime.watched_scopes.time.monotonic", lambda: now[0])
    return now


@pytest.fixture
def wanted() -> list[Scope]:
    return []


@pytest.fixture
def watch(wanted: list[Scope]) -> Watch:
    def observe(_: CachedObject) -> None:
        """Take no notice."""

    return Watch(["default"], (PODS, SERVICES), READER, observe, wanted.append)


def test_an_open_watch_counts_as_working_while_the_api_server_sends_a_bookmark_a_minute(
    watch: Watch, clock: list[float]
) -> None:
    watch.watched.note_answer(PODS, "WATCH", 200)
    for _ in range(30):
        clock[0] += 62
        watch.watched.note_event(PODS)
        assert watch.watched.unwatched() == []


def test_a_watch_that_kopf_starts_again_because_it_is_silent_counts_as_working(
    watch: Watch, clock: list[float]
) -> None:
    for _ in range(30):
        watch.watched.note_answer(PODS, "WATCH", 200)
        clock[0] += KOPF_SECONDS + 1
        assert watch.watched.unwatched() == []


def test_an_api_server_that_falls_silent_is_reported_two_minutes_after_the_last_event(
    watch: Watch, clock: list[float]
) -> None:
    """kopf ends the silent watch after a while, and later each request without an answer."""
    watch.watched.note_answer(PODS, "WATCH", 200)
    watch.watched.note_event(PODS)
    last = clock[0]
    for second in range(1, 1000):
        clock[0] = last + second
        if second > KOPF_SECONDS and second % KOPF_SECONDS == 0:
            watch.watched.note_answer(PODS, "WATCH", 0)
        assert watch.watched.unwatched() == ([PODS] if second > 120 else []), second


def test_a_failing_watch_is_reported_after_a_while_until_it_works(watch: Watch, clock: list[float]) -> None:
    watch.watched.begin([PODS])
    watch.watched.note_answer(PODS, "WATCH", 0)
    clock[0] += LONGEST_SILENCE_SECONDS - 1
    watch.watched.note_answer(PODS, "WATCH", 503)
    assert watch.watched.unwatched() == []
    clock[0] += 2
    assert watch.watched.unwatched() == [PODS]
    watch.watched.note_answer(PODS, "LIST", 200)
    assert watch.watched.unwatched() == [PODS], "a list is no watch"
    watch.watched.note_answer(PODS, "WATCH", 200)
    assert watch.watched.unwatched() == []


def test_a_blind_watch_is_reported_until_it_delivers_something(watch: Watch, clock: list[float]) -> None:
    watch.watched.note_answer(PODS, "WATCH", 200)
    watch.watched.note_blind(PODS)
    watch.watched.note_answer(PODS, "WATCH", 200)
    assert watch.watched.is_blind(PODS)
    assert watch.watched.unwatched() == [PODS], "an answer alone proves nothing"
    watch.watched.note_event(PODS)
    assert not watch.watched.is_blind(PODS)
    assert watch.watched.unwatched() == []


def test_a_watch_that_stays_silent_while_nothing_changes_is_not_blind_for_ever(
    watch: Watch, clock: list[float]
) -> None:
    """On an idle cluster, nobody can tell whether it works again."""
    watch.watched.note_blind(PODS)
    clock[0] += BLIND_SECONDS
    watch.watched.note_answer(PODS, "WATCH", 200)
    assert not watch.watched.is_blind(PODS)
    assert watch.watched.unwatched() == []


def test_a_watch_that_starts_again_requests_a_list_of_its_own_scope(watch: Watch, wanted: list[Scope]) -> None:
    watch.watched.note_answer(PODS, "WATCH", 200)
    watch.watched.note_answer(PODS, "LIST", 500)
    watch.watched.note_answer(PODS, "LIST", 200)
    assert wanted == [], "changes between the list and the watch would be lost"
    watch.watched.note_answer(SERVICES, "WATCH", 200)
    watch.watched.note_answer(PODS, "WATCH", 500)
    assert wanted == []
    watch.watched.note_answer(PODS, "WATCH", 200)
    watch.watched.note_answer(PODS, "WATCH", 200)
    assert wanted == [PODS], "a watch that continues where it ended needs no list"


@pytest.mark.parametrize("status", [403, 404])
def test_a_refused_scope_is_listed_once_to_find_the_cause(watch: Watch, wanted: list[Scope], status: int) -> None:
    watch.watched.note_answer(PODS, "WATCH", status)
    watch.watched.note_answer(PODS, "LIST", status)
    assert wanted == [PODS]
    watch.watched.note_answer(PODS, "LIST", 200)
    watch.watched.note_answer(PODS, "WATCH", 200)
    watch.watched.note_answer(PODS, "WATCH", status)
    assert wanted == [PODS, PODS, PODS], "the scope was watched in the meantime"


def test_the_log_reports_the_end_and_the_return_of_a_watch_once_each(
    watch: Watch, clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    watch.watched.begin([PODS])
    watch.watched.note_answer(PODS, "WATCH", 0)
    for _ in range(5):
        watch.watched.log_changes()
        clock[0] += LONGEST_SILENCE_SECONDS
    watch.watched.note_answer(PODS, "WATCH", 200)
    watch.watched.log_changes()
    assert [record.getMessage() for record in caplog.records] == [
        "pods in namespace default: nothing comes from the watch. The operator retries until it works",
        "Watching pods in namespace default again",
    ]


def test_an_unreadable_object_causes_a_list_of_its_scope_and_others_continue(
    wanted: list[Scope], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    seen: list[CachedObject] = []
    watch = Watch(["default"], (PODS, SERVICES), READER, seen.append, wanted.append)
    metadata = {"name": "odd", "namespace": "default", "resourceVersion": "no number"}
    pod = make_pod(namespace="default", version=7)
    for manifest in ({"metadata": metadata}, pod):
        asyncio.run(watch._on_event({"type": "ADDED", "object": manifest}, param=POD))  # type: ignore[typeddict-item]
    assert (seen, wanted) == ([READER.read(POD, pod)], [PODS])
    assert not caplog.records, "the list logs it once, but there can be thousands of events"


def test_events_of_watches_that_are_about_to_restart_are_dropped(wanted: list[Scope]) -> None:
    """After a restore of etcd, events that are still in the sockets are about changes that no longer exist."""
    seen: list[CachedObject] = []
    watch = Watch(["default"], (PODS, SERVICES), READER, seen.append, wanted.append)
    watch.restart()
    event: Any = {"type": "ADDED", "object": make_pod(namespace="default", version=7)}
    asyncio.run(watch._on_event(event, param=POD))
    assert seen == []


@pytest.fixture
def bent(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The part of kopf that reads a watch, with our replacement."""
    of_kopf = vars(kopf._cogs.clients.api)
    scanning = vars(kopf._cogs.clients.scanning)
    for module, name in ((of_kopf, "json"), (of_kopf, "iter_jsonlines"), (scanning, "scan_resources")):
        monkeypatch.setitem(module, name, module[name])
    _patch_kopf([])
    return of_kopf


def test_kopf_reads_deep_nesting_with_our_parser(bent: dict[str, Any]) -> None:
    # kopf's own parser fails on such an object at every new watch. The API server stores up to 10,000 levels.
    line = '{"type":"ADDED","object":' + '{"a":' * 9_900 + "1" + "}" * 9_900 + "}"
    with pytest.raises(RecursionError):
        json.loads(line)
    assert bent["json"].loads(line)["type"] == "ADDED"


def test_kopf_reads_lines_with_invalid_utf_8(bent: dict[str, Any]) -> None:
    lines = b'{"type":"ADDED","object":{"f:\xff":{}}}\n{"type":"ADDED","object":{"a":"\xc3\xa9"}}\n'

    async def test() -> list[Any]:
        content = asyncio.StreamReader()
        content.feed_data(lines)
        content.feed_eof()
        vars(content)["iter_chunked"] = lambda size: chunks(content, size)
        return [bent["json"].loads(line.decode("utf-8")) async for line in bent["iter_jsonlines"](content)]

    assert [event["object"] for event in asyncio.run(test())] == [{"f:\ufffd": {}}, {"a": "é"}]


async def chunks(content: asyncio.StreamReader, size: int) -> AsyncIterator[bytes]:
    while chunk := await content.read(size):
        yield chunk
