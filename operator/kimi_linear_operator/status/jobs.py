"""What Jobs and their pods tell about a suite: whether it has ended, and with which result."""

from collections.abc import Iterable, Sequence
from typing import Any

from kimi_linear_operator import foreigntext
from kimi_linear_operator.api import Manifest
from kimi_linear_operator.api.benchmark import Suite
from kimi_linear_operator.benchmark import client
from kimi_linear_operator.benchmark.result import ResultError, read
from kimi_linear_operator.resources.metadata import is_owned_by
from kimi_linear_operator.status.conditions import Cause
from kimi_linear_operator.status.crashes import quoted
from kimi_linear_operator.status.pods import worst_cause

_ENDED_PHASES = ("Succeeded", "Failed")


def has_ended(job: Manifest) -> bool:
    """Return whether a Job is over: its last pod has ended, too."""
    return _end(job) is not None


def is_running(pod: Manifest) -> bool:
    """Return whether a pod may still send requests."""
    return pod.get("status", {}).get("phase") not in _ENDED_PHASES


def pods_of(job: Manifest, pods: Iterable[Manifest]) -> list[Manifest]:
    """Return the pods that this very Job has made."""
    return [pod for pod in pods if is_owned_by(pod, job["metadata"]["uid"])]


def obstacle_of(pods: Sequence[Manifest], now: str) -> Cause | None:
    """Return why the pod of a running suite does not run, None if it does."""
    return worst_cause((pod for pod in pods if pod.get("status", {}).get("phase", "Pending") == "Pending"), now)


def result_of(job: Manifest, suite: Suite, pods: Sequence[Manifest], timeout_seconds: int) -> Manifest:
    """Return the result of a suite whose Job has ended.

    Args:
        job: The Job.
        suite: Its suite.
        pods: The Job's pods.
        timeout_seconds: How long it was allowed to take.
    """
    end = _end(job) or {}
    if end.get("reason") == "DeadlineExceeded":
        result = _failure("TimedOut", f"not done within {timeout_seconds} s (spec.timeoutSeconds)", suite)
    else:
        result = _told_by(pods, suite)
    started = job.get("status", {}).get("startTime", job["metadata"]["creationTimestamp"])
    ended = job.get("status", {}).get("completionTime") or end.get("lastTransitionTime", started)
    return {
        "name": suite.name,
        "kind": client.kind(suite),
        **result,
        "startTime": started,
        "completionTime": ended,
    }


def _end(job: Manifest) -> Manifest | None:
    conditions = job.get("status", {}).get("conditions", ())
    ended = (item for item in conditions if item["type"] in ("Complete", "Failed") and item["status"] == "True")
    return next((dict(item) for item in ended), None)


def _told_by(pods: Sequence[Manifest], suite: Suite) -> Manifest:
    """Return what the last container that ended has left."""
    ended = [end for pod in pods if (end := _client_end(pod))]
    if not ended:
        return _failure("NoResult", "its pod is gone, and has left no result", suite)
    last = max(ended, key=lambda end: (end["exitCode"] == 0, str(end.get("finishedAt", ""))))
    message = last.get("message", "")
    try:
        result = read(message, client.kind(suite))
    except ResultError as error:
        return _unreadable(last, message, str(error), suite)
    # Numbers count only if container and result agree that all went well.
    if result["outcome"] == "Succeeded" and last["exitCode"] == 0:
        return {**result, "message": foreigntext.one_line(result["message"])}
    return {
        **_failure("ClientFailed", foreigntext.one_line(result["message"]), suite),
        "completed": result["completed"],
    }


def _unreadable(last: Manifest, message: str, why: str, suite: Suite) -> Manifest:
    if last["exitCode"] == 0:
        return _failure("NoResult", why, suite)
    quote = quoted(message)
    told = f"exit code {last['exitCode']} ({last.get('reason', 'Error')})" + (f": {quote}" if quote else "")
    return _failure("ClientFailed", told, suite)


def _client_end(pod: Manifest) -> dict[str, Any] | None:
    """Return how the client's container ended, None if it did not."""
    for container in pod.get("status", {}).get("containerStatuses", ()):
        if container["name"] == client.CONTAINER:
            ended = container.get("state", {}).get("terminated")
            return dict(ended) if ended else None
    return None


def _failure(reason: str, message: str, suite: Suite) -> Manifest:
    counts = {"requested": client.requests(suite), "completed": 0}
    return {"outcome": "Failed", "reason": reason, "message": message, **counts, "metrics": {}}
