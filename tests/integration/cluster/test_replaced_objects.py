"""A write for an object that was deleted and made anew is a conflict for the operator, and changes nothing.

The API server calls many of these writes invalid. But nothing is wrong with the spec.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from integration.namespace import Namespace
from integration.sandbox import Sandboxes
from integration.waiting import wait_for
from kimi_linear_operator.cluster.client import Cluster, connect, for_object
from kimi_linear_operator.cluster.errors import ApiError
from kimi_linear_operator.kubernetes.kinds import DEPLOYMENT, JOB, POD, Kind, Manifest, kind_of
from kimi_linear_operator.kubernetes.metadata import MANAGER
from kimi_linear_operator.server.spec import SERVER

Write = Callable[[Cluster, Manifest], Awaitable[Any]]

_CONTAINER = {"name": "sglang", "image": "sglang"}
_POD_SPEC = {"containers": [_CONTAINER], "restartPolicy": "Never", "schedulerName": "nobody"}
_LABELS = {"app": "kimi"}
_TEMPLATE = {"metadata": {"labels": _LABELS}, "spec": {**_POD_SPEC, "restartPolicy": "Always"}}
_SPECS: dict[Kind, Manifest] = {
    DEPLOYMENT: {"replicas": 0, "selector": {"matchLabels": _LABELS}, "template": _TEMPLATE},
    JOB: {"suspend": True, "template": {"spec": _POD_SPEC}},
    POD: _POD_SPEC,
    SERVER: {"suspend": True},
}


def _wanted(live: Manifest) -> Manifest:
    """Return an object as the operator could apply it."""
    names = {name: live["metadata"][name] for name in ("name", "namespace")}
    spec = {**_SPECS[kind_of(live)], "replicas": 1}
    return {"apiVersion": live["apiVersion"], "kind": live["kind"], "metadata": names, "spec": spec}


async def _unify(cluster: Cluster, live: Manifest) -> None:
    """Unify the managers of an object that the operator has patched."""
    entry = {"manager": MANAGER, "operation": "Update", "apiVersion": "apps/v1", "fieldsType": "FieldsV1"}
    patched = [{**entry, "fieldsV1": {"f:spec": {"f:replicas": {}}}}]
    await cluster.unify(DEPLOYMENT, {**live, "metadata": {**live["metadata"], "managedFields": patched}})


_CONDITION = {"type": "kimi-linear.io/verified", "status": "True", "lastTransitionTime": "2026-11-24T10:00:00Z"}
_STATUS = {"image": "of the first"}
_WITH_STATUS = {"status": {"url": "of the first"}}

WRITES: dict[str, tuple[Kind, Write]] = {
    "apply": (DEPLOYMENT, lambda cluster, live: cluster.apply(DEPLOYMENT, for_object(live, _wanted(live)))),
    "try": (DEPLOYMENT, lambda cluster, live: cluster.apply(DEPLOYMENT, for_object(live, _wanted(live)), dry_run=True)),
    "overwrite": (DEPLOYMENT, lambda cluster, live: cluster.overwrite(DEPLOYMENT, for_object(live, _wanted(live)))),
    "amend": (DEPLOYMENT, lambda cluster, live: cluster.amend(DEPLOYMENT, live, {**live, **_wanted(live)})),
    "scale": (DEPLOYMENT, lambda cluster, live: cluster.scale(DEPLOYMENT, live, 1)),
    "unify": (DEPLOYMENT, _unify),
    "annotate a Deployment": (DEPLOYMENT, lambda cluster, live: cluster.annotate(DEPLOYMENT, live, "a", "b")),
    "remove an annotation": (DEPLOYMENT, lambda cluster, live: cluster.remove_annotation(DEPLOYMENT, live, "a")),
    "annotate a Job": (JOB, lambda cluster, live: cluster.annotate(JOB, live, "a", "b")),
    "condition": (POD, lambda cluster, live: cluster.set_condition(POD, live, _CONDITION)),
    "first status": (SERVER, lambda cluster, live: cluster.patch_status(SERVER, live, _STATUS)),
    "status": (SERVER, lambda cluster, live: cluster.patch_status(SERVER, {**live, **_WITH_STATUS}, _STATUS)),
    "status for a spec": (
        SERVER,
        lambda cluster, live: cluster.patch_status(SERVER, {**live, **_WITH_STATUS}, _STATUS, if_unchanged=True),
    ),
    "delete": (DEPLOYMENT, lambda cluster, live: cluster.delete(DEPLOYMENT, live)),
}


def _create(namespace: Namespace, kind: Kind) -> Manifest:
    metadata = {"name": "kimi", "namespace": namespace.name}
    manifest = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, "spec": _SPECS[kind]}
    return namespace.client.create(kind, manifest)


def _written(live: Manifest) -> Manifest:
    """Return the parts of an object that the writes could change, without what controllers write."""
    annotations, status = live["metadata"].get("annotations", {}), live.get("status", {})
    ours = [item for item in status.get("conditions", ()) if item["type"] == _CONDITION["type"]]
    stable = {"uid": live["metadata"]["uid"], "spec": live["spec"], "annotation": annotations.get("a"), "ours": ours}
    return {**stable, "status": status if live["kind"] == SERVER.kind else None}


def _refusals(objects: dict[Kind, Manifest]) -> dict[str, str]:
    """Make all writes for these objects. Return what the operator is told about each of them."""

    async def refusal(cluster: Cluster, write: Write, live: Manifest) -> str:
        try:
            await write(cluster, live)
        except ApiError as error:
            return f"{error.status} {error.meaning.name}"
        return "done"

    async def write_all() -> dict[str, str]:
        async with connect() as cluster:
            told = {name: await refusal(cluster, write, objects[kind]) for name, (kind, write) in WRITES.items()}
        # Connections with TLS need a moment to close: https://docs.aiohttp.org/en/stable/client_advanced.html#graceful-shutdown
        await asyncio.sleep(1)
        return told

    return asyncio.run(write_all())


def test_a_write_for_an_object_that_was_made_anew_is_a_conflict_and_changes_nothing(
    sandboxes: Sandboxes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sandboxes.open() as sandbox:
        namespace = sandbox.namespace
        monkeypatch.setenv("KUBECONFIG", str(sandbox.operator.kubeconfig))
        first = {kind: _create(namespace, kind) for kind in _SPECS}
        for kind in _SPECS:
            namespace.delete(kind, "kimi")
        wait_for(lambda: not any(namespace.find(kind, "kimi") for kind in _SPECS), "the objects are gone")
        for kind in _SPECS:
            _create(namespace, kind)
        namespace.client.patch(SERVER, namespace.name, "kimi", {"status": {"url": "of the second"}}, "status")
        before = {kind: _written(namespace.existing(kind, "kimi")) for kind in _SPECS}
        assert _refusals(first) == dict.fromkeys(WRITES, "409 RETRY")
        assert {kind: _written(namespace.existing(kind, "kimi")) for kind in _SPECS} == before
