"""Plays the kubelet of the pod that fetches weights. The pod waits until a test says what its program does."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from integration.client_pods import report
from integration.kubelet import HELD
from integration.namespace import Namespace
from integration.waiting import wait_for
from kimi_linear_operator.kubernetes.kinds import GROUP, JOB, POD, VERSION, Kind, Manifest
from kimi_linear_operator.weights.spec import WEIGHTS, KimiLinearWeights

FIRST = "1" * 40
SIZE = 98_230_000_000
VOLUME = Kind("", "v1", "PersistentVolume", "persistentvolumes")
OF_WEIGHTS = {"labelSelector": KimiLinearWeights.label()}


def weights_manifest(name: str, namespace: str, **spec: Any) -> Manifest:
    """A KimiLinearWeights as a user writes it."""
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": f"{GROUP}/{VERSION}", "kind": "KimiLinearWeights", "metadata": metadata, "spec": spec}


def create(namespace: Namespace, name: str = "kimi", **spec: Any) -> Manifest:
    """Create weights whose pod waits for the test."""
    held = {"podTemplate": {"metadata": {"annotations": {HELD: "true"}}}}
    return namespace.client.create(WEIGHTS, weights_manifest(name, namespace.name, **{**held, **spec}))


@contextmanager
def volume_of(namespace: Namespace) -> Iterator[None]:
    """Offer a volume for the claim kimi of a namespace."""
    claim = {"namespace": namespace.name, "name": "kimi"}
    spec = {
        "capacity": {"storage": "1Ti"},
        "accessModes": ["ReadWriteMany"],
        "storageClassName": "",
        "persistentVolumeReclaimPolicy": "Retain",
        "nfs": {"server": "files.example.com", "path": "/"},
        "claimRef": claim,
    }
    name = f"of-{namespace.name}"
    volume = {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": spec}
    namespace.client.create(VOLUME, volume)
    yield
    namespace.client.delete(VOLUME, None, name)


def jobs(namespace: Namespace) -> list[Manifest]:
    return namespace.client.list(JOB, namespace.name, OF_WEIGHTS)


def pod_of(namespace: Namespace) -> Manifest:
    """Wait for the running pod that fetches, on a node."""

    def waiting() -> list[Manifest]:
        found = namespace.client.list(POD, namespace.name, OF_WEIGHTS)
        return [
            pod
            for pod in found
            if pod["status"]["phase"] in ("Pending", "Running")
            and "deletionTimestamp" not in pod["metadata"]
            and "nodeName" in pod["spec"]
        ]

    [pod] = wait_for(waiting, "one pod fetches", lambda pods: len(pods) == 1)
    return dict(pod)


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def container(**state: Any) -> Manifest:
    return {"name": "fetch", "image": "sglang", "imageID": "", "ready": True, "restartCount": 0, **state}


def run(namespace: Namespace) -> None:
    """Let the program run."""
    state = {"state": {"running": {"startedAt": now()}}, "started": True}
    ready = [{"type": kind, "status": "True", "lastTransitionTime": now()} for kind in ("ContainersReady", "Ready")]
    status = {"phase": "Running", "conditions": ready, "containerStatuses": [container(**state)]}
    report(namespace, pod_of(namespace), status)


def ended(code: int, **said: Any) -> Manifest:
    reason = "Error" if code else "Completed"
    times = {"startedAt": now(), "finishedAt": now()}
    return {"terminated": {"exitCode": code, "reason": reason, "message": json.dumps(said), **times}}


def finish(namespace: Namespace, commit: str = FIRST) -> None:
    """Let the program succeed."""
    state = ended(0, state="Complete", message="", commit=commit, bytes=SIZE, totalBytes=SIZE)
    status = {"phase": "Succeeded", "containerStatuses": [container(state=state)]}
    report(namespace, pod_of(namespace), status)


def fail(namespace: Namespace, **said: Any) -> None:
    """Let the program end with an error. The kubelet will start it again."""
    waiting = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s restarting failed container"}}
    status = {"phase": "Running", "containerStatuses": [container(state=waiting, lastState=ended(1, **said))]}
    report(namespace, pod_of(namespace), status)
