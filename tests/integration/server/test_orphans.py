"""A Deployment that changes during every attempt to write it is written at last, but it never gets an owner back.

Kubernetes would delete a Deployment whose owner no longer exists, and its pods.
"""

import asyncio
import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from aiohttp import web

from control_plane import LocalCluster
from integration.client import Client
from integration.faults import Call, Fault, Forward, refuse
from integration.sandbox import Sandbox
from integration.waiting import stays, wait_for
from kimi_linear_operator.cluster.paths import path
from kimi_linear_operator.kubernetes.kinds import DEPLOYMENT
from kimi_linear_operator.server.spec import SERVER

# The garbage collector deletes a Deployment with an owner that is gone within a second or two.
_COLLECTION_SECONDS = 10.0


def _writes_deployment(call: Call) -> bool:
    return call.is_write and call.concerns(DEPLOYMENT, "kimi")


def _is_for_one_state(call: Call) -> bool:
    """Return whether a write is an apply to one state of the Deployment."""
    body = json.loads(call.body)
    return isinstance(body, dict) and "resourceVersion" in body["metadata"]


def _after_conflicts(meanwhile: Callable[[], None]) -> Fault:
    """Answer each write for one state with a conflict. Do something right before the first other write is made."""
    is_done = False

    async def fault(call: Call, forward: Forward) -> web.StreamResponse:
        nonlocal is_done
        if _is_for_one_state(call):
            return await refuse(409)(call, forward)
        if not is_done and "dryRun" not in call.query:
            is_done = True
            await asyncio.to_thread(meanwhile)
        return await forward()

    return fault


def _delete_without_children(kubeconfig: Path, name: str) -> None:
    """Delete the server as `kubectl delete --cascade=orphan` does."""
    with closing(Client(kubeconfig)) as client:
        client.send("DELETE", path(SERVER, name, "kimi"), {"propagationPolicy": "Orphan"})
        wait_for(lambda: client.get(SERVER, name, "kimi") is None, "the server is gone")


def test_a_deployment_that_is_orphaned_during_a_slow_write_keeps_running(
    cluster: LocalCluster, sandbox: Sandbox
) -> None:
    namespace = sandbox.namespace
    namespace.create_server("kimi")
    namespace.wait_until_ready("kimi")
    sandbox.wait_for_resync()
    before = namespace.deployment("kimi")["metadata"]["uid"]
    orphaned = _after_conflicts(lambda: _delete_without_children(cluster.kubeconfig, namespace.name))
    with sandbox.proxy.fault(orphaned, _writes_deployment):
        namespace.change_server("kimi", {"replicas": 2})
        wait_for(lambda: namespace.find(SERVER, "kimi") is None, "the server is gone")
        stays(lambda: namespace.find(DEPLOYMENT, "kimi"), "the Deployment is there", bool, _COLLECTION_SECONDS)
    after = namespace.deployment("kimi")["metadata"]
    assert (after["uid"], after.get("ownerReferences", [])) == (before, [])


def test_a_deployment_that_changes_during_every_attempt_is_written_at_last(sandbox: Sandbox) -> None:
    namespace = sandbox.namespace
    namespace.create_server("kimi")
    namespace.wait_until_ready("kimi")
    sandbox.wait_for_resync()
    with sandbox.proxy.fault(_after_conflicts(lambda: None), _writes_deployment):
        namespace.change_server("kimi", {"replicas": 2})
        wait_for(lambda: namespace.deployment("kimi")["spec"]["replicas"] == 2, "the Deployment is scaled")
    namespace.wait_until_ready("kimi")
    assert len(namespace.replica_sets("kimi")) == 1
