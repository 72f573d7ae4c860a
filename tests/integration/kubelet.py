"""Plays the kubelet of held pods, and reports the states of their containers."""

from typing import Any

from integration.namespace import Namespace, Spec
from integration.waiting import wait_for
from kimi_linear_operator.kubernetes.kinds import POD, Manifest
from nodes import stages

# A pod with this annotation does not become Ready by itself, because a test plays its kubelet.
HELD = "tests/held"
# A pod with this annotation becomes Ready after the time in its value, a duration in Go's format ("3s").
SLOW = "tests/slow"
# A deleted pod with this annotation does not end by itself. A test ends it.
DRAINS = "tests/drains"

_SLOWNESS = f'.metadata.annotations["{SLOW}"]'
_NOW = "2026-11-24T09:30:00Z"
HELD_SPEC: Spec = {"podTemplate": {"metadata": {"annotations": {HELD: "true"}}}}


def stages_without(field: str) -> list[Manifest]:
    """Return the local Stages with two changes.

    A pod with this field never becomes Ready, and a slow pod only after a delay.

    A pod with the annotation for draining does not end by itself.
    """
    changed = stages()
    [ready] = [stage for stage in changed if stage["metadata"]["name"] == "pod-ready"]
    ready["spec"]["delay"] = {"durationMilliseconds": 0, "durationFrom": {"jq": {"expression": _SLOWNESS}}}
    # Otherwise a Job's pod would end as soon as it runs.
    [complete] = [stage for stage in changed if stage["metadata"]["name"] == "pod-complete"]
    for stage in (ready, complete):
        stage["spec"]["selector"]["matchExpressions"].append({"key": field, "operator": "DoesNotExist"})
    [delete] = [stage for stage in changed if stage["metadata"]["name"] == "pod-delete"]
    drains = {"key": f'.metadata.annotations["{DRAINS}"]', "operator": "DoesNotExist"}
    delete["spec"]["selector"]["matchExpressions"].append(drains)
    return changed


def held_pod(namespace: Namespace, server: str = "kimi") -> Manifest:
    """Wait until a server has exactly one held pod that is on a node and not Ready. Return the pod."""
    [pod] = wait_for(
        lambda: [pod for pod in namespace.pods(server) if _is_held(pod) and not is_ready(pod)],
        "one held pod is on a node",
        lambda pods: len(pods) == 1 and "nodeName" in pods[0]["spec"],
    )
    return dict(pod)


def report(
    namespace: Namespace,
    pod: Manifest,
    phase: str,
    container: dict[str, Any],
    *,
    ready: bool = False,
    since: str = _NOW,
) -> None:
    """Report the state of a pod's first container, and with it whether the pod is Ready."""
    first = pod["spec"]["containers"][0]
    base = {"name": first["name"], "image": first["image"], "imageID": "", "ready": ready, "restartCount": 0}
    truth = "True" if ready else "False"
    conditions = [
        {"type": "PodScheduled", "status": "True", "lastTransitionTime": _NOW},
        *({"type": kind, "status": truth, "lastTransitionTime": since} for kind in ("ContainersReady", "Ready")),
    ]
    status = {"phase": phase, "conditions": conditions, "containerStatuses": [{**base, **container}]}
    namespace.client.patch(POD, namespace.name, pod["metadata"]["name"], {"status": status}, "status")


def report_ready(namespace: Namespace, pod: Manifest, since: str = _NOW) -> None:
    report(namespace, pod, "Running", {"state": {"running": {"startedAt": _NOW}}}, ready=True, since=since)


def waiting(reason: str, message: str) -> dict[str, Any]:
    """Return the state of a container that cannot start."""
    return {"state": {"waiting": {"reason": reason, "message": message}}}


def crashing(exit_code: int, reason: str, log: str) -> dict[str, Any]:
    """Return the state of a container that has ended and waits for a restart."""
    ended = {"exitCode": exit_code, "reason": reason, "message": log, "startedAt": _NOW, "finishedAt": _NOW}
    back_off = waiting("CrashLoopBackOff", "back-off 10s restarting failed container=sglang")
    return {**back_off, "lastState": {"terminated": ended}, "restartCount": 1}


def is_ready(pod: Manifest) -> bool:
    conditions = pod.get("status", {}).get("conditions", ())
    return any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)


def _is_held(pod: Manifest) -> bool:
    return HELD in pod["metadata"].get("annotations", {})
