"""What keeps a Job from running: it is suspended, its pods are refused, or they wait for something.

Why pods are refused and which volume is not mounted is in Events alone, so who asks for a cause gets the Events of one
object for it. `refusal` is for the words of any controller that may not create pods.
"""

import re
from collections.abc import Sequence

from kimi_linear_operator.benchmark.job_status import client_end, has_begun, is_running
from kimi_linear_operator.foreigntext import head, one_line
from kimi_linear_operator.kubernetes.conditions import Reason
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.pod_reasons import worst_reason
from kimi_linear_operator.kubernetes.times import seconds_between

PATIENCE_SECONDS = 30.0
"""How long a pod may take to be made, or to get its volumes, before its Events are read."""

# "pods "nightly-x7k2p" is forbidden: exceeded quota ...": every attempt has another name.
_REFUSED_POD = re.compile(r'^(?:Error creating: )?(?:Pod|pods) "[^"]*" (?:is (?:forbidden|invalid): )?')
_REFUSED_BY = re.compile(r"^Error creating: ")
_REMEDIES = {
    re.compile("exceeded quota"): "raise the quota, or lower requests and limits in spec.podTemplate",
    re.compile("failed quota: .*must specify"): "set the resources that the quota names in spec.podTemplate",
    re.compile("violates PodSecurity"): (
        "label the namespace pod-security.kubernetes.io/enforce=baseline, or set a securityContext in spec.podTemplate"
    ),
    re.compile(r"maximum .* usage per|minimum .* usage per|must be less than or equal to (cpu|memory|ephemeral)"): (
        "a LimitRange of the namespace sets these limits: set requests and limits in spec.podTemplate that keep to it"
    ),
    re.compile("admission webhook|ValidatingAdmissionPolicy"): "a policy of the cluster refuses the pod: see its words",
}
_DEFAULT_REMEDY = "the API server refuses the pod: see its words"

# What the kubelet reports while it brings a pod up; the newest says how far it is.
_ON_THE_WAY = ("Created", "FailedAttachVolume", "FailedCreatePodSandBox", "FailedMount", "Pulled", "Pulling", "Started")
_UNMOUNTED = ("FailedAttachVolume", "FailedMount")
# "Unable to attach or mount volumes: unmounted volumes=[x] ...: timed out" names no cause.
_VAGUE = "Unable to attach or mount volumes"


def refusal(message: str) -> Reason:
    """Return why pods are refused, from the words of a controller that may not create them.

    The words stay the same from attempt to attempt, and a remedy comes with them.
    """
    words = _REFUSED_BY.sub("", _REFUSED_POD.sub("", one_line(message)))
    remedy = next((remedy for pattern, remedy in _REMEDIES.items() if pattern.search(head(message))), _DEFAULT_REMEDY)
    return Reason("PodCreationFailed", f"{words} ({remedy})")


def asks_events_of(job: Manifest, pods: Sequence[Manifest], now: str) -> Manifest | None:
    """Return the object whose Events say why a Job has no pod, or why its pod is not brought up; None if none need be.

    Args:
        job: The Job.
        pods: Its pods.
        now: The time as RFC 3339.
    """
    living = [pod for pod in pods if is_running(pod)]
    if living:
        return next((pod for pod in living if _is_being_brought_up(pod) and _age(pod, now) >= PATIENCE_SECONDS), None)
    is_late = _seconds_since(_without_pods_since(job, pods), now) >= PATIENCE_SECONDS
    return job if is_late and not _is_suspended(job) else None


def job_reason(job: Manifest, pods: Sequence[Manifest], events: Sequence[Manifest], now: str) -> Reason | None:
    """Return what keeps a Job from running, None if nothing does that is known.

    Args:
        job: The Job.
        pods: Its pods.
        events: Those of the object that `asks_events_of` names.
        now: The time as RFC 3339.
    """
    name = job["metadata"]["name"]
    if _is_suspended(job):
        return Reason(
            "JobSuspended",
            f"Job {name} is suspended by somebody else, most likely by a queue such as Kueue: it begins when "
            "spec.suspend of the Job becomes false",
        )
    if living := [pod for pod in pods if is_running(pod)]:
        return next((reason for pod in living if (reason := pod_reason(pod, events, now))), None)
    return _refused_reason(job, pods, events) if asks_events_of(job, pods, now) else None


