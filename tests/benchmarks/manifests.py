"""The objects of the benchmark: servers as users write them, and the objects of Kubernetes' controllers.

A name replaces a placeholder in a text that is made only once, because making objects should cost nothing.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks.connection import JSON, MERGE_PATCH
from kimi_linear_operator.kubernetes.kinds import (
    AUTOSCALER,
    DEPLOYMENT,
    GROUP,
    HTTP_ROUTE,
    INGRESS,
    POD,
    REVISION,
    VERSION,
    Kind,
    Manifest,
    kind_of,
)
from kimi_linear_operator.server import router, router_template
from kimi_linear_operator.server.definition import CHECKER
from kimi_linear_operator.server.labels import ROUTER_SUFFIX
from kimi_linear_operator.server.manifests import build_companions, build_deployment, build_revision
from kimi_linear_operator.server.observation import ServerObservation
from kimi_linear_operator.server.revision import History
from kimi_linear_operator.server.spec import KimiLinearServer
from kimi_linear_operator.server.status import server_status
from kimi_linear_operator.server.template_choice import choose

NAMESPACE = "benchmark"
PLACEHOLDER = "server-00000"
"""It has the length of the real names, so that the number of bytes is right."""

UID = "00000000-0000-4000-8000-000000000000"
"""A placeholder for the UID of a server."""

_NOW = "2026-11-24T09:30:00Z"

README: Manifest = {"hardware": "mi300x", "tensorParallelism": 4, "toolCallParser": "enabled"}
"""The spec of the server in the README."""

_GATEWAY = {"name": "public", "namespace": "gateways"}
_HOST = f"{PLACEHOLDER}.example.com"
EVERYTHING: Manifest = {
    **README,
    "router": {"replicas": 2},
    "ingress": {"className": "contour", "hosts": [_HOST]},
    "httpRoute": {"parentRefs": [_GATEWAY], "hostnames": [_HOST]},
    # By default, the autoscaler may add replicas only a minute after the newest one began to serve.
    "autoscaling": {"minReplicas": 1, "maxReplicas": 3, "scaleUp": {"stabilizationSeconds": 0}},
    "networkPolicy": {"from": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "chat"}}}]},
    "monitoring": {"labels": {"release": "prometheus"}},
}
"""The same with all optional children.

Verification is left out, because it is a benchmark with its own cost. KEDA is left out, because a server with a
ScaledObject has no HorizontalPodAutoscaler.
"""


def _is_true(kind: str, reason: str) -> dict[str, str]:
    """Return a condition that is True."""
    return {"type": kind, "status": "True", "reason": reason, "message": "", "lastTransitionTime": _NOW}


REPORTS: dict[Kind, Manifest] = {
    AUTOSCALER: {
        "currentReplicas": 1,
        "desiredReplicas": 1,
        "conditions": [_is_true("AbleToScale", "ReadyForNewScale"), _is_true("ScalingActive", "ValidMetricFound")],
    },
    INGRESS: {"loadBalancer": {"ingress": [{"ip": "192.0.2.20"}]}},
    HTTP_ROUTE: {
        "parents": [
            {
                "parentRef": {"group": HTTP_ROUTE.group, "kind": "Gateway", **_GATEWAY},
                "controllerName": "projectcontour.io/gateway-controller",
                "conditions": [_is_true("Accepted", "Accepted"), _is_true("ResolvedRefs", "ResolvedRefs")],
            }
        ]
    },
}
"""The controllers' reports about children that only some servers have."""


def server_names(count: int, prefix: str = "server") -> list[str]:
    return [f"{prefix}-{number:05}" for number in range(1, count + 1)]


def path_of(kind: Kind, name: str = "", subresource: str = "") -> str:
    root = f"/apis/{kind.group}/{kind.version}" if kind.group else f"/api/{kind.version}"
    return "/".join(filter(None, (root, "namespaces", NAMESPACE, kind.plural, name, subresource)))


@dataclass(frozen=True)
class Template:
    """An object as text, with placeholders for its name and for the UID of its owner."""

    text: bytes

    @classmethod
    def of(cls, manifest: Manifest) -> "Template":
        return cls(json.dumps(manifest).encode())

    def named(self, name: str, uid: str = UID) -> bytes:
        return self.text.replace(PLACEHOLDER.encode(), name.encode()).replace(UID.encode(), uid.encode())


def build_server(spec: Manifest = README) -> Manifest:
    """Return a server of a spec."""
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "KimiLinearServer",
        "metadata": {"name": PLACEHOLDER, "namespace": NAMESPACE},
        "spec": spec,
    }


