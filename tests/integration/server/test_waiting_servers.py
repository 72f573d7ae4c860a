"""Servers that wait for their weights on a real control plane: the owner switches features off, scales and suspends."""

import pytest

from control_plane import LocalCluster
from integration.audit import AuditLog
from integration.client import Client
from integration.definitions import prometheus_operator, scaled_object, with_definitions
from integration.namespace import Namespace, Spec
from integration.processes_under_test import USER
from integration.waiting import stays, wait_for
from kimi_linear_operator.kubernetes.kinds import (
    AUTOSCALER,
    DEPLOYMENT,
    DISRUPTION_BUDGET,
    HTTP_ROUTE,
    INGRESS,
    NETWORK_POLICY,
    POD_MONITOR,
    PROMETHEUS_RULE,
    SCALED_OBJECT,
    SERVICE,
    Kind,
)

pytestmark = pytest.mark.usefixtures("operator")

SCALING: Spec = {"minReplicas": 2, "maxReplicas": 3}
KEDA: Spec = {"prometheusAddress": "http://prometheus:9090"}
# Each optional feature, and its objects.
FEATURES: dict[str, tuple[Spec, tuple[tuple[Kind, str], ...]]] = {
    "ingress": ({"hosts": ["kimi.example.com"]}, ((INGRESS, "kimi"),)),
    "httpRoute": ({"parentRefs": [{"name": "public"}]}, ((HTTP_ROUTE, "kimi"),)),
    "autoscaling": (SCALING, ((AUTOSCALER, "kimi"),)),
    "networkPolicy": ({}, ((NETWORK_POLICY, "kimi"),)),
    "monitoring": ({}, ((POD_MONITOR, "kimi"), (PROMETHEUS_RULE, "kimi"))),
    "router": (
        {},
        (
            (DEPLOYMENT, "kimi-router"),
            (DISRUPTION_BUDGET, "kimi-router"),
            (NETWORK_POLICY, "kimi-router"),
            (SERVICE, "kimi-headless"),
        ),
    ),
}
ALL: Spec = {name: spec for name, (spec, _) in FEATURES.items()}
# The autoscaler checks every two seconds in these tests, and would have changed the replicas several times.
_SECONDS_OF_AN_AUTOSCALER = 10
# The operator finds a new CRD within a minute. The rest of the time is for a busy machine.
_SECONDS_TO_FIND = 60.0 + 30


def _existing(namespace: Namespace, *features: str) -> set[str]:
    children = [child for name in features for child in FEATURES[name][1]]
    return {f"{kind.kind}/{name}" for kind, name in children if namespace.find(kind, name)}


def _wait_for_children(namespace: Namespace) -> None:
    wanted = {f"{kind.kind}/{name}" for _, children in FEATURES.values() for kind, name in children}
    wait_for(
        lambda: _existing(namespace, *FEATURES),
        "all children exist",
        lambda seen: seen == wanted,
        seconds=_SECONDS_TO_FIND,
    )


def _wait_until_gone(namespace: Namespace, feature: str) -> None:
    wait_for(lambda: _existing(namespace, feature), f"{feature} is gone", lambda seen: not seen)


def _wait_until_untold(namespace: Namespace, condition: str) -> None:
    wait_for(lambda: namespace.condition("kimi", condition), f"{condition} is gone", lambda seen: not seen)


def _switch_off_one_by_one(namespace: Namespace) -> None:
    left = [*FEATURES]
    while left:
        feature = left.pop(0)
        before = _existing(namespace, *left)
        namespace.change_server("kimi", {feature: None})
        _wait_until_gone(namespace, feature)
        # The router's NetworkPolicy needs both features.
        assert before - _existing(namespace, *left) <= {"NetworkPolicy/kimi-router"}


def _pods(namespace: Namespace) -> set[str]:
    return {pod["metadata"]["uid"] for pod in namespace.pods("kimi")}


