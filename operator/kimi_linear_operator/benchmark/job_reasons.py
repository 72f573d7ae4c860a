"""Why a Job does not run: it is suspended, its pods are refused, or they wait for something.

Only Events say why pods are refused and which volume is not mounted. So the caller first calls `asks_events_of`, which
returns the object whose Events are needed, and then passes the Events to `job_reason`.
"""

from collections.abc import Sequence

from kimi_linear_operator.benchmark.job_status import client_end, has_begun, is_running
from kimi_linear_operator.foreigntext import one_line
from kimi_linear_operator.kubernetes.conditions import Reason
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.pod_reasons import worst_reason
from kimi_linear_operator.kubernetes.queueing import why_suspended
from kimi_linear_operator.kubernetes.refusals import last_seen, newest, refusal
from kimi_linear_operator.kubernetes.times import seconds_between
from kimi_linear_operator.server.sglang.program import SGLANG

PATIENCE_SECONDS = 30.0
"""If a pod is not created or lacks its volumes for this long, the operator reads Events."""

# Reasons of Events while the kubelet starts a pod. The newest Event shows how far the kubelet is.
_START_EVENTS = (
    "Created",
    "FailedAttachVolume",
    "FailedCreatePodSandBox",
    "FailedMount",
    "Pulled",
    "Pulling",
    "Started",
)
REASONS = ("FailedCreate", *_START_EVENTS)
"""Reasons of the Events that `job_reason` looks at."""

# A Job of ours has one pod. Users can add pods that look like the Job's, and each pod takes time.
_MOST_PODS = 8
_UNMOUNTED = ("FailedAttachVolume", "FailedMount")
# "Unable to attach or mount volumes: unmounted volumes=[x] ...: timed out" does not name the cause.
_VAGUE = "Unable to attach or mount volumes"


def asks_events_of(job: Manifest, pods: Sequence[Manifest], now: str) -> Manifest | None:
    """Return the object whose Events are needed: a pod that does not start, or a Job without pods; else None.

    Args:
        job: The Job.
        pods: Its pods.
        now: The time as RFC 3339.
    """
    living = [pod for pod in pods if is_running(pod)]
    if living:
        return next((pod for pod in living if _is_starting(pod) and _age(pod, now) >= PATIENCE_SECONDS), None)
    is_late = _seconds_since(_without_pods_since(job, pods), now) >= PATIENCE_SECONDS
    return job if is_late and not _is_suspended(job) else None


def job_reason(job: Manifest, pods: Sequence[Manifest], events: Sequence[Manifest], now: str) -> Reason | None:
    """Return why a Job does not run, None if it runs or the cause is not known.

    Args:
        job: The Job.
        pods: Its pods.
        events: The Events of the object that `asks_events_of` returns.
        now: The time as RFC 3339.
    """
    name = job["metadata"]["name"]
    if _is_suspended(job):
        return Reason("JobSuspended", f"Job {name} {why_suspended(job)}")
    if living := [pod for pod in pods if is_running(pod)]:
        return next((reason for pod in living[:_MOST_PODS] if (reason := pod_reason(pod, events, now))), None)
    return _refused_reason(job, pods, events) if asks_events_of(job, pods, now) else None


def _refused_reason(job: Manifest, pods: Sequence[Manifest], events: Sequence[Manifest]) -> Reason | None:
    """Return why a Job has no running pod, None if its controller waits before it retries."""
    since, name = _without_pods_since(job, pods), job["metadata"]["name"]
    refused = newest([event for event in events if event.get("reason") == "FailedCreate" and last_seen(event) >= since])
    if refused:
        return refusal(str(refused.get("message", "")))
    if pods:
        return None
    return Reason(
        "PodCreationFailed", f"Job {name} has no pod, and no Event says why: see `kubectl describe job {name}`"
    )


def _without_pods_since(job: Manifest, pods: Sequence[Manifest]) -> str:
    """Return since when a Job has had no running pod, as RFC 3339: the end of its last client, else its own start."""
    ends = [str(end.get("finishedAt", "")) for pod in pods if (end := client_end(pod))]
    return max([*ends, str(job.get("status", {}).get("startTime") or job["metadata"]["creationTimestamp"])])


def pod_reason(pod: Manifest, events: Sequence[Manifest], now: str) -> Reason | None:
    """Return why a benchmark's pod does not run, None if it runs or the cause is not known.

    Args:
        pod: The pod.
        events: Its Events, none if they were not read.
        now: The time as RFC 3339.
    """
    volume_reason = _volume_reason(pod, events) if _is_starting(pod) else None
    reason = volume_reason or worst_reason([pod], now, SGLANG)
    # A client serves no requests. So it does not matter whether the pod of a running client is ready.
    return None if reason is None or (has_begun([pod]) and reason.name not in _GRAVE) else reason


# Problems that a pod can have although its client runs.
_GRAVE = ("NodeLost", "TerminationStuck")


def _volume_reason(pod: Manifest, events: Sequence[Manifest]) -> Reason | None:
    """Return which volume of a pod is not mounted, if the newest Event of the pod's start is about a volume."""
    latest = newest([event for event in events if event.get("reason") in _START_EVENTS])
    if latest is None or latest["reason"] not in _UNMOUNTED:
        return None
    failures = [event for event in events if event.get("reason") in _UNMOUNTED]
    clear = [event for event in failures if not str(event.get("message", "")).startswith(_VAGUE)]
    message = one_line(str((newest(clear or failures) or {}).get("message", "")))
    remedy = "create the missing object, or name an existing one; the pod then continues by itself"
    return Reason("VolumeNotMounted", f"pod {pod['metadata']['name']}: {message} ({remedy})")


def _is_starting(pod: Manifest) -> bool:
    """Return whether a pod has a node, but none of its containers has run or failed yet."""
    status = pod.get("status", {})
    containers = [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]
    are_waiting = all(
        item.get("state", {}).get("waiting", {}).get("reason", "PodInitializing")
        in ("ContainerCreating", "PodInitializing")
        for item in containers
    )
    has_run = any(item.get("state", {}).keys() - {"waiting"} for item in containers)
    is_bound = _conditions(pod).get("PodScheduled", {}).get("status") == "True"
    return status.get("phase", "Pending") == "Pending" and is_bound and are_waiting and not has_run


def _is_suspended(job: Manifest) -> bool:
    return bool(job.get("spec", {}).get("suspend"))


def _conditions(pod: Manifest) -> dict[str, Manifest]:
    return {item["type"]: item for item in pod.get("status", {}).get("conditions", ())}


def _age(pod: Manifest, now: str) -> float:
    """Return for how many seconds a pod has had its node, or has existed if it has no node."""
    scheduled = _conditions(pod).get("PodScheduled", {})
    since = scheduled.get("lastTransitionTime") if scheduled.get("status") == "True" else None
    return _seconds_since(since or pod["metadata"].get("creationTimestamp"), now)


def _seconds_since(time: object, now: str) -> float:
    age = seconds_between(time, now)
    return 0.0 if age is None else age
