"""Passes over servers that wait for their weights. What the spec no longer asks for goes, but the pods stay."""

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest

from kimi_linear_operator.kubernetes.conditions import find_condition, ready_condition
from kimi_linear_operator.kubernetes.kinds import AUTOSCALER, BENCHMARK, INGRESS, SCALED_OBJECT, Kind, Manifest, kind_of
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.server.manifests import build_companions
from kimi_linear_operator.server.revision import History
from kimi_linear_operator.server.spec import SERVER, KimiLinearServer
from kimi_linear_operator.server.template_choice import choose
from kimi_linear_operator.server.verification import build_benchmark
from make import make_server, owned, stored
from passes import Passes, new_cache
from refusing import RefusingCluster, kept_objects, running_objects

KEY = Key("default", "kimi", SERVER)
SCALING: Manifest = {"minReplicas": 2, "maxReplicas": 4}
BY_KEDA: Manifest = {**SCALING, "keda": {"prometheusAddress": "http://prometheus:9090"}}
FEATURES: dict[str, tuple[Manifest, set[str]]] = {
    "ingress": ({"ingress": {"hosts": ["kimi.example.com"]}}, {"Ingress/kimi"}),
    "httpRoute": ({"httpRoute": {"parentRefs": [{"name": "public"}]}}, {"HTTPRoute/kimi"}),
    "autoscaling": ({"autoscaling": SCALING}, {"HorizontalPodAutoscaler/kimi"}),
    "KEDA": ({"autoscaling": BY_KEDA}, {"ScaledObject/kimi"}),
    "networkPolicy": ({"networkPolicy": {}}, {"NetworkPolicy/kimi"}),
    "monitoring": ({"monitoring": {}}, {"PodMonitor/kimi", "PrometheusRule/kimi"}),
    "headless": ({"service": {"headless": True}}, {"Service/kimi-headless"}),
    "router": (
        {"router": {"replicas": 2}},
        {"Deployment/kimi-router", "Service/kimi-headless", "PodDisruptionBudget/kimi-router"},
    ),
}


def _children(**spec: Any) -> list[Manifest]:
    """Return the children of a server with this spec, except for its Deployment and its record."""
    return [stored(child) for child in build_companions(KimiLinearServer.model_validate(make_server(**spec)))]


def _wait(*known: Manifest, status: Manifest | None = None, unread: Kind | None = None, **spec: Any) -> RefusingCluster:
    """Make a pass over a server whose weights do not exist."""
    cluster, cache = RefusingCluster({}), new_cache()
    server = {**make_server(**{"model": {"weights": "nowhere"}, **spec}), "status": status or {}}
    server["metadata"]["generation"] = 2
    cluster.live["KimiLinearServer/kimi"] = server
    cache.put(SERVER, server)
    for manifest in known:
        cache.put(BENCHMARK if manifest["kind"] == BENCHMARK.kind else kind_of(manifest), manifest)

    def has_read(_: str, kinds: Iterable[Kind]) -> bool:
        return unread is None or unread not in kinds

    asyncio.run(Passes(cluster, cache, has_read=has_read).reconcile(KEY))
    assert ready_condition(cluster.status)["reason"] == "WeightsMissing"
    return cluster


def _deleted(cluster: RefusingCluster) -> set[str]:
    return {name.removeprefix("-") for name in cluster.written if name.startswith("-")}


@pytest.mark.parametrize("has_pods", [True, False], ids=["running", "new"])
@pytest.mark.parametrize("feature", FEATURES)
def test_what_the_spec_no_longer_asks_for_is_deleted_and_nothing_else(feature: str, *, has_pods: bool) -> None:
    spec, names = FEATURES[feature]
    pods = running_objects(replicas=2) if has_pods else ()
    assert _deleted(_wait(*pods, *_children(replicas=2, **spec), replicas=2)) == names


@pytest.mark.parametrize("feature", FEATURES)
def test_what_the_spec_still_asks_for_stays(feature: str) -> None:
    spec, _ = FEATURES[feature]
    assert _deleted(_wait(*running_objects(replicas=2), *_children(replicas=2, **spec), replicas=2, **spec)) == set()


