"""The router: its objects, which of them count as replicas, and how its list of replicas is corrected."""

import socket
from collections.abc import Iterable
from typing import Any

import pytest

from kimi_linear_operator.kubernetes.conditions import Reason
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.server import manifests, router
from kimi_linear_operator.server.service import Backend
from kimi_linear_operator.server.sglang import router_launcher
from kimi_linear_operator.server.sglang.router_launcher import EMPTY, PATIENCE, Replicas
from kimi_linear_operator.server.spec import KimiLinearServer
from make import make_server


def server(**spec: Any) -> KimiLinearServer:
    return KimiLinearServer.model_validate(make_server(**spec))


def children(**spec: Any) -> dict[tuple[str, str], Manifest]:
    found = manifests.build(server(**spec))
    return {(child["kind"], child["metadata"]["name"]): child for child in found}


def pod(**spec: Any) -> Manifest:
    return dict(children(**spec)["Deployment", "kimi-router"]["spec"]["template"])


def test_a_server_has_a_router_only_if_spec_router_is_set_even_if_empty() -> None:
    assert not [name for _, name in children(replicas=3) if name.endswith("-router")]
    assert {name for _, name in children(router={})} == {"kimi", "kimi-router", "kimi-headless"}


def test_the_pods_of_replicas_do_not_depend_on_the_router() -> None:
    without, with_router = children(), children(router={"policy": "RoundRobin"})
    assert with_router["Deployment", "kimi"] == without["Deployment", "kimi"]


def test_a_pod_of_the_router_is_no_replica_and_has_no_rights_or_gpus() -> None:
    found = pod(router={}, auth={"apiKeySecretRef": {"name": "key"}})
    assert "kimi-linear.io/server" not in found["metadata"]["labels"]
    assert found["spec"]["automountServiceAccountToken"] is False
    assert "serviceAccountName" not in found["spec"]
    [container] = found["spec"]["containers"]
    assert "amd.com/gpu" not in str(container["resources"])
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }


def test_the_router_takes_only_settings_for_image_and_node_from_the_pod_template() -> None:
    overlay = {
        "imagePullSecrets": [{"name": "registry"}],
        "tolerations": [{"key": "dedicated", "operator": "Exists"}],
        "priorityClassName": "inference",
        "containers": [{"name": "sglang", "env": [{"name": "A", "value": "1"}]}],
    }
    spec = pod(router={}, podTemplate={"spec": overlay})["spec"]
    assert spec["imagePullSecrets"] == overlay["imagePullSecrets"]
    assert spec["tolerations"] == overlay["tolerations"]
    assert "priorityClassName" not in spec
    assert spec["nodeSelector"] == {"kubernetes.io/arch": "amd64"}
    assert "nodeSelector" not in pod(router={"image": "example.com/router:1"})["spec"]


@pytest.mark.parametrize(
    ("resources", "wanted"),
    [
        ({}, {"requests": {"cpu": "500m", "memory": "512Mi"}}),
        ({"limits": {"memory": "256Mi"}}, {"limits": {"memory": "256Mi"}, "requests": {"cpu": "500m"}}),
        ({"requests": {"cpu": "2"}}, {"requests": {"cpu": "2", "memory": "512Mi"}}),
    ],
)
def test_a_users_requests_and_limits_replace_ours(resources: Manifest, wanted: Manifest) -> None:
    [container] = pod(router={"resources": resources})["spec"]["containers"]
    assert container["resources"] == wanted


def test_the_routers_drain_takes_as_long_as_a_replicas() -> None:
    found = pod(router={}, drain={"timeoutSeconds": 600})["spec"]
    [container] = found["containers"]
    assert found["terminationGracePeriodSeconds"] == 615
    assert "--shutdown-grace-period-secs=600" in container["args"]


def test_without_replicas_no_router_runs() -> None:
    for spec in ({"suspend": True}, {"replicas": 0}):
        found = children(router={}, **spec)
        assert found["Deployment", "kimi-router"]["spec"]["replicas"] == 0
        assert ("PodDisruptionBudget", "kimi-router") not in found


def test_the_service_leads_to_the_router_only_while_the_router_serves() -> None:
    def selector(leads_to: Backend) -> Manifest:
        built = manifests.build_companions(server(router={}), leads_to=leads_to)
        [service] = [child for child in built if (child["kind"], child["metadata"]["name"]) == ("Service", "kimi")]
        return dict(service["spec"]["selector"])

    assert selector("router") == {"kimi-linear.io/router": "kimi"}
    assert selector("replicas") == {"kimi-linear.io/server": "kimi"}


@pytest.mark.parametrize(
    ("live", "message"),
    [
        (None, "0 of 2 pods of the router serve; until a pod serves, requests go directly to the replicas"),
        ({"metadata": {}, "status": {"availableReplicas": 1}}, "1 of 2 pods of the router serve"),
        (
            {"metadata": {"deletionTimestamp": "2026-11-24T09:30:00Z"}, "status": {"availableReplicas": 2}},
            "the former Deployment of the router is still being deleted, because its pods have not ended; until a pod "
            "serves, requests go directly to the replicas",
        ),
        (
            {
                "metadata": {},
                "status": {"conditions": [{"type": "ReplicaFailure", "status": "True", "message": "exceeded quota"}]},
            },
            "0 of 2 pods of the router serve; until a pod serves, requests go directly to the replicas: exceeded quota",
        ),
    ],
)
def test_a_router_that_does_not_serve_is_named(live: Manifest | None, message: str) -> None:
    reason = router.why_unavailable(server(router={}).spec, live)
    assert reason
    assert (reason.name, reason.message) == ("RouterUnavailable", message)


