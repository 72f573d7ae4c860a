"""A spec that is not applied gets a default within a list. When its owner corrects the spec, the pods stay."""

from integration.namespace import Namespace, Spec, server_manifest
from integration.processes_under_test import THIS_VERSION
from integration.sandbox import Sandbox
from integration.schema import PULL_POLICY, definition_of_containers
from integration.versions import go_on_as, records
from integration.waiting import stays, wait_for
from kimi_linear_operator.kubernetes import metadata
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.server.labels import LEFT_OUT_ANNOTATION, SEEN_ANNOTATION
from kimi_linear_operator.server.spec import SERVER

_SETTLED_SECONDS = 3.0
_MISTAKES: dict[str, tuple[Spec, str]] = {
    "refused": ({"security": {"hostIPC": True}}, "InvalidSpec"),
    "awaiting": ({"model": {"weights": "missing"}}, "WeightsMissing"),
}


def _apply(namespace: Namespace, name: str, spec: Spec | None = None, **container: object) -> None:
    pods = {"podTemplate": {"spec": {"containers": [{"name": "sglang", "tty": False, **container}]}}}
    manifest = server_manifest(name, namespace.name, {"tensorParallelism": 1, **pods, **(spec or {})})
    namespace.client.apply(SERVER, manifest, "gitops")


def _replica_sets(namespace: Namespace) -> dict[str, list[str]]:
    return {name: sorted(item["metadata"]["name"] for item in namespace.replica_sets(name)) for name in _MISTAKES}


def _container(namespace: Namespace, name: str) -> Manifest:
    [container] = namespace.deployment(name)["spec"]["template"]["spec"]["containers"]
    return dict(container)


def _settle() -> None:
    stays(lambda: None, "times differ by more than a second", lambda _: True, _SETTLED_SECONDS)


def _wait_for_note(namespace: Namespace, name: str, annotation: str, text: str) -> None:
    wait_for(
        lambda: metadata.annotations(records(namespace, name)[0]).get(annotation, ""),
        f"{annotation} of the record contains {text}",
        lambda found: text in found,
    )


def test_a_default_that_appears_in_a_spec_that_is_not_applied_replaces_no_pod(sandbox: Sandbox) -> None:
    namespace = sandbox.namespace
    for name in _MISTAKES:
        _apply(namespace, name)
    for name in _MISTAKES:
        namespace.wait_until_ready(name)
    _settle()
    before = _replica_sets(namespace)
    for name, (mistake, reason) in _MISTAKES.items():
        _apply(namespace, name, mistake)
        namespace.wait_for_condition(name, "Ready", "False", reason)
        _wait_for_note(namespace, name, SEEN_ANNOTATION, '"generation": 2')
    _settle()
    with definition_of_containers(namespace.client):
        go_on_as(sandbox, THIS_VERSION)
        for name in _MISTAKES:
            namespace.edit(SERVER, name, {"metadata": {"labels": {"team": "search"}}})
            _wait_for_note(namespace, name, LEFT_OUT_ANNOTATION, PULL_POLICY)
        _settle()
        for name in _MISTAKES:
            _apply(namespace, name)
            namespace.wait_for_condition(name, "TemplateCurrent", "True", "Newest")
            namespace.wait_until_ready(name)
            assert "imagePullPolicy" in namespace.condition(name, "TemplateCurrent")["message"]
        assert _replica_sets(namespace) == before
        _settle()
        for name in _MISTAKES:
            _apply(namespace, name, stdin=True)
            wait_for(
                lambda name=name: _container(namespace, name).get("stdin"),  # type: ignore[misc]
                "the requested change is rolled out",
                bool,
            )
