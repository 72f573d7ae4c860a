"""Other clients write the operator's fields.

Removed fields are removed, and contested fields are reported and not repaired for ever.
"""

import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

import pytest

from control_plane import LocalCluster
from integration.audit import AuditLog
from integration.client import JSON_PATCH, MERGE_PATCH, Client, path_of
from integration.client_pods import create_benchmark, jobs
from integration.namespace import Namespace, Spec, condition_of, engine_container
from integration.processes_under_test import USER
from integration.waiting import stays, wait_for
from kimi_linear_operator.kubernetes.kinds import CONFIG_MAP, DEPLOYMENT, JOB, REVISION, SERVICE, Kind, Manifest
from kimi_linear_operator.kubernetes.metadata import FINGERPRINT_ANNOTATION, MANAGER

pytestmark = pytest.mark.usefixtures("operator")

# The writes of a child that one pass may lose to another client before it accepts any state.
_MOST_LOST_RACES = 3
# After the lost races, a repair takes a dry run, a patch, and a patch of the managed fields.
_MOST_REQUESTS = 3

_REGISTRATION = "admissionregistration.k8s.io"


def _variables(*names: str) -> Spec:
    env = [{"name": name, "value": "1"} for name in names]
    return {"podTemplate": {"spec": {"containers": [{"name": "sglang", "env": env}]}}}


def _names(namespace: Namespace) -> set[str]:
    return {variable["name"] for variable in engine_container(namespace.deployment("kimi"))["env"]}


def _arguments(namespace: Namespace) -> list[str]:
    return list(engine_container(namespace.deployment("kimi"))["args"])


def _is_second_manager(manifest: Manifest) -> bool:
    entries = manifest["metadata"]["managedFields"]
    return any(entry["manager"] == MANAGER and entry["operation"] == "Update" for entry in entries)


def _edit_volume(namespace: Namespace, *, without: str) -> None:
    """Edit a Deployment so that an apply alone cannot undo the edit, and remove a variable."""
    spec = namespace.deployment("kimi")["spec"]["template"]["spec"]
    [container] = spec["containers"]
    env = [variable for variable in container["env"] if variable["name"] != without]
    volumes = [volume for volume in spec["volumes"] if volume["name"] != "cache"]
    changed = [*volumes, {"name": "cache", "hostPath": {"path": "/tmp"}}]  # noqa: S108 - nothing runs there
    pod = {"containers": [{**container, "env": env}], "volumes": changed}
    namespace.edit(DEPLOYMENT, "kimi", {"spec": {"template": {"spec": pod}}})


def test_a_field_repaired_by_a_patch_is_removed_when_the_spec_drops_it(namespace: Namespace) -> None:
    namespace.create_server("kimi", _variables("FOO", "BAR"))
    namespace.wait_until_ready("kimi")
    before = namespace.deployment("kimi")["spec"]
    _edit_volume(namespace, without="FOO")
    wait_for(lambda: namespace.deployment("kimi")["spec"], "the Deployment is repaired", before.__eq__)
    # By an apply right after the patch, the manager becomes the owner of the patched fields.
    wait_for(lambda: _is_second_manager(namespace.deployment("kimi")), "there is one field manager", lambda it: not it)
    namespace.change_server("kimi", _variables("BAR"))
    wait_for(lambda: _names(namespace), "FOO is gone", lambda names: "FOO" not in names)
    assert "BAR" in _names(namespace)


def test_a_field_patched_by_an_earlier_release_is_removed_when_the_spec_drops_it(namespace: Namespace) -> None:
    namespace.create_server("kimi", _variables("FOO", "BAR"))
    namespace.wait_until_ready("kimi")
    deployment = namespace.deployment("kimi")
    spec = {"template": deployment["spec"]["template"], "minReadySeconds": 1}
    query = {"fieldManager": MANAGER}
    path = path_of(DEPLOYMENT, namespace.name, "kimi")
    namespace.client.request("PATCH", path, {"spec": spec}, query, MERGE_PATCH)
    wait_for(
        lambda: namespace.deployment("kimi"),
        "only one field manager is left",
        lambda seen: not _is_second_manager(seen),
    )
    namespace.change_server("kimi", _variables("BAR"))
    wait_for(lambda: _names(namespace), "FOO is gone", lambda names: "FOO" not in names)


