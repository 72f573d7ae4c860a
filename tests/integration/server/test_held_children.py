"""Children that are being deleted, but that a finalizer holds. The tests play the program that never removes it."""

import pytest

from integration.audit import AuditLog
from integration.kubelet import HELD_SPEC
from integration.namespace import Namespace, Spec
from integration.processes_under_test import USER
from integration.waiting import stays, wait_for
from kimi_linear_operator.kubernetes.kinds import DEPLOYMENT, SERVICE, Kind, Manifest
from kimi_linear_operator.server.labels import HEADLESS_SUFFIX, ROUTER_SUFFIX

pytestmark = pytest.mark.usefixtures("operator")

_FINALIZER = "tests.example.com/hold"
_QUIET_SECONDS = 6.0


def _hold(namespace: Namespace, kind: Kind, name: str) -> Manifest:
    wait_for(lambda: namespace.find(kind, name), f"{kind.kind} {name} exists")
    return namespace.edit(kind, name, {"metadata": {"finalizers": [_FINALIZER]}})


def _is_told(namespace: Namespace, audit_log: AuditLog, kind: Kind, name: str) -> None:
    """Wait until the server names the held child and the remedy, and check that the operator then writes nothing."""
    told = namespace.wait_for_condition("kimi", "Synced", "False", "DeletionBlocked")["message"]
    assert f"{kind.kind} {name} ({_FINALIZER})" in told
    assert f"`kubectl edit {kind.kind.lower()}/{name}`" in told
    audit_log.wait_until_quiet(audit_log.mark(), USER, namespace.name)
    mark = audit_log.mark()
    stays(
        lambda: audit_log.writes(mark, USER, namespace.name),
        "nothing is written while a finalizer holds a child",
        lambda writes: not writes,
        _QUIET_SECONDS,
    )


def test_a_wanted_child_that_a_finalizer_holds_is_named_and_made_again_when_it_is_gone(
    namespace: Namespace, audit_log: AuditLog
) -> None:
    namespace.create_server("kimi", HELD_SPEC)
    before = _hold(namespace, SERVICE, "kimi")
    namespace.delete(SERVICE, "kimi")
    _is_told(namespace, audit_log, SERVICE, "kimi")
    namespace.edit(SERVICE, "kimi", {"metadata": {"finalizers": None}})
    namespace.wait_for_condition("kimi", "Synced", "True", "Undisputed")
    assert namespace.service("kimi")["metadata"]["uid"] != before["metadata"]["uid"]


@pytest.mark.parametrize(
    ("spec", "field", "kind", "suffix"),
    [
        ({"router": {}}, "router", DEPLOYMENT, ROUTER_SUFFIX),
        ({"service": {"headless": True}}, "service", SERVICE, HEADLESS_SUFFIX),
    ],
    ids=["router", "headless"],
)
def test_a_child_that_the_spec_no_longer_asks_for_is_named_while_a_finalizer_holds_it(
    namespace: Namespace, audit_log: AuditLog, spec: Spec, field: str, kind: Kind, suffix: str
) -> None:
    namespace.create_server("kimi", {**HELD_SPEC, **spec})
    _hold(namespace, kind, f"kimi{suffix}")
    namespace.change_server("kimi", {field: None})
    _is_told(namespace, audit_log, kind, f"kimi{suffix}")
    namespace.edit(kind, f"kimi{suffix}", {"metadata": {"finalizers": None}})
    namespace.wait_for_condition("kimi", "Synced", "True", "Undisputed")
    assert namespace.find(kind, f"kimi{suffix}") is None


def test_a_deployment_that_a_finalizer_holds_is_not_taken_for_the_wanted_one(namespace: Namespace) -> None:
    namespace.create_server("kimi", {"tensorParallelism": 1})
    before = _hold(namespace, DEPLOYMENT, "kimi")
    namespace.wait_until_ready("kimi")
    namespace.delete(DEPLOYMENT, "kimi")
    namespace.change_server("kimi", {"podTemplate": {"metadata": {"labels": {"example.com/new": "yes"}}}})
    told = namespace.wait_for_condition("kimi", "Ready", "False", "DeletionBlocked")["message"]
    assert f"Deployment kimi ({_FINALIZER})" in told
    namespace.edit(DEPLOYMENT, "kimi", {"metadata": {"finalizers": None}})
    namespace.wait_until_ready("kimi")
    assert namespace.deployment("kimi")["metadata"]["uid"] != before["metadata"]["uid"]
