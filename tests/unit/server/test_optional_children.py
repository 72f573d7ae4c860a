"""Passes over servers with children of optional kinds."""

import asyncio
from collections.abc import Callable, Collection, Mapping
from datetime import datetime, timedelta
from typing import Any

import pytest

from kimi_linear_operator.cluster.errors import ApiError
from kimi_linear_operator.kubernetes.conditions import find_condition, ready_condition
from kimi_linear_operator.kubernetes.kinds import (
    DEPLOYMENT,
    HTTP_ROUTE,
    POD,
    POD_MONITOR,
    Kind,
    Manifest,
)
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.reconcile.errors import BLOCKED_RETRY_SECONDS, REPORTED_FAILURES, NotReadYetError
from kimi_linear_operator.server.manifests import build_companions
from kimi_linear_operator.server.outcome import LONGEST_BLOCKED_SECONDS
from kimi_linear_operator.server.spec import SERVER, KimiLinearServer
from make import make_condition, make_deployment, make_pod, make_server, stored
from passes import Passes, new_cache
from refusing import RefusingCluster, one_pass, pass_over, running_objects

ROUTED: Any = {"httpRoute": {"parentRefs": [{"name": "public"}]}}


def _ask_for(asked: list[set[Kind]], *answers: Mapping[Kind, ApiError] | Exception) -> Callable[..., Any]:
    """Return an `ask` that remembers the requests, and gives these answers in turn."""
    left = iter(answers)

    def ask(_: Key, kinds: Collection[Kind]) -> Mapping[Kind, ApiError]:
        asked.append({*kinds})
        answer = next(left)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return ask


def test_only_a_child_whose_kind_cannot_be_read_is_withheld() -> None:
    asked: list[set[Kind]] = []
    cache, cluster = new_cache(), RefusingCluster({})
    cache.put(SERVER, make_server(**ROUTED))
    passes = Passes(cluster, cache, ask=_ask_for(asked, {HTTP_ROUTE: ApiError(404, "page not found")}, {}))
    key = Key("default", "kimi", SERVER)
    asyncio.run(passes.reconcile(key))
    assert set(cluster.written) == {"ControllerRevision/kimi-1", "Deployment/kimi", "Service/kimi"}
    assert find_condition(cluster.status, "Synced")["reason"] == "KindMissing"
    assert find_condition(cluster.status, "Accepted")["status"] == "True"
    cluster.live["KimiLinearServer/kimi"] = make_server(**ROUTED)
    asyncio.run(passes.reconcile(key))
    assert cluster.written[-1] == "HTTPRoute/kimi"
    assert find_condition(cluster.status, "Synced")["status"] == "True"
    assert asked == [{HTTP_ROUTE}, {HTTP_ROUTE}]


OPTIONAL: Any = {
    "autoscaling": {"maxReplicas": 4},
    "networkPolicy": {"from": []},
    "monitoring": {},
    "ingress": {"hosts": ["kimi.example.com"]},
    **ROUTED,
}


OPTIONAL_NAMES = [
    f"{kind}/kimi"
    for kind in ("HorizontalPodAutoscaler", "NetworkPolicy", "PodMonitor", "PrometheusRule", "Ingress", "HTTPRoute")
]


WORDS = 'admission webhook "example.com" denied the request: no'


@pytest.mark.parametrize("error", [ApiError(403, WORDS), ApiError(422, "wrong")], ids=["denied", "invalid"])
@pytest.mark.parametrize("refused", OPTIONAL_NAMES)
def test_a_server_serves_although_an_optional_child_is_refused_and_reports_it(refused: str, error: ApiError) -> None:
    cluster = RefusingCluster({refused: error})
    assert one_pass(cluster, *running_objects(replicas=1), **OPTIONAL) == BLOCKED_RETRY_SECONDS
    told = {item["type"]: (item["status"], item["reason"]) for item in cluster.status["conditions"]}
    assert told["Synced"] == ("False", "ApplyFailed")
    assert (told["Ready"], told["Accepted"], told["Stalled"][0]) == (
        ("True", "AllReplicasServe"),
        ("True", "SpecValid"),
        "False",
    )
    message = find_condition(cluster.status, "Synced")["message"]
    assert message == f"{refused.replace('/', ' ')}: {error.message}"
    # Without the metrics, the alerts would be wrong.
    dependent = {"PrometheusRule/kimi"} if refused == "PodMonitor/kimi" else set()
    assert {*OPTIONAL_NAMES} & {*cluster.written} == {*OPTIONAL_NAMES} - {refused} - dependent


