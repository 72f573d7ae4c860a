"""A pass decodes each object once, however many of its parts read the object."""

import asyncio
import copy
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from kimi_linear_operator.kubernetes.kinds import BENCHMARK, JOB, POD, Kind, Manifest, kind_of
from kimi_linear_operator.reconcile.cache import Cache
from kimi_linear_operator.reconcile.cached_object import CachedObject, Key
from kimi_linear_operator.reconcile.decoded import decoded_once
from kimi_linear_operator.server.deployment import build_pod_template
from kimi_linear_operator.server.owned import own_pods
from kimi_linear_operator.server.spec import SERVER, KimiLinearServer
from kimi_linear_operator.weights.spec import WEIGHTS
from make import make_benchmark, make_pod, make_server, make_weights, owned, stored
from passes import Passes, new_cache
from refusing import RefusingCluster, running_objects

KIMI = Key("default", "kimi", SERVER)
SPECS: dict[str, Manifest] = {
    "plain": {},
    "with everything": {
        "router": {"replicas": 2},
        "autoscaling": {"minReplicas": 1, "maxReplicas": 3},
        "networkPolicy": {},
        "monitoring": {},
        "verification": {"mode": "Block"},
    },
}


class Decodings:
    """Counts how often each state of an object is decoded, and keeps what was decoded."""

    def __init__(self) -> None:
        self.objects = dict[int, CachedObject]()
        self.manifests = list[tuple[Manifest, Manifest]]()
        self.counts = Counter[int]()

    def count(self, cached: CachedObject, manifest: Manifest) -> None:
        self.objects[id(cached)] = cached
        self.counts[id(cached)] += 1
        self.manifests.append((manifest, copy.deepcopy(manifest)))

    def of(self, kind: Kind) -> int:
        return sum(count for number, count in self.counts.items() if self.objects[number].key.kind == kind)


@pytest.fixture
def decodings(monkeypatch: pytest.MonkeyPatch) -> Iterator[Decodings]:
    found, decode = Decodings(), CachedObject.manifest

    def counted(self: CachedObject) -> Manifest:
        manifest = decode(self)
        found.count(self, manifest)
        return manifest

    monkeypatch.setattr(CachedObject, "manifest", counted)
    yield found
    assert set(found.counts.values()) <= {1}, "a state of an object was decoded more than once"
    assert all(manifest == before for manifest, before in found.manifests), "a shared manifest was changed"


class Accepting(RefusingCluster):
    """A cluster that accepts all writes."""

    def __init__(self) -> None:
        super().__init__({})

    async def events_of(self, *_: object) -> list[Manifest]:
        return []

    async def summarize(self, kind: Kind, namespace: str, selector: str, summary: Any, add: Any) -> Any:
        return summary

    async def create(self, kind: Kind, manifest: Manifest) -> Manifest:
        return stored(manifest)

    async def set_condition(self, kind: Kind, manifest: Manifest, condition: Manifest) -> Manifest:
        status = {**manifest["status"], "conditions": [*manifest["status"]["conditions"], condition]}
        return {**manifest, "metadata": {**manifest["metadata"], "resourceVersion": "50"}, "status": status}


def serving(pods: int, **spec: Any) -> Cache:
    """Return a cache with a server, its Deployment, its record, and this number of pods that could serve."""
    cache, server = new_cache(), make_server(replicas=pods, **spec)
    template = build_pod_template(KimiLinearServer.model_validate(server))
    cache.put(SERVER, server)
    for child in running_objects(replicas=pods, **spec):
        cache.put(kind_of(child), child)
    for number in range(pods):
        conditions = [{"type": "ContainersReady", "status": "True"}, {"type": "PodScheduled", "status": "True"}]
        pod = make_pod(f"kimi-{number:03}", conditions=conditions, podIP="10.0.0.7", filled="x" * 60_000)
        labels = {**pod["metadata"]["labels"], **template["metadata"]["labels"]}
        metadata = {**pod["metadata"], "labels": labels, "creationTimestamp": "2026-11-24T09:00:00Z"}
        cache.put(POD, {**pod, "metadata": metadata})
    return cache


@pytest.mark.parametrize("pause", [None, 60.0], ids=["", "automatic rollout"])
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_a_pass_over_a_server_decodes_each_of_its_pods_once(
    spec: Manifest, pause: float | None, decodings: Decodings
) -> None:
    cache, cluster = serving(100, **spec), Accepting()
    cluster.live["KimiLinearServer/kimi"] = make_server(replicas=100, **spec)
    asyncio.run(Passes(cluster, cache, rollout_pause=pause).reconcile(KIMI))
    assert 0 < decodings.of(POD) <= 100 + sum(cached.version == 50 for cached in cache.cached_children(POD, KIMI))


def test_a_pass_over_a_benchmark_decodes_each_object_once(decodings: Decodings) -> None:
    cache, key = serving(10), Key("default", "nightly", BENCHMARK)
    cache.put(BENCHMARK, make_benchmark())
    for number in range(3):
        job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": f"job-{number}"}, "status": {}}
        cache.put(JOB, owned(job, "nightly", "KimiLinearBenchmark"))
    asyncio.run(Passes(Accepting(), cache).reconcile(key))
    assert decodings.of(BENCHMARK) > 0


def test_a_pass_over_weights_decodes_each_object_once(decodings: Decodings) -> None:
    cache, cluster = new_cache(), Accepting()
    passes = Passes(cluster, cache)
    cluster.live["KimiLinearWeights/kimi"] = make_weights()
    cache.put(WEIGHTS, make_weights())
    for _ in range(2):
        asyncio.run(passes.reconcile(Key("default", "kimi", WEIGHTS)))
        decodings.counts.clear()
    assert cluster.written


def test_a_pass_sees_a_change_that_happens_during_the_pass() -> None:
    cache = new_cache()
    with decoded_once():
        cache.put(POD, make_pod(phase="Pending"))
        assert own_pods(cache, KIMI)[0]["status"]["phase"] == "Pending"
        cache.put(POD, make_pod(phase="Running", version=2))
        assert own_pods(cache, KIMI)[0]["status"]["phase"] == "Running"


def test_nothing_is_shared_between_passes() -> None:
    cache = new_cache()
    cache.put(POD, make_pod())
    with decoded_once():
        first = cache.children(POD, KIMI)[0]
        assert cache.children(POD, KIMI)[0] is first
    with decoded_once():
        assert cache.children(POD, KIMI)[0] is not first
    assert cache.children(POD, KIMI)[0] is not cache.children(POD, KIMI)[0]