def build_children(spec: Manifest = README) -> list[Manifest]:
    """Return the children that the operator builds for a server, in the order of the writes."""
    server = _checked(spec)
    kept = choose(server, History()).current
    deployment = build_deployment(server, kept.template, kept.number)
    options = server.spec.router
    built = router.build_pod_template(server, options) if options else None
    record = router_template.choose(server, built, None, kept).current if built else None
    return [build_revision(server, kept), *build_companions(server, router_record=record), deployment]


def build_main_children(spec: Manifest = README) -> dict[Kind, Manifest]:
    """Return the children that have the name of the server, and the record of its pods."""
    names = (PLACEHOLDER, child_name(REVISION, PLACEHOLDER))
    return {kind_of(child): child for child in build_children(spec) if child["metadata"]["name"] in names}


def child_name(kind: Kind, server: str) -> str:
    """Return the name of a server's child; the record of its pods has a number."""
    return f"{server}-1" if kind == REVISION else server


def build_first_status() -> Manifest:
    """Return the status of a server before Kubernetes' controllers did anything."""
    deployment = build_main_children()[DEPLOYMENT]
    new = {**deployment, "metadata": {**deployment["metadata"], "generation": 1}}
    server = _checked(README)
    view = ServerObservation(_stored(README), server, None, new, choice=choose(server, History()))
    return server_status(view, _NOW)


def controller_writes(spec: Manifest = README) -> Iterator[tuple[str, str, str, Template]]:
    """Return the writes of controllers and the kubelet until a server is ready: method, path, type and body.

    The Deployment controller's revision and both of its reports, the pod, and the kubelet's report of it. After that
    come the reports of other controllers about children that only some specs ask for.
    """
    children = build_main_children(spec)
    deployment = children[DEPLOYMENT]
    template = deployment["spec"]["template"]
    revision = {"metadata": {"annotations": {"deployment.kubernetes.io/revision": "1"}}}
    path, pod = path_of(DEPLOYMENT, PLACEHOLDER), f"{PLACEHOLDER}-7c9f8d6b5-x2k4q"
    yield "PATCH", path, MERGE_PATCH, Template.of(revision)
    yield "PATCH", f"{path}/status", MERGE_PATCH, Template.of({"status": _deployment_status(ready=False)})
    yield "POST", path_of(POD), JSON, Template.of(_pod(pod, template))
    yield "PATCH", path_of(POD, pod, "status"), MERGE_PATCH, Template.of({"status": _pod_status(template)})
    yield "PATCH", f"{path}/status", MERGE_PATCH, Template.of({"status": _deployment_status(ready=True)})
    if "router" in spec:
        report = {"status": _deployment_status(ready=True, replicas=spec["router"]["replicas"])}
        yield "PATCH", f"{path}{ROUTER_SUFFIX}/status", MERGE_PATCH, Template.of(report)
    for kind, status in REPORTS.items():
        if kind in children:
            yield "PATCH", path_of(kind, PLACEHOLDER, "status"), MERGE_PATCH, Template.of({"status": status})


def _stored(spec: Manifest) -> Manifest:
    server = build_server(spec)
    return {**server, "metadata": {**server["metadata"], "uid": UID, "generation": 1}}


def _checked(spec: Manifest) -> KimiLinearServer:
    checked = CHECKER.check(_stored(spec))
    assert checked.resource is not None, checked.problems
    return checked.resource


def _deployment_status(*, ready: bool, replicas: int = 1) -> dict[str, Any]:
    stamps = {"lastTransitionTime": _NOW, "lastUpdateTime": _NOW}
    replica_set = f"{PLACEHOLDER}-7c9f8d6b5"
    counts: dict[str, int | None]
    if not ready:
        available = ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
        progress = ("True", "ReplicaSetUpdated", f'ReplicaSet "{replica_set}" is progressing.')
        counts = {"unavailableReplicas": replicas}
    else:
        available = ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
        progress = ("True", "NewReplicaSetAvailable", f'ReplicaSet "{replica_set}" has successfully progressed.')
        counts = {"readyReplicas": replicas, "availableReplicas": replicas, "unavailableReplicas": None}
    conditions = [
        {"type": kind, "status": holds, "reason": reason, "message": message, **stamps}
        for kind, (holds, reason, message) in (("Available", available), ("Progressing", progress))
    ]
    numbers = {"observedGeneration": 2, "replicas": replicas, "updatedReplicas": replicas, **counts}
    return {**numbers, "conditions": conditions}


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
