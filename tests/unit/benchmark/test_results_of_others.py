"""After a rollback, results of another version stay unchanged, and their suites do not run again."""

import asyncio
import json
from typing import Any

import pytest

from kimi_linear_operator.benchmark.spec import BENCHMARK, BenchmarkStatus
from kimi_linear_operator.cluster.errors import ApiError
from kimi_linear_operator.kubernetes.kinds import CONFIG_MAP, JOB, Kind, Manifest
from kimi_linear_operator.kubernetes.stored import is_readable
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.resource_types import TYPES
from kimi_linear_operator.runtime.exposition import resource_lines
from make import VALID, make_condition, make_finished_benchmark, make_result, stored
from passes import Passes, new_cache

NIGHTLY = Key("default", "nightly", BENCHMARK)
ADDRESS: dict[str, Any] = {"endpoint": {"url": "http://kimi.example.com"}}
BUDGET = {"rule": "Budget", "passed": True, "message": "cheap enough"}

OF_OTHERS: dict[str, Manifest] = {
    "a reason": {"outcome": "Failed", "reason": "OutOfMemory", "message": "no memory"},
    "an outcome": {"outcome": "Skipped"},
    "a kind": {"kind": "latency"},
    "a rule": {"findings": [BUDGET]},
    "a field": {"energy": {"joules": 5}},
    "a field of a finding": {"findings": [{**BUDGET, "rule": "Threshold", "weight": 2}]},
    "a type": {"completed": "10 of 10", "startTime": 5, "completionTime": None},
    "types of lists": {"findings": {"Budget": True}, "metrics": []},
}
every_other = pytest.mark.parametrize("change", OF_OTHERS.values(), ids=OF_OTHERS)


class WritingCluster:
    """A cluster that keeps the written objects."""

    def __init__(self) -> None:
        self.written: list[tuple[Kind, Manifest]] = []

    async def summarize(self, kind: Kind, namespace: str, selector: str, summary: Any, add: Any) -> Any:
        return summary

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        return make_finished_benchmark() if kind == BENCHMARK else None

    async def apply_new(self, kind: Kind, manifest: Manifest) -> Manifest:
        self.written.append((kind, manifest))
        times = {"creationTimestamp": "2026-11-24T03:00:00Z"}
        return stored({**manifest, "metadata": {**times, **manifest["metadata"]}})

    async def patch_status(self, kind: Kind, manifest: Manifest, status: Manifest, **_: bool) -> Manifest:
        self.written.append((kind, {"status": status}))
        return {**manifest["metadata"], "resourceVersion": "2"}

    async def create(self, kind: Kind, manifest: Manifest) -> Manifest:
        return manifest

    def status(self) -> Manifest:
        [status] = [manifest["status"] for kind, manifest in self.written if kind == BENCHMARK]
        return dict(status)

    def kept_results(self) -> Manifest:
        """Return the contents of the ConfigMap with the results."""
        [found] = [manifest for kind, manifest in self.written if kind == CONFIG_MAP and "results" in str(manifest)]
        return dict(json.loads(found["data"]["results.json"]))


def pass_over(*results: Manifest, suites: list[str], **status: Any) -> WritingCluster:
    benchmark = make_finished_benchmark(*results, suites=[{"name": name} for name in suites], **ADDRESS)
    del benchmark["status"]["verdict"]
    benchmark["status"] |= {"startTime": "2026-11-24T02:00:00Z", **status}
    cache, cluster = new_cache(), WritingCluster()
    cache.put(BENCHMARK, benchmark)
    asyncio.run(Passes(cluster, cache).reconcile(NIGHTLY))
    assert list(resource_lines(TYPES, cache.snapshot(), "2026-11-24T12:00:00Z"))
    return cluster


COMPLETE = {
    "conditions": [make_condition("Complete", "True", "SuitesEnded", "all 2 suites have ended")],
    "verdict": "Excellent",
    "completionTime": "2026-11-24T03:00:00Z",
    "environment": {"server": "kimi", "tensorParallelism": "four"},
}


