"""Plays the kubelet of pods with a readiness gate: a pod is Ready when it runs and its gate is open."""

from integration.client import RefusedError
from integration.namespace import Namespace, condition_of
from kimi_linear_operator.kubernetes.kinds import POD, Manifest
from kimi_linear_operator.server.gate import GATE

_NOW = "2026-11-24T09:30:00Z"


def is_open(pod: Manifest) -> bool:
    return bool(condition_of(pod, GATE).get("status") == "True")


def report(namespace: Namespace, pod: Manifest) -> None:
    """Report a pod like a kubelet.

    All containers are ready, and the pod is ready if it has no gate or its gate is open. Conditions that others have
    just written stay.
    """
    about = pod["metadata"]
    seen: Manifest | None = pod
    while seen and seen["metadata"]["uid"] == about["uid"]:
        patch = {"metadata": {"resourceVersion": seen["metadata"]["resourceVersion"]}, "status": status_of(seen)}
        try:
            namespace.client.patch(POD, namespace.name, about["name"], patch, "status")
        except RefusedError as error:
            if error.answer.status not in (404, 409):
                raise
            seen = namespace.find(POD, about["name"])
        else:
            return


def status_of(pod: Manifest) -> Manifest:
    """The status that a kubelet would report."""
    gates = pod["spec"].get("readinessGates", ())
    kept = [item for item in pod["status"].get("conditions", ()) if item["type"] == GATE]
    is_ready = not gates or is_open(pod)
    states = {"PodScheduled": True, "ContainersReady": True, "Ready": is_ready}
    conditions = [{"type": kind, "status": str(state), "lastTransitionTime": _NOW} for kind, state in states.items()]
    if not is_ready:
        conditions[-1]["reason"] = "ReadinessGatesNotReady"
    container = {"name": "sglang", "image": "sglang", "imageID": "", "ready": True, "started": True, "restartCount": 0}
    address = address_of(pod)
    return {
        "phase": "Running",
        "conditions": [*kept, *conditions],
        "podIP": address,
        "podIPs": [{"ip": address}],
        "containerStatuses": [{**container, "state": {"running": {"startedAt": _NOW}}}],
    }


def address_of(pod: Manifest) -> str:
    """An address that no other pod has: benchmarks of one address take turns."""
    return "10." + ".".join(str(int(pod["metadata"]["uid"][start : start + 2], 16)) for start in (0, 2, 4))
