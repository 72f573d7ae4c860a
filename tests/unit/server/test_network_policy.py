"""The connections that an isolated server's NetworkPolicy allows, as the guide promises.

`network_flows` decides as Kubernetes' documentation says.
"""

from typing import Any

import pytest

from kimi_linear_operator.benchmark.spec import KimiLinearBenchmark
from kimi_linear_operator.kubernetes import metadata
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.server import manifests
from kimi_linear_operator.server.spec import KimiLinearServer
from make import make_benchmark, make_server
from network_flows import End, pod, reaches

OUTSIDE: dict[str, Any] = {"model": {"path": "/models/kimi"}, "engine": {"extraPipPackages": []}}
"""Settings with which a server's pods fetch nothing."""

HUB = End("18.155.68.38")
INTERNAL = End("10.96.0.1")
CREDENTIALS = End("169.254.169.254")
DNS = pod("kube-system", k8s_app="kube-dns")
APPLICATION = pod("apps", app="chat")
PROMETHEUS = pod("monitoring", app__name="prometheus")
FROM_APPS = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "apps"}}}
FROM_PROMETHEUS = {
    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}},
    "podSelector": {"matchLabels": {"app/name": "prometheus"}},
}


def policies(name: str = "kimi", **spec: Any) -> list[Manifest]:
    built = manifests.build(KimiLinearServer.model_validate(make_server(name, **spec)))
    return [manifest for manifest in built if manifest["kind"] == "NetworkPolicy"]


def replica(name: str = "kimi", **spec: Any) -> End:
    """Return a pod of a server, with the labels of its pod template."""
    built = manifests.build(KimiLinearServer.model_validate(make_server(name, **spec)))
    [deployment] = [manifest for manifest in built if manifest["kind"] == "Deployment"]
    return End(namespace="default", labels=deployment["spec"]["template"]["metadata"]["labels"])


def client(namespace: str = "default") -> End:
    """Return a pod of a benchmark."""
    benchmark = KimiLinearBenchmark.model_validate(make_benchmark())
    return End(namespace=namespace, labels=metadata.inherited(benchmark)["labels"])


def isolated(*peers: Manifest, to: tuple[Manifest, ...] = (), **spec: Any) -> list[Manifest]:
    return policies(networkPolicy={"from": list(peers), "to": list(to)}, **spec)


def test_a_server_without_spec_network_policy_is_not_isolated() -> None:
    assert policies() == []


def test_without_peers_only_benchmarks_of_the_namespace_reach_the_pods() -> None:
    assert reaches(isolated(), client(), replica(), 30000)
    others = (client("elsewhere"), pod(), pod(app="chat"), APPLICATION, PROMETHEUS, HUB, replica("other"))
    assert [other for other in others if reaches(isolated(), other, replica(), 30000)] == []


def test_named_peers_reach_the_pods_and_no_others() -> None:
    policy = isolated(FROM_APPS, FROM_PROMETHEUS, {"ipBlock": {"cidr": "192.0.2.0/24", "except": ["192.0.2.7/32"]}})
    let_in = (APPLICATION, PROMETHEUS, End("192.0.2.1"), client())
    assert [end for end in let_in if not reaches(policy, end, replica(), 30000)] == []
    others = (pod("monitoring"), pod(app="chat"), End("192.0.2.7"), End("203.0.113.1"))
    assert [end for end in others if reaches(policy, end, replica(), 30000)] == []


def test_only_sglangs_port_and_the_declared_ports_of_sidecars_are_open() -> None:
    sidecar = {"name": "proxy", "image": "envoy", "ports": [{"containerPort": 8443}, {"containerPort": 53}]}
    policy = isolated(FROM_APPS, podTemplate={"spec": {"containers": [sidecar]}})
    ports = [port for port in (22, 53, 8443, 29500, 30000, 30001) if reaches(policy, APPLICATION, replica(), port)]
    assert ports == [53, 8443, 30000]
    assert [port for port in (53, 8443, 30000) if reaches(policy, client(), replica(), port)] == [30000]


