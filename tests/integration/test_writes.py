"""How often the operator writes: as often as something changes, and never else. The API server's audit log counts."""

import time
from collections import Counter

from integration.audit import AuditLog, Request
from integration.namespace import Namespace, Spec
from integration.processes_under_test import USER, Operator
from integration.waiting import stays, wait_for
from kimi_linear_operator.api import Manifest
from kimi_linear_operator.resources import SERVICE

_SERVERS = ("a", "b", "c", "d", "e")
# A little longer than the operator waits for a burst of changes to end.
_SETTLE_SECONDS = 1.3
_QUIET_SECONDS = 2.0
# A start ends with a list, half a second after the watches began; passes over all servers follow.
_START_SECONDS = 5.0

_SPECS: tuple[Spec, ...] = (
    {},
    {"replicas": 2},
    {"suspend": True},
    {"service": {"headless": True, "annotations": {"a": "b"}}, "security": {"capabilities": []}},
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
    _wait_until_quiet(audit_log, namespace)
    writes = audit_log.writes(mark, USER, namespace.name)
    counted = {name: _counts([item for item in writes if item.name == name]) for name in _SERVERS}
    assert all(_is_thrifty(counts) for counts in counted.values()), counted
    # The name of an event is its own; each server told once that it is ready.
    assert _counts(writes)["create events"] == len(_SERVERS)


def _is_thrifty(counted: Counter[str]) -> bool:
    children = counted["patch deployments"] == counted["patch services"] == 1
    return children and counted["patch kimilinearservers/status"] <= 2 and counted.total() <= 4


def _counts(requests: list[Request]) -> Counter[str]:
    return Counter(f"{item.verb} {item.resource}" for item in requests)


def test_settled_servers_cost_no_write_and_neither_does_a_restart(
    operator: Operator, audit_log: AuditLog, namespace: Namespace
) -> None:
    for name, spec in zip(_SERVERS, _SPECS, strict=True):
        namespace.create_server(name, spec)
    for name in _SERVERS:
        namespace.wait_for_condition(name, "Reconciling", "False")
    _wait_until_quiet(audit_log, namespace)
    before = {name: _generation(namespace, name) for name in _SERVERS}

    mark = audit_log.mark()
    stays(lambda: audit_log.writes(mark, USER, namespace.name), "no write", _is_nothing, _QUIET_SECONDS)
    with operator.stopped():
        mark = audit_log.mark()
    stays(
        lambda: audit_log.writes(mark, USER, namespace.name),
        "no write after a restart",
        _is_nothing,
        _START_SECONDS,
    )
    assert {name: _generation(namespace, name) for name in _SERVERS} == before
    requests = Counter(item.verb for item in audit_log.since(mark, USER, namespace.name))
    assert not requests, f"settled servers should not be read one by one: {requests}"


def _wait_until_quiet(audit_log: AuditLog, namespace: Namespace) -> None:
    """Wait until nothing was written for longer than the operator waits for things to settle."""
    last: tuple[float, int] = (time.monotonic(), -1)

    def seconds_without_write() -> float:
        nonlocal last
        count = len(audit_log.writes(0, USER, namespace.name))
        last = last if count == last[1] else (time.monotonic(), count)
        return time.monotonic() - last[0]

    wait_for(seconds_without_write, "nothing is written for a while", lambda seconds: seconds > _SETTLE_SECONDS)


def _is_nothing(writes: list[Request]) -> bool:
    return not writes


def _generation(namespace: Namespace, name: str) -> Manifest:
    """Return what tells one pod template from another: the ReplicaSets, and how often the spec was changed."""
    sets = sorted(item["metadata"]["name"] for item in namespace.replica_sets(name))
    return {"replicaSets": sets, "generation": namespace.deployment(name)["metadata"]["generation"]}


def test_what_happened_while_the_operator_was_away_is_put_right(operator: Operator, namespace: Namespace) -> None:
    namespace.create_server("kimi")
    namespace.wait_until_ready("kimi")
    with operator.stopped():
        namespace.delete(SERVICE, "kimi")
        namespace.change_server("kimi", {"replicas": 2})
        namespace.create_server("other")
    assert namespace.wait_until_ready("kimi")["status"]["readyReplicas"] == 2
    assert namespace.find(SERVICE, "kimi")
    namespace.wait_until_ready("other")