def test_an_adopted_service_keeps_none_of_its_former_ports(namespace: Namespace) -> None:
    metadata = {"name": "kimi", "namespace": namespace.name, "annotations": {"kimi-linear.io/adopt": "true"}}
    spec = {"selector": {"app": "web"}, "ports": [{"port": 80, "name": "http"}, {"port": 81, "name": "admin"}]}
    namespace.client.create(SERVICE, {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec})
    namespace.create_server("kimi")
    namespace.wait_until_ready("kimi")
    assert [port["port"] for port in namespace.service("kimi")["spec"]["ports"]] == [30000]
    assert not _is_second_manager(namespace.service("kimi"))
    namespace.change_server("kimi", {"service": {"port": 8000}})
    ports = wait_for(
        lambda: namespace.service("kimi")["spec"]["ports"], "the port changes", lambda ports: ports[0]["port"] == 8000
    )
    assert len(ports) == 1


def test_a_second_variable_of_the_same_name_is_removed(namespace: Namespace) -> None:
    namespace.create_server("kimi")
    namespace.wait_until_ready("kimi")
    before = namespace.deployment("kimi")["spec"]
    variable = {"name": "SGLANG_ROCM_FUSED_DECODE_MLA", "value": "1"}
    patch = [{"op": "add", "path": "/spec/template/spec/containers/0/env/-", "value": variable}]
    path = path_of(DEPLOYMENT, namespace.name, "kimi")
    edited = namespace.client.request("PATCH", path, patch, content_type=JSON_PATCH)
    assert [item["name"] for item in engine_container(edited)["env"]].count(variable["name"]) == 2
    wait_for(lambda: namespace.deployment("kimi")["spec"], "the Deployment is repaired", before.__eq__)


@contextmanager
def _again_and_again(namespace: Namespace, cluster: LocalCluster, patch: Manifest, manager: str) -> Iterator[None]:
    """Patch a Deployment whenever it differs from the state that another client wants, like a controller."""
    stop = threading.Event()
    own = Client(cluster.kubeconfig)
    path = path_of(DEPLOYMENT, namespace.name, "kimi")

    def insist() -> None:
        while not stop.wait(0.05):
            live = own.get(DEPLOYMENT, namespace.name, "kimi")
            if live and live["spec"]["replicas"] != patch["spec"]["replicas"]:
                own.request("PATCH", path, patch, {"fieldManager": manager}, MERGE_PATCH)

    insisting = threading.Thread(target=insist)
    insisting.start()
    try:
        yield
    finally:
        stop.set()
        insisting.join()
        own.close()


def test_a_client_that_keeps_scaling_the_deployment_is_named_and_not_fought_for_ever(
    cluster: LocalCluster, audit_log: AuditLog, namespace: Namespace
) -> None:
    namespace.create_server("kimi")
    namespace.wait_until_ready("kimi")
    mark = audit_log.mark()
    with _again_and_again(namespace, cluster, {"spec": {"replicas": 2}}, "some-autoscaler"):
        synced = namespace.wait_for_condition("kimi", "Synced", "False", "ChangedByOthers")
        assert "Deployment kimi: some-autoscaler keeps changing spec.replicas" in synced["message"]
        time.sleep(4)
        _assert_few_repairs(audit_log, mark, namespace, 6)
        # Everything else is reconciled as usual.
        namespace.delete(SERVICE, "kimi")
        wait_for(lambda: namespace.find(SERVICE, "kimi"), "the Service is there again")
        namespace.change_server("kimi", {"toolCallParser": "enabled"})
        wait_for(
            lambda: "--tool-call-parser" in engine_container(namespace.deployment("kimi"))["args"],
            "the Deployment is changed",
        )
    _assert_told_once(namespace)
    assert condition_of(namespace.server("kimi"), "Stalled")["status"] == "False"


def _assert_few_repairs(audit_log: AuditLog, mark: int, namespace: Namespace, most: int) -> None:
    """Check how many requests the repairs of the Deployment took. A write that lost a race is tried again."""
    writes = [item for item in audit_log.writes(mark, USER, namespace.name) if item.resource == "deployments"]
    done = [item for item in writes if item.status in (HTTPStatus.OK, HTTPStatus.CREATED)]
    assert len(done) <= _MOST_REQUESTS * most
    lost = [item for item in writes if item.status in (HTTPStatus.CONFLICT, HTTPStatus.UNPROCESSABLE_ENTITY)]
    assert len(lost) <= _MOST_LOST_RACES * most
    assert len(done) + len(lost) == len(writes)