def test_the_records_of_all_pod_templates_stay() -> None:
    older, _ = kept_objects(1)
    newer, deployment = kept_objects(2, podTemplate={"spec": {"priorityClassName": "high"}})
    assert _deleted(_wait(older, newer, deployment)) == set()


def test_a_child_of_a_kind_that_is_not_read_stays() -> None:
    spec, _ = FEATURES["ingress"]
    assert _deleted(_wait(*_children(**spec), unread=INGRESS)) == set()


def test_a_suspended_server_has_no_autoscaler_and_scales_down() -> None:
    for scaling, name in ((SCALING, "HorizontalPodAutoscaler/kimi"), (BY_KEDA, "ScaledObject/kimi")):
        spec: Any = {"replicas": 2, "autoscaling": scaling}
        cluster = _wait(*running_objects(replicas=2), *_children(**spec), suspend=True, **spec)
        assert _deleted(cluster) == {name, "PodDisruptionBudget/kimi"}
        assert [item["spec"]["replicas"] for item in cluster.scaled] == [0]
        assert find_condition(cluster.status, "Autoscaling")["reason"] == "Suspended"


def _told_before(**conditions: str) -> Manifest:
    """Return a status in which the conditions are True for these reasons."""
    told = [{"type": kind, "status": "True", "reason": why, "message": "before"} for kind, why in conditions.items()]
    return {"conditions": told, "url": "http://kimi.default.svc:30000", "addresses": ["https://kimi.example.com"]}


def test_the_status_follows_the_spec_that_waits() -> None:
    before = _told_before(Autoscaling="FollowsLoad", Exposed="Exposed", Verified="Verified")
    cluster = _wait(*running_objects(), status=before, service={"port": 8000})
    kinds = {item["type"] for item in cluster.status["conditions"]}
    assert kinds.isdisjoint({"Autoscaling", "Exposed", "Verified"})
    assert "addresses" not in cluster.status
    assert cluster.status["url"] == "http://kimi.default.svc:8000"


def test_the_autoscaler_adds_no_replica_before_the_weights_are_complete() -> None:
    spec: Any = {"replicas": 2, "autoscaling": SCALING}
    cluster = _wait(*running_objects(replicas=2), *_children(**spec), **spec)
    [held] = [item for item in cluster.applied if kind_of(item) == AUTOSCALER]
    assert held["spec"]["maxReplicas"] == 2
    active = {"type": "ScalingActive", "status": "True", "reason": "ValidMetricFound", "message": "fine"}
    cluster = _wait(*running_objects(replicas=2), stored({**held, "status": {"conditions": [active]}}), **spec)
    told = find_condition(cluster.status, "Autoscaling")
    assert (told["status"], told["reason"]) == ("True", "ReplicaAwaited")
    assert told["message"] == "2 of 2 replicas serve; no more are added until the weights are complete"


@pytest.mark.parametrize(
    ("former", "scaling", "wanted"),
    [
        (AUTOSCALER, BY_KEDA, "ScaledObject/kimi"),
        (SCALED_OBJECT, SCALING, "HorizontalPodAutoscaler/kimi"),
    ],
)
def test_the_kind_of_the_autoscaler_changes_and_the_condition_says_what_it_waits_for(
    former: Kind, scaling: Manifest, wanted: str
) -> None:
    live = owned({"apiVersion": former.api_version, "kind": former.kind, "metadata": {"name": "kimi"}})
    cluster = _wait(live, autoscaling=scaling)
    assert f"-{former.kind}/kimi" in cluster.written
    assert wanted not in cluster.written
    told = find_condition(cluster.status, "Autoscaling")
    assert (told["status"], told["reason"]) == ("False", "AutoscalerPending")
    assert told["message"] == f"{wanted.replace('/', ' ')} waits until {former.kind} kimi is gone"
    assert wanted in _wait(autoscaling=scaling).written


def test_a_verification_that_the_spec_no_longer_asks_for_ends() -> None:
    server = KimiLinearServer.model_validate(make_server(verification={"mode": "Warn"}))
    benchmark = stored(build_benchmark(server, choose(server, History()).current, None))
    name = f"KimiLinearBenchmark/{benchmark['metadata']['name']}"
    assert _deleted(_wait(*running_objects(), benchmark)) == {name}
    assert _deleted(_wait(*running_objects(), benchmark, verification={"mode": "Warn"})) == set()
