"""The ScaledObject of a server, what wakes a server without replicas, and that a server has only one autoscaler."""

import asyncio
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import pytest

from kimi_linear_operator.cluster.errors import ApiError
from kimi_linear_operator.kubernetes.conditions import find_condition
from kimi_linear_operator.kubernetes.kinds import AUTOSCALER, SCALED_OBJECT, Kind, Manifest, kind_of
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.server import manifests
from kimi_linear_operator.server.autoscaler import Limits, build_autoscaler, seconds_until_more
from kimi_linear_operator.server.owned import kedas_autoscaler, other_autoscaler
from kimi_linear_operator.server.router import wanted_routers
from kimi_linear_operator.server.scaled_object import build_scaled_object
from kimi_linear_operator.server.spec import SERVER, KimiLinearServer
from make import UID, make_deployment, make_server, owned
from passes import Passes, new_cache
from refusing import RefusingCluster, one_pass

KEDA: Manifest = {"prometheusAddress": "http://prometheus:9090"}
AWAKE: Manifest = {"maxReplicas": 4, "keda": KEDA}
SLEEPING: Manifest = {"minReplicas": 0, "maxReplicas": 4, "keda": KEDA}
KEY = Key("default", "kimi", SERVER)


def server(**spec: Any) -> KimiLinearServer:
    return KimiLinearServer.model_validate(make_server(**{"router": {}, **spec}))


def scaled_object(*, may_grow: bool = True, may_sleep: bool = True, **spec: Any) -> Manifest:
    limits = Limits(may_grow=may_grow, may_sleep=may_sleep)
    return dict(build_scaled_object(server(**{"autoscaling": SLEEPING, **spec}), limits)["spec"])


def triggers(*, may_grow: bool = True, **spec: Any) -> dict[str, Manifest]:
    found = scaled_object(may_grow=may_grow, **spec)["triggers"]
    return {trigger["name"]: trigger for trigger in found}


def names(**spec: Any) -> set[tuple[str, str]]:
    return {(child["kind"], child["metadata"]["name"]) for child in manifests.build(server(**spec))}


def test_keda_takes_the_place_of_the_horizontal_pod_autoscaler() -> None:
    assert ("ScaledObject", "kimi") in names(autoscaling=AWAKE)
    assert ("HorizontalPodAutoscaler", "kimi") not in names(autoscaling=AWAKE)
    assert ("ScaledObject", "kimi") not in names(autoscaling={"maxReplicas": 4})


def test_a_suspended_server_has_no_scaled_object_that_could_wake_it() -> None:
    assert ("ScaledObject", "kimi") not in names(autoscaling=SLEEPING, suspend=True)


def test_keda_has_the_targets_the_speed_and_the_subject_of_the_autoscaler() -> None:
    scaling = {**AWAKE, "target": {"queuedRequests": 7, "runningRequests": 30}}
    ours = build_autoscaler(server(autoscaling=scaling))["spec"]
    made = scaled_object(autoscaling=scaling)
    assert made["scaleTargetRef"] == ours["scaleTargetRef"]
    assert made["advanced"]["horizontalPodAutoscalerConfig"]["behavior"] == ours["behavior"]
    assert (made["minReplicaCount"], made["maxReplicaCount"]) == (ours["minReplicas"], ours["maxReplicas"])
    thresholds = {trigger["name"]: trigger["metadata"]["threshold"] for trigger in made["triggers"]}
    assert thresholds == {"queued-requests": "7", "running-requests": "30"}


@pytest.mark.parametrize(
    ("replicas", "serving", "most"), [(1, 1, 4), (1, 0, 1), (2, 1, 2), (3, 1, 3), (0, 0, 1), (9, 2, 4)]
)
def test_keda_adds_no_replica_while_another_one_does_not_serve(replicas: int, serving: int, most: int) -> None:
    spec = server(replicas=replicas, autoscaling=SLEEPING).spec
    until_more = seconds_until_more(spec, make_deployment(availableReplicas=serving), (), "2026-11-24T10:00:00Z")
    made = scaled_object(may_grow=not until_more, replicas=replicas)
    assert made["maxReplicaCount"] == most


@pytest.mark.parametrize("least", [0, 1, 3])
def test_keda_keeps_the_last_replica_while_a_rollout_needs_it(least: int) -> None:
    spec: Any = {"replicas": 3, "autoscaling": {**SLEEPING, "minReplicas": least}}
    assert scaled_object(**spec)["minReplicaCount"] == least
    assert scaled_object(may_sleep=False, **spec)["minReplicaCount"] == max(least, 1)