@pytest.mark.parametrize(
    ("spec", "is_open"),
    [
        ({}, True),
        ({"engine": {"extraPipPackages": []}}, True),
        ({"model": {"path": "/models/kimi"}}, True),
        (OUTSIDE, False),
        ({**OUTSIDE, "model": {"weights": "kimi"}}, False),
        ({**OUTSIDE, "model": {"image": "registry.example.com/kimi:1"}}, False),
        ({**OUTSIDE, "model": {}, "podTemplate": {"HF_HUB_OFFLINE": "true"}}, False),
        ({**OUTSIDE, "model": {}, "podTemplate": {"HF_HUB_OFFLINE": "0"}}, True),
    ],
    ids=["hub and packages", "hub", "packages", "folder", "weights", "image", "offline", "not offline"],
)
def test_pods_reach_the_internet_only_if_they_may_fetch_from_it(spec: dict[str, Any], is_open: bool) -> None:
    variables = [{"name": name, "value": value} for name, value in spec.get("podTemplate", {}).items()]
    overlay = {"spec": {"containers": [{"name": "sglang", "env": variables}]}} if variables else {}
    policy = isolated(FROM_APPS, **{**spec, "podTemplate": overlay})
    assert reaches(policy, replica(), HUB, 443) is is_open
    assert reaches(policy, replica(), DNS, 53, "UDP") is is_open
    assert reaches(policy, replica(), DNS, 53) is is_open


def test_pods_that_may_fetch_reach_neither_the_cluster_nor_its_credentials() -> None:
    policy = isolated(FROM_APPS)
    targets = [(INTERNAL, 443), (INTERNAL, 6443), (CREDENTIALS, 80), (CREDENTIALS, 443), (HUB, 80), (HUB, 22)]
    targets += [(APPLICATION, 8080), (replica("other"), 30000), (End("fd00::1"), 443), (End("fe80::1"), 443)]
    assert [(end, port) for end, port in targets if reaches(policy, replica(), end, port)] == []


def test_pods_reach_the_peers_of_the_spec_on_any_port_and_dns() -> None:
    policy = isolated(FROM_APPS, to=({"ipBlock": {"cidr": "10.20.0.0/16"}},), **OUTSIDE)
    assert reaches(policy, replica(), End("10.20.1.1"), 3128)
    assert reaches(policy, replica(), DNS, 53, "UDP")
    assert not reaches(policy, replica(), HUB, 443)


def router() -> End:
    """Return a pod of the server's router, with the labels of its pod template."""
    built = manifests.build(KimiLinearServer.model_validate(make_server(router={})))
    [found] = [item for item in built if item["metadata"]["name"] == "kimi-router" and item["kind"] == "Deployment"]
    return End(namespace="default", labels=found["spec"]["template"]["metadata"]["labels"])


def test_a_router_is_isolated_like_its_replicas_and_reaches_only_them() -> None:
    policy = isolated(FROM_APPS, router={}, **OUTSIDE)
    assert [end for end in (APPLICATION, client()) if not reaches(policy, end, router(), 30000)] == []
    assert [end for end in (PROMETHEUS, pod(app="chat"), HUB) if reaches(policy, end, router(), 30000)] == []
    assert reaches(policy, router(), replica(), 30000)
    assert reaches(policy, router(), DNS, 53, "UDP")
    assert [end for end in (HUB, INTERNAL, replica("other")) if reaches(policy, router(), end, 443)] == []


def test_a_removed_router_can_finish_its_open_requests() -> None:
    policy = isolated(FROM_APPS, **OUTSIDE)
    assert reaches(policy, router(), replica(), 30000)
    assert not reaches(policy, router(), replica(), 22)


def test_a_policy_applies_only_to_its_own_server() -> None:
    assert reaches(isolated(), APPLICATION, replica("other"), 30000)
    assert reaches(isolated(), APPLICATION, pod(), 80)


def test_no_rule_is_empty_because_kubernetes_would_let_everyone_pass() -> None:
    for policy in (*isolated(), *isolated(**OUTSIDE), *isolated(FROM_APPS, to=(FROM_APPS,))):
        rules = [*policy["spec"]["ingress"], *policy["spec"].get("egress", ())]
        assert [] not in [value for rule in rules for value in rule.values()]
        assert {} not in rules
