"""If a benchmark's spec is refused after the first suite, the results stay, and no other suite starts."""

import json
from typing import Any

import pytest

from kimi_linear_operator.benchmark.recipe import PUBLISHED
from kimi_linear_operator.benchmark.spec import BENCHMARK
from kimi_linear_operator.cluster.errors import ApiError
from kimi_linear_operator.kubernetes.conditions import find_condition
from kimi_linear_operator.kubernetes.kinds import CONFIG_MAP, JOB, POD, Kind, Manifest
from make import owned
from unit.benchmark.test_turns_given_back import ENDPOINT, FIRST
from unit.benchmark.test_turns_given_back import World as TwoBenchmarks

TWO = [{"name": "speed-low"}, {"name": "gsm8k"}]
# Refused by a rule, by the administrator, and by the schema.
REFUSED: list[Any] = [
    {"inheritedMetadata": {"labels": {"app.kubernetes.io/name": "mine"}}},
    {"podTemplate": {"spec": {"hostPID": True}}},
    {"client": "newer"},
]


class World(TwoBenchmarks):
    """A benchmark whose first suite runs."""

    def begin(self, **spec: Any) -> None:
        self.change(**spec)
        self.pass_over(FIRST, "09:00:00")

    def change(self, **spec: Any) -> None:
        """Store another spec, as under the CRD of another version."""
        found = self.cache.get(FIRST) or {}
        self.cluster.put(BENCHMARK, {**found, "spec": {**ENDPOINT, **spec}})

    def end(self) -> None:
        """Let the running Job end with the recipe's numbers."""
        [running] = self.cache.children(JOB, FIRST)
        ended = [{"type": "Complete", "status": "True", "lastTransitionTime": "2026-11-24T09:05:00Z"}]
        self.cluster.put(JOB, {**running, "status": {"startTime": "2026-11-24T09:00:00Z", "conditions": ended}})
        counts = {"requested": 10, "completed": 10}
        told = {"outcome": "Succeeded", "message": "", **counts, "metrics": dict(PUBLISHED["speed-low"])}
        state = {
            "exitCode": 0,
            "reason": "Completed",
            "message": json.dumps(told),
            "finishedAt": "2026-11-24T09:05:00Z",
        }
        container = {"name": "client", "image": "sglang", "restartCount": 0, "state": {"terminated": state}}
        references = [{"kind": "Job", "name": running["metadata"]["name"], "uid": running["metadata"]["uid"]}]
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "pod", "ownerReferences": references},
            "status": {"phase": "Succeeded", "containerStatuses": [container]},
        }
        self.cluster.put(POD, owned(pod, "first", "KimiLinearBenchmark"))

    @property
    def status(self) -> Manifest:
        return dict((self.cache.get(FIRST) or {})["status"])

    @property
    def outcomes(self) -> list[tuple[str, str]]:
        return [(result["name"], result["outcome"]) for result in self.status.get("results", [])]


def _accepted(status: Manifest) -> tuple[str, str]:
    found = find_condition(status, "Accepted")
    return found["status"], found["reason"]


@pytest.mark.parametrize("refused", REFUSED, ids=["a rule", "a permission", "a shape"])
def test_a_suite_that_ends_under_a_refused_spec_keeps_its_result_and_starts_no_other(
    refused: Manifest,
) -> None:
    world = World()
    world.begin(suites=TWO)
    world.change(suites=TWO, **refused)
    # The next pass is after the suite's time limit: two hours, plus the time that a Job may need to end.
    assert world.pass_over(FIRST, "09:01:00") == 7200 + 120 - 60
    assert (world.outcomes, _accepted(world.status)) == ([], ("False", "InvalidSpec"))
    world.end()
    world.pass_over(FIRST, "09:05:00")
    assert world.outcomes == [("speed-low", "Succeeded")]
    assert world.status["environment"]["server"] == "http://kimi.default.svc"
    assert _accepted(world.status) == ("False", "InvalidSpec")
    assert find_condition(world.status, "Stalled")["status"] == "True"
    assert world.cluster.jobs == ["first"]
    world.change(suites=TWO)
    # The first pass tells other benchmarks that this benchmark wants to run again.
    for _ in range(2):
        world.pass_over(FIRST, "09:06:00")
    assert (world.outcomes, world.status["currentSuite"]) == ([("speed-low", "Succeeded")], "gsm8k")


