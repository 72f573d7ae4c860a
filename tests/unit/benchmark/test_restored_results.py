"""A benchmark that was created again restores its results, even if somebody has changed the ConfigMap."""

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kimi_linear_operator import jsontext
from kimi_linear_operator.benchmark import results_config_map
from kimi_linear_operator.benchmark.spec import BENCHMARK, BenchmarkStatus, KimiLinearBenchmark
from kimi_linear_operator.benchmark.storable import storable
from kimi_linear_operator.kubernetes import metadata
from kimi_linear_operator.kubernetes.conditions import find_condition
from kimi_linear_operator.kubernetes.kinds import CONFIG_MAP, Kind, Manifest
from kimi_linear_operator.kubernetes.stored import is_readable
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.resource_types import TYPES
from kimi_linear_operator.runtime.exposition import resource_lines
from make import make_benchmark, make_condition, make_result, stored
from passes import Passes, new_cache
from processor_time import cost

NIGHTLY = Key("default", "nightly", BENCHMARK)
NOW = "2026-11-24T12:00:00Z"
KEPT: Manifest = {
    "verdict": "Passed",
    "startTime": "2026-11-24T01:59:59Z",
    "completionTime": "2026-11-24T02:05:00Z",
    "environment": {"server": "http://kimi.example.com", "serverGeneration": 3},
    "results": [make_result("speed-low", {"output_throughput": 900.0})],
}

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.just("2026-11-24T02:00:00Z"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


def odd(value: Any) -> st.SearchStrategy[Any]:
    """Return values like this one, with missing or replaced parts."""
    if isinstance(value, dict):
        return st.fixed_dictionaries({}, optional={name: odd(item) for name, item in value.items()}) | JSON
    if isinstance(value, list):
        return st.lists(st.one_of(*map(odd, value)) if value else JSON, max_size=3) | JSON
    return st.just(value) | JSON


class Cluster:
    """A cluster with a benchmark and the ConfigMap of an earlier one. It stores every status that the CRD accepts."""

    def __init__(self, benchmark: Manifest, config_map: Manifest, written: list[Manifest]) -> None:
        self.benchmark = benchmark
        self.config_map = config_map
        self.written = written
        self.statuses: list[Manifest] = []
        self.reads = 0

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        self.reads += kind == CONFIG_MAP
        return {CONFIG_MAP: self.config_map, BENCHMARK: self.benchmark}.get(kind)

    async def summarize(self, kind: Kind, namespace: str, selector: str, summary: Any, add: Any) -> Any:
        return summary

    async def apply(self, kind: Kind, manifest: Manifest) -> Manifest:
        self.written.append(manifest)
        return stored({**manifest, "metadata": {**manifest["metadata"], "resourceVersion": "3"}})

    async def apply_new(self, kind: Kind, manifest: Manifest) -> Manifest:
        return await self.create(kind, manifest)

    async def create(self, kind: Kind, manifest: Manifest) -> Manifest:
        self.written.append(manifest)
        made = stored(manifest)
        return {**made, "metadata": {**made["metadata"], "creationTimestamp": NOW}}

    async def patch_status(self, kind: Kind, manifest: Manifest, status: Manifest, **_: bool) -> Manifest:
        assert is_accepted(status)
        self.statuses.append(status)
        return {**manifest["metadata"], "resourceVersion": "2"}


def is_accepted(status: Manifest) -> bool:
    """Return whether the API server stores this status without a change."""
    text = json.dumps(status, allow_nan=False)
    return is_readable(BenchmarkStatus, json.loads(text)) and ": null" not in text


def left_behind(text: str, **spec: Any) -> tuple[Manifest, Manifest]:
    """Return a benchmark, and the ConfigMap of an earlier benchmark with this spec, with this text as its results."""
    given = {"suites": [{"name": "speed-low"}], "endpoint": {"url": "http://kimi.example.com"}} | spec
    manifest = make_benchmark(**given)
    left = stored(
        metadata.with_fingerprint(results_config_map.build(KimiLinearBenchmark.model_validate(manifest), KEPT))
    )
    left["data"] = {"results.json": text}
    del left["metadata"]["ownerReferences"]
    return manifest, left


def restored(text: str, written: list[Manifest] | None = None) -> Manifest:
    """Return the status after a pass of a benchmark that was created again, with this text as its stored results.

    Args:
        text: The text.
        written: Gets the objects that the pass writes.
    """
    manifest, left = left_behind(text)
    cache, cluster = new_cache(), Cluster(manifest, left, [] if written is None else written)
    cache.put(CONFIG_MAP, left)
    cache.put(BENCHMARK, manifest)
    asyncio.run(Passes(cluster, cache, now=lambda: NOW).reconcile(NIGHTLY))
    assert list(resource_lines(TYPES, cache.snapshot(), NOW))
    return cluster.statuses[0]


def test_a_restored_benchmark_takes_back_its_results_and_its_start() -> None:
    status = restored(json.dumps(KEPT))
    assert {name: status[name] for name in KEPT} == KEPT


@pytest.mark.parametrize("is_cached", [False, True], ids=["new", "orphaned"])
def test_results_that_no_watch_has_shown_yet_are_restored_and_no_suite_runs_again(*, is_cached: bool) -> None:
    manifest, left = left_behind(json.dumps(KEPT))
    owner = {"apiVersion": "kimi-linear.io/v1alpha1", "kind": "KimiLinearBenchmark", "name": "nightly", "uid": "former"}
    cache, cluster = (
        new_cache(),
        Cluster(manifest, {**left, "metadata": {**left["metadata"], "resourceVersion": "2"}}, []),
    )
    if is_cached:
        cache.put(CONFIG_MAP, {**left, "metadata": {**left["metadata"], "ownerReferences": [owner]}})
    cache.put(BENCHMARK, manifest)
    operator = Passes(cluster, cache, now=lambda: NOW)
    for _ in range(2):
        asyncio.run(operator.reconcile(NIGHTLY))
    assert {name: cluster.statuses[-1][name] for name in KEPT} == KEPT
    assert "Job" not in [written["kind"] for written in cluster.written]


def test_unreadable_results_stay_and_their_suite_does_not_run_again() -> None:
    [result] = KEPT["results"]
    newer = {name: value for name, value in result.items() if name != "kind"} | {"workload": "chat"}
    written: list[Manifest] = []
    status = restored(json.dumps({**KEPT, "results": [newer]}), written)
    assert find_condition(status, "Complete")["status"] == "True"
    assert find_condition(status, "Succeeded")["reason"] == "ResultUnknown"
    assert status["verdict"] != "Passed"
    assert '"workload": "chat"' in status["results"][0]["message"].replace('":"', '": "')
    assert [manifest["kind"] for manifest in written] == ["Event"]


@given(odd(KEPT))
def test_a_pass_succeeds_with_any_content_in_place_of_results(content: Any) -> None:
    restored(jsontext.encode(content).decode())


RESULTS = st.lists(odd(KEPT["results"][0]).filter(lambda item: isinstance(item, dict)), max_size=3)


@given(RESULTS, odd(KEPT["environment"]).filter(lambda item: isinstance(item, dict)))
def test_results_that_the_definition_refuses_are_kept_as_text(results: list[Any], facts: Any) -> None:
    named = [{**result, "name": f"suite-{number}"} for number, result in enumerate(results)]
    status = storable({"results": named, "environment": facts, "verdict": "Invalid"}, NOW)
    assert is_readable(BenchmarkStatus, status)
    assert [result["name"] for result in status["results"]] == [result["name"] for result in named]


# A pass costs at most 1.5. During a pass, the Lease is not renewed.
MOST_COST = 10
# A ConfigMap can hold 1 MiB. To read one of these completely costs 30 or more.
HOSTILE = {
    "lists": '{"x":[' + ",".join(["[]"] * 340_000) + "]}",
    "deep": '{"x":[' + ",".join(["[" * 101 + "]" * 101] * 5100) + "]}",
    "results": '{"results":[' + ",".join(['{"name":"x"}'] * 80_000) + "]}",
    "findings": json.dumps(
        {"results": [{**KEPT["results"][0], "name": f"s{n}", "findings": [{"rule": 1}] * 5000} for n in range(16)]}
    ),
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_any_content_in_place_of_results_takes_little_time_and_is_read_once(text: str) -> None:
    manifest, left = left_behind(text, suspend=True)
    cache, cluster = new_cache(), Cluster(manifest, left, [])
    cache.put(CONFIG_MAP, left)
    cache.put(BENCHMARK, manifest)
    reconciler = Passes(cluster, cache, now=lambda: NOW)
    for _ in range(3):
        assert cost(lambda: asyncio.run(reconciler.reconcile(NIGHTLY))) < MOST_COST
    assert cluster.reads == 1
    # Somebody corrects it.
    corrected = {**left, "data": {"results.json": json.dumps(KEPT)}}
    cluster.config_map = {**corrected, "metadata": {**left["metadata"], "resourceVersion": "7"}}
    cache.put(CONFIG_MAP, cluster.config_map)
    asyncio.run(reconciler.reconcile(NIGHTLY))
    assert cluster.statuses[-1]["verdict"] == "Passed"


def test_many_findings_are_compared_with_their_config_map_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    built = list[Manifest]()
    build = results_config_map.build

    def counted(*args: Any) -> Manifest:
        built.append(build(*args))
        return built[-1]

    monkeypatch.setattr(results_config_map, "build", counted)
    names = [f"s{number}" for number in range(16)]
    manifest = make_benchmark(
        suites=[{"name": name, "speed": {"numPrompts": 1, "maxConcurrency": 1}} for name in names]
    )
    finding = {"rule": "Threshold", "metric": "m", "value": 1.5, "limit": 2.5, "passed": True, "message": "m"}
    results = [make_result("speed-low", name=name, findings=[finding] * 256) for name in names]
    complete = [make_condition("Complete", "True", "SuitesEnded", "")]
    cache, cluster = new_cache(), Cluster(manifest, {}, [])
    cache.put(BENCHMARK, {**manifest, "status": {**KEPT, "results": results, "conditions": complete}})
    reconciler = Passes(cluster, cache, now=lambda: NOW)
    for _ in range(3):
        asyncio.run(reconciler.reconcile(NIGHTLY))
    assert len(built) == 1
    assert [written["kind"] for written in cluster.written] == ["ConfigMap"]
    # Somebody changes the ConfigMap, or the benchmark passes on other labels.
    [live] = cluster.written
    cache.put(CONFIG_MAP, stored({**live, "data": {}, "metadata": {**live["metadata"], "resourceVersion": "9"}}))
    asyncio.run(reconciler.reconcile(NIGHTLY))
    assert len(cluster.written) == 2
