"""How long a server must serve with a new pod template before the automatic rollout goes on with the next server."""

from collections.abc import Iterable

from kimi_linear_operator.kubernetes.conditions import find_condition
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.metadata import is_being_deleted
from kimi_linear_operator.kubernetes.times import seconds_between


def seconds_left(pods: Iterable[Manifest], pause: float, now: str) -> float:
    """Return for how many more seconds all pods have to stay Ready.

    When a pod becomes unready, its time starts again. So if a server soon fails with a template, the next server does
    not get this template. The times are in the pods, so a restart of the operator does not matter.

    Args:
        pods: The pods of the server. Pods that are being deleted or have ended do not count, because a failed pod still
            exists after another pod has replaced it.
        pause: For how many seconds a pod must be Ready without a break.
        now: The time as RFC 3339.
    """
    return max((pause - _ready_seconds(pod, now) for pod in pods if is_staying(pod)), default=0.0)


def rollout_seconds_left(deployment: Manifest, pause: float, now: str) -> float:
    """Return for how many more seconds a Deployment has to stay available, if all its pods must be available.

    Its conditions show since when its last rollout has been complete, and since when all pods have been available.

    Args:
        deployment: A Deployment with maxUnavailable 0. The operator does not watch its pods.
        pause: For how many seconds it must be available without a break.
        now: The time as RFC 3339.
    """
    progressing, available = (
        find_condition(deployment.get("status", {}), kind) for kind in ("Progressing", "Available")
    )
    if available.get("status") != "True":
        return pause
    # Without a deadline for its progress, a Deployment has no condition Progressing.
    times = [available.get("lastTransitionTime"), *([progressing.get("lastUpdateTime")] if progressing else [])]
    return max(pause - min(seconds_between(time, now) or 0.0 for time in times), 0.0)


def is_staying(pod: Manifest) -> bool:
    """Return whether a pod is neither being deleted nor has ended."""
    has_ended = pod.get("status", {}).get("phase") in ("Failed", "Succeeded")
    return not has_ended and not is_being_deleted(pod)


def _ready_seconds(pod: Manifest, now: str) -> float:
    ready = find_condition(pod.get("status", {}), "Ready")
    if ready.get("status") != "True":
        return 0.0
    return seconds_between(ready.get("lastTransitionTime"), now) or 0.0
