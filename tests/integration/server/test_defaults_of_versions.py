"""Defaults from the CRD of another version. This version refuses them, or they are in objects that users left empty."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from integration.client import Client
from integration.namespace import Namespace, Spec, server_manifest
from integration.processes_under_test import THIS_VERSION
from integration.sandbox import Sandbox
from integration.schema import another_definition
from integration.versions import go_on_as, scale
from integration.waiting import stays, wait_for
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.server.definition import DEFINITION
from kimi_linear_operator.server.spec import SERVER

_SETTLED_SECONDS = 3.0
_MARK = "marker"


@contextmanager
def _definition(client: Client, change: Callable[[Manifest], None]) -> Iterator[None]:
    """Let the API server use the CRD of another version for a while."""
    other = copy.deepcopy(DEFINITION.manifest())
    [version] = other["spec"]["versions"]
    spec = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    spec["properties"][_MARK] = {"type": "string", "default": "there"}
    change(spec)
    with another_definition(client, DEFINITION, other, {}, lambda found: _MARK in found):
        yield


def _apply(namespace: Namespace, name: str, spec: Spec) -> None:
    namespace.client.apply(SERVER, server_manifest(name, namespace.name, {"tensorParallelism": 1, **spec}), "owner")


def _serve_all(namespace: Namespace, specs: dict[str, Spec]) -> dict[str, list[str]]:
    """Apply servers. Return their ReplicaSets when the servers are Ready and the records are old enough."""
    for name, spec in specs.items():
        _apply(namespace, name, spec)
    for name in specs:
        namespace.wait_until_ready(name)
    stays(lambda: None, "the records become older than a second", lambda _: True, _SETTLED_SECONDS)
    return _replica_sets(namespace, specs)


def _replica_sets(namespace: Namespace, names: dict[str, Spec]) -> dict[str, list[str]]:
    return {name: sorted(item["metadata"]["name"] for item in namespace.replica_sets(name)) for name in names}


def _container(**fields: object) -> Spec:
    return {"podTemplate": {"spec": {"containers": [{"name": "sglang", **fields}]}}}


_SPECS: dict[str, Spec] = {
    "item": _container(resources={}),
    "pod": {"podTemplate": {"spec": {}}},
    "labels": {"podTemplate": {"metadata": {}}},
    "null": {"podTemplate": {"spec": {"hostAliases": None}}},
    "probe": _container(livenessProbe=None),
}


def _fill(spec: Manifest) -> None:
    """Set defaults in objects that users may have written as {}, and in place of users' nulls."""
    item = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    template = spec["properties"]["podTemplate"]["properties"]
    pod = template["spec"]["properties"]
    container = pod["containers"]["items"]["properties"]
    container["resources"]["properties"]["claims"] = {"type": "array", "items": item, "maxItems": 8, "default": []}
    container["livenessProbe"] = {**item, "default": {}}
    pod["automountServiceAccountToken"] = {"type": "boolean", "default": False}
    pod["hostAliases"] = {"type": "array", "items": item, "maxItems": 16, "default": []}
    template["metadata"]["properties"]["labels"]["default"] = {}


def test_a_default_within_an_empty_object_or_in_place_of_a_null_replaces_no_pod(sandbox: Sandbox) -> None:
    namespace = sandbox.namespace
    before = _serve_all(namespace, _SPECS)
    with _definition(namespace.client, _fill):
        go_on_as(sandbox, THIS_VERSION)
        for name in _SPECS:
            scale(namespace, name, 2)
        assert namespace.server("null")["spec"]["podTemplate"]["spec"]["hostAliases"] == []
        assert _replica_sets(namespace, _SPECS) == before
        # The next operator knows what the last one saw, even if the owner changes another field in the meantime.
        sandbox.operator.kill()
        for name in _SPECS:
            _apply(namespace, name, {**_SPECS[name], "service": {"port": 31000}})
        go_on_as(sandbox, THIS_VERSION)
        for name in _SPECS:
            namespace.wait_until_ready(name)
        assert _replica_sets(namespace, _SPECS) == before
    for name in _SPECS:
        scale(namespace, name, 1)
    assert _replica_sets(namespace, _SPECS) == before


def _extend(spec: Manifest) -> None:
    """Raise the default and the maximum of `startup.timeoutSeconds` above those of this version."""
    startup = spec["properties"]["startup"]
    startup["properties"]["timeoutSeconds"] |= {"default": 90_000, "maximum": 172_800}
    for default in (startup["default"], spec["default"]["startup"]):
        default["timeoutSeconds"] = 90_000


def test_scaling_replaces_no_pod_although_this_version_refuses_a_default(sandbox: Sandbox) -> None:
    namespace = sandbox.namespace
    specs: dict[str, Spec] = {"a": {}, "b": {}}
    with _definition(namespace.client, _extend):
        before = _serve_all(namespace, specs)
        scale(namespace, "a", 2)
        assert namespace.server("a")["spec"]["startup"] == {"timeoutSeconds": 90_000}
        assert _replica_sets(namespace, specs) == before
    scale(namespace, "b", 2)
    _apply(namespace, "b", {"service": {"port": 31000}})
    namespace.wait_until_ready("b")
    assert namespace.server("b")["spec"]["startup"] == {"timeoutSeconds": 90_000}
    assert _replica_sets(namespace, specs) == before


def _make_atomic(spec: Manifest) -> None:
    properties = spec["properties"]
    properties["model"]["properties"]["tokenSecretRef"]["x-kubernetes-map-type"] = "atomic"
    properties["podTemplate"]["properties"]["spec"]["properties"]["nodeSelector"]["x-kubernetes-map-type"] = "atomic"


def test_a_users_change_within_an_object_that_became_atomic_takes_effect(sandbox: Sandbox) -> None:
    namespace = sandbox.namespace
    _serve_all(namespace, {"a": {}})
    with _definition(namespace.client, _make_atomic):
        go_on_as(sandbox, THIS_VERSION)
        token = {"name": "hf", "key": "token"}
        _apply(namespace, "a", {"model": {"tokenSecretRef": token}})
        wait_for(lambda: str(namespace.deployment("a")), "the token is used", lambda text: "HF_TOKEN" in text)
        pool = {"podTemplate": {"spec": {"nodeSelector": {"pool": "gold"}}}}
        _apply(namespace, "a", {"model": {"tokenSecretRef": token}, **pool})
        wait_for(
            lambda: namespace.deployment("a")["spec"]["template"]["spec"].get("nodeSelector", {}),
            "the node selector is used",
            lambda selector: selector.get("pool") == "gold",
        )
