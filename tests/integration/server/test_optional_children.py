"""Without the CRD of an optional child, or the permission for it, only servers that ask for this child are affected."""

from collections.abc import Iterator, Mapping

import pytest

import chart
from control_plane import LocalCluster
from integration.client import Client
from integration.definitions import (
    ROUTES,
    prometheus_operator,
    scaled_object,
    with_definitions,
    without_definition,
)
from integration.namespace import Namespace
from integration.permissions import KINDS, grant
from integration.processes_under_test import run_command
from integration.sandbox import CURTAILED_ACCOUNTS, Sandbox, Sandboxes
from integration.waiting import stays, wait_for
from kimi_linear_operator.kubernetes.kinds import (
    HTTP_ROUTE,
    INGRESS,
    NETWORK_POLICY,
    POD_MONITOR,
    PROMETHEUS_RULE,
    SCALED_OBJECT,
    Kind,
    Manifest,
)

PLAIN = {"tensorParallelism": 1}
ROUTED = {**PLAIN, "httpRoute": {"parentRefs": [{"name": "public"}], "hostnames": ["kimi.example.com"]}}
ENTERED = {**PLAIN, "ingress": {"hosts": ["kimi.example.com"]}}
SCALED = {**PLAIN, "autoscaling": {"maxReplicas": 2, "keda": {"prometheusAddress": "http://prometheus:9090"}}}
SWITCHED: Mapping[str, tuple[Manifest, tuple[Kind, ...]]] = {
    "monitoring": ({**PLAIN, "monitoring": {}}, (POD_MONITOR, PROMETHEUS_RULE)),
    "networkPolicies": ({**PLAIN, "networkPolicy": {}}, (NETWORK_POLICY,)),
    "keda": (SCALED, (SCALED_OBJECT,)),
    "expose": ({**ROUTED, **ENTERED}, (INGRESS, HTTP_ROUTE)),
}
"""Specs that need a permission with a switch in the chart, and their children, by the switch below `rbac`."""
# The operator finds a new CRD or permission within a minute. The rest of the time is for a busy machine.
_RETURN_SECONDS = 60.0 + 30
_QUIET_SECONDS = 4.0


@pytest.fixture
def sandbox(sandboxes: Sandboxes) -> Iterator[Sandbox]:
    """An operator of one namespace that is not started yet."""
    with sandboxes.open() as opened:
        yield opened


def test_a_definition_may_be_installed_removed_and_installed_again(
    sandbox: Sandbox, client: Client, cluster: LocalCluster
) -> None:
    namespace = sandbox.namespace
    with without_definition(client, cluster, ROUTES):
        namespace.create_server("plain", PLAIN)
        sandbox.operator.start()
        namespace.wait_until_ready("plain")
        assert sandbox.operator.ask("/readyz") == (200, "ok\n")
        namespace.create_server("kimi", ROUTED)
        told = namespace.wait_for_condition("kimi", "Synced", "False", "KindMissing")["message"]
        assert told == (
            "HTTPRoute kimi: the cluster has no httproutes.gateway.networking.k8s.io of version v1: "
            "install the Gateway API"
        )
        namespace.wait_until_ready("kimi")
        wait_for(
            lambda: sandbox.operator.ask("/readyz")[1],
            "/readyz names the kind",
            lambda text: "cannot list httproutes" in text,
        )
        _shown_to_the_user(cluster, namespace)
        before = len(sandbox.proxy.calls)
        stays(lambda: _writes(sandbox, before), "nothing is written at rest", lambda found: not found, _QUIET_SECONDS)
    _wait_until_routed(namespace)
    with without_definition(client, cluster, ROUTES):
        namespace.wait_for_condition("kimi", "Synced", "False", "KindMissing", _RETURN_SECONDS)
        namespace.change_server("plain", {"toolCallParser": "enabled"})
        namespace.wait_until_ready("plain")
        assert namespace.condition("plain", "Synced")["status"] == "True"
        assert namespace.condition("kimi", "Ready")["status"] == "True"
    _wait_until_routed(namespace)
    namespace.change_server("kimi", {"httpRoute": None})
    wait_for(lambda: namespace.find(HTTP_ROUTE, "kimi"), "the route is deleted with its field", lambda found: not found)
    wait_for(
        lambda: sandbox.operator.ask("/readyz"),
        "the replica is ready and not degraded",
        lambda answer: answer == (200, "ok\n"),
    )
    restarts = [line for line in sandbox.operator.told().splitlines() if "Watching ended" in line]
    assert restarts == []


def _shown_to_the_user(cluster: LocalCluster, namespace: Namespace) -> None:
    """Check the command's output for a server whose HTTPRoute cannot be created."""
    shown = run_command(cluster.kubeconfig, "status", "kimi", "--namespace", namespace.name)
    assert shown.returncode == 0
    assert "KindMissing: HTTPRoute kimi: the cluster has no " in shown.stdout
    file = cluster.state / "routed.yaml"
    file.write_text(
        "{apiVersion: kimi-linear.io/v1alpha1, kind: KimiLinearServer, metadata: {name: kimi}, spec: "
        "{tensorParallelism: 1, httpRoute: {parentRefs: [{name: public}], hostnames: [kimi.example.com]}}}"
    )
    rendered = run_command(cluster.kubeconfig, "render", "-f", str(file))
    assert "kind: HTTPRoute" in rendered.stdout
    differs = run_command(cluster.kubeconfig, "diff", "-f", str(file), "--namespace", namespace.name)
    assert (differs.returncode, differs.stdout.count("\n")) == (1, 1)
    assert differs.stdout.startswith(
        f"# HTTPRoute/{namespace.name}/kimi: httproutes.gateway.networking.k8s.io cannot be listed"
    )


