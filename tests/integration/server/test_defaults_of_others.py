"""Defaults from the CRD or the models of another version replace no pods, in any part of a spec."""

import pytest

from integration.faults import Call, refuse
from integration.namespace import Namespace, Spec, server_manifest
from integration.newer_version import FRACTION
from integration.other_version import MARK, is_built_by_other
from integration.processes_under_test import NEWER_VERSION, OTHER_VERSION, THIS_VERSION
from integration.sandbox import Sandbox
from integration.schema import PULL_POLICY, definition_of_containers
from integration.versions import go_on_as, scale
from integration.waiting import stays, wait_for
from kimi_linear_operator.kubernetes.kinds import DEPLOYMENT, REVISION, Manifest
from kimi_linear_operator.server.spec import SERVER

_SERVERS = ["a", "b"]
_QUIET_SECONDS = 4.0
# Before this time, a record proves nothing about fields that were written in the same second as the record.
_SETTLED_SECONDS = 3.0


def _overlay(**container: object) -> Spec:
    """Return a spec whose owner changes the engine's container, and removes a field of the pod."""
    engine = {"name": "sglang", "env": [{"name": "X", "value": "1"}], **container}
    return {"tensorParallelism": 1, "podTemplate": {"spec": {"containers": [engine]}}}


def _apply(namespace: Namespace, name: str, spec: Spec) -> None:
    namespace.client.apply(SERVER, server_manifest(name, namespace.name, spec), "owner")


def _replica_sets(namespace: Namespace, name: str) -> list[str]:
    return sorted(item["metadata"]["name"] for item in namespace.replica_sets(name))


def _all_replica_sets(namespace: Namespace) -> dict[str, list[str]]:
    return {name: _replica_sets(namespace, name) for name in _SERVERS}


@pytest.fixture
def served(sandbox: Sandbox) -> Namespace:
    """A namespace with two servers whose owner has a list of containers, and removes hostAliases in one of them."""
    namespace, spec = sandbox.namespace, _overlay()
    _apply(namespace, "a", spec)
    spec["podTemplate"]["spec"]["hostAliases"] = None
    _apply(namespace, "b", spec)
    for name in _SERVERS:
        namespace.wait_until_ready(name)
        assert len(_replica_sets(namespace, name)) == 1
    assert "hostAliases" not in namespace.deployment("b")["spec"]["template"]["spec"]
    stays(lambda: None, "the records become older than a second", lambda _: True, _SETTLED_SECONDS)
    return namespace


def test_the_operator_rolls_out_no_default_within_a_list_by_itself(sandbox: Sandbox, served: Namespace) -> None:
    before = _all_replica_sets(served)
    sandbox.operator.arguments = (*sandbox.operator.arguments, "--rollout-pause=1")
    with definition_of_containers(served.client):
        go_on_as(sandbox, THIS_VERSION)
        for name in _SERVERS:
            [container] = served.server(name)["spec"]["podTemplate"]["spec"]["containers"]
            assert container["imagePullPolicy"] == PULL_POLICY
            served.wait_for_condition(name, "TemplateCurrent", "True", "Newest")
        stays(lambda: _all_replica_sets(served), "nothing rolls", before.__eq__, _QUIET_SECONDS)


def test_scaling_takes_no_default_within_a_list_and_a_requested_change_still_counts(
    sandbox: Sandbox, served: Namespace
) -> None:
    before = _all_replica_sets(served)
    with definition_of_containers(served.client):
        go_on_as(sandbox, THIS_VERSION)
        for name in _SERVERS:
            scale(served, name, 2)
        assert _all_replica_sets(served) == before
    for name in _SERVERS:
        scale(served, name, 1)
    assert _all_replica_sets(served) == before
    _apply(served, "a", _overlay(imagePullPolicy=PULL_POLICY, tty=True))
    wait_for(lambda: len(_replica_sets(served, "a")), "the requested change is rolled out", (2).__eq__)


def _brings_other_pods(call: Call) -> bool:
    return call.is_write and call.concerns(DEPLOYMENT, "a") and MARK.encode() in call.body


def test_a_new_server_that_the_newer_version_could_not_apply_gets_this_versions_pods(sandbox: Sandbox) -> None:
    namespace = sandbox.namespace
    with sandbox.proxy.fault(refuse(422), _brings_other_pods):
        go_on_as(sandbox, OTHER_VERSION)
        namespace.create_server("a", {"tensorParallelism": 1})
        namespace.wait_for_condition("a", "Ready", "False", "ApplyFailed")
        assert namespace.condition("a", "TemplateCurrent")["reason"] != "NewTemplateAvailable"
        assert namespace.find(REVISION, "a-1")
        go_on_as(sandbox, THIS_VERSION)
        namespace.wait_until_ready("a")
    assert not is_built_by_other(namespace.deployment("a")["spec"]["template"])
    namespace.wait_for_condition("a", "TemplateCurrent", "True", "Newest")
    wait_for(lambda: namespace.find(REVISION, "a-1"), "the record is gone", lambda found: not found)


def _fractions(deployment: Manifest) -> list[str]:
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    return [argument for argument in container["args"] if str(FRACTION) in argument]


def test_a_default_from_a_newer_versions_models_replaces_no_pod_after_a_rollback(sandbox: Sandbox) -> None:
    """The newer version ran with the older CRD, so the field is in its record, but not in a spec."""
    namespace = sandbox.namespace
    go_on_as(sandbox, NEWER_VERSION)
    _apply(namespace, "a", {"tensorParallelism": 1})
    namespace.wait_until_ready("a")
    before = _replica_sets(namespace, "a")
    assert "memoryFractionStatic" not in namespace.server("a")["spec"]["engine"]
    assert _fractions(namespace.deployment("a"))
    go_on_as(sandbox, THIS_VERSION)
    namespace.wait_for_condition("a", "TemplateCurrent", "False", "NewTemplateAvailable")
    scale(namespace, "a", 2)
    assert _replica_sets(namespace, "a") == before
    assert _fractions(namespace.deployment("a"))
