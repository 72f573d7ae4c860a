"""Reasons of pods whose containers do not run yet, and of pods that do not terminate.

Only Events report some causes, for example that a volume cannot be mounted or that a scheduler does not exist. This
module does not read Events. It infers these causes from the time that a pod has waited. A message changes only once,
when a limit has passed, because every change is a write.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from kimi_linear_operator.kubernetes.conditions import Reason
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.queueing import is_held, waits_in_queue
from kimi_linear_operator.kubernetes.times import seconds_between

# A scheduler sets the condition PodScheduled in its first attempt, within milliseconds if its queue is empty.
SCHEDULER_SECONDS = 45
# A mount takes seconds. Attaching a disk of a cloud takes up to half a minute. If a mount is only slow, the message
# disappears when the mount is done.
MOUNT_SECONDS = 45
# For kubelets that do not report PodReadyToStartContainers: pulling an image of tens of gigabytes takes minutes.
UNKNOWN_SECONDS = 180
# The time that a kubelet needs after a pod's grace period.
TERMINATION_SECONDS = 60

# Volumes that need no other object.
_LOCAL_VOLUMES = ("downwardAPI", "emptyDir")
# How many keys of a Secret or ConfigMap a message names.
_NAMED_KEYS = 3
# The kind of object that a volume needs, and the volume's field that contains the object's name.
_OBJECTS = {
    "secret": ("Secret", "secretName"),
    "configMap": ("ConfigMap", "name"),
    "persistentVolumeClaim": ("PersistentVolumeClaim", "claimName"),
}


def for_scheduler(pod: Manifest, scheduled: Manifest, now: str) -> Reason | None:
    """Return why a pod has no node yet. None if it has a node, or was created just now.

    Args:
        pod: The pod.
        scheduled: Its condition PodScheduled, empty if it has none.
        now: The time as RFC 3339.
    """
    name, spec = pod["metadata"]["name"], pod.get("spec", {})
    if scheduled.get("reason") == "SchedulingGated":
        if is_held(pod):
            return Reason("Queued", f"pod {name} {waits_in_queue(pod)}")
        gates = ", ".join(gate["name"] for gate in spec.get("schedulingGates", ())) or "unknown"
        return Reason("Queued", f"pod {name} waits until its scheduling gate is removed: {gates}")
    if scheduled.get("reason") == "Unschedulable":
        # The rest of the message only describes preemption.
        message = scheduled.get("message", "").split(" preemption: ")[0]
        return Reason("Unschedulable", f"pod {name}: {message}")
    if scheduled or pod.get("status", {}).get("conditions") or spec.get("nodeName"):
        return None
    if _has_passed(_created(pod), SCHEDULER_SECONDS, now):
        scheduler = spec.get("schedulerName", "default-scheduler")
        return Reason(
            "NotScheduled", f"pod {name}: scheduler {scheduler} has not handled it: check that this scheduler runs"
        )
    return None


def for_containers(pod: Manifest, now: str) -> Reason:
    """Return why some containers of a pod do not run, although no container has failed."""
    name, status = pod["metadata"]["name"], pod.get("status", {})
    starting = Reason("Starting", f"pod {name} is being started: its image is pulled and its volumes are mounted")
    if running := [item["name"] for item in status.get("initContainerStatuses", ()) if _has_started(item, "running")]:
        return Reason("Starting", f"pod {name} is being started: its init container {', '.join(running)} runs")
    if _has_started_container(status):
        return starting
    since = _scheduled_at(pod)
    node = pod.get("spec", {}).get("nodeName", "unknown")
    if "startTime" not in status and since and _has_passed(since, MOUNT_SECONDS, now):
        return Reason("NodeLost", f"pod {name}: its node {node} has not started it: check that the node runs")
    ready_to_start = _condition(pod, "PodReadyToStartContainers").get("status")
    if ready_to_start == "False" and _has_passed(since, MOUNT_SECONDS, now):
        return Reason("VolumeNotMounted", f"pod {name}: no container can start: {_suspects(pod)}; {_describe(pod)}")
    if ready_to_start is None and _has_passed(since, UNKNOWN_SECONDS, now):
        minutes = f"no container has started in {UNKNOWN_SECONDS // 60} minutes"
        return Reason(
            "Starting", f"pod {name}: {minutes}: its image is still being pulled, or {_suspects(pod)}; {_describe(pod)}"
        )
    return starting


def stuck_termination(pod: Manifest, now: str) -> Reason | None:
    """Return a reason if a deleted pod still exists long after its grace period, None otherwise."""
    end = pod["metadata"].get("deletionTimestamp")  # Kubernetes sets deletionTimestamp to the end of the grace period
    if end is None or not _has_passed(end, TERMINATION_SECONDS, now):
        return None
    name, node = pod["metadata"]["name"], pod.get("spec", {}).get("nodeName", "unknown")
    return Reason("TerminationStuck", f"pod {name} should have ended by {end}: is its node {node} lost?")


def next_look(pods: Iterable[Manifest], now: str) -> float | None:
    """Return the seconds until the next time limit of these pods, None if all limits have passed."""
    left = (_seconds_left(limit.since, limit.seconds, now) for pod in pods for limit in _limits(pod))
    return min((seconds for seconds in left if seconds > 0), default=None)


@dataclass(frozen=True)
class _Limit:
    """How many seconds a pod may wait, and since when it waits."""

    since: str
    seconds: int


def _limits(pod: Manifest) -> Iterator[_Limit]:
    """Yield the time limits of a pod."""
    if end := pod["metadata"].get("deletionTimestamp"):
        yield _Limit(end, TERMINATION_SECONDS)
    elif not _has_started_container(pod.get("status", {})):
        if created := _created(pod):
            yield _Limit(created, SCHEDULER_SECONDS)
        if since := _scheduled_at(pod):
            yield _Limit(since, MOUNT_SECONDS)
            yield _Limit(since, UNKNOWN_SECONDS)


def _has_started_container(status: Manifest) -> bool:
    containers = [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]
    return any(_has_started(container, state) for container in containers for state in ("running", "terminated"))


def _has_started(container: Manifest, state: str) -> bool:
    """Return whether a container is in this state, or has ended before."""
    return state in container.get("state", {}) or bool(container.get("lastState"))


def _created(pod: Manifest) -> str | None:
    created: str | None = pod["metadata"].get("creationTimestamp")
    return created


def _scheduled_at(pod: Manifest) -> str | None:
    """Return when a pod got its node, or the nearest recorded time. None if the pod has no node."""
    scheduled = _condition(pod, "PodScheduled")
    if scheduled.get("status") == "True":
        return scheduled.get("lastTransitionTime") or _created(pod)
    started: str | None = pod.get("status", {}).get("startTime")
    return started


def _condition(pod: Manifest, kind: str) -> Manifest:
    return next((dict(item) for item in pod.get("status", {}).get("conditions", ()) if item["type"] == kind), {})


def _suspects(pod: Manifest) -> str:
    """Return the possible causes why a pod does not start."""
    volumes = list(dict.fromkeys(name for volume in pod.get("spec", {}).get("volumes", ()) for name in _needs(volume)))
    return f"a volume is not mounted ({', '.join(volumes)})" if volumes else "its network is not set up"


def _needs(volume: Manifest) -> Iterator[str]:
    """Yield the objects that a volume needs, as kind and name.

    For other types of volumes, yield the type and the volume's name.
    """
    for kind, source in volume.items():
        if kind in _OBJECTS:
            object_kind, field = _OBJECTS[kind]
            keys = [item["key"] for item in (source.get("items") or ())[:_NAMED_KEYS]]
            yield f"{object_kind} {source.get(field)}" + (f" with {', '.join(keys)}" if keys else "")
        elif kind == "projected":
            yield from (need for item in source.get("sources") or () for need in _needs(_as_volume(item)))
        elif kind not in ("name", *_LOCAL_VOLUMES):
            yield f"{kind} volume {volume['name']}"


def _as_volume(source: Manifest) -> Manifest:
    """Return a source of a projected volume as a volume.

    If the source needs no object (for example a token), return an empty volume.
    """
    if "secret" in source:
        return {"secret": {**source["secret"], "secretName": source["secret"].get("name")}}
    return {"configMap": source["configMap"]} if "configMap" in source else {}


def _describe(pod: Manifest) -> str:
    return f"`kubectl describe pod {pod['metadata']['name']}` says why"


def _has_passed(since: str | None, seconds: int, now: str) -> bool:
    return since is not None and _seconds_left(since, seconds, now) <= 0


def _seconds_left(since: str, seconds: int, now: str) -> float:
    return seconds - (seconds_between(since, now) or 0.0)
