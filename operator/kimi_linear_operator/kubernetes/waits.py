"""What a pod waits for before its containers run, and what it has waited for too long.

Kubernetes tells some of it in Events only, which are not read here: a volume that is not mounted, a scheduler that does
not exist. Then the time tells. A message changes once, when a limit has passed: every change is a write.
"""

from collections.abc import Iterable, Iterator

from kimi_linear_operator.kubernetes.conditions import Reason
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.times import seconds_between

# A scheduler sets the condition PodScheduled in its first attempt, which takes milliseconds when nothing else waits.
SCHEDULER_SECONDS = 45
# Mounting takes seconds, attaching a cloud's disk up to half a minute. So what is stuck is told within a minute; the
# message of a mount that is only slow goes when it is done.
MOUNT_SECONDS = 45
# Where the kubelet does not tell mounting from pulling: an image of tens of gigabytes takes minutes.
UNKNOWN_SECONDS = 180
# What a kubelet needs beyond a pod's grace period.
TERMINATION_SECONDS = 60

# Volumes that need nothing but the node.
_LOCAL_VOLUMES = ("downwardAPI", "emptyDir")
# The fields of volumes that name an object, and its kind.
_OBJECTS = {
    "secret": ("Secret", "secretName"),
    "configMap": ("ConfigMap", "name"),
    "persistentVolumeClaim": ("PersistentVolumeClaim", "claimName"),
}


def for_scheduler(pod: Manifest, scheduled: Manifest, now: str) -> Reason | None:
    """Return why no node was chosen for a pod yet, None if one was.

    Args:
        pod: The pod.
        scheduled: Its condition PodScheduled, empty if it has none.
        now: The time as RFC 3339.
    """
    name, spec = pod["metadata"]["name"], pod.get("spec", {})
    if scheduled.get("reason") == "SchedulingGated":
        gates = ", ".join(gate["name"] for gate in spec.get("schedulingGates", ())) or "unknown"
        return Reason("Queued", f"pod {name} waits until its scheduling gate is removed: {gates}")
    if scheduled.get("reason") == "Unschedulable":
        # What follows is about preemption, which only matters to those who use priorities.
        message = scheduled.get("message", "").split(" preemption: ")[0]
        return Reason("Unschedulable", f"pod {name}: {message}")
    if scheduled or pod.get("status", {}).get("conditions") or spec.get("nodeName"):
        return None
    if _has_passed(_created(pod), SCHEDULER_SECONDS, now):
        scheduler = spec.get("schedulerName", "default-scheduler")
        return Reason("NotScheduled", f"pod {name}: scheduler {scheduler} has not looked at it: does it run?")
    return None


def for_containers(pod: Manifest, now: str) -> Reason:
    """Return why not all containers of a pod run although none has failed."""
    name, status = pod["metadata"]["name"], pod.get("status", {})
    starting = Reason("Starting", f"pod {name} is being started: its image is pulled and its volumes are mounted")
    if running := [item["name"] for item in status.get("initContainerStatuses", ()) if _has_begun(item, "running")]:
        return Reason("Starting", f"pod {name} is being started: its init container {', '.join(running)} runs")
    if _has_any_begun(status):
        return starting
    since = _scheduled_at(pod)
    node = pod.get("spec", {}).get("nodeName", "unknown")
    if "startTime" not in status and since and _has_passed(since, MOUNT_SECONDS, now):
        return Reason("NodeLost", f"pod {name}: its node {node} has not begun with it: is the node there?")
    is_set_up = _condition(pod, "PodReadyToStartContainers").get("status")
    if is_set_up == "False" and _has_passed(since, MOUNT_SECONDS, now):
        return Reason("VolumeNotMounted", f"pod {name}: no container can begin: {_suspects(pod)}; {_describe(pod)}")
    if is_set_up is None and _has_passed(since, UNKNOWN_SECONDS, now):
        minutes = f"no container has begun in {UNKNOWN_SECONDS // 60} minutes"
        return Reason(
            "Starting", f"pod {name}: {minutes}: its image is still pulled, or {_suspects(pod)}; {_describe(pod)}"
        )
    return starting


