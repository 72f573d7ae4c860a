"""The ScaledObject of a server on a real control plane with KEDA's definition. KEDA itself does not run here."""

import pytest

from control_plane import LocalCluster
from integration.client import Client
from integration.definitions import scaled_object, with_definitions
from integration.namespace import Namespace
from integration.waiting import wait_for
from kimi_linear_operator.kubernetes.kinds import AUTOSCALER, SCALED_OBJECT

pytestmark = pytest.mark.usefixtures("operator")

SCALED = {
    "tensorParallelism": 1,
    "replicas": 2,
    "router": {},
    "autoscaling": {"minReplicas": 0, "maxReplicas": 4, "keda": {"prometheusAddress": "http://prometheus:9090"}},
}
# The operator finds a new CRD within a minute. The rest of the time is for a busy machine.
_SECONDS_TO_FIND = 60.0 + 30


def test_a_server_serves_without_keda_and_is_scaled_once_keda_is_installed(
    namespace: Namespace, client: Client, cluster: LocalCluster
) -> None:
    namespace.create_server("kimi", SCALED)
    namespace.wait_until_ready("kimi")
    told = namespace.wait_for_condition("kimi", "Synced", "False", "KindMissing")["message"]
    assert told == "ScaledObject kimi: the cluster has no scaledobjects.keda.sh of version v1alpha1: install KEDA"
    with with_definitions(client, cluster, scaled_object()):
        namespace.wait_for_condition("kimi", "Synced", "True", seconds=_SECONDS_TO_FIND)
        assert namespace.existing(SCALED_OBJECT, "kimi")["spec"]["minReplicaCount"] == 0
        assert namespace.find(AUTOSCALER, "kimi") is None
        _follows_the_spec(namespace)
        _of_somebody_else_stays(namespace)


def _follows_the_spec(namespace: Namespace) -> None:
    namespace.change_server("kimi", {"autoscaling": {"keda": {"idleSeconds": 60}}})
    wait_for(
        lambda: namespace.existing(SCALED_OBJECT, "kimi")["spec"],
        "the ScaledObject has the new time",
        lambda seen: seen["cooldownPeriod"] == 60,
    )
    namespace.change_server("kimi", {"suspend": True})
    _wait_until_gone(namespace)
    assert namespace.server("kimi")["spec"]["replicas"] == 2
    namespace.change_server("kimi", {"suspend": False})
    wait_for(lambda: namespace.find(SCALED_OBJECT, "kimi"), "the ScaledObject is back")
    namespace.delete(SCALED_OBJECT, "kimi")
    wait_for(lambda: namespace.find(SCALED_OBJECT, "kimi"), "the ScaledObject is repaired", seconds=_SECONDS_TO_FIND)
    namespace.change_server("kimi", {"autoscaling": None})
    _wait_until_gone(namespace)
    wait_for(lambda: namespace.condition("kimi", "Autoscaling"), "the condition is gone", lambda found: found == {})


def _wait_until_gone(namespace: Namespace) -> None:
    wait_for(lambda: namespace.find(SCALED_OBJECT, "kimi"), "the ScaledObject is gone", lambda found: found is None)


def _of_somebody_else_stays(namespace: Namespace) -> None:
    spec = {"scaleTargetRef": {"name": "other"}, "triggers": [{"type": "cron", "metadata": {}}]}
    theirs = {
        "apiVersion": SCALED_OBJECT.api_version,
        "kind": SCALED_OBJECT.kind,
        "metadata": {"name": "taken", "namespace": namespace.name},
        "spec": spec,
    }
    namespace.client.create(SCALED_OBJECT, theirs)
    namespace.create_server("taken", SCALED)
    namespace.wait_for_condition("taken", "Synced", "False", "NameConflict")
    assert namespace.existing(SCALED_OBJECT, "taken")["spec"] == spec