def _assert_told_once(namespace: Namespace) -> None:
    """Check that there is one Event. It is written after the status."""
    [_] = wait_for(lambda: namespace.events("kimi", "ChangedByOthers"), "an Event reports it")


def test_a_rival_that_also_changes_the_fingerprint_is_named_and_not_fought_for_ever(
    cluster: LocalCluster, audit_log: AuditLog, namespace: Namespace
) -> None:
    namespace.create_server("kimi")
    namespace.wait_until_ready("kimi")
    mark = audit_log.mark()
    patch = {"metadata": {"annotations": {FINGERPRINT_ANNOTATION: "x"}}, "spec": {"replicas": 2}}
    with _again_and_again(namespace, cluster, patch, "some-controller"):
        synced = namespace.wait_for_condition("kimi", "Synced", "False", "ChangedByOthers")
        assert "Deployment kimi: some-controller keeps changing" in synced["message"]
        time.sleep(4)
        _assert_few_repairs(audit_log, mark, namespace, 7)


def _rule(kind: Kind) -> Manifest:
    """Return a resource rule of a policy: the writes of a kind's objects."""
    return {
        "apiGroups": [kind.group],
        "apiVersions": [kind.version],
        "operations": ["CREATE", "UPDATE"],
        "resources": [kind.plural],
    }


@contextmanager
def _mutation(client: Client, namespace: Namespace, expression: str) -> Iterator[None]:
    """Let an admission policy change every Deployment of a namespace."""
    name = f"mutate-{namespace.name}"
    here = {"matchLabels": {"kubernetes.io/metadata.name": namespace.name}}
    spec = {
        "matchConstraints": {"namespaceSelector": here, "resourceRules": [_rule(DEPLOYMENT)]},
        "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}}],
        "failurePolicy": "Fail",
        "reinvocationPolicy": "Never",
    }
    plural = "mutatingadmissionpolicies"
    policy = Kind(_REGISTRATION, "v1", "MutatingAdmissionPolicy", plural)
    binding = Kind(_REGISTRATION, "v1", "MutatingAdmissionPolicyBinding", "mutatingadmissionpolicybindings")
    contents = {policy: spec, binding: {"policyName": name}}
    for kind, content in contents.items():
        manifest = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {"name": name}, "spec": content}
        client.create(kind, manifest)
    try:
        yield
    finally:
        for kind in contents:
            client.delete(kind, None, name)


def test_a_policy_that_keeps_rewriting_a_child_is_reported_and_not_fought_for_ever(
    client: Client, audit_log: AuditLog, namespace: Namespace
) -> None:
    expression = "Object{spec: Object.spec{revisionHistoryLimit: 3, progressDeadlineSeconds: 77}}"
    with _mutation(client, namespace, expression):
        _wait_until_in_force(namespace)
        mark = audit_log.mark()
        namespace.create_server("kimi")
        namespace.wait_until_ready("kimi")
        synced = namespace.wait_for_condition("kimi", "Synced", "False", "ChangedByOthers")
        assert (
            "Deployment kimi: an admission webhook or policy keeps changing spec.progressDeadlineSeconds"
            in (synced["message"])
        )
        for number in range(5):
            namespace.edit(SERVICE, "kimi", {"metadata": {"labels": {"poked": str(number)}}})
            time.sleep(0.3)
        _assert_few_repairs(audit_log, mark, namespace, 2)
        _assert_told_once(namespace)


def _wait_until_in_force(namespace: Namespace) -> None:
    numbers = itertools.count()

    def is_in_force() -> bool:
        labels = {"app": f"probe-{next(numbers)}"}
        template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "web", "image": "web"}]}}
        spec = {"replicas": 0, "selector": {"matchLabels": labels}, "template": template}
        metadata = {"name": labels["app"], "namespace": namespace.name}
        manifest = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}
        return bool(namespace.client.create(DEPLOYMENT, manifest)["spec"]["progressDeadlineSeconds"] == 77)

    wait_for(is_in_force, "the policy is in force")