def _wait_until_routed(namespace: Namespace) -> None:
    wait_for(lambda: namespace.find(HTTP_ROUTE, "kimi"), "the server's HTTPRoute is created", seconds=_RETURN_SECONDS)
    namespace.wait_for_condition("kimi", "Synced", "True")


def _writes(sandbox: Sandbox, begin: int) -> list[str]:
    """Return the writes for servers since a call."""
    calls = (call for call in sandbox.proxy.calls[begin:] if call.is_write)
    return [f"{call.method} {call.path}" for call in calls if "/leases/" not in call.path]


def test_a_permission_may_be_missing_granted_and_removed(sandboxes: Sandboxes) -> None:
    """This is the situation after an upgrade with a Role that an administrator manages.

    Another namespace of the operator has the new Role.
    """
    with sandboxes.open_wide(namespaces=2) as [wide]:
        [kept] = wide.others
        _take_right(wide.namespace)
        for place in (wide.namespace, kept):
            place.create_server("plain", PLAIN)
            place.create_server("kimi", ENTERED)
        wide.operator.start()
        told = wide.namespace.wait_for_condition("kimi", "Synced", "False", "KindForbidden")["message"]
        assert told == "Ingress kimi: the operator's Role does not allow ingresses.networking.k8s.io"
        for place in (wide.namespace, kept):
            for name in ("kimi", "plain"):
                place.wait_until_ready(name)
        assert kept.find(INGRESS, "kimi")
        _give_right(wide.namespace)
        wait_for(
            lambda: wide.namespace.find(INGRESS, "kimi"), "the server's Ingress is created", seconds=_RETURN_SECONDS
        )
        wide.namespace.wait_for_condition("kimi", "Synced", "True")
        _take_right(wide.namespace)
        wide.proxy.cut_watches()
        wide.namespace.wait_for_condition("kimi", "Synced", "False", "KindForbidden", _RETURN_SECONDS)
        wide.namespace.change_server("kimi", {"ingress": None})
        wide.namespace.wait_for_condition("kimi", "Synced", "True")
        assert wide.namespace.find(INGRESS, "kimi"), "a child that cannot be read is not deleted"
        _give_right(wide.namespace)
        wide.operator.stop()
        wide.operator.start()
        wait_for(lambda: wide.namespace.find(INGRESS, "kimi"), "the Ingress is deleted later", lambda found: not found)


def test_a_permission_that_the_chart_withholds_is_reported_and_used_once_granted(
    sandboxes: Sandboxes, client: Client, cluster: LocalCluster
) -> None:
    definitions = [*prometheus_operator(), *scaled_object()]
    with with_definitions(client, cluster, definitions), sandboxes.open_wide(namespaces=1) as [wide]:
        place = wide.namespace
        grant(client, place.name, CURTAILED_ACCOUNTS[0], *(f"--set=rbac.{name}=false" for name in SWITCHED))
        place.create_server("plain", PLAIN)
        for name, (spec, _) in SWITCHED.items():
            place.create_server(name.lower(), spec)
        wide.operator.start()
        place.wait_until_ready("plain")
        assert place.condition("plain", "Synced")["status"] == "True"
        for name, (_, kinds) in SWITCHED.items():
            told = place.wait_for_condition(name.lower(), "Synced", "False", "KindForbidden")["message"]
            for kind in kinds:
                assert f"the operator's Role does not allow {kind.plural}.{kind.group}" in told
            place.wait_until_ready(name.lower())
        _give_right(place)
        for name, (_, kinds) in SWITCHED.items():
            place.wait_for_condition(name.lower(), "Synced", "True", seconds=_RETURN_SECONDS)
            assert all(place.find(kind, name.lower()) for kind in kinds)


def _take_right(place: Namespace) -> None:
    role = place.existing(KINDS["Role"], chart.RELEASE)
    rules = [rule for rule in role["rules"] if INGRESS.plural not in rule["resources"]]
    assert len(rules) < len(role["rules"])
    place.edit(KINDS["Role"], chart.RELEASE, {"rules": rules})


def _give_right(place: Namespace) -> None:
    grant(place.client, place.name, CURTAILED_ACCOUNTS[0])


@pytest.mark.usefixtures("operator")
def test_an_operator_of_all_namespaces_finds_a_new_definition_too(
    namespace: Namespace, client: Client, cluster: LocalCluster
) -> None:
    namespace.create_server("plain", PLAIN)
    with without_definition(client, cluster, ROUTES):
        namespace.create_server("kimi", ROUTED)
        namespace.wait_for_condition("kimi", "Synced", "False", "KindMissing", _RETURN_SECONDS)
        namespace.wait_until_ready("plain")
    _wait_until_routed(namespace)


@pytest.mark.usefixtures("operator")
@pytest.mark.parametrize(("kind", "spec"), [(INGRESS, ENTERED), (HTTP_ROUTE, ROUTED)])
def test_an_object_of_somebody_else_is_left_alone(namespace: Namespace, kind: Kind, spec: Manifest) -> None:
    content = {"defaultBackend": {"service": {"name": "mine", "port": {"number": 80}}}} if kind == INGRESS else {}
    foreign = {"metadata": {"name": "kimi", "namespace": namespace.name}, "spec": content}
    made = namespace.client.create(kind, {"apiVersion": kind.api_version, "kind": kind.kind, **foreign})
    namespace.create_server("kimi", spec)
    namespace.wait_for_condition("kimi", "Synced", "False", "NameConflict")
    assert namespace.existing(kind, "kimi")["spec"] == made["spec"]
