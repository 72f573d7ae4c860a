"""A default of a CRD goes away and comes back with another value. That replaces no pods, but a user's change does."""

from integration.client import path_of
from integration.namespace import Namespace, Spec, server_manifest
from integration.processes_under_test import THIS_VERSION
from integration.sandbox import Sandbox
from integration.schema import definition_of_fraction
from integration.versions import go_on_as, scale
from integration.waiting import stays, wait_for
from kimi_linear_operator.kubernetes.kinds import REVISION
from kimi_linear_operator.kubernetes.metadata import MANAGER
from kimi_linear_operator.server.spec import SERVER

_SCALED: dict[str, Spec] = {"scaled": {}, "empty-object": {"engine": {}}}
_NAMES = [*_SCALED, "created-again"]
_QUIET_SECONDS = 2.0
_FIRST, _SECOND = 0.85, 0.6


def _apply(namespace: Namespace, name: str, spec: Spec | None = None) -> None:
    manifest = server_manifest(name, namespace.name, {"tensorParallelism": 1, **(spec or {})})
    namespace.client.apply(SERVER, manifest, "gitops")


def _delete_without_children(namespace: Namespace, name: str) -> None:
    namespace.client.request("DELETE", path_of(SERVER, namespace.name, name), query={"propagationPolicy": "Orphan"})
    wait_for(lambda: namespace.find(SERVER, name) is None, "the server is gone")


def _replica_sets(namespace: Namespace) -> dict[str, list[str]]:
    return {name: sorted(item["metadata"]["name"] for item in namespace.replica_sets(name)) for name in _NAMES}


def _stored_fraction(namespace: Namespace, name: str) -> float | None:
    fraction: float | None = namespace.server(name)["spec"]["engine"].get("memoryFractionStatic")
    return fraction


def _has_flag(namespace: Namespace, name: str, fraction: float) -> bool:
    return str(fraction) in str(namespace.deployment(name)["spec"]["template"])


def test_a_default_that_comes_back_with_another_value_replaces_no_pod(sandbox: Sandbox) -> None:
    namespace = sandbox.namespace
    with definition_of_fraction(namespace.client, _FIRST):
        for name in _NAMES:
            _apply(namespace, name, _SCALED.get(name))
        for name in _NAMES:
            namespace.wait_until_ready(name)
            assert _has_flag(namespace, name, _FIRST)
        before = _replica_sets(namespace)
    with definition_of_fraction(namespace.client, None):
        for name in _SCALED:
            scale(namespace, name, 2)
            assert _stored_fraction(namespace, name) is None
        _delete_without_children(namespace, "created-again")
        stays(lambda: _replica_sets(namespace), "no pod is replaced", before.__eq__, _QUIET_SECONDS)
    with definition_of_fraction(namespace.client, _SECOND):
        for name in _SCALED:
            scale(namespace, name, 1)
        _apply(namespace, "created-again")
        namespace.wait_until_ready("created-again")
        go_on_as(sandbox, THIS_VERSION)
        for name in _NAMES:
            assert _stored_fraction(namespace, name) == _SECOND
            scale(namespace, name, 3)
        stays(lambda: _replica_sets(namespace), "no pod is replaced", before.__eq__, _QUIET_SECONDS)
        for name in _NAMES:
            namespace.wait_for_condition(name, "TemplateCurrent", "True", "Newest")
        _apply(namespace, "scaled", {"engine": {"memoryFractionStatic": _SECOND}})
        scale(namespace, "scaled", 2)
        wait_for(lambda: _has_flag(namespace, "scaled", _SECOND), "the requested value is rolled out")
        assert {**_replica_sets(namespace), "scaled": before["scaled"]} == before


def test_a_record_keeps_what_only_another_version_knows(sandbox: Sandbox) -> None:
    """The data of a ControllerRevision can never change, so the API server would refuse a record without a key."""
    namespace, client = sandbox.namespace, sandbox.namespace.client
    _apply(namespace, "scaled")
    namespace.wait_until_ready("scaled")
    _delete_without_children(namespace, "scaled")
    record = namespace.existing(REVISION, "scaled-1")
    namespace.delete(REVISION, "scaled-1")
    about = {name: record["metadata"][name] for name in ("name", "namespace", "labels", "annotations")}
    about["annotations"] = {**about["annotations"], "kimi-linear.io/of-a-newer-version": "1"}
    newer = {**record, "metadata": about, "data": {**record["data"], "reason": "of a newer version"}}
    wait_for(lambda: namespace.find(REVISION, "scaled-1") is None, "the record is gone")
    client.apply(REVISION, newer, MANAGER)
    _apply(namespace, "scaled")
    namespace.wait_until_ready("scaled")
    adopted = namespace.existing(REVISION, "scaled-1")
    assert adopted["metadata"]["ownerReferences"]
    assert adopted["data"] == newer["data"]
    assert adopted["metadata"]["annotations"].items() >= {"kimi-linear.io/of-a-newer-version": "1"}.items()