def test_a_running_server_that_waits_loses_what_its_spec_no_longer_asks_for(
    namespace: Namespace, client: Client, cluster: LocalCluster, audit_log: AuditLog
) -> None:
    with with_definitions(client, cluster, prometheus_operator()):
        namespace.create_server("kimi", {"tensorParallelism": 1, "replicas": 2, **ALL})
        _wait_for_children(namespace)
        namespace.wait_until_ready("kimi")
        pods = _pods(namespace)
        namespace.change_server("kimi", {"model": {"weights": "nowhere"}})
        namespace.wait_for_condition("kimi", "Ready", "False", "WeightsMissing")
        assert namespace.condition("kimi", "Exposed")
        _switch_off_one_by_one(namespace)
        _wait_until_untold(namespace, "Exposed")
        _wait_until_untold(namespace, "Autoscaling")
        assert _pods(namespace) == pods
        audit_log.wait_until_quiet(0, USER, namespace.name)
        namespace.change_server("kimi", {"replicas": 1})
        wait_for(lambda: len(namespace.pods("kimi")), "one replica is left", lambda seen: seen == 1)
        stays(lambda: namespace.replicas("kimi"), "no autoscaler", lambda seen: seen == 1, _SECONDS_OF_AN_AUTOSCALER)
        assert _pods(namespace) < pods


def test_a_new_server_that_waits_loses_what_its_spec_no_longer_asks_for(
    namespace: Namespace, client: Client, cluster: LocalCluster
) -> None:
    with with_definitions(client, cluster, prometheus_operator()):
        namespace.create_server("kimi", {"tensorParallelism": 1, "model": {"weights": "nowhere"}, **ALL})
        _wait_for_children(namespace)
        _switch_off_one_by_one(namespace)
        assert namespace.service("kimi")
        assert namespace.find(DEPLOYMENT, "kimi") is None


def test_a_server_that_waits_can_be_suspended_and_nothing_changes_its_replicas(namespace: Namespace) -> None:
    namespace.create_server("kimi", {"tensorParallelism": 1, "replicas": 2, "autoscaling": SCALING})
    namespace.wait_until_ready("kimi")
    namespace.change_server("kimi", {"model": {"weights": "nowhere"}})
    namespace.wait_for_condition("kimi", "Ready", "False", "WeightsMissing")
    assert namespace.find(AUTOSCALER, "kimi")
    namespace.change_server("kimi", {"suspend": True})
    namespace.wait_for_condition("kimi", "Autoscaling", "False", "Suspended")
    wait_for(lambda: namespace.find(AUTOSCALER, "kimi"), "the autoscaler is gone", lambda found: found is None)
    wait_for(lambda: namespace.pods("kimi"), "no replica is left", lambda found: not found)
    namespace.change_server("kimi", {"replicas": 1})
    stays(lambda: namespace.replicas("kimi"), "no autoscaler", lambda seen: seen == 1, _SECONDS_OF_AN_AUTOSCALER)


def test_a_server_that_waits_changes_its_autoscaler_and_says_what_holds_the_former_one(
    namespace: Namespace, client: Client, cluster: LocalCluster
) -> None:
    """KEDA does not run here. A test plays its finalizer."""
    spec = {"tensorParallelism": 1, "model": {"weights": "nowhere"}, "autoscaling": {**SCALING, "keda": KEDA}}
    with with_definitions(client, cluster, scaled_object()):
        namespace.create_server("kimi", spec)
        wait_for(lambda: namespace.find(SCALED_OBJECT, "kimi"), "a ScaledObject", seconds=_SECONDS_TO_FIND)
        namespace.edit(SCALED_OBJECT, "kimi", {"metadata": {"finalizers": ["finalizer.keda.sh"]}})
        namespace.change_server("kimi", {"autoscaling": {"keda": None}})
        told = wait_for(
            lambda: namespace.condition("kimi", "Autoscaling").get("message", ""),
            "the condition names the finalizer",
            lambda message: "finalizer" in message,
        )
        waits = "HorizontalPodAutoscaler kimi waits until ScaledObject kimi is gone (finalizers: finalizer.keda.sh)"
        assert told == waits
        assert namespace.find(AUTOSCALER, "kimi") is None
        namespace.edit(SCALED_OBJECT, "kimi", {"metadata": {"finalizers": None}})
        wait_for(lambda: namespace.find(AUTOSCALER, "kimi"), "the other autoscaler")
        assert namespace.find(SCALED_OBJECT, "kimi") is None
        namespace.change_server("kimi", {"autoscaling": {"keda": KEDA}})
        wait_for(lambda: namespace.find(SCALED_OBJECT, "kimi"), "the ScaledObject is back")
        assert namespace.find(AUTOSCALER, "kimi") is None
        namespace.change_server("kimi", {"autoscaling": None})
        wait_for(lambda: namespace.find(SCALED_OBJECT, "kimi"), "the ScaledObject is gone", lambda found: not found)
