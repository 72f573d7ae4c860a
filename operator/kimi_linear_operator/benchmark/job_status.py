"""Whether a suite has ended, and its result, according to its Job and the Job's pods."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from kimi_linear_operator import foreigntext
from kimi_linear_operator.benchmark import commands, load
from kimi_linear_operator.benchmark.result import ResultError, read
from kimi_linear_operator.benchmark.spec import Suite
from kimi_linear_operator.kubernetes.essence import main_owner
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.log_quotes import quoted
from kimi_linear_operator.kubernetes.times import seconds_between
from kimi_linear_operator.server.sglang.program import SGLANG

SIDECAR_SECONDS = 30.0
"""How long a pod may run after its client has failed.

After this time, only a sidecar keeps the pod running, and there is no retry.
"""

OVERDUE_SECONDS = 120.0
"""How long a Job may run after its time limit. A Job that takes longer is suspended, or the node of its pod is lost."""

_ENDED_PHASES = ("Succeeded", "Failed")


def has_ended(job: Manifest) -> bool:
    """Return whether a Job has ended, with all of its pods."""
    return _end(job) is not None


def is_running(pod: Manifest) -> bool:
    """Return whether a pod may still send requests, because its client has not ended. Sidecars do not count."""
    return pod.get("status", {}).get("phase") not in _ENDED_PHASES and client_end(pod) is None


class Clients(NamedTuple):
    """What Jobs and pods show about clients. It keeps little of each, because users can create thousands of them.

    Attributes:
        unended: The UIDs of the Jobs that have not ended.
        done: The UIDs of the owners of pods whose client has ended.
        is_any_running: Whether a client runs.
    """

    unended: frozenset[str] = frozenset()
    done: frozenset[str] = frozenset()
    is_any_running: bool = False

    @property
    def are_busy(self) -> bool:
        """Return whether a client sends requests, or may begin to send them."""
        return self.is_any_running or not self.unended <= self.done

    def with_jobs(self, jobs: Iterable[Manifest]) -> "Clients":
        """Return what these Jobs show, too."""
        return self._replace(unended=self.unended.union(job["metadata"]["uid"] for job in jobs if not has_ended(job)))

    def with_pods(self, pods: Sequence[Manifest]) -> "Clients":
        """Return what these pods show, too."""
        done = self.done.union(main_owner(pod) for pod in pods if client_end(pod))
        return self._replace(done=done, is_any_running=self.is_any_running or any(map(is_running, pods)))


def has_begun(pods: Iterable[Manifest]) -> bool:
    """Return whether the client of any of these pods has run."""
    return any("running" in state or "terminated" in state for pod in pods if (state := _client_state(pod)))


def seconds_left(job: Manifest, pods: Sequence[Manifest], timeout_seconds: int, now: str) -> float:
    """Return the seconds until the suite's time limit, 0 if the suite has ended. The Job may run longer.

    Args:
        job: The Job of the suite.
        pods: The Job's pods.
        timeout_seconds: The time limit of the suite.
        now: The time as RFC 3339: see `run_times`.
    """
    ends = [end for pod in pods if (end := client_end(pod))]
    if has_ended(job) or any(end["exitCode"] == 0 for end in ends):
        return 0.0
    # Kubernetes does not count the time limit of a suspended Job. So this counts the time from the Job's creation.
    limits = [(timeout_seconds + OVERDUE_SECONDS, started(job))]
    limits += [(SIDECAR_SECONDS, str(end.get("finishedAt"))) for end in _ends_beside_sidecars(pods)]
    return min(max(0.0, limit - (seconds_between(since, now) or 0.0)) for limit, since in limits)


def result_of(
    job: Manifest, suite: Suite, pods: Sequence[Manifest], *, timeout_seconds: int, now: str = ""
) -> Manifest:
    """Return the result of a suite that has ended.

    Args:
        job: Its Job.
        suite: The suite.
        pods: The Job's pods.
        timeout_seconds: The time limit of the suite.
        now: The time as RFC 3339. It is the end of the suite if neither the Job nor a client says when the suite ended.
    """
    ends = [end for pod in pods if (end := client_end(pod))]
    # If a client ended in time, its result counts, even if its pod ran until the time limit.
    if _has_timed_out(job, pods) and not any(end["exitCode"] == 0 for end in ends):
        result = _failure("TimedOut", f"not done within {timeout_seconds} s (spec.timeoutSeconds)", suite)
    else:
        result = _last_result(ends, suite)
    times = {"startTime": started(job), "completionTime": _completed(job, ends, now)}
    return {"name": suite.name, "kind": load.kind(suite), **result, **times}


def started(job: Manifest) -> str:
    """Return when a Job began, as RFC 3339: the time of its creation if it has not begun yet."""
    return str(job.get("status", {}).get("startTime") or job["metadata"]["creationTimestamp"])


def _completed(job: Manifest, ends: Sequence[Manifest], now: str) -> str:
    """Return when a suite ended, as RFC 3339: the end of its Job, else of its last client, else now."""
    last_end = max((str(end.get("finishedAt", "")) for end in ends), default="")
    by_condition = (_end(job) or {}).get("lastTransitionTime")
    return job.get("status", {}).get("completionTime") or by_condition or last_end or now or started(job)


def _has_timed_out(job: Manifest, pods: Sequence[Manifest]) -> bool:
    end = _end(job)
    return end.get("reason") == "DeadlineExceeded" if end else not _ends_beside_sidecars(pods)


def _ends_beside_sidecars(pods: Iterable[Manifest]) -> list[Manifest]:
    """Return the terminated states of clients whose pods still run."""
    going_on = [pod for pod in pods if pod.get("status", {}).get("phase") not in _ENDED_PHASES]
    return [end for pod in going_on if (end := client_end(pod))]


def _end(job: Manifest) -> Manifest | None:
    """Return the condition that says how a Job has ended, None if it has not ended."""
    conditions = job.get("status", {}).get("conditions", ())
    ends = (item for item in conditions if item["type"] in ("Complete", "Failed") and item["status"] == "True")
    return next((dict(item) for item in ends), None)


def _last_result(ends: Sequence[Manifest], suite: Suite) -> Manifest:
    """Return the result of the last client that succeeded. If none succeeded, return the result of the last client."""
    if not ends:
        return _failure("NoResult", "its pod is gone and left no result", suite)
    return result_of_client(max(ends, key=lambda end: (end["exitCode"] == 0, str(end.get("finishedAt", "")))), suite)


def result_of_client(end: Manifest, suite: Suite) -> Manifest:
    """Return the result of a client that has ended, without the times of the suite.

    Args:
        end: The terminated state of its container: exit code, message, reason.
        suite: The suite.
    """
    message = end.get("message", "")
    try:
        result = read(message, suite)
    except ResultError as error:
        return _unreadable(end, message, str(error), suite)
    # Numbers count only if both the result and the exit code say that the client succeeded.
    if result["outcome"] == "Succeeded" and end["exitCode"] == 0:
        return {**result, "message": foreigntext.one_line(result["message"])}
    return {
        **_failure("ClientFailed", foreigntext.one_line(result["message"]), suite),
        "completed": result["completed"],
    }


def _unreadable(last: Manifest, message: str, error: str, suite: Suite) -> Manifest:
    """Return the result of a client whose termination message is not a result."""
    if last["exitCode"] == 0:
        return _failure("NoResult", error, suite)
    quote = quoted(message, SGLANG)
    failure = f"exit code {last['exitCode']} ({last.get('reason', 'Error')})" + (f": {quote}" if quote else "")
    return _failure("ClientFailed", failure, suite)


def client_end(pod: Manifest) -> dict[str, Any] | None:
    """Return the terminated state of the client's container, None if it has not ended."""
    terminated = _client_state(pod).get("terminated")
    return dict(terminated) if terminated else None


def _client_state(pod: Manifest) -> Manifest:
    """Return the state of the client's container, empty if the kubelet has not reported any."""
    containers = pod.get("status", {}).get("containerStatuses", ())
    return next((dict(item.get("state", {})) for item in containers if item["name"] == commands.CONTAINER), {})


def _failure(reason: str, message: str, suite: Suite) -> Manifest:
    counts = {"requested": load.requests(suite), "completed": 0}
    return {"outcome": "Failed", "reason": reason, "message": message, **counts, "metrics": {}}
