"""Kubernetes objects as the API server stores them. Tests get their objects only from this module."""

from collections.abc import Mapping
from typing import Any

from kimi_linear_operator.benchmark import recipe
from kimi_linear_operator.kubernetes.kinds import Manifest

UID = "6f1b5ad6-94c4-4b0e-8d4f-3a4f0c1d2e3f"
# Statuses that the definition of another version could let anybody write.
ODD_STATUSES: tuple[Any, ...] = (
    None,
    "text",
    [],
    {"conditions": None},
    {"conditions": {"type": "Ready"}},
    {"conditions": [None, "text", [], {}, {"type": "Ready"}, {"type": "Complete", "status": True}]},
    {"conditions": [{"type": {"name": "Ready"}, "status": "True"}], "observedGeneration": "one"},
    {"image": {"name": "sglang"}, "startup": "now", "lastFailure": [], "addresses": 5, "url": ["a"]},
    {"startup": {"pod": "kimi-0"}, "results": {"a": 1}, "progress": 1, "environment": "x", "currentSuite": {}},
)
MANAGED_LABELS = {"app.kubernetes.io/managed-by": "kimi-linear-operator"}


def make_server(name: str = "kimi", **spec: Any) -> Manifest:
    """Return a stored KimiLinearServer."""
    return stored(
        {
            "apiVersion": "kimi-linear.io/v1alpha1",
            "kind": "KimiLinearServer",
            "metadata": {"name": name},
            "spec": spec,
        }
    )


def make_benchmark(name: str = "nightly", **spec: Any) -> Manifest:
    """Return a stored KimiLinearBenchmark, of the server kimi unless the spec names another one."""
    target = {} if "serverRef" in spec or "endpoint" in spec else {"serverRef": {"name": "kimi"}}
    return stored(
        {
            "apiVersion": "kimi-linear.io/v1alpha1",
            "kind": "KimiLinearBenchmark",
            "metadata": {"name": name},
            "spec": {**target, **spec},
        }
    )


def make_weights(name: str = "kimi", **spec: Any) -> Manifest:
    """Return a stored KimiLinearWeights."""
    return stored(
        {
            "apiVersion": "kimi-linear.io/v1alpha1",
            "kind": "KimiLinearWeights",
            "metadata": {"name": name},
            "spec": spec,
        }
    )


def make_finished_benchmark(*results: Manifest, verdict: str = "Passed", **spec: Any) -> Manifest:
    """Return a KimiLinearBenchmark with these results and, unless the spec contains others, exactly their suites."""
    suites = [{"name": result["name"]} for result in results]
    benchmark = make_benchmark(**{"suites": suites, **spec})
    return {**benchmark, "status": {"verdict": verdict, "results": list(results)}}


VALID: Manifest = {"rule": "Validity", "metric": "completed", "passed": True, "message": "all requests were completed"}
"""The finding of a suite with valid numbers."""


def make_result(suite: str, metrics: Mapping[str, float] | None = None, **changes: Any) -> Manifest:
    """Return the result of a suite of the recipe, with the recipe's own numbers unless others are given."""
    published = recipe.PUBLISHED[suite]
    requests = int(published.get("completed", 200))
    return {
        "name": suite,
        "kind": "accuracy" if suite == "gsm8k" else "speed",
        "outcome": "Succeeded",
        "requested": requests,
        "completed": requests,
        "startTime": "2026-11-24T02:00:00Z",
        "completionTime": "2026-11-24T02:05:00Z",
        "metrics": dict(published if metrics is None else metrics),
        "baseline": dict(published),
        "findings": [VALID],
        **changes,
    }


def make_deployment(server: str = "kimi", *, version: int = 1, **status: Any) -> Manifest:
    """Return the Deployment of a server."""
    metadata = {"name": server, "resourceVersion": str(version)}
    return owned({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "status": status}, server)


def make_pod(
    name: str = "kimi-0", *, server: str = "kimi", namespace: str = "default", version: int = 1, **status: Any
) -> Manifest:
    """Return a pod of a server."""
    metadata = {"name": name, "namespace": namespace, "resourceVersion": str(version)}
    return owned({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "status": status}, server)


def make_failed_pod(name: str = "kimi-0", *, log: str = "", time: str = "2026-11-24T09:30:00Z") -> Manifest:
    """Return a pod whose engine has ended with an error and has not restarted yet."""
    ended = {"exitCode": 1, "reason": "Error", "message": log, "finishedAt": time}
    container = {
        "name": "sglang",
        "image": "lmsysorg/sglang:v0.5.7-rocm700-mi30x",
        "restartCount": 1,
        "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s restarting failed container"}},
        "lastState": {"terminated": ended},
    }
    return make_pod(name, phase="Running", containerStatuses=[container])


def stored(manifest: Manifest) -> Manifest:
    """Return an object with the API server's metadata."""
    given = {"namespace": "default", "uid": UID, "generation": 1, "resourceVersion": "1"}
    return {**manifest, "metadata": {**given, **manifest["metadata"]}}


def owned(manifest: Manifest, owner: str = "kimi", kind: str = "KimiLinearServer") -> Manifest:
    """Return a stored object that belongs to a server, or to a resource of another kind.

    A server's pods belong to a ReplicaSet.
    """
    is_pod_of_server = (manifest.get("kind"), kind) == ("Pod", "KimiLinearServer")
    controller = {"apiVersion": "kimi-linear.io/v1alpha1", "kind": kind, "name": owner, "uid": UID}
    replica_set = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": f"{owner}-1", "uid": f"{UID}-1"}
    reference = {
        **(replica_set if is_pod_of_server else controller),
        "controller": True,
        "blockOwnerDeletion": True,
    }
    label = f"kimi-linear.io/{kind.removeprefix('KimiLinear').lower()}"
    labels = {**MANAGED_LABELS, label: owner, **manifest["metadata"].get("labels", {})}
    ownership = {"ownerReferences": [reference], **manifest["metadata"], "labels": labels}
    return stored({**manifest, "metadata": ownership})


def make_condition(kind: str, status: str, reason: str, message: str) -> Manifest:
    """Return a condition of a status."""
    since = "2026-11-24T02:05:00Z"
    return {"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": since}