def test_a_paused_deployment_is_reported_and_stays_paused(namespace: Namespace) -> None:
    namespace.create_server("kimi")
    namespace.wait_until_ready("kimi")
    namespace.edit(DEPLOYMENT, "kimi", {"spec": {"paused": True}})
    namespace.change_server("kimi", {"toolCallParser": "enabled"})
    ready = namespace.wait_for_condition("kimi", "Ready", "False", "RolloutPaused")
    assert "kubectl rollout resume deployment/kimi" in ready["message"]
    stays(lambda: namespace.deployment("kimi")["spec"].get("paused"), "the Deployment stays paused", bool, 1)
    namespace.change_server("kimi", {"suspend": True})
    wait_for(lambda: namespace.pods("kimi"), "the paused server is suspended", lambda pods: not pods)
    namespace.edit(DEPLOYMENT, "kimi", {"spec": {"paused": None}})
    namespace.change_server("kimi", {"suspend": False})
    namespace.wait_until_ready("kimi")


def test_labels_that_a_policy_demands_are_on_every_object(client: Client, namespace: Namespace) -> None:
    with _demanded_label(client, namespace, (DEPLOYMENT, SERVICE, CONFIG_MAP, JOB, REVISION)):
        namespace.create_server("kimi", {"service": {"headless": True}})
        refused = namespace.wait_for_condition("kimi", "Accepted", "False", "ApplyFailed")
        assert "every object needs a team" in refused["message"]
        assert namespace.condition("kimi", "Stalled")["status"] == "True"
        inherited: dict[str, Any] = {"labels": {"team": "ml"}, "annotations": {"example.com/contact": "ml"}}
        namespace.change_server("kimi", {"inheritedMetadata": inherited})
        namespace.wait_until_ready("kimi")
        [pod] = namespace.pods("kimi")
        for manifest in (pod, namespace.service("kimi-headless"), namespace.existing(REVISION, "kimi-1")):
            assert manifest["metadata"]["labels"]["team"] == "ml"
            assert manifest["metadata"]["annotations"]["example.com/contact"] == "ml"
        create_benchmark(namespace, "nightly", suites=[{"name": "speed-low"}], inheritedMetadata=inherited)
        wait_for(lambda: jobs(namespace, "nightly"), "the benchmark's suite starts")
        # A server's labels can change. Its existing children get the new labels.
        namespace.change_server("kimi", {"inheritedMetadata": {"labels": {"team": "search"}}})
        namespace.wait_until_ready("kimi")
        wait_for(
            lambda: namespace.service("kimi")["metadata"]["labels"]["team"],
            "the Service has the new label",
            "search".__eq__,
        )


@contextmanager
def _demanded_label(client: Client, namespace: Namespace, kinds: tuple[Kind, ...]) -> Iterator[None]:
    """Deny objects of a namespace without the label `team`, except those that Kubernetes itself creates."""
    name = f"demand-{namespace.name}"
    here = {"matchLabels": {"kubernetes.io/metadata.name": namespace.name}}
    rules = [_rule(kind) for kind in kinds]
    validation = {
        "expression": "'team' in object.metadata.?labels.orValue({}) || object.metadata.name == 'kube-root-ca.crt'",
        "message": "every object needs a team",
    }
    policy = Kind(_REGISTRATION, "v1", "ValidatingAdmissionPolicy", "validatingadmissionpolicies")
    binding = Kind(_REGISTRATION, "v1", "ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings")
    contents: dict[Kind, Manifest] = {
        policy: {"matchConstraints": {"namespaceSelector": here, "resourceRules": rules}, "validations": [validation]},
        binding: {"policyName": name, "validationActions": ["Deny"]},
    }
    for kind, content in contents.items():
        manifest = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {"name": name}, "spec": content}
        client.create(kind, manifest)
    bare = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "bare", "namespace": namespace.name}}

    def is_denied() -> bool:
        namespace.delete(CONFIG_MAP, "bare")
        return client.send("POST", path_of(CONFIG_MAP, namespace.name), bare).status == 422

    try:
        wait_for(is_denied, "the policy is in force")
        yield
    finally:
        for kind in contents:
            client.delete(kind, None, name)
