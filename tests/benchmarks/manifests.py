"""The objects of the benchmark: servers as people write them, and the objects that Kubernetes' controllers make.

Names go in by replacing a placeholder in text that is made once: making objects should cost nothing.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks.connection import JSON, MERGE_PATCH
from kimi_linear_operator.kubernetes.kinds import DEPLOYMENT, GROUP, POD, REVISION, VERSION, Kind, Manifest, kind_of
from kimi_linear_operator.server.definition import CHECKER
from kimi_linear_operator.server.manifests import build_companions, build_deployment, build_revision
from kimi_linear_operator.server.observation import ServerObservation
from kimi_linear_operator.server.revision import History
from kimi_linear_operator.server.spec import KimiLinearServer
from kimi_linear_operator.server.status import server_status
from kimi_linear_operator.server.template_choice import choose

NAMESPACE = "benchmark"
PLACEHOLDER = "server-00000"
"""As long as every real name, so that the number of bytes is right."""

UID = "00000000-0000-4000-8000-000000000000"
"""Stands for the UID of a server."""

_NOW = "2026-11-24T09:30:00Z"


def server_names(count: int, prefix: str = "server") -> list[str]:
    return [f"{prefix}-{number:05}" for number in range(1, count + 1)]


def path_of(kind: Kind, name: str = "", subresource: str = "") -> str:
    root = f"/apis/{kind.group}/{kind.version}" if kind.group else f"/api/{kind.version}"
    return "/".join(filter(None, (root, "namespaces", NAMESPACE, kind.plural, name, subresource)))


@dataclass(frozen=True)
class Template:
    """An object as text, with a placeholder for its name and one for the UID of its owner."""

    text: bytes

    @classmethod
    def of(cls, manifest: Manifest) -> "Template":
        return cls(json.dumps(manifest).encode())

    def named(self, name: str, uid: str = UID) -> bytes:
        return self.text.replace(PLACEHOLDER.encode(), name.encode()).replace(UID.encode(), uid.encode())


def build_server() -> Manifest:
    """Return the server of the README."""
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "KimiLinearServer",
        "metadata": {"name": PLACEHOLDER, "namespace": NAMESPACE},
        "spec": {"hardware": "mi300x", "tensorParallelism": 4, "toolCallParser": "enabled"},
    }


def build_children() -> dict[Kind, Manifest]:
    """Return the children that the operator builds for a server."""
    server = _checked()
    kept = choose(server, History()).current
    deployment = build_deployment(server, kept.template, kept.number)
    children = (build_revision(server, kept), *build_companions(server), deployment)
    return {kind_of(child): child for child in children}


def child_name(kind: Kind, server: str) -> str:
    """Return the name of a server's child; the record of its pods has a number."""
    return f"{server}-1" if kind == REVISION else server


def build_first_status() -> Manifest:
    """Return the status of a server before Kubernetes' controllers did anything."""
    deployment = build_children()[DEPLOYMENT]
    new = {**deployment, "metadata": {**deployment["metadata"], "generation": 1}}
    view = ServerObservation(_stored(), _checked(), None, new, choice=choose(_checked(), History()))
    return server_status(view, _NOW)


def controller_writes() -> Iterator[tuple[str, str, str, Template]]:
    """Return what Kubernetes' controllers and the kubelet write until a server is ready: method, path, type, body.

    The Deployment controller's revision and both of its reports, the pod, and the kubelet's report of it.
    """
    deployment = build_children()[DEPLOYMENT]
    template = deployment["spec"]["template"]
    revision = {"metadata": {"annotations": {"deployment.kubernetes.io/revision": "1"}}}
    path, pod = path_of(DEPLOYMENT, PLACEHOLDER), f"{PLACEHOLDER}-7c9f8d6b5-x2k4q"
    yield "PATCH", path, MERGE_PATCH, Template.of(revision)
    yield "PATCH", f"{path}/status", MERGE_PATCH, Template.of({"status": _deployment_status(ready=False)})
    yield "POST", path_of(POD), JSON, Template.of(_pod(pod, template))
    yield "PATCH", path_of(POD, pod, "status"), MERGE_PATCH, Template.of({"status": _pod_status(template)})
    yield "PATCH", f"{path}/status", MERGE_PATCH, Template.of({"status": _deployment_status(ready=True)})


def _stored() -> Manifest:
    server = build_server()
    return {**server, "metadata": {**server["metadata"], "uid": UID, "generation": 1}}


def _checked() -> KimiLinearServer:
    checked = CHECKER.check(_stored())
    assert checked.resource is not None, checked.problems
    return checked.resource


def _deployment_status(*, ready: bool) -> dict[str, Any]:
    stamps = {"lastTransitionTime": _NOW, "lastUpdateTime": _NOW}
    replica_set = f"{PLACEHOLDER}-7c9f8d6b5"
    counts: dict[str, int | None]
    if not ready:
        available = ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
        progress = ("True", "ReplicaSetUpdated", f'ReplicaSet "{replica_set}" is progressing.')
        counts = {"unavailableReplicas": 1}
    else:
        available = ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
        progress = ("True", "NewReplicaSetAvailable", f'ReplicaSet "{replica_set}" has successfully progressed.')
        counts = {"readyReplicas": 1, "availableReplicas": 1, "unavailableReplicas": None}
    conditions = [
        {"type": kind, "status": holds, "reason": reason, "message": message, **stamps}
        for kind, (holds, reason, message) in (("Available", available), ("Progressing", progress))
    ]
    return {"observedGeneration": 2, "replicas": 1, "updatedReplicas": 1, **counts, "conditions": conditions}


def _pod(name: str, template: Manifest) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": NAMESPACE,
            "labels": {**template["metadata"]["labels"], "pod-template-hash": "7c9f8d6b5"},
        },
        "spec": {**template["spec"], "nodeName": "mi300x-0"},
    }


def _pod_status(template: Manifest) -> Manifest:
    [container] = template["spec"]["containers"]
    kinds = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")
    digest = "sha256:" + "5d" * 32
    running = {
        "name": container["name"],
        "image": container["image"],
        "imageID": f"docker.io/lmsysorg/sglang@{digest}",
        "containerID": f"containerd://{digest}",
        "ready": True,
        "started": True,
        "restartCount": 0,
        "state": {"running": {"startedAt": _NOW}},
    }
    return {
        "phase": "Running",
        "startTime": _NOW,
        "hostIP": "192.0.2.10",
        "podIP": "10.0.0.1",
        "podIPs": [{"ip": "10.0.0.1"}],
        "qosClass": "Burstable",
        "conditions": [{"type": kind, "status": "True", "lastTransitionTime": _NOW} for kind in kinds],
        "containerStatuses": [running],
    }
