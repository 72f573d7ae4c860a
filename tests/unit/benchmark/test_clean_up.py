"""What a benchmark no longer needs is deleted again until a watch shows its end. A watch may miss the end."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest

from kimi_linear_operator.benchmark.spec import BENCHMARK
from kimi_linear_operator.kubernetes.kinds import CONFIG_MAP, JOB, Kind, Manifest
from kimi_linear_operator.reconcile.cache import Cache
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.reconcile.errors import BEHIND_RETRY_SECONDS
from make import ODD_STATUSES, make_condition, make_finished_benchmark, make_result, owned
from passes import READER, Passes, new_cache

NOW, DELETION = "2026-11-24T12:00:00Z", {"deletionTimestamp": "2026-11-24T12:00:00Z"}
KEY = Key("default", "nightly", BENCHMARK)
COMPLETE = make_condition("Complete", "True", "ThresholdsMet", "passed")
TTL: Manifest = {"f:spec": {"f:ttlSecondsAfterFinished": {}}}


@dataclass
class Hidden:
    """A cluster whose deletions no watch shows, until a test shows them."""

    cache: Cache
    live: Manifest
    deleted: list[tuple[str, str]] = field(default_factory=list)

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        return self.live if kind == BENCHMARK else None

    async def delete(self, kind: Kind, manifest: Manifest, **_: bool) -> None:
        self.deleted.append((kind.kind, manifest["metadata"]["name"]))

    async def apply_new(self, kind: Kind, manifest: Manifest) -> Manifest:
        return owned(manifest, KEY.name, BENCHMARK.kind)

    async def patch_status(self, kind: Kind, manifest: Manifest, status: Manifest, **_: bool) -> Manifest:
        return {**manifest["metadata"], "resourceVersion": "99"}

    async def create(self, kind: Kind, event: Manifest) -> Manifest:
        return event


def with_metadata(manifest: Manifest, **more: Any) -> Manifest:
    return {**manifest, "metadata": {**manifest["metadata"], **more}}


@pytest.fixture
def cluster() -> Hidden:
    """A cluster with a benchmark that is complete and has expired, according to its own cache."""
    found = make_finished_benchmark(make_result("speed-low"), ttlSecondsAfterFinished=3)
    found = {**found, "status": {**found["status"], "conditions": [COMPLETE]}}
    found = with_metadata(found, managedFields=[{"manager": "kubectl", "operation": "Apply", "fieldsV1": TTL}])
    cache = new_cache()
    cache.put(BENCHMARK, found)
    return Hidden(cache, found)


def one_pass(cluster: Hidden) -> float | None:
    return asyncio.run(Passes(cluster, cluster.cache, now=lambda: NOW).reconcile(KEY))


def put(cluster: Hidden, kind: Kind, manifest: Manifest, version: int) -> Manifest:
    shown = with_metadata(manifest, resourceVersion=str(version))
    cluster.cache.put(kind, shown)
    return shown


def deletions(cluster: Hidden, kind: Kind) -> int:
    return sum(deleted == kind.kind for deleted, _ in cluster.deleted)


def test_an_expired_benchmark_is_deleted_again_until_its_end_is_seen(cluster: Hidden) -> None:
    for number in (1, 2):
        assert one_pass(cluster) == BEHIND_RETRY_SECONDS
        assert deletions(cluster, BENCHMARK) == number
    put(cluster, BENCHMARK, with_metadata(cluster.live, **DELETION), 2)
    assert one_pass(cluster) is None, "a finalizer holds it"
    assert deletions(cluster, BENCHMARK) == 2


def test_a_held_benchmark_whose_deletion_only_the_api_server_shows_is_not_deleted_again(cluster: Hidden) -> None:
    cluster.live = with_metadata(cluster.live, **DELETION)
    assert one_pass(cluster) == BEHIND_RETRY_SECONDS
    assert deletions(cluster, BENCHMARK) == 0


@pytest.mark.parametrize("status", ODD_STATUSES, ids=str)
def test_an_expired_benchmark_whose_status_somebody_has_spoilt_stays(cluster: Hidden, status: Any) -> None:
    cluster.live = {**cluster.live, "status": status}
    assert one_pass(cluster) is None
    assert deletions(cluster, BENCHMARK) == 0


def test_a_benchmark_whose_time_to_live_is_not_wanted_costs_no_further_pass(cluster: Hidden) -> None:
    cluster.live = with_metadata(cluster.live, managedFields=[])
    assert one_pass(cluster) is None
    assert deletions(cluster, BENCHMARK) == 0


@pytest.mark.parametrize("kind", [JOB, CONFIG_MAP], ids=["the Job of a suite", "the runner"])
def test_what_a_benchmark_leaves_behind_is_deleted_again_until_its_end_is_seen(cluster: Hidden, kind: Kind) -> None:
    kept = {name: value for name, value in cluster.live["spec"].items() if name != "ttlSecondsAfterFinished"}
    cluster.live = put(cluster, BENCHMARK, {**cluster.live, "spec": kept}, 2)
    labels = {"kimi-linear.io/suite": "speed-low"}
    name = {JOB: "nightly-speed-low", CONFIG_MAP: "nightly-runner"}[kind]
    left = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {"name": name, "labels": labels}}
    child = put(cluster, kind, owned(left, KEY.name, BENCHMARK.kind), 3)
    for number in (1, 2):
        assert one_pass(cluster) == BEHIND_RETRY_SECONDS
        assert deletions(cluster, kind) == number
    held = put(cluster, kind, with_metadata(child, **DELETION), 4)
    assert one_pass(cluster) is None, "a finalizer holds it"
    cluster.cache.take(READER.read(kind, with_metadata(held, resourceVersion="5"), is_deleted=True))
    assert one_pass(cluster) is None
    assert deletions(cluster, kind) == 2