def test_a_definition_that_lacks_a_field_is_named_with_the_remedy() -> None:
    words = "failed to create typed patch object (...): .spec.bodySizeLimit: field not declared in schema"
    cluster = RefusingCluster({"PodMonitor/kimi": ApiError(500, words)})
    one_pass(cluster, *running_objects(replicas=1), monitoring={})
    synced = find_condition(cluster.status, "Synced")
    remedy = "The cluster has an older definition of this kind, which lacks the field: install a newer one"
    assert (synced["reason"], synced["message"]) == ("ApplyFailed", f"PodMonitor kimi: {words}. {remedy}")


def test_alerts_are_created_only_with_the_metrics_that_they_are_about() -> None:
    def ask(_: Key, kinds: Collection[Kind]) -> Mapping[Kind, ApiError]:
        return {POD_MONITOR: ApiError(403, "no")} if POD_MONITOR in kinds else {}

    cache, server = new_cache(), make_server(monitoring={})
    cluster = RefusingCluster({}, live={"KimiLinearServer/kimi": server})
    cache.put(SERVER, server)
    asyncio.run(Passes(cluster, cache, ask=ask).reconcile(Key("default", "kimi", SERVER)))
    assert "PrometheusRule/kimi" not in cluster.written
    asyncio.run(Passes(cluster, cache).reconcile(Key("default", "kimi", SERVER)))
    assert cluster.written[-2:] == ["PodMonitor/kimi", "PrometheusRule/kimi"]


def test_an_optional_child_whose_name_is_taken_is_reported_once_and_left_alone() -> None:
    theirs = {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "kimi", "uid": "theirs"}}
    cluster = RefusingCluster({"Ingress/kimi": ApiError(409, "exists")}, live={"Ingress/kimi": stored(theirs)})
    one_pass(cluster, *running_objects(replicas=1), ingress={})
    synced = find_condition(cluster.status, "Synced")
    assert (synced["status"], synced["reason"], synced["message"].count("Ingress kimi")) == ("False", "NameConflict", 1)
    assert ready_condition(cluster.status)["status"] == "True"


def test_all_refused_optional_children_are_named() -> None:
    names = [name for name in OPTIONAL_NAMES if name != "PrometheusRule/kimi"]
    refused = {name: ApiError(403, f"no {name}") for name in names}
    cluster = RefusingCluster(refused)
    one_pass(cluster, *running_objects(replicas=1), **OPTIONAL)
    message = find_condition(cluster.status, "Synced")["message"]
    assert [name for name in names if f"{name.replace('/', ' ')}: no {name}" not in message] == []


def test_a_server_with_missing_weights_does_not_blame_a_refused_optional_child() -> None:
    cluster = RefusingCluster({"Ingress/kimi": ApiError(422, "wrong")})
    one_pass(cluster, model={"weights": "kimi"}, **OPTIONAL)
    assert ready_condition(cluster.status)["reason"] == "WeightsMissing"
    assert find_condition(cluster.status, "Accepted")["status"] == "True"
    assert find_condition(cluster.status, "Synced")["message"] == "Ingress kimi: wrong"


def test_a_temporary_error_of_an_optional_child_is_retried_and_reported_only_if_it_lasts() -> None:
    for failures, synced in ((0, "True"), (REPORTED_FAILURES, "False")):
        cluster = RefusingCluster({"NetworkPolicy/kimi": ApiError(503, "busy")})
        with pytest.raises(ApiError, match="busy"):
            one_pass(cluster, *running_objects(replicas=1), failures=failures, **OPTIONAL)
        assert ready_condition(cluster.status)["status"] == "True"
        assert find_condition(cluster.status, "Synced")["status"] == synced


CLOSED: Any = {"model": {"path": "/models/kimi"}, "engine": {"extraPipPackages": []}}
"""Settings with which a server's pods fetch nothing."""


PROXY: Any = {"spec": {"containers": [{"name": "proxy", "image": "envoy", "ports": [{"containerPort": 8443}]}]}}


def _policy(cluster: RefusingCluster, *known: Manifest, **spec: Any) -> Manifest:
    """Return the NetworkPolicy that a pass writes."""
    peers: Any = {"networkPolicy": {"from": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]}}
    one_pass(cluster, *known, **spec | peers)
    written = [
        item for item in cluster.applied if (item["kind"], item["metadata"]["name"]) == ("NetworkPolicy", "kimi")
    ]
    return written[-1]