def test_a_router_whose_new_pods_do_not_serve_in_time_is_named_although_the_former_ones_serve() -> None:
    status: Manifest = {"availableReplicas": 2, "updatedReplicas": 1}
    live: Manifest = {"metadata": {"name": "kimi-router"}, "spec": {"replicas": 2, "progressDeadlineSeconds": 600}}
    assert router.why_unavailable(server(router={}).spec, {**live, "status": status}) is None
    late = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}
    reason = router.why_unavailable(server(router={}).spec, {**live, "status": {**status, "conditions": [late]}})
    message = "the router's new pods do not serve after 600 s; the former ones serve"
    assert reason == Reason("RouterUnavailable", message)


@pytest.mark.parametrize("updated", [0, 2])
def test_a_paused_router_is_named_only_if_its_pods_need_to_be_replaced(updated: int) -> None:
    live: Manifest = {"metadata": {"name": "kimi-router"}, "spec": {"replicas": 2, "paused": True}}
    status = {"availableReplicas": 2, "updatedReplicas": updated}
    reason = router.why_unavailable(server(router={}).spec, {**live, "status": status})
    message = "somebody has paused the router's Deployment: `kubectl rollout resume deployment/kimi-router`"
    assert reason == (None if updated else Reason("RolloutPaused", message))


def test_a_serving_or_unwanted_router_is_not_a_problem() -> None:
    assert router.why_unavailable(server(router={}).spec, {"metadata": {}, "status": {"availableReplicas": 2}}) is None
    assert router.why_unavailable(server(router={}, suspend=True).spec, None) is None
    assert router.why_unavailable(server().spec, None) is None


class Listed:
    """A router's list of replicas. As in 0.3.0, it loses the first removal of each replica."""

    def __init__(self) -> None:
        self.urls: set[str] = set()
        self.lost: set[str] = set()
        self.asked: list[tuple[str, str]] = []

    def ask(self, method: str, path: str = "", body: Any = None) -> Any:
        url = path.removeprefix("/") if body is None else body["url"]
        if method != "GET":
            self.asked.append((method, url))
        if method == "POST":
            self.urls.add(url)
        elif method == "DELETE" and url in self.lost:
            self.urls.discard(url)
        elif method == "DELETE":
            self.lost.add(url)
        return {"workers": [{"url": url, "id": url} for url in sorted(self.urls)]}


class Dns:
    def __init__(self, *found: str) -> None:
        self.found: Iterable[str] | OSError = found

    def look_up(self) -> set[str]:
        if isinstance(self.found, OSError):
            raise self.found
        return set(self.found)


def test_the_list_of_replicas_follows_dns_and_a_lost_removal_is_repeated() -> None:
    listed, dns = Listed(), Dns("a", "b")
    replicas = Replicas(dns.look_up, listed.ask, None)
    replicas.correct(0)
    assert listed.urls == {"a", "b"}
    dns.found = ("b", "c")
    replicas.correct(1)
    assert listed.urls == {"a", "b", "c"}
    replicas.correct(2)
    assert listed.urls == {"b", "c"}
    asked = len(listed.asked)
    replicas.correct(3)
    assert len(listed.asked) == asked


def test_a_replica_that_is_being_added_is_added_again_only_after_a_while() -> None:
    asked: list[str] = []

    def ask(method: str, path: str = "", body: Any = None) -> Any:
        asked.append(method)
        return {"workers": []}

    replicas = Replicas(lambda: {"a"}, ask, None)
    for second in range(3):
        replicas.correct(second)
    assert asked.count("POST") == 1
    replicas.correct(PATIENCE)
    assert asked.count("POST") == 2


def test_replicas_stay_while_dns_has_none_for_a_moment_or_does_not_answer() -> None:
    listed, dns = Listed(), Dns("a")
    replicas = Replicas(dns.look_up, listed.ask, None)
    replicas.correct(0)
    dns.found = OSError("no answer")
    with pytest.raises(OSError, match="no answer"):
        replicas.correct(1)
    dns.found = ()
    replicas.correct(EMPTY - 1)
    assert listed.urls == {"a"}
    replicas.correct(EMPTY)
    replicas.correct(EMPTY + 1)
    assert listed.urls == set()


def test_replicas_are_added_with_the_key_and_ipv6_addresses_in_brackets(monkeypatch: pytest.MonkeyPatch) -> None:
    bodies: list[Any] = []

    def ask(method: str, path: str = "", body: Any = None) -> Any:
        bodies.append(body)
        return {"workers": []}

    Replicas(lambda: {"a"}, ask, "k").correct(0)
    assert bodies == [None, {"url": "a", "api_key": "k"}]

    def look_up(name: str, port: int, family: int, kind: int) -> list[Any]:
        if family == socket.AF_INET:
            raise socket.gaierror(socket.EAI_NONAME, "none")
        return [(family, kind, 6, "", ("fd00::1", port, 0, 0))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    assert router_launcher.addresses("kimi-headless", 30000) == {"http://[fd00::1]:30000"}


def test_the_command_line_mentions_the_routers_pods_only_with_a_router() -> None:
    assert router.router_pods(make_server(router={})) == ("kimi-linear.io/router=kimi",)
    assert router.router_pods(make_server()) == ()
