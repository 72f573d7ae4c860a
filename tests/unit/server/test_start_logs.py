"""Logs of starting engines: how often they are read, and the cost of a failed read."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import pytest

from kimi_linear_operator import clock
from kimi_linear_operator.cluster.errors import ApiError
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.reconcile.log_reads import READ_SECONDS, REFUSED_SECONDS, SECONDS_BETWEEN_READS
from kimi_linear_operator.server.spec import SERVER
from kimi_linear_operator.server.start_logs import StartLogs
from make import make_pod
from passes import make_context, new_cache

LOADING = "2026-11-24T09:06:00.1Z Load weight end. elapsed=40 s\n"
COMPILING = "2026-11-24T09:07:00.1Z Capture cuda graph begin.\n"
KEY = Key("default", "kimi", SERVER)


def engine(*, started: bool = False, since: str = "2026-11-24T09:05:00Z", name: str = "kimi-0") -> Manifest:
    container = {"name": "sglang", "started": started, "state": {"running": {"startedAt": since}}}
    return make_pod(name, containerStatuses=[container])


@dataclass
class Logs:
    """A cluster with logs, the clock, and the enqueued servers."""

    answers: list[str | ApiError] = field(default_factory=list)
    asked: list[float | None] = field(default_factory=list)
    enqueued: list[Key] = field(default_factory=list)
    now: float = 1000.0
    hangs: bool = False

    async def pod_log_tail(self, pod: Manifest, container: str, since_seconds: float | None = None) -> str:
        assert container == "sglang"
        self.asked.append(since_seconds)
        if self.hangs:
            await asyncio.Event().wait()
        answer = self.answers.pop(0) if self.answers else ""
        if isinstance(answer, ApiError):
            raise answer
        return answer

    def enqueue(self, keys: Iterable[Key]) -> None:
        self.enqueued += keys


@pytest.fixture
def logs(monkeypatch: pytest.MonkeyPatch) -> Logs:
    made = Logs()
    monkeypatch.setattr(clock, "seconds", lambda: made.now)
    return made


def run(logs: Logs, test: Callable[[StartLogs], Awaitable[None]]) -> None:
    async def all_of_it() -> None:
        await test(StartLogs(make_context(logs, new_cache(), enqueue=logs.enqueue)))

    asyncio.run(all_of_it())


async def look(start_logs: StartLogs, pod: Manifest | None = None, key: Key = KEY) -> dict[str, str]:
    """Let a pass follow a pod, and wait for the read that it started. Return the phases that were known before."""
    told = start_logs.follow(key, pod or engine())
    await asyncio.sleep(0)
    return dict(told.times) if told else {}


def test_only_a_new_phase_enqueues_the_server(logs: Logs) -> None:
    async def test(start_logs: StartLogs) -> None:
        logs.answers = [LOADING, LOADING, LOADING + COMPILING]
        seen = []
        for _ in range(4):
            seen.append(list(await look(start_logs)))
            logs.now += READ_SECONDS
        assert seen == [[], ["loading"], ["loading"], ["loading", "compiling"]]
        assert logs.enqueued == [KEY, KEY]

    run(logs, test)


def test_a_log_is_read_every_ten_seconds_however_many_passes_there_are(logs: Logs) -> None:
    async def test(start_logs: StartLogs) -> None:
        for _ in range(100):
            await look(start_logs)
            assert 1 <= (start_logs.seconds_left(KEY) or 0) <= READ_SECONDS
            logs.now += 1.0
        assert len(logs.asked) == 100 / READ_SECONDS

    run(logs, test)


def test_after_the_first_read_only_new_lines_are_requested(logs: Logs) -> None:
    async def test(start_logs: StartLogs) -> None:
        logs.answers = ["", ApiError(0, "no answer")]
        for _ in range(3):
            await look(start_logs)
            logs.now += READ_SECONDS
        first, second, after_a_failure = logs.asked
        assert first is None
        assert second is not None
        assert READ_SECONDS < second < 2.5 * READ_SECONDS
        assert after_a_failure == second + READ_SECONDS

    run(logs, test)


def test_a_read_that_was_delayed_by_others_covers_the_missed_time(logs: Logs) -> None:
    async def test(start_logs: StartLogs) -> None:
        other = Key("default", "other", SERVER)
        await look(start_logs)
        await look(start_logs, key=other)
        assert len(logs.asked) == 1
        logs.now += READ_SECONDS - SECONDS_BETWEEN_READS
        await look(start_logs, engine(started=True), key=other)
        assert (len(logs.asked), start_logs.seconds_left(other)) == (2, None)

    run(logs, test)


def test_a_node_that_does_not_answer_delays_no_pass(logs: Logs) -> None:
    async def test(start_logs: StartLogs) -> None:
        logs.hangs = True
        await look(start_logs)
        assert len(logs.asked) == 1  # and this line is reached

    run(logs, test)


@pytest.mark.parametrize("status", [0, 400, 404, 500])
def test_an_error_enqueues_no_server_and_the_log_is_read_again(logs: Logs, status: int) -> None:
    async def test(start_logs: StartLogs) -> None:
        logs.answers = [ApiError(status, "not now"), LOADING]
        await look(start_logs)
        logs.now += READ_SECONDS
        await look(start_logs)
        assert list(await look(start_logs)) == ["loading"]

    run(logs, test)


def test_a_log_that_may_not_be_read_is_requested_again_only_after_minutes(logs: Logs) -> None:
    async def test(start_logs: StartLogs) -> None:
        logs.answers = [ApiError(403, "pods/log is forbidden")] * 9
        for _ in range(int(REFUSED_SECONDS) - 1):
            await look(start_logs)
            logs.now += 1.0
        assert len(logs.asked) == 1
        logs.now += 2.0
        await look(start_logs)
        assert len(logs.asked) == 2

    run(logs, test)


def test_the_log_is_read_for_the_last_time_when_the_engine_serves(logs: Logs) -> None:
    async def test(start_logs: StartLogs) -> None:
        logs.answers = ["", LOADING]
        await look(start_logs)
        for _ in range(50):
            logs.now += 1.0
            await look(start_logs, engine(started=True))
        assert len(logs.asked) == 2
        assert start_logs.seconds_left(KEY) is None
        assert list(await look(start_logs, engine(started=True))) == ["loading"]

    run(logs, test)


@pytest.mark.parametrize("pod", [None, make_pod(), engine(started=True)], ids=["none", "no-container", "serving"])
def test_the_log_of_an_engine_that_is_not_starting_is_not_read(logs: Logs, pod: Any) -> None:
    async def test(start_logs: StartLogs) -> None:
        start_logs.follow(KEY, pod)
        await asyncio.sleep(0)
        assert (logs.asked, start_logs.seconds_left(KEY)) == ([], None)

    run(logs, test)


def test_the_log_of_a_restarted_container_is_read_from_its_beginning(logs: Logs) -> None:
    async def test(start_logs: StartLogs) -> None:
        logs.answers = [LOADING]
        await look(start_logs)
        logs.now += READ_SECONDS
        assert await look(start_logs, engine(since="2026-11-24T09:30:00Z")) == {}
        assert logs.asked == [None, None]

    run(logs, test)
