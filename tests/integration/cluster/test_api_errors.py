"""The operator distinguishes real refusals of the API server by their text."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from integration.client import APPLY, NAMESPACE, QUOTA, Answer, Client, path_of
from integration.namespace import Namespace
from integration.waiting import wait_for
from kimi_linear_operator.cluster.client import for_state
from kimi_linear_operator.cluster.errors import Meaning, classify
from kimi_linear_operator.kubernetes.kinds import DEPLOYMENT, SERVICE, Kind, Manifest
from kimi_linear_operator.kubernetes.metadata import MANAGER
from kimi_linear_operator.server.manifests import build
from kimi_linear_operator.server.spec import KimiLinearServer
from make import make_server

_REGISTRATION = "admissionregistration.k8s.io"
_POLICY = Kind(_REGISTRATION, "v1", "ValidatingAdmissionPolicy", "validatingadmissionpolicies")
_BINDING = Kind(_REGISTRATION, "v1", "ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings")
_WEBHOOK = Kind(_REGISTRATION, "v1", "ValidatingWebhookConfiguration", "validatingwebhookconfigurations")


def _container(**changes: Any) -> Callable[[Manifest], None]:
    def change(deployment: Manifest) -> None:
        deployment["spec"]["template"]["spec"]["containers"][0] |= changes

    return change


def _pod(**changes: Any) -> Callable[[Manifest], None]:
    def change(deployment: Manifest) -> None:
        deployment["spec"]["template"]["spec"] |= changes

    return change


PORT = {"containerPort": 1, "protocol": "TCP"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_container(env=[{"name": "A", "value": 5}]), "expected string, got"),
        (_container(env=[{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]), "duplicate entries for key"),
        (_container(ports=[PORT, PORT]), "duplicate entries for key"),
        (_container(env=[{"value": "no name"}]), "Required value"),
        (_container(tty="yes"), "expected boolean, got"),
        (_container(args="one word"), "expected list, got"),
        (_container(resources=["none"]), "expected map, got"),
        (_container(livenessProbe={"periodSeconds": "10"}), "expected numeric"),
        (_pod(tolerationz=[]), "field not declared in schema"),
        (_container(resources={"limits": {"memory": "much"}}), "quantities must match"),
        (_container(image=""), "Required value"),
        (_pod(restartPolicy="Never"), "Unsupported value"),
        (_pod(volumes=[{"name": "x", "emptyDir": {}, "hostPath": {"path": "/"}}]), "may not specify more than 1"),
        (lambda deployment: deployment["metadata"]["labels"].update({"a": "not a label!"}), "Invalid value"),
        (lambda deployment: deployment["spec"].update(replicas=-1), "must be greater than or equal to 0"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_wrong_object_is_the_specs_fault(
    namespace: Namespace, change: Callable[[Manifest], None], words: str
) -> None:
    deployment = _deployment(namespace)
    change(deployment)
    status, message = _refusal(namespace, deployment)
    assert words in message
    assert classify(status, message) == Meaning.WRONG_SPEC, (status, message)


def test_a_change_of_an_immutable_field_is_the_specs_fault(namespace: Namespace) -> None:
    namespace.client.apply(DEPLOYMENT, _deployment(namespace), MANAGER)
    changed = _deployment(namespace)
    changed["spec"]["selector"] = {"matchLabels": {"app.kubernetes.io/name": "kimi-linear"}}
    status, message = _refusal(namespace, changed)
    assert "field is immutable" in message
    assert classify(status, message) == Meaning.WRONG_SPEC


def test_an_object_that_is_too_large_is_the_specs_fault(namespace: Namespace) -> None:
    for size in (1_600_000, 3_500_000):
        deployment = _deployment(namespace)
        deployment["metadata"]["annotations"] = {}
        deployment["spec"]["template"]["spec"]["containers"][0]["args"] = ["x" * size]
        status, message = _refusal(namespace, deployment)
        assert classify(status, message) == Meaning.WRONG_SPEC, (status, message)


def test_a_full_quota_is_a_matter_for_the_administrator(namespace: Namespace) -> None:
    quota = {"metadata": {"name": "none"}, "spec": {"hard": {"count/deployments.apps": "0"}}}
    namespace.client.create(QUOTA, _placed(namespace, QUOTA, quota))
    wait_for(lambda: "status" in namespace.existing(QUOTA, "none"), "the quota is in force")
    status, message = _wait_for_refusal(namespace)
    assert "exceeded quota" in message
    assert classify(status, message) == Meaning.FORBIDDEN


@pytest.mark.parametrize("reason", [None, "Forbidden", "Invalid", "RequestEntityTooLarge"])
def test_a_policy_may_deny_with_any_status(namespace: Namespace, reason: str | None) -> None:
    validation = {"expression": "false", "message": "deployments need a team", **({"reason": reason} if reason else {})}
    with _policy(namespace, validation):
        status, message = _wait_for_refusal(namespace)
        assert "deployments need a team" in message
        assert classify(status, message) == Meaning.DENIED, (status, message)


def test_a_webhook_that_does_not_answer_is_a_temporary_error(namespace: Namespace) -> None:
    with _webhook(namespace):
        status, message = _wait_for_refusal(namespace)
        assert "failed calling webhook" in message
        assert classify(status, message) == Meaning.RETRY, (status, message)


def test_a_namespace_that_is_being_deleted_is_a_temporary_error(client: Client, namespace: Namespace) -> None:
    going = Namespace(client, f"{namespace.name}-going")
    client.create(NAMESPACE, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": going.name}})
    client.create(SERVICE, _placed(going, SERVICE, {"metadata": {"name": "x", "finalizers": ["tests/wait"]}, **_PORTS}))
    client.delete(NAMESPACE, None, going.name)
    status, message = _wait_for_refusal(going)
    assert "is being terminated" in message
    assert classify(status, message) == Meaning.RETRY, (status, message)
    going.edit(SERVICE, "x", {"metadata": {"finalizers": None}})
    status, message = _wait_for_refusal(going, "not found")
    assert classify(status, message) == Meaning.RETRY, (status, message)


_PORTS = {"spec": {"ports": [{"port": 80}]}}


def test_a_conflict_is_a_temporary_error(namespace: Namespace) -> None:
    namespace.client.apply(DEPLOYMENT, _deployment(namespace), MANAGER)
    stale = _deployment(namespace)
    stale["metadata"]["resourceVersion"] = "1"
    status, message = _refusal(namespace, stale)
    assert (status, classify(status, message)) == (409, Meaning.RETRY)


def test_a_write_for_one_state_neither_changes_another_state_nor_creates_the_object_again(namespace: Namespace) -> None:
    namespace.client.apply(DEPLOYMENT, _deployment(namespace), MANAGER)
    live = namespace.existing(DEPLOYMENT, "kimi")
    namespace.edit(DEPLOYMENT, "kimi", {"metadata": {"annotations": {"somebody": "was here"}}})
    guarded = for_state(live, _deployment(namespace))
    status, message = _refusal(namespace, guarded)
    assert (status, classify(status, message)) == (409, Meaning.RETRY)
    namespace.client.delete(DEPLOYMENT, namespace.name, "kimi")
    wait_for(lambda: namespace.find(DEPLOYMENT, "kimi") is None, "the Deployment is gone")
    status, message = _refusal(namespace, guarded)
    assert (status, classify(status, message)) == (409, Meaning.RETRY)
    assert namespace.find(DEPLOYMENT, "kimi") is None


def _deployment(namespace: Namespace) -> Manifest:
    manifest = make_server()
    manifest["metadata"] |= {"namespace": namespace.name, "uid": ""}
    (*_, deployment) = build(KimiLinearServer.model_validate(manifest))
    return deployment


def _refusal(namespace: Namespace, deployment: Manifest) -> tuple[int, str]:
    """Apply as the operator does and return status and message of the refusal."""
    target = path_of(DEPLOYMENT, namespace.name, "kimi")
    query = {"fieldManager": MANAGER, "force": "true"}
    answer = namespace.client.send("PATCH", target, deployment, query, APPLY)
    assert answer.status >= 400, "the API server accepted the object"
    return answer.status, str(answer.body["message"])


def _wait_for_refusal(namespace: Namespace, words: str = "") -> tuple[int, str]:
    """Repeat an apply until the API server refuses it with these words.

    Return the status and the message of the refusal.
    """
    target, query = path_of(DEPLOYMENT, namespace.name, "kimi"), {"fieldManager": MANAGER, "force": "true"}

    def attempt() -> Answer:
        namespace.delete(DEPLOYMENT, "kimi")
        return namespace.client.send("PATCH", target, _deployment(namespace), query, APPLY)

    def is_refusal(answer: Answer) -> bool:
        return answer.status >= 400 and words in str(answer.body["message"])

    answer = wait_for(attempt, f"the API server refuses the apply: {words}", is_refusal)
    return answer.status, str(answer.body["message"])


def _placed(namespace: Namespace, kind: Kind, manifest: Manifest) -> Manifest:
    metadata = {**manifest["metadata"], "namespace": namespace.name}
    return {"apiVersion": kind.api_version, "kind": kind.kind, **manifest, "metadata": metadata}


_RULE = {"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["deployments"]}


@contextmanager
def _policy(namespace: Namespace, validation: Manifest) -> Iterator[None]:
    """Deny Deployments of a namespace."""
    name = f"deny-{namespace.name}"
    here = {"matchLabels": {"kubernetes.io/metadata.name": namespace.name}}
    spec = {"matchConstraints": {"namespaceSelector": here, "resourceRules": [_RULE]}, "validations": [validation]}
    manifests = {
        _POLICY: {"metadata": {"name": name}, "spec": spec},
        _BINDING: {"metadata": {"name": name}, "spec": {"policyName": name, "validationActions": ["Deny"]}},
    }
    with _existing(namespace.client, manifests):
        yield


@contextmanager
def _webhook(namespace: Namespace) -> Iterator[None]:
    """Register a webhook for the Deployments of a namespace. No server answers at the webhook's address."""
    webhook = {
        "name": "absent.example.com",
        "clientConfig": {"url": "https://127.0.0.1:1/"},
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace.name}},
        "rules": [_RULE],
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "timeoutSeconds": 1,
    }
    with _existing(namespace.client, {_WEBHOOK: {"metadata": {"name": namespace.name}, "webhooks": [webhook]}}):
        yield


@contextmanager
def _existing(client: Client, manifests: dict[Kind, Manifest]) -> Iterator[None]:
    for kind, manifest in manifests.items():
        client.create(kind, {"apiVersion": kind.api_version, "kind": kind.kind, **manifest})
    try:
        yield
    finally:
        for kind, manifest in manifests.items():
            client.delete(kind, None, manifest["metadata"]["name"])