def test_lost_metrics_are_an_error_except_while_a_replica_starts() -> None:
    for may_grow, ignored in ((True, "false"), (False, "true")):
        found = triggers(may_grow=may_grow)
        load = [found[name]["metadata"]["ignoreNullValues"] for name in ("queued-requests", "running-requests")]
        assert load == [ignored, ignored]
        assert found["requests"]["metadata"]["ignoreNullValues"] == "false", "the router's pods must be scraped"


def test_only_a_server_that_may_sleep_has_a_trigger_that_wakes_it() -> None:
    assert "requests" not in triggers(autoscaling=AWAKE)
    assert "cooldownPeriod" not in scaled_object(autoscaling=AWAKE)
    asked = triggers(autoscaling={**SLEEPING, "keda": {**KEDA, "wakeQuery": "sum(rate(gateway_requests[2m]))"}})
    assert asked["requests"]["metadata"]["query"] == "max((sum(rate(gateway_requests[2m]))\n) > bool 0)"
    assert asked["requests"]["metadata"]["ignoreNullValues"] == "true"


def test_a_new_server_has_the_idle_time_before_its_first_request() -> None:
    made = scaled_object(autoscaling={**SLEEPING, "keda": {**KEDA, "idleSeconds": 600}})
    assert (made["cooldownPeriod"], made["initialCooldownPeriod"]) == (600, 600)


def test_keda_authenticates_with_the_trigger_authentication_of_the_spec() -> None:
    access = {"triggerAuthentication": "prometheus", "modes": ["bearer", "tls"]}
    for trigger in triggers(autoscaling={**SLEEPING, "keda": {**KEDA, "authentication": access}}).values():
        assert trigger["authenticationRef"] == {"name": "prometheus"}
        assert trigger["metadata"]["authModes"] == "bearer,tls"
    assert "authenticationRef" not in str(triggers())


def test_a_router_that_wakes_the_server_runs_and_gets_requests_without_replicas() -> None:
    assert wanted_routers(server(replicas=0, autoscaling=SLEEPING).spec) == 2
    assert wanted_routers(server(replicas=0, autoscaling=SLEEPING, suspend=True).spec) == 0
    own_query = {**SLEEPING, "keda": {**KEDA, "wakeQuery": "x"}}
    assert wanted_routers(server(replicas=0, autoscaling=own_query).spec) == 0


def test_while_no_replica_serves_requests_reach_the_unready_router_that_wakes_one() -> None:
    for serving, waking in ((0, True), (1, False)):
        cluster = RefusingCluster({})
        deployment = make_deployment(availableReplicas=serving)
        one_pass(cluster, deployment, router={}, replicas=serving, autoscaling=SLEEPING)
        [service] = [
            child for child in cluster.applied if (child["kind"], child["metadata"]["name"]) == ("Service", "kimi")
        ]
        assert service["spec"].get("publishNotReadyAddresses", False) is waking
        # No pod of the router is available here.
        assert service["spec"]["selector"] == {f"kimi-linear.io/{'router' if waking else 'server'}": "kimi"}


def test_the_pods_of_a_router_stay_when_the_server_may_sleep_or_no_longer_may() -> None:
    built = [manifests.build(server(autoscaling=scaling)) for scaling in (AWAKE, SLEEPING)]
    one, two = ([child for child in children if child["kind"] == "Deployment"] for children in built)
    assert one == two


def test_prometheus_scrapes_a_router_that_wakes_the_server() -> None:
    assert ("PodMonitor", "kimi-router") in names(autoscaling=SLEEPING, monitoring={})
    assert ("PodMonitor", "kimi-router") not in names(autoscaling=AWAKE, monitoring={})
    assert ("PodMonitor", "kimi-router") not in names(autoscaling=SLEEPING)


