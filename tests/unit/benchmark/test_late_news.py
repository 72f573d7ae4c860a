"""Decisions that cannot be undone, while a watch is dead or the host's clock is wrong."""

import asyncio
import json
from typing import Any

import pytest

from kimi_linear_operator import clock
from kimi_linear_operator.benchmark import run_times
from kimi_linear_operator.benchmark.run_times import RunTimes
from kimi_linear_operator.benchmark.spec import BENCHMARK
from kimi_linear_operator.kubernetes.kinds import JOB, POD, Kind, Manifest
from passes import READER, Passes, new_cache
from unit.benchmark.test_turns_given_back import FIRST, SECOND, TYPO, Shown
from unit.benchmark.test_turns_given_back import World as TwoBenchmarks

LIMIT = 7200 + 120


class HalfShown(Shown):
    """A cluster whose watches do not show everything. It counts how often Jobs and pods are read."""

    late: dict[Kind, Manifest]
    asked: list[Kind]

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        self.asked.append(kind)
        return self.late.get(kind) or await super().get(kind, namespace, name)

    async def summarize(self, kind: Kind, namespace: str, selector: str, summary: Any, add: Any) -> Any:
        self.asked.append(kind)
        if kind in self.late:
            return add(summary, [self.late[kind]])
        return await super().summarize(kind, namespace, selector, summary, add)


class World(TwoBenchmarks):
    """A benchmark whose suite has a Job since nine o'clock, and an operator that stays the same."""

    cluster: HalfShown

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seconds = 1000.0
        monkeypatch.setattr(clock, "seconds", lambda: self.seconds)
        self.cache = new_cache()
        self.__post_init__()
        self.cluster = HalfShown(self.cache)
        self.cluster.late, self.cluster.asked = {}, []
        self.operator = Passes(self.cluster, self.cache, now=lambda: self.cluster.now)
        self.pass_over(FIRST, "09:00:00")
        self.cluster.asked.clear()

    def pass_over(self, key: Any, time: str) -> float | None:
        self.cluster.now = f"2026-11-24T{time}Z"
        return asyncio.run(self.operator.reconcile(key))

    def report_late(self, **state: Any) -> None:
        """Report a state of the client's container that no watch shows."""
        [pod] = self.cache.children(POD, FIRST)
        [container] = pod["status"]["containerStatuses"]
        phase = "Failed" if "terminated" in state else "Running"
        status = {**pod["status"], "phase": phase, "containerStatuses": [{**container, "state": state}]}
        self.cluster.late[POD] = {**pod, "status": status}

    @property
    def results(self) -> list[Manifest]:
        return list((self.cache.get(FIRST.of(BENCHMARK)) or {})["status"].get("results", []))

    @property
    def has_job(self) -> bool:
        return bool(self.cache.children(JOB, FIRST))


FAILED = {"outcome": "Failed", "message": "No answer.", "requested": 10, "completed": 3, "metrics": {}}
EXIT = {"exitCode": 1, "reason": "Error", "message": json.dumps(FAILED), "finishedAt": "2026-11-24T09:30:00Z"}


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


def test_a_client_that_runs_keeps_its_turn_although_no_watch_has_shown_it_yet(world: World) -> None:
    world.report(**TYPO)
    world.report_late(running={"startedAt": "2026-11-24T09:04:00Z"})
    world.pass_over(FIRST, "09:05:00")
    assert world.has_job
    world.cluster.late.clear()
    world.pass_over(FIRST, "09:05:30")
    assert not world.has_job


def test_a_suite_ends_as_its_job_ended_even_if_no_watch_has_shown_the_end(world: World) -> None:
    world.report(running={"startedAt": "2026-11-24T09:00:05Z"})
    world.report_late(terminated=EXIT)
    [job] = world.cache.children(JOB, FIRST)
    end = {
        "type": "Failed",
        "status": "True",
        "reason": "BackoffLimitExceeded",
        "lastTransitionTime": EXIT["finishedAt"],
    }
    world.cluster.late[JOB] = {**job, "status": {"startTime": "2026-11-24T09:00:00Z", "conditions": [end]}}
    world.seconds += LIMIT
    world.pass_over(FIRST, "11:02:00")
    [result] = world.results
    assert (result["reason"], result["message"]) == ("ClientFailed", "No answer.")


def test_a_job_that_is_gone_and_still_cached_gives_no_result(world: World) -> None:
    world.report(running={"startedAt": "2026-11-24T09:00:05Z"})
    [job] = world.cache.children(JOB, FIRST)
    world.cluster.late[JOB] = {**job, "metadata": {**job["metadata"], "uid": "another"}}
    world.seconds += LIMIT
    assert world.pass_over(FIRST, "11:02:00") == 5
    assert world.results == []


def test_no_jump_of_the_hosts_clock_ends_a_suite(world: World) -> None:
    world.report(running={"startedAt": "2026-11-24T09:00:05Z"})
    world.seconds += 60
    assert world.pass_over(FIRST, "15:01:00") == LIMIT - 60
    world.seconds += LIMIT - 61
    assert world.pass_over(FIRST, "17:01:59") == 1
    assert (world.results, world.has_job) == ([], True)
    world.seconds += 1
    world.pass_over(FIRST, "17:02:00")
    assert [result["reason"] for result in world.results] == ["TimedOut"]


def test_no_jump_of_the_hosts_clock_ends_a_suite_however_many_jobs_a_tenant_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(run_times, "_MOST_REMEMBERED", 8)

    def job(namespace: str, uid: str) -> Manifest:
        metadata = {"namespace": namespace, "uid": uid}
        return {"metadata": metadata, "status": {"startTime": "2026-11-24T09:00:00Z"}}

    times = RunTimes(lambda: 0.0)
    times.now(job("default", "one"), LIMIT, "2026-11-24T09:00:00Z")
    for number in range(8):
        times.now(job("tenant", str(number)), LIMIT, "2026-11-24T09:00:00Z")
    assert times.now(job("default", "one"), LIMIT, "2026-11-24T15:00:00Z") == "2026-11-24T09:00:00+00:00"


def test_an_operator_that_starts_with_a_wrong_clock_ends_no_suite_at_once(world: World) -> None:
    world.report(running={"startedAt": "2026-11-24T09:00:05Z"})
    world.operator = Passes(world.cluster, world.cache, now=lambda: world.cluster.now)
    assert world.pass_over(FIRST, "15:00:00") == 120
    world.seconds += 119
    assert world.pass_over(FIRST, "09:02:00") == LIMIT - 120
    assert (world.results, world.has_job) == ([], True)


def test_a_failed_start_in_the_future_causes_no_rest(world: World) -> None:
    """The host's clock was ahead when the operator wrote the time."""
    world.report(**TYPO)
    world.pass_over(FIRST, "15:00:00")
    assert not world.has_job
    world.cache.take(READER.read(BENCHMARK, world.cache.get(SECOND.of(BENCHMARK)) or {}, is_deleted=True))
    world.pass_over(FIRST, "09:01:00")
    assert world.cluster.jobs == ["first", "first"]


def test_a_pass_over_a_running_suite_reads_nothing_from_the_api_server(world: World) -> None:
    world.report(running={"startedAt": "2026-11-24T09:00:05Z"})
    for time in ("09:00:10", "09:30:00", "11:01:59"):
        world.pass_over(FIRST, time)
    assert world.cluster.asked == []
