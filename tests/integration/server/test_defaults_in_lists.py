"""A default in a list whose owner changed other fields. A scale replaces no pods, but a change of the spec does."""

from integration.namespace import Namespace, Spec, server_manifest
from integration.processes_under_test import THIS_VERSION
from integration.sandbox import Sandbox
from integration.schema import PULL_POLICY, definition_of_containers
from integration.versions import go_on_as, scale
from integration.waiting import stays, wait_for
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.server.labels import ROLLOUT_ANNOTATION
from kimi_linear_operator.server.spec import SERVER

_NAMES = ["quiet", "labelled", "moved"]
_SETTLED_SECONDS = 3.0


def _spec(**more: object) -> Spec:
    return {"tensorParallelism": 1, "podTemplate": {"spec": {"containers": [{"name": "sglang", "tty": False}]}}, **more}


def _apply(namespace: Namespace, name: str, spec: Spec, labels: dict[str, str] | None = None) -> None:
    manifest = server_manifest(name, namespace.name, spec)
    manifest["metadata"]["labels"] = labels or {}
    namespace.client.apply(SERVER, manifest, "gitops")


def _replica_sets(namespace: Namespace) -> dict[str, list[str]]:
    return {name: sorted(item["metadata"]["name"] for item in namespace.replica_sets(name)) for name in _NAMES}


def _settle() -> None:
    stays(lambda: None, "times differ by more than a second", lambda _: True, _SETTLED_SECONDS)


def _container(namespace: Namespace, name: str) -> Manifest:
    [container] = namespace.deployment(name)["spec"]["template"]["spec"]["containers"]
    return dict(container)


def test_scaling_rolls_out_no_default_even_after_a_change_by_the_lists_owner(sandbox: Sandbox) -> None:
    namespace = sandbox.namespace
    for name in _NAMES:
        _apply(namespace, name, _spec())
    for name in _NAMES:
        namespace.wait_until_ready(name)
    _settle()
    _apply(namespace, "labelled", _spec(), {"team": "search"})
    _apply(namespace, "moved", _spec(service={"port": 31000}))
    namespace.wait_until_ready("moved")
    _settle()
    before = _replica_sets(namespace)
    with definition_of_containers(namespace.client):
        # An autoscaler scales while no operator runs, so no operator has seen the spec under the newer CRD.
        sandbox.operator.kill()
        for name in _NAMES:
            namespace.client.patch(SERVER, namespace.name, name, {"spec": {"replicas": 2}}, "scale")
        go_on_as(sandbox, THIS_VERSION)
        for name in _NAMES:
            wait_for(lambda name=name: len(namespace.pods(name)), f"{name} is scaled", (2).__eq__)  # type: ignore[misc]
            namespace.wait_until_ready(name)
        assert _replica_sets(namespace) == before
        for name in _NAMES:
            scale(namespace, name, 1)
            _apply(namespace, name, _spec(service={"port": 32000}))
            namespace.wait_until_ready(name)
        assert _replica_sets(namespace) == before
        [message] = {namespace.condition(name, "TemplateCurrent")["message"] for name in _NAMES}
        assert "spec.podTemplate.spec.containers[0].imagePullPolicy" in message
        namespace.edit(SERVER, "moved", {"metadata": {"annotations": {ROLLOUT_ANNOTATION: "now"}}})
        wait_for(
            lambda: _container(namespace, "moved").get("imagePullPolicy"),
            "the annotation takes the default",
            PULL_POLICY.__eq__,
        )
        namespace.wait_until_ready("moved")
        changed = _spec(service={"port": 32000})
        changed["podTemplate"]["spec"]["containers"][0]["stdin"] = True
        _apply(namespace, "quiet", changed)
        wait_for(lambda: _container(namespace, "quiet").get("stdin"), "the requested change is rolled out", bool)
    assert _replica_sets(namespace)["labelled"] == before["labelled"]
