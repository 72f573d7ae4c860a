"""An object that others change all the time is amended: only our fields change, and nothing of the others is lost."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from integration.namespace import Namespace, engine_container
from integration.sandbox import Sandboxes
from kimi_linear_operator.cluster.client import Cluster, connect, for_object
from kimi_linear_operator.cluster.errors import ApiError
from kimi_linear_operator.kubernetes import drift, ownership
from kimi_linear_operator.kubernetes.kinds import DEPLOYMENT, Manifest
from kimi_linear_operator.kubernetes.metadata import MANAGER
from kimi_linear_operator.server.manifests import build
from kimi_linear_operator.server.spec import KimiLinearServer
from make import make_server

# Go and Python write some of these characters in different ways, and the API server compares texts.
_ODD_TEXT = '<&> "\\" é \u2028\u2029 \b\f\n\x01\x7f \ufffd'


def _deployment(namespace: Namespace, **spec: Any) -> Manifest:
    manifest = make_server(**spec)
    manifest["metadata"] |= {"namespace": namespace.name, "uid": ""}
    (*_, deployment) = build(KimiLinearServer.model_validate(manifest))
    return deployment


def _set_env(namespace: Namespace, value: str) -> None:
    """Set an environment variable of the container as another client does, with its own field manager."""
    container = {"name": "sglang", "env": [{"name": "OF_ANOTHER", "value": value}]}
    metadata = {"name": "kimi", "namespace": namespace.name}
    spec = {"template": {"spec": {"containers": [container]}}}
    applied = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}
    namespace.client.apply(DEPLOYMENT, applied, "another")


def _env_of_another(namespace: Namespace) -> list[Manifest]:
    env = engine_container(namespace.deployment("kimi"))["env"]
    return [item for item in env if item["name"] == "OF_ANOTHER"]


def _beat(namespace: Namespace, number: str) -> None:
    """Change two fields that the operator does not set."""
    about = {"annotations": {"heartbeat": number}}
    namespace.edit(DEPLOYMENT, "kimi", {"metadata": about, "spec": {"minReadySeconds": int(number)}})


async def _amend(cluster: Cluster, wanted: Manifest, between: Callable[[], object], last: Callable[[], object]) -> int:
    """Amend the Deployment while others write it. Return the status of a conflict, 0 without one."""
    name, namespace = wanted["metadata"]["name"], wanted["metadata"]["namespace"]
    live = await cluster.get(DEPLOYMENT, namespace, name)
    assert live
    between()
    tried = await cluster.apply(DEPLOYMENT, for_object(live, wanted), dry_run=True)
    last()
    try:
        await cluster.unify(DEPLOYMENT, await cluster.amend(DEPLOYMENT, live, tried))
    except ApiError as error:
        return error.status if error.is_passing else -1
    return 0


def _nothing() -> None:
    """Change nothing."""


def _amended(wanted: Manifest, between: Callable[[], object] = _nothing, last: Callable[[], object] = _nothing) -> int:
    async def amend() -> int:
        async with connect() as cluster:
            status = await _amend(cluster, wanted, between, last)
        # Connections with TLS need a moment to close: https://docs.aiohttp.org/en/stable/client_advanced.html#graceful-shutdown
        await asyncio.sleep(1)
        return status

    return asyncio.run(amend())


@pytest.fixture
def namespace(sandboxes: Sandboxes, monkeypatch: pytest.MonkeyPatch) -> Iterator[Namespace]:
    """A namespace with a Deployment that the operator and another client have applied. No operator runs."""
    with sandboxes.open() as sandbox:
        monkeypatch.setenv("KUBECONFIG", str(sandbox.operator.kubeconfig))
        first = _deployment(sandbox.namespace)
        first["metadata"]["annotations"]["no-longer/wanted"] = "yes"
        sandbox.namespace.client.apply(DEPLOYMENT, first, MANAGER)
        _set_env(sandbox.namespace, _ODD_TEXT)
        yield sandbox.namespace


def test_our_fields_change_although_others_write_other_fields_before_each_request(namespace: Namespace) -> None:
    wanted = _deployment(namespace, replicas=3)

    def last() -> None:
        _beat(namespace, "2")
        _set_env(namespace, "2")

    assert _amended(wanted, lambda: _beat(namespace, "1"), last) == 0
    live = namespace.deployment("kimi")
    assert (live["spec"]["replicas"], live["spec"]["minReadySeconds"]) == (3, 2)
    assert live["metadata"]["annotations"]["heartbeat"] == "2"
    assert "no-longer/wanted" not in live["metadata"]["annotations"], "the operator no longer applies this annotation"
    assert _env_of_another(namespace) == [{"name": "OF_ANOTHER", "value": "2"}]
    assert not drift.has_drifted(live, wanted)
    assert not ownership.has_second_manager(live, MANAGER)


@pytest.mark.parametrize("moment", ["between", "last"])
def test_a_list_that_others_change_at_the_same_time_is_a_conflict_and_loses_no_item(
    namespace: Namespace, moment: str
) -> None:
    wanted = _deployment(namespace, toolCallParser="enabled")
    assert _amended(wanted, **{moment: lambda: _set_env(namespace, "2")}) == 409
    assert _env_of_another(namespace) == [{"name": "OF_ANOTHER", "value": "2"}]
    assert _amended(wanted) == 0
    assert _env_of_another(namespace) == [{"name": "OF_ANOTHER", "value": "2"}]
    assert "--tool-call-parser" in engine_container(namespace.deployment("kimi"))["args"]


def test_a_field_that_others_add_at_the_same_time_is_a_conflict(namespace: Namespace) -> None:
    wanted = _deployment(namespace, podTemplate={"spec": {"tolerations": [{"key": "ours", "operator": "Exists"}]}})
    theirs = {"key": "theirs", "operator": "Exists"}
    patch = {"spec": {"template": {"spec": {"tolerations": [theirs]}}}}
    assert _amended(wanted, last=lambda: namespace.edit(DEPLOYMENT, "kimi", patch)) == 409
    assert namespace.deployment("kimi")["spec"]["template"]["spec"]["tolerations"] == [theirs]


def test_nothing_changes_if_everybody_else_has_already_made_the_change(namespace: Namespace) -> None:
    wanted = _deployment(namespace)
    assert _amended(wanted) == 0
    before = namespace.deployment("kimi")["metadata"]["resourceVersion"]
    assert _amended(wanted) == 0
    assert namespace.deployment("kimi")["metadata"]["resourceVersion"] == before