def stuck_termination(pod: Manifest, now: str) -> Reason | None:
    """Return whether a pod that was deleted should have gone long ago."""
    gone_at = pod["metadata"].get("deletionTimestamp")
    if gone_at is None or not _has_passed(gone_at, TERMINATION_SECONDS, now):
        return None
    name, node = pod["metadata"]["name"], pod.get("spec", {}).get("nodeName", "unknown")
    return Reason("TerminationStuck", f"pod {name} should have ended by {gone_at}: is its node {node} lost?")


def next_look(pods: Iterable[Manifest], now: str) -> float | None:
    """Return after how many seconds a limit passes for one of these pods, None if none will."""
    left = (_seconds_left(moment, seconds, now) for pod in pods for moment, seconds in _limits(pod))
    return min((seconds for seconds in left if seconds > 0), default=None)


def _limits(pod: Manifest) -> Iterator[tuple[str, int]]:
    """Yield the times since which a pod may wait, and for how long."""
    if gone_at := pod["metadata"].get("deletionTimestamp"):
        yield gone_at, TERMINATION_SECONDS
    elif not _has_any_begun(pod.get("status", {})):
        if created := _created(pod):
            yield created, SCHEDULER_SECONDS
        if since := _scheduled_at(pod):
            yield since, MOUNT_SECONDS
            yield since, UNKNOWN_SECONDS


def _has_any_begun(status: Manifest) -> bool:
    containers = [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]
    return any(_has_begun(container, state) for container in containers for state in ("running", "terminated"))


def _has_begun(container: Manifest, state: str) -> bool:
    return state in container.get("state", {}) or bool(container.get("lastState"))


def _created(pod: Manifest) -> str | None:
    created: str | None = pod["metadata"].get("creationTimestamp")
    return created


def _scheduled_at(pod: Manifest) -> str | None:
    """Return when a node was chosen for a pod, as exactly as is known; None if none was."""
    scheduled = _condition(pod, "PodScheduled")
    if scheduled.get("status") == "True":
        return scheduled.get("lastTransitionTime") or _created(pod)
    started: str | None = pod.get("status", {}).get("startTime")
    return started


def _condition(pod: Manifest, kind: str) -> Manifest:
    return next((dict(item) for item in pod.get("status", {}).get("conditions", ()) if item["type"] == kind), {})


def _suspects(pod: Manifest) -> str:
    """Return what may keep a pod from beginning: its volumes first."""
    volumes = list(dict.fromkeys(name for volume in pod.get("spec", {}).get("volumes", ()) for name in _needs(volume)))
    return f"a volume is not mounted ({', '.join(volumes)})" if volumes else "its network is not set up"


def _needs(volume: Manifest) -> Iterator[str]:
    """Yield what a volume needs beside the node: objects by kind and name, else the kind of volume and its name."""
    for kind, source in volume.items():
        if kind in _OBJECTS:
            what, field = _OBJECTS[kind]
            yield f"{what} {source.get(field)}"
        elif kind == "projected":
            yield from (need for part in source.get("sources") or () for need in _needs(_as_volume(part)))
        elif kind not in ("name", *_LOCAL_VOLUMES):
            yield f"{kind} volume {volume['name']}"


def _as_volume(part: Manifest) -> Manifest:
    """Return a source of a projected volume as a volume of its own; a token is made by the kubelet itself."""
    if "secret" in part:
        return {"secret": {"secretName": part["secret"].get("name")}}
    return {"configMap": part["configMap"]} if "configMap" in part else {}


def _describe(pod: Manifest) -> str:
    return f"`kubectl describe pod {pod['metadata']['name']}` says why"


def _has_passed(since: str | None, seconds: int, now: str) -> bool:
    return since is not None and _seconds_left(since, seconds, now) <= 0


def _seconds_left(since: str, seconds: int, now: str) -> float:
    return seconds - (seconds_between(since, now) or 0.0)