def _open_ports(policy: Manifest) -> tuple[list[int], list[int]]:
    """Return the ports that are open for the peer, and to the internet."""
    spec = policy["spec"]
    to = [port["port"] for rule in spec.get("egress", ()) if "to" in rule for port in rule["ports"]]
    return [port["port"] for port in spec["ingress"][0]["ports"]], to


def test_a_policy_keeps_open_the_ports_that_old_pods_need() -> None:
    """The old pods download their model and answer through their proxy, until the last of them is replaced."""
    old, new = {"podTemplate": PROXY}, CLOSED
    assert _open_ports(_policy(RefusingCluster({}), **new)) == ([30000], [])
    policy = _policy(RefusingCluster({}), *running_objects(replicas=2, **old), replicas=2, **new)
    assert _open_ports(policy) == ([30000, 8443], [443])
    # The Deployment now has the new template, and one old pod still exists.
    record, deployment = running_objects(replicas=2, **new)
    deployment["status"]["updatedReplicas"] = 1
    cluster = RefusingCluster({})
    one_pass(cluster, record, deployment, stored(policy), replicas=2, **new, networkPolicy=_peers(policy))
    assert "NetworkPolicy/kimi" not in cluster.written
    deployment["status"]["updatedReplicas"] = 2
    assert _open_ports(_policy(RefusingCluster({}), record, deployment, stored(policy), replicas=2, **new)) == (
        [30000],
        [],
    )


def test_a_port_that_somebody_opens_is_closed_even_while_no_pod_serves() -> None:
    record, deployment = running_objects(replicas=1, **CLOSED)
    deployment["status"]["availableReplicas"] = 0
    policy = stored(_policy(RefusingCluster({}), record, deployment, **CLOSED))
    policy["spec"]["ingress"][0]["ports"].append({"port": 22, "protocol": "TCP"})
    assert _open_ports(_policy(RefusingCluster({}), record, deployment, policy, **CLOSED)) == ([30000], [])


def _peers(policy: Manifest) -> Manifest:
    return {"from": policy["spec"]["ingress"][0]["from"]}


def test_a_policy_keeps_open_what_running_pods_need_if_their_successors_are_refused() -> None:
    cluster = RefusingCluster({"ControllerRevision/kimi-2": ApiError(403, "exceeded quota")})
    assert _open_ports(_policy(cluster, *running_objects(podTemplate=PROXY), **CLOSED)) == ([30000, 8443], [443])


def test_a_policy_keeps_open_what_running_pods_need_while_weights_are_missing() -> None:
    new: Any = {"engine": {"extraPipPackages": []}, "model": {"weights": "kimi"}}
    server = make_server(**new, networkPolicy={"from": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]})
    server["metadata"]["generation"] = 2
    cluster = RefusingCluster({})
    pass_over(cluster, *running_objects(podTemplate=PROXY), server=server)
    assert ready_condition(cluster.status)["reason"] == "WeightsMissing"
    [policy] = [item for item in cluster.applied if item["kind"] == "NetworkPolicy"]
    assert _open_ports(policy) == ([30000, 8443], [443])


def test_the_policy_of_a_removed_router_stays_until_its_pods_have_ended() -> None:
    server = KimiLinearServer.model_validate(make_server(router={}, networkPolicy={}))
    found = {(child["kind"], child["metadata"]["name"]): stored(child) for child in build_companions(server)}
    deployment, policy = found["Deployment", "kimi-router"], found["NetworkPolicy", "kimi-router"]
    ending = {**deployment, "metadata": {**deployment["metadata"], "deletionTimestamp": "2026-11-24T09:30:00Z"}}
    written = []
    for live in ([deployment], [ending], []):
        cluster = RefusingCluster({})
        one_pass(cluster, *running_objects(), policy, *live, networkPolicy={})
        written.append([name for name in cluster.written if name.endswith("/kimi-router")])
    assert written == [["-Deployment/kimi-router"], [], ["-NetworkPolicy/kimi-router"]]


class KeepingCluster(RefusingCluster):
    """A cluster that deletes nothing."""

    async def delete(self, kind: Kind, manifest: Manifest, **_: bool) -> None:
        raise ApiError(403, f"{kind.plural} may not be deleted")