@every_other
def test_a_finished_benchmark_keeps_its_status_and_all_its_results(change: Manifest) -> None:
    results = [make_result("speed-low"), make_result("gsm8k", **change)]
    cluster = pass_over(*results, suites=["speed-low", "gsm8k"], **COMPLETE)
    assert [kind for kind, _ in cluster.written] == [CONFIG_MAP]
    kept = cluster.kept_results()
    assert (kept["results"], kept["verdict"], kept["environment"]) == (results, "Excellent", COMPLETE["environment"])


@pytest.mark.parametrize("unreadable", [{"verdict": {"gate": "open"}}, {"results": "elsewhere"}, {"environment": "x"}])
def test_results_that_this_version_cannot_read_in_full_are_not_written(unreadable: Manifest) -> None:
    assert pass_over(make_result("gsm8k"), suites=["gsm8k"], **{**COMPLETE, **unreadable}).written == []


@every_other
def test_a_suite_that_has_ended_does_not_run_again(change: Manifest) -> None:
    ended = make_result("speed-low", **change)
    environment = {"server": "kimi", "serverGeneration": "newer"}
    cluster = pass_over(ended, suites=["speed-low", "gsm8k"], environment=environment)
    status = cluster.status()
    assert (status["results"], status["environment"], status["progress"]) == ([ended], environment, "1/2")
    [job] = [manifest for kind, manifest in cluster.written if kind == JOB]
    assert job["metadata"]["labels"]["kimi-linear.io/suite"] == "gsm8k"


@pytest.mark.parametrize(
    ("change", "verdict", "reason"),
    [
        ({"outcome": "Failed", "reason": "OutOfMemory", "message": "no memory"}, "Invalid", "ClientFailed"),
        ({"outcome": "Skipped"}, "Invalid", "ResultUnknown"),
        ({"completed": "10 of 10"}, "Invalid", "ResultUnknown"),
        ({"findings": [VALID, {**BUDGET, "passed": False}]}, "Failed", "ResultUnknown"),
        ({"findings": [VALID, BUDGET]}, "Passed", "ThresholdsMet"),
        ({"findings": [BUDGET]}, "Invalid", "ResultUnknown"),
        ({"findings": []}, "Invalid", "ResultUnknown"),
        ({"findings": None}, "Invalid", "ResultUnknown"),
        ({"energy": {"joules": 5}}, "Passed", "ThresholdsMet"),
    ],
)
def test_a_result_that_this_version_cannot_judge_never_gives_passed(
    change: Manifest, verdict: str, reason: str
) -> None:
    results = [make_result("speed-low", **change)]
    status = pass_over(*results, suites=["speed-low"]).status()
    [succeeded] = [item for item in status["conditions"] if item["type"] == "Succeeded"]
    assert (status["results"], status["verdict"], succeeded["reason"]) == (results, verdict, reason)


class StrictCluster(WritingCluster):
    """Refuses a status that does not match this version's CRD, as an API server with this CRD does."""

    async def patch_status(self, kind: Kind, manifest: Manifest, status: Manifest, **_: bool) -> Manifest:
        if not is_readable(BenchmarkStatus, status):
            raise ApiError(422, "status.results[0].completed: Invalid value")
        return await super().patch_status(kind, manifest, status)


@pytest.mark.parametrize("change", [{"completed": "10 of 10", "startTime": 5}, {"startTime": "at dawn"}], ids=str)
def test_results_that_the_definition_refuses_are_written_as_text_and_reported(change: Manifest) -> None:
    benchmark = make_finished_benchmark(make_result("speed-low", **change), suites=[{"name": "speed-low"}], **ADDRESS)
    facts = {"server": "kimi", "tensorParallelism": "four"}
    benchmark["status"] |= {"startTime": "2026-11-24T02:00:00Z", "environment": facts}
    cache, cluster = new_cache(), StrictCluster()
    cache.put(BENCHMARK, benchmark)
    assert asyncio.run(Passes(cluster, cache).reconcile(NIGHTLY)) is None
    status = cluster.status()
    [succeeded] = [item for item in status["conditions"] if item["type"] == "Succeeded"]
    assert (status["verdict"], succeeded["reason"]) == ("Invalid", "ResultUnknown")
    assert status["environment"] == {"server": "kimi"}
    [result] = status["results"]
    assert all(f'"{name}":{json.dumps(value)}' in result["message"] for name, value in change.items())
