"""The operator writes only when something changes. The tests count writes in the API server's audit log."""

from collections import Counter

from benchmarks.manifests import EVERYTHING
from control_plane import LocalCluster
from integration.audit import AuditLog, Request
from integration.client import Client
from integration.definitions import prometheus_operator, with_definitions
from integration.namespace import Namespace, Spec
from integration.processes_under_test import USER, Operator
from integration.waiting import stays, wait_for
from kimi_linear_operator.kubernetes.kinds import DEPLOYMENT, REVISION, SCALED_OBJECT, SERVICE, Manifest
from kimi_linear_operator.runtime.queue import QUIET_SECONDS
from kimi_linear_operator.server.manifests import OPTIONAL_CHILDREN
from kimi_linear_operator.server.spec import SERVER

# A server has only one autoscaler. `EVERYTHING` asks for Kubernetes' own, so there is no ScaledObject.
_OPTIONAL = [kind for kind in OPTIONAL_CHILDREN if kind != SCALED_OBJECT]
_SERVERS = ("a", "b", "c", "d", "e", "f")
_CHILDREN = (REVISION, DEPLOYMENT, SERVICE)
_STATUS = f"{SERVER.plural}/status"
_QUIET_SECONDS = 2.0
_A_MINUTE = 60.0
# The operator finds a new CRD within a minute. The rest of the time is for a busy machine.
_SECONDS_TO_FIND = 60.0 + 30
# A start ends with a list, half a second after the watches began. After it, there are passes over all servers.
_START_SECONDS = 5.0

_SPECS: tuple[Spec, ...] = (
    {},
    {"replicas": 2},
    {"suspend": True},
    {"service": {"headless": True, "annotations": {"a": "b"}}, "security": {"capabilities": []}},
    {
        "auth": {"apiKeySecretRef": {"name": "clients"}},
        "kernelCache": {"existingClaim": "kernels", "sizeLimit": "2048Mi"},
        # The claim does not exist.
        "suspend": True,
    },
    {
        "podTemplate": {
            "metadata": {"annotations": {"a": "b"}},
            "spec": {
                "hostNetwork": False,
                "tolerations": [{"operator": "Exists"}],
                "containers": [{"name": "sglang", "resources": {"limits": {"cpu": "2000m", "memory": "2048Mi"}}}],
                "initContainers": [{"name": "fetch", "image": "busybox", "env": [{"name": "EMPTY", "value": ""}]}],
            },
        }
    },
)


def test_a_new_server_costs_its_children_and_two_status_writes(
    operator: Operator, audit_log: AuditLog, namespace: Namespace
) -> None:
    mark = audit_log.mark()
    for name in _SERVERS:
        namespace.create_server(name)
    for name in _SERVERS:
        namespace.wait_until_ready(name)
    # Event names are unique. For each server, one Event says that it is ready. It is written after the status.
    wait_for(
        lambda: _counts(audit_log.writes(mark, USER, namespace.name))["create events"],
        "each server has an Event that says that it is ready",
        lambda count: count >= len(_SERVERS),
    )
    audit_log.wait_until_quiet(mark, USER, namespace.name)
    writes = audit_log.writes(mark, USER, namespace.name)
    assert _counts(writes)["create events"] == len(_SERVERS)
    for name in _SERVERS:
        _assert_thrifty([item for item in writes if item.name in (name, f"{name}-1")])


def _assert_thrifty(writes: list[Request]) -> None:
    """Check a server's writes: its children, two statuses, and one more status for each pause in its progress."""
    counted = _counts(writes)
    assert {f"patch {kind.plural}": 1 for kind in _CHILDREN}.items() <= counted.items()
    began = [item.began for item in writes if item.resource == _STATUS]
    assert len(began) <= 2 + (began[-1] - began[0]) / QUIET_SECONDS
    assert counted.total() == len(_CHILDREN) + len(began)


def _counts(requests: list[Request]) -> Counter[str]:
    return Counter(f"{item.verb} {item.resource}" for item in requests)


def test_settled_servers_and_a_restart_cause_no_writes(
    operator: Operator, audit_log: AuditLog, namespace: Namespace
) -> None:
    mark = audit_log.mark()
    for name, spec in zip(_SERVERS, _SPECS, strict=True):
        namespace.create_server(name, spec)
    for name in _SERVERS:
        namespace.wait_for_condition(name, "Reconciling", "False")
    audit_log.wait_until_quiet(mark, USER, namespace.name)
    before = {name: _generation(namespace, name) for name in _SERVERS}

    mark = audit_log.mark()
    stays(lambda: audit_log.writes(mark, USER, namespace.name), "nothing is written", _is_nothing, _QUIET_SECONDS)
    with operator.stopped():
        mark = audit_log.mark()
    stays(
        lambda: audit_log.writes(mark, USER, namespace.name),
        "nothing is written after a restart",
        _is_nothing,
        _START_SECONDS,
    )
    assert {name: _generation(namespace, name) for name in _SERVERS} == before
    requests = Counter(item.verb for item in audit_log.since(mark, USER, namespace.name))
    assert not requests, f"settled servers should not be read one by one: {requests}"


def test_servers_with_all_options_cause_no_writes_for_a_minute(
    operator: Operator, audit_log: AuditLog, namespace: Namespace, client: Client, cluster: LocalCluster
) -> None:
    with with_definitions(client, cluster, prometheus_operator()):
        mark = audit_log.mark()
        for name in ("a", "b"):
            namespace.create_server(name, EVERYTHING)
        for name in ("a", "b"):
            namespace.wait_until_ready(name)
            namespace.wait_for_condition(name, "Synced", "True", seconds=_SECONDS_TO_FIND)
            wait_for(
                lambda name=name: [kind.kind for kind in _OPTIONAL if not namespace.find(kind, name)],  # type: ignore[misc]
                f"{name} has all children",
                lambda missing: not missing,
            )
        audit_log.wait_until_quiet(mark, USER, namespace.name)
        mark = audit_log.mark()
        stays(lambda: audit_log.writes(mark, USER, namespace.name), "nothing is written", _is_nothing, _A_MINUTE)


def _is_nothing(writes: list[Request]) -> bool:
    return not writes


def _generation(namespace: Namespace, name: str) -> Manifest:
    """Return values that change with the pod template: the ReplicaSets, and the Deployment's generation."""
    sets = sorted(item["metadata"]["name"] for item in namespace.replica_sets(name))
    return {"replicaSets": sets, "generation": namespace.deployment(name)["metadata"]["generation"]}


def test_changes_made_while_the_operator_was_stopped_are_handled_after_its_start(
    operator: Operator, namespace: Namespace
) -> None:
    namespace.create_server("kimi")
    namespace.wait_until_ready("kimi")
    with operator.stopped():
        namespace.delete(SERVICE, "kimi")
        namespace.change_server("kimi", {"replicas": 2})
        namespace.create_server("other")
    assert namespace.wait_until_ready("kimi")["status"]["readyReplicas"] == 2
    assert namespace.find(SERVICE, "kimi")
    namespace.wait_until_ready("other")