def existing(kind: Kind, name: str = "kimi") -> Manifest:
    return owned({"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {"name": name}})


HPA, SCALED = existing(AUTOSCALER), existing(SCALED_OBJECT)
_MADE = existing(AUTOSCALER, "keda-hpa-kimi")
_OWNER = {
    "apiVersion": SCALED_OBJECT.api_version,
    "kind": "ScaledObject",
    "name": "kimi",
    "uid": "s",
    "controller": True,
}
MADE_BY_KEDA = {**_MADE, "metadata": {**_MADE["metadata"], "ownerReferences": [{**_OWNER, "controller": True}]}}


def test_two_autoscalers_never_scale_a_server_at_the_same_time() -> None:
    cache = new_cache()
    assert other_autoscaler(cache, SCALED_OBJECT, KEY, UID) is None
    cache.put(AUTOSCALER, HPA)
    assert other_autoscaler(cache, SCALED_OBJECT, KEY, UID)
    assert other_autoscaler(cache, AUTOSCALER, KEY, UID) is None
    cache.clear()
    cache.put(SCALED_OBJECT, SCALED)
    assert other_autoscaler(cache, AUTOSCALER, KEY, UID)
    cache.clear()
    cache.put(AUTOSCALER, MADE_BY_KEDA)
    assert other_autoscaler(cache, AUTOSCALER, KEY, UID) == kedas_autoscaler(cache, KEY)
    assert other_autoscaler(cache, SCALED_OBJECT, KEY, UID) is None


@pytest.mark.parametrize(
    ("former", "scaling", "wanted"),
    [(HPA, AWAKE, "ScaledObject/kimi"), (SCALED, {"maxReplicas": 4}, "HorizontalPodAutoscaler/kimi")],
)
def test_a_pass_removes_the_former_autoscaler_before_it_creates_the_other(
    former: Manifest, scaling: Manifest, wanted: str
) -> None:
    cluster = RefusingCluster({})
    one_pass(cluster, former, autoscaling=scaling)
    assert f"-{former['kind']}/kimi" in cluster.written
    assert wanted not in cluster.written
    cluster = RefusingCluster({})
    one_pass(cluster, autoscaling=scaling)
    assert wanted in cluster.written


@pytest.mark.parametrize("former", [SCALED, MADE_BY_KEDA], ids=["ScaledObject", "KEDA's autoscaler"])
def test_a_server_says_that_it_waits_for_a_former_autoscaler_that_the_operator_cannot_delete(former: Manifest) -> None:
    cluster = RefusingCluster({})
    synced = _synced(cluster, former, ApiError(403, "no"))
    assert "HorizontalPodAutoscaler/kimi" not in cluster.written, "two autoscalers would scale the server"
    assert (synced["status"], synced["reason"]) == ("False", "KindForbidden")
    name = f"{former['kind']} {former['metadata']['name']}"
    role = "the operator's Role does not allow scaledobjects.keda.sh"
    assert synced["message"] == f"HorizontalPodAutoscaler kimi waits until {name} is gone: {role}"


def test_the_condition_names_the_finalizer_that_holds_a_former_autoscaler() -> None:
    about = {**SCALED["metadata"], "deletionTimestamp": "2026-11-24T09:30:00Z", "finalizers": ["finalizer.keda.sh"]}
    cluster = RefusingCluster({})
    one_pass(cluster, {**SCALED, "metadata": about}, autoscaling={"maxReplicas": 4})
    told = find_condition(cluster.status, "Autoscaling")
    assert (told["status"], told["reason"]) == ("False", "AutoscalerPending")
    waits = "HorizontalPodAutoscaler kimi waits until ScaledObject kimi is gone (finalizers: finalizer.keda.sh)"
    assert told["message"] == waits


def test_a_server_does_not_wait_for_a_scaled_object_whose_definition_is_gone() -> None:
    cluster = RefusingCluster({})
    assert _synced(cluster, SCALED, ApiError(404, "page not found"))["status"] == "True"
    assert "HorizontalPodAutoscaler/kimi" in cluster.written


def _synced(cluster: RefusingCluster, former: Manifest, error: ApiError) -> Manifest:
    """Return what a server without KEDA says of its children while ScaledObjects cannot be read."""

    def ask(_: Key, kinds: Collection[Kind]) -> Mapping[Kind, ApiError]:
        return {SCALED_OBJECT: error} if SCALED_OBJECT in kinds else {}

    def has_read(_: str, kinds: Iterable[Kind]) -> bool:
        return SCALED_OBJECT not in kinds

    cache, spec = new_cache(), make_server(autoscaling={"maxReplicas": 4})
    cluster.live["KimiLinearServer/kimi"] = spec
    cache.put(SERVER, spec)
    cache.put(kind_of(former), former)
    asyncio.run(Passes(cluster, cache, ask=ask, has_read=has_read).reconcile(KEY))
    return find_condition(cluster.status, "Synced")


def test_only_a_server_with_a_former_autoscaler_asks_for_the_other_kind() -> None:
    asked: list[set[Kind]] = []

    def ask(_: Key, kinds: Collection[Kind]) -> Mapping[Kind, ApiError]:
        asked.append({*kinds})
        return {}

    for former in ([], [SCALED]):
        cache, spec = new_cache(), make_server(autoscaling={"maxReplicas": 4})
        cache.put(SERVER, spec)
        for manifest in former:
            cache.put(SCALED_OBJECT, manifest)
        cluster = RefusingCluster({}, live={"KimiLinearServer/kimi": spec})
        asyncio.run(Passes(cluster, cache, ask=ask).reconcile(KEY))
    assert asked == [{AUTOSCALER}, {AUTOSCALER, SCALED_OBJECT}]