@pytest.mark.parametrize("refused", REFUSED, ids=["a rule", "a permission", "a shape"])
def test_the_last_suite_gives_a_verdict_although_the_spec_is_refused(refused: Manifest) -> None:
    world = World()
    world.begin()
    world.change(**refused)
    world.end()
    world.pass_over(FIRST, "09:05:00")
    assert (world.outcomes, world.status["verdict"]) == ([("speed-low", "Succeeded")], "Passed")
    assert _accepted(world.status) == ("False", "InvalidSpec")
    told = {kind: find_condition(world.status, kind)["status"] for kind in ("Complete", "Succeeded", "Stalled")}
    assert told == {"Complete": "True", "Succeeded": "True", "Stalled": "False"}


@pytest.mark.parametrize(
    "unreadable", [{"maxErrorRate": "5%"}, {"thresholds": "newer"}, {"suites": "newer"}, {"endpoint": None}]
)
def test_a_finished_job_waits_until_the_rules_for_its_result_can_be_read(unreadable: Manifest) -> None:
    world = World()
    world.begin()
    world.change(**unreadable)
    world.pass_over(FIRST, "09:01:00")
    world.end()
    world.pass_over(FIRST, "09:05:00")
    assert (world.outcomes, len(world.cache.children(JOB, FIRST))) == ([], 1)
    world.change()
    world.pass_over(FIRST, "09:06:00")
    assert (world.outcomes, world.status["verdict"]) == ([("speed-low", "Succeeded")], "Passed")


def test_suites_of_an_unknown_kind_keep_their_results() -> None:
    world, newer = World(), {"name": "newer"}
    world.begin(suites=TWO)
    world.end()
    world.pass_over(FIRST, "09:05:00")
    [first] = world.status["results"]
    results = [first, {**first, "name": "newer"}]
    found = world.cache.get(FIRST) or {}
    world.cluster.put(BENCHMARK, {**found, "status": {**found["status"], "results": results}})
    world.change(suites=[TWO[0], newer, TWO[1]])
    world.pass_over(FIRST, "09:06:00")
    assert [result["name"] for result in world.status["results"]] == ["speed-low", "newer"]
    world.change(suites=[TWO[0], newer, {"name": "newest"}])
    world.end()
    world.pass_over(FIRST, "09:07:00")
    assert [result["name"] for result in world.status["results"]] == ["speed-low", "newer"]


def test_a_benchmark_waits_without_passes_while_only_another_version_can_judge_its_suite() -> None:
    world = World()
    world.begin(suites=[{"name": "newer", "speed": {"numPrompts": 10}}])
    # This version does not know the load, and the suite runs.
    world.change(suites=[{"name": "newer"}])
    assert world.pass_over(FIRST, "09:01:00") is None
    world.end()
    assert world.pass_over(FIRST, "09:05:00") is None
    assert (world.outcomes, _accepted(world.status)) == ([], ("False", "InvalidSpec"))


@pytest.mark.parametrize("retry", [0.0, 30.0])
def test_results_that_cannot_be_stored_are_retried_with_growing_pauses_although_the_status_is_refused_too(
    retry: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World()
    world.begin()
    world.end()
    apply = world.cluster.apply

    async def refuse_results(kind: Kind, manifest: Manifest) -> Manifest:
        if kind == CONFIG_MAP:
            raise ApiError(429, "too many requests", retry)
        return await apply(kind, manifest)

    async def refuse_status(*_: Any, **__: Any) -> Manifest:
        raise ApiError(403, 'admission webhook "freeze" denied the request')

    monkeypatch.setattr(world.cluster, "apply", refuse_results)
    monkeypatch.setattr(world.cluster, "patch_status", refuse_status)
    # The queue makes the pauses: they grow with each error, and last at least as long as the error asks for.
    with pytest.raises(ApiError, match="too many requests") as caught:
        world.pass_over(FIRST, "09:05:00")
    assert caught.value.retry_seconds == retry
