"""Watched servers on a real control plane, without and with the CRDs of the Prometheus operator."""

from collections.abc import Iterator

import pytest

from control_plane import LocalCluster
from integration.client import DEFINITION, Client
from integration.definitions import prometheus_operator, with_definitions
from integration.namespace import Namespace
from integration.waiting import wait_for
from kimi_linear_operator.kubernetes.kinds import POD_MONITOR, PROMETHEUS_RULE

pytestmark = pytest.mark.usefixtures("operator")

KINDS = (POD_MONITOR, PROMETHEUS_RULE)
WATCHED = {"tensorParallelism": 1, "monitoring": {"labels": {"release": "prometheus"}}}
# The operator finds a new CRD within a minute. The rest of the time is for a busy machine.
_SECONDS_TO_FIND = 60.0 + 30
_ANY = {"x-kubernetes-preserve-unknown-fields": True}
_FIELDS = {
    "selector": {"type": "object", **_ANY},
    "podTargetLabels": {"type": "array", "items": {"type": "string"}},
    "podMetricsEndpoints": {"type": "array", "items": {"type": "object", **_ANY}},
    "sampleLimit": {"type": "integer"},
}
# As before release 0.73 of the Prometheus operator.
_WITHOUT_THE_LIMIT_IN_BYTES = {
    "type": "object",
    "properties": {"spec": {"type": "object", "properties": _FIELDS}},
}


@pytest.fixture
def no_definitions_afterwards(client: Client) -> Iterator[None]:
    yield
    names = [f"{kind.plural}.{kind.group}" for kind in KINDS]
    for name in names:
        client.delete(DEFINITION, None, name)
    wait_for(
        lambda: [name for name in names if client.get(DEFINITION, None, name)], "both are gone", lambda left: not left
    )


@pytest.mark.usefixtures("no_definitions_afterwards")
def test_a_server_serves_without_the_prometheus_operator_and_is_watched_once_it_is_installed(
    namespace: Namespace, client: Client, cluster: LocalCluster
) -> None:
    namespace.create_server("kimi", WATCHED)
    namespace.wait_until_ready("kimi")
    told = namespace.wait_for_condition("kimi", "Synced", "False", "KindMissing")["message"]
    assert "PodMonitor kimi" in told
    assert "install the Prometheus operator" in told
    for definition in prometheus_operator():
        client.create(DEFINITION, definition)
    cluster.kubectl.wait_until_served(*(f"{kind.plural}.{kind.group}" for kind in KINDS))
    namespace.wait_for_condition("kimi", "Synced", "True", seconds=_SECONDS_TO_FIND)
    made = [namespace.existing(kind, "kimi") for kind in KINDS]
    assert [item["metadata"]["labels"]["release"] for item in made] == ["prometheus", "prometheus"]
    changed = {"labels": {"release": "other"}, "slowFirstTokenSeconds": 1.5}
    namespace.change_server("kimi", {"monitoring": changed})
    wait_for(
        lambda: str(namespace.existing(PROMETHEUS_RULE, "kimi")),
        "the alert has the new limit",
        lambda seen: "> 1.5" in seen,
    )
    wait_for(
        lambda: str(namespace.existing(POD_MONITOR, "kimi")),
        "the PodMonitor has the new label",
        lambda seen: "'other'" in seen,
    )
    for kind in KINDS:
        namespace.delete(kind, "kimi")
    wait_for(
        lambda: [namespace.find(kind, "kimi") for kind in KINDS],
        "both objects are created again",
        all,
        seconds=_SECONDS_TO_FIND,
    )
    namespace.change_server("kimi", {"monitoring": None})
    wait_for(
        lambda: [kind for kind in KINDS if namespace.find(kind, "kimi")], "both objects are gone", lambda left: not left
    )
    _those_of_somebody_else_stay(namespace)


def test_no_alert_exists_while_the_installed_podmonitors_are_too_old_for_the_metrics(
    namespace: Namespace, client: Client, cluster: LocalCluster
) -> None:
    monitors, rules = prometheus_operator()
    newer = monitors["spec"]["versions"]
    older = [{**version, "schema": {"openAPIV3Schema": _WITHOUT_THE_LIMIT_IN_BYTES}} for version in newer]
    with with_definitions(client, cluster, [{**monitors, "spec": {**monitors["spec"], "versions": older}}, rules]):
        namespace.create_server("kimi", WATCHED)
        namespace.wait_until_ready("kimi")
        told = namespace.wait_for_condition("kimi", "Synced", "False", "ApplyFailed", _SECONDS_TO_FIND)["message"]
        assert ".spec.bodySizeLimit: field not declared in schema" in told
        assert "install a newer one" in told
        assert [namespace.find(kind, "kimi") for kind in KINDS] == [None, None]
        client.patch(DEFINITION, None, monitors["metadata"]["name"], {"spec": {"versions": newer}})
        namespace.wait_for_condition("kimi", "Synced", "True", seconds=_SECONDS_TO_FIND)
        assert all(namespace.find(kind, "kimi") for kind in KINDS)


def _those_of_somebody_else_stay(namespace: Namespace) -> None:
    for name, taken in (("taken", KINDS), ("half-taken", (PROMETHEUS_RULE,))):
        for kind in taken:
            metadata = {"name": name, "namespace": namespace.name}
            namespace.client.create(kind, {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata})
        namespace.create_server(name, WATCHED)
        namespace.wait_for_condition(name, "Synced", "False", "NameConflict")
        assert not any("labels" in namespace.existing(kind, name)["metadata"] for kind in taken)
    assert namespace.existing(POD_MONITOR, "half-taken")