def test_an_optional_child_that_cannot_be_deleted_does_not_make_a_server_unready() -> None:
    cluster = KeepingCluster({})
    server = KimiLinearServer.model_validate(make_server(ingress={}))
    [ingress] = [child for child in build_companions(server) if child["kind"] == "Ingress"]
    one_pass(cluster, *running_objects(replicas=1), stored(ingress))
    assert ready_condition(cluster.status)["status"] == "True"
    message = find_condition(cluster.status, "Synced")["message"]
    assert message == "Objects that are no longer wanted: ingresses may not be deleted"


@pytest.mark.parametrize(("minutes", "seconds"), [(0, BLOCKED_RETRY_SECONDS), (4, 60), (40, LONGEST_BLOCKED_SECONDS)])
def test_a_refused_optional_child_is_retried_less_and_less_often(minutes: int, seconds: float) -> None:
    cache, cluster = new_cache(), RefusingCluster({"Ingress/kimi": ApiError(422, "no")})
    synced = make_condition("Synced", "False", "ApplyFailed", "Ingress kimi: no")
    server = make_server(ingress={})
    cluster.live["KimiLinearServer/kimi"] = server
    cache.put(SERVER, server | {"status": {"observedGeneration": 1, "conditions": [synced]}})
    since = datetime.fromisoformat(synced["lastTransitionTime"])
    now = (since + timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%SZ")
    reconciler = Passes(cluster, cache, now=lambda: now)
    assert asyncio.run(reconciler.reconcile(Key("default", "kimi", SERVER))) == seconds


def test_nothing_is_written_before_it_is_known_whether_a_kind_can_be_read() -> None:
    cache, cluster = new_cache(), RefusingCluster({})
    cache.put(SERVER, make_server(**ROUTED))
    passes = Passes(cluster, cache, ask=_ask_for([], NotReadYetError()))
    with pytest.raises(NotReadYetError):
        asyncio.run(passes.reconcile(Key("default", "kimi", SERVER)))
    assert (cluster.written, cluster.status) == ([], {})


def test_a_server_without_optional_children_and_a_deleted_server_ask_for_no_kind() -> None:
    asked: list[set[Kind]] = []
    cache = new_cache()
    cache.put(SERVER, make_server())
    passes = Passes(RefusingCluster({}), cache, ask=_ask_for(asked, {}, {}))
    asyncio.run(passes.reconcile(Key("default", "kimi", SERVER)))
    cache.clear()
    asyncio.run(passes.reconcile(Key("default", "kimi", SERVER)))
    assert asked == [set(), set()]


def _autoscaler(deployment: Manifest, **spec: Any) -> Manifest:
    """Return the autoscaler that a pass writes, given the server's Deployment."""
    cluster = RefusingCluster({})
    one_pass(cluster, deployment, autoscaling={"maxReplicas": 4}, **spec)
    [found] = [item["spec"] for item in cluster.applied if item["kind"] == "HorizontalPodAutoscaler"]
    return dict(found)


def test_a_pass_lets_the_autoscaler_continue_when_all_replicas_serve() -> None:
    def deployment(serving: int) -> Manifest:
        return {**make_deployment(availableReplicas=serving), "spec": {"replicas": 2}}

    assert _autoscaler(deployment(1), replicas=2)["maxReplicas"] == 2
    assert _autoscaler(deployment(2), replicas=2)["maxReplicas"] == 4


def test_a_server_without_spec_autoscaling_has_no_autoscaler_and_no_condition() -> None:
    cluster = RefusingCluster({})
    one_pass(cluster)
    assert not any("HorizontalPodAutoscaler" in name for name in cluster.written)
    assert find_condition(cluster.status, "Autoscaling") == {}


def test_a_pass_comes_again_when_the_newest_replica_has_had_its_time() -> None:
    ready = {"type": "Ready", "status": "True", "lastTransitionTime": "2026-11-24T10:00:00Z"}
    server = make_server(autoscaling={"maxReplicas": 4})
    cluster, cache = RefusingCluster({}, live={"KimiLinearServer/kimi": server}), new_cache()
    cache.put(SERVER, server)
    cache.put(POD, make_pod(conditions=[ready]))
    cache.put(DEPLOYMENT, make_deployment(availableReplicas=1))
    reconciler = Passes(cluster, cache, now=lambda: "2026-11-24T10:00:20Z")
    assert asyncio.run(reconciler.reconcile(Key("default", "kimi", SERVER))) == 40
    [built] = [item["spec"] for item in cluster.applied if item["kind"] == "HorizontalPodAutoscaler"]
    assert built["maxReplicas"] == 1
