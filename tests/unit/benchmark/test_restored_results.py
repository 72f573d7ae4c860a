"""A benchmark that was created again restores its results, even if somebody has changed the ConfigMap."""

import asyncio
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from kimi_linear_operator import jsontext
from kimi_linear_operator.benchmark import results_config_map
from kimi_linear_operator.benchmark.spec import BENCHMARK, BenchmarkStatus, KimiLinearBenchmark
from kimi_linear_operator.benchmark.storable import storable
from kimi_linear_operator.kubernetes import metadata
from kimi_linear_operator.kubernetes.kinds import CONFIG_MAP, Kind, Manifest
from kimi_linear_operator.kubernetes.stored import is_readable
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.resource_types import TYPES
from kimi_linear_operator.runtime.exposition import resource_lines
from make import make_benchmark, make_result, stored
from passes import Passes, new_cache

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
    """Return values like this one, with parts that are missing or replaced by anything else."""
    if isinstance(value, dict):
        return st.fixed_dictionaries({}, optional={name: odd(item) for name, item in value.items()}) | JSON
    if isinstance(value, list):
        return st.lists(st.one_of(*map(odd, value)) if value else JSON, max_size=3) | JSON
    return st.just(value) | JSON


class Cluster:
    """A cluster with the ConfigMap of a deleted benchmark. It stores every status that the definition accepts."""

    def __init__(self, config_map: Manifest) -> None:
        self.config_map = config_map
        self.statuses: list[Manifest] = []

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        return self.config_map if kind == CONFIG_MAP else None

    async def essences(self, kind: Kind, namespace: str, selector: str) -> list[Manifest]:
        return []

    async def apply(self, kind: Kind, manifest: Manifest) -> Manifest:
        return stored({**manifest, "metadata": {**manifest["metadata"], "resourceVersion": "3"}})

    async def apply_new(self, kind: Kind, manifest: Manifest) -> Manifest:
        return await self.create(kind, manifest)

    async def create(self, kind: Kind, manifest: Manifest) -> Manifest:
        made = stored(manifest)
        return {**made, "metadata": {**made["metadata"], "creationTimestamp": NOW}}

    async def patch_status(self, kind: Kind, manifest: Manifest, status: Manifest) -> Manifest:
        assert is_accepted(status)
        self.statuses.append(status)
        return {**manifest["metadata"], "resourceVersion": "2"}


def is_accepted(status: Manifest) -> bool:
    """Return whether the API server stores this status just as it is."""
    text = json.dumps(status, allow_nan=False)
    return is_readable(BenchmarkStatus, json.loads(text)) and ": null" not in text


def restored(text: str) -> Manifest:
    """Create a benchmark again whose ConfigMap holds this text; return its status after a pass."""
    manifest = make_benchmark(suites=[{"name": "speed-low"}], endpoint={"url": "http://kimi.example.com"})
    benchmark = KimiLinearBenchmark.model_validate(manifest)
    left = stored(metadata.with_fingerprint(results_config_map.build(benchmark, KEPT)))
    left["data"] = {"results.json": text}
    del left["metadata"]["ownerReferences"]
    cache, cluster = new_cache(), Cluster(left)
    cache.put(CONFIG_MAP, left)
    cache.put(BENCHMARK, manifest)
    asyncio.run(Passes(cluster, cache, now=lambda: NOW).reconcile(NIGHTLY))
    assert list(resource_lines(TYPES, cache.snapshot(), NOW))
    return cluster.statuses[0]


def test_it_takes_all_of_it_back_its_start_too() -> None:
    status = restored(json.dumps(KEPT))
    assert {name: status[name] for name in KEPT} == KEPT


@given(odd(KEPT))
def test_whatever_somebody_wrote_in_the_place_of_results_the_pass_succeeds(content: Any) -> None:
    restored(jsontext.encode(content).decode())


RESULTS = st.lists(odd(KEPT["results"][0]).filter(lambda item: isinstance(item, dict)), max_size=3)


@given(RESULTS, odd(KEPT["environment"]).filter(lambda item: isinstance(item, dict)))
def test_what_the_definition_refuses_of_kept_results_is_kept_as_text(results: list[Any], facts: Any) -> None:
    named = [{**result, "name": f"suite-{number}"} for number, result in enumerate(results)]
    status = storable({"results": named, "environment": facts, "verdict": "Invalid"}, NOW)
    assert is_readable(BenchmarkStatus, status)
    assert [result["name"] for result in status["results"]] == [result["name"] for result in named]