def _refused_reason(job: Manifest, pods: Sequence[Manifest], events: Sequence[Manifest]) -> Reason | None:
    """Return why a Job has no pod that runs; None if it waits before it tries again."""
    since, name = _without_pods_since(job, pods), job["metadata"]["name"]
    refused = _newest(
        [event for event in events if event.get("reason") == "FailedCreate" and _last_seen(event) >= since]
    )
    if refused:
        return refusal(str(refused.get("message", "")))
    if pods:
        return None
    return Reason(
        "PodCreationFailed", f"Job {name} has no pod, and no Event says why: see `kubectl describe job {name}`"
    )


def _without_pods_since(job: Manifest, pods: Sequence[Manifest]) -> str:
    """Return since when a Job has had no pod that runs: since its last one ended, or since it began."""
    ends = [str(end.get("finishedAt", "")) for pod in pods if (end := client_end(pod))]
    return max([*ends, str(job.get("status", {}).get("startTime") or job["metadata"]["creationTimestamp"])])


def pod_reason(pod: Manifest, events: Sequence[Manifest], now: str) -> Reason | None:
    """Return what keeps a benchmark's pod from running, None if nothing does that is known.

    Args:
        pod: The pod.
        events: Its Events, none if nobody has asked for them.
        now: The time as RFC 3339.
    """
    told = _volume_reason(pod, events) if _is_being_brought_up(pod) else None
    reason = told or worst_reason([pod], now)
    # Once the client runs, whether its pod is ready for requests says nothing.
    return None if reason is None or (has_begun([pod]) and reason.name not in _GRAVE) else reason


# What may befall a client that runs.
_GRAVE = ("NodeLost", "TerminationStuck")


def _volume_reason(pod: Manifest, events: Sequence[Manifest]) -> Reason | None:
    """Return which volume of a pod is not mounted, if the newest Event about its way says so."""
    newest = _newest([event for event in events if event.get("reason") in _ON_THE_WAY])
    if newest is None or newest["reason"] not in _UNMOUNTED:
        return None
    told = [event for event in events if event.get("reason") in _UNMOUNTED]
    clear = [event for event in told if not str(event.get("message", "")).startswith(_VAGUE)]
    message = one_line(str((_newest(clear or told) or {}).get("message", "")))
    remedy = "create the object that is missing, or name another one; the pod goes on by itself"
    return Reason("VolumeNotMounted", f"pod {pod['metadata']['name']}: {message} ({remedy})")


def _is_being_brought_up(pod: Manifest) -> bool:
    """Return whether a pod is on a node, where nothing of it has run yet and nothing has failed."""
    status = pod.get("status", {})
    containers = [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]
    waits = all(
        item.get("state", {}).get("waiting", {}).get("reason", "PodInitializing")
        in ("ContainerCreating", "PodInitializing")
        for item in containers
    )
    begun = any(item.get("state", {}).keys() - {"waiting"} for item in containers)
    is_bound = _conditions(pod).get("PodScheduled", {}).get("status") == "True"
    return status.get("phase", "Pending") == "Pending" and is_bound and waits and not begun


def _is_suspended(job: Manifest) -> bool:
    return bool(job.get("spec", {}).get("suspend"))


def _conditions(pod: Manifest) -> dict[str, Manifest]:
    return {item["type"]: item for item in pod.get("status", {}).get("conditions", ())}


def _age(pod: Manifest, now: str) -> float:
    """Return for how long a pod has been where it is: on its node, else in the cluster."""
    scheduled = _conditions(pod).get("PodScheduled", {})
    since = scheduled.get("lastTransitionTime") if scheduled.get("status") == "True" else None
    return _seconds_since(since or pod["metadata"].get("creationTimestamp"), now)


def _seconds_since(time: object, now: str) -> float:
    age = seconds_between(time, now)
    return 0.0 if age is None else age


def _newest(events: Sequence[Manifest]) -> Manifest | None:
    return max(events, key=_last_seen, default=None)


def _last_seen(event: Manifest) -> str:
    series = event.get("series") or {}
    times = (
        series.get("lastObservedTime"),
        event.get("lastTimestamp"),
        event.get("eventTime"),
        event.get("firstTimestamp"),
    )
    return str(next((time for time in times if time), ""))
