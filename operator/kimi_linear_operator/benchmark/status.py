"""The status of a KimiLinearBenchmark."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import takewhile

from kimi_linear_operator.benchmark.spec import Attempt, KimiLinearBenchmark, Suite, SuiteResult
from kimi_linear_operator.benchmark.verdict import Verdict, conclude
from kimi_linear_operator.kubernetes.conditions import Reason, condition, find_condition, reconciling, stalled, stamped
from kimi_linear_operator.kubernetes.deletion import synced
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.models import Condition
from kimi_linear_operator.kubernetes.stored import is_readable

READY = ("ServerReady", "EndpointGiven", "SuitesEnded")
"""Reasons with which TargetReady is true."""

_PROGRESSING = ("Running", "Starting", "Suspended", "ServerUnready", "WaitingForTurn")


@dataclass(frozen=True)
class BenchmarkObservation:
    """Everything that a benchmark's status is derived from.

    Attributes:
        manifest: The resource as it is stored, with its previous status.
        benchmark: The resource, None if the stored object cannot be read as one.
        not_applied: Why the spec was not applied, None if it was.
        target: The reason of TargetReady; its name is one of `READY` if the target is ready.
        facts: The contents of `status.environment`, empty until the first suite starts.
        results: The results of the suites that have ended, in order.
        job: The Job of the current suite, None if it has none.
        not_running: Why the current suite does not run although its Job exists, None if it runs.
        failed_start: The last attempt that could not start and gave its turn back, None if the client has run since
            then.
        restored_start: When the first suite started, if the benchmark was created again with its results; else None.
        held: Children that are being deleted, but that finalizers hold.
    """

    manifest: Manifest
    benchmark: KimiLinearBenchmark | None
    not_applied: Reason | None
    target: Reason
    facts: Manifest = field(default_factory=dict)
    results: Sequence[Manifest] = ()
    job: Manifest | None = None
    not_running: Reason | None = None
    failed_start: Manifest | None = None
    restored_start: str | None = None
    held: Sequence[Manifest] = ()

    @property
    def suites(self) -> Sequence[Suite]:
        """Return the suites of the spec."""
        return self.benchmark.spec.suites if self.benchmark else ()

    @property
    def is_complete(self) -> bool:
        """Return whether every suite has ended."""
        return self.benchmark is not None and len(self.results) == len(self.suites)

    @property
    def current(self) -> str | None:
        """Return the name of the suite that has a Job and has not ended, None if there is none."""
        return self.suites[len(self.results)].name if self.job and not self.is_complete else None

    @property
    def share(self) -> str:
        """Return how many suites have ended, and how many suites there are."""
        return f"{len(self.results)}/{len(self.suites)}"


def is_complete(status: Manifest) -> bool:
    """Return whether a status says that all suites of the benchmark have ended."""
    return find_condition(status, "Complete").get("status") == "True"


def read_results(benchmark: KimiLinearBenchmark, status: Manifest) -> list[Manifest]:
    """Return the results in a status, up to the first result that is not about the suite at its position.

    A user or another version of the operator may have written the status. A result that this version cannot read also
    means that its suite has ended, and is kept as it is.
    """
    pairs = zip(benchmark.spec.suites, _items(status.get("results")), strict=False)
    return [result for _, result in takewhile(lambda pair: pair[0].name == pair[1].get("name"), pairs)]


def has_all_results(benchmark: KimiLinearBenchmark, status: Manifest) -> bool:
    """Return whether a status contains a result of every suite, and this version can read each of these results."""
    readable = [result for result in read_results(benchmark, status) if is_readable(SuiteResult, result)]
    return len(readable) == len(benchmark.spec.suites)


def read_environment(status: Manifest) -> Manifest:
    """Return `status.environment` as it is stored, even if this version cannot read it; empty if it is no object."""
    environment = status.get("environment", {})
    return dict(environment) if isinstance(environment, dict) else {}


def read_failed_start(status: Manifest) -> Manifest | None:
    """Return `status.failedStart`, None if there is none or it cannot be read."""
    attempt = status.get("failedStart", {})
    return dict(attempt) if is_readable(Attempt, attempt) else None


def with_last_reason(result: Manifest, status: Manifest) -> Manifest:
    """Return a suite's result. If the suite timed out, add the last reason in the status why the suite did not run."""
    last = find_condition(status, "Succeeded")
    had_problem = status.get("currentSuite") == result["name"] and last.get("reason") not in (*READY, *_PROGRESSING)
    if result.get("reason") != "TimedOut" or not had_problem:
        return result
    return {**result, "message": f"{result['message']}; last seen: {last.get('reason')}: {last.get('message')}"}


def _items(value: object) -> list[Manifest]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def benchmark_status(observation: BenchmarkObservation, now: str) -> Manifest:
    """Return the status of a benchmark.

    Args:
        observation: What the status is derived from.
        now: The time as RFC 3339, for conditions that change.
    """
    previous: Manifest = observation.manifest.get("status", {})
    generation: int = observation.manifest["metadata"]["generation"]
    verdict = conclude(observation.results) if observation.is_complete else None
    conditions = stamped(_conditions(observation, verdict, now), previous, generation, now)
    status = {
        "observedGeneration": generation,
        "conditions": _with_wait(conditions, previous, now),
        "verdict": verdict.verdict if verdict else None,
        "currentSuite": observation.current,
        "progress": observation.share if observation.benchmark else previous.get("progress"),
        "startTime": previous.get("startTime") or observation.restored_start or _start_time(observation),
        "completionTime": _completion_time(observation, now) if verdict else None,
        "failedStart": None if verdict else observation.failed_start,
        "environment": observation.facts or None,
        "results": list(observation.results) or None,
    }
    return {key: value for key, value in status.items() if value is not None}


def _with_wait(conditions: list[Manifest], previous: Manifest, now: str) -> list[Manifest]:
    """Return the conditions; if the benchmark waits for its turn, TargetReady has the time when that wait began.

    The time in which the spec was refused or the server was not ready does not count, because others could start then.
    """
    was_waiting = find_condition(previous, "TargetReady").get("reason") == "WaitingForTurn"
    return [
        {**item, "lastTransitionTime": now}
        if (item["type"], item["reason"]) == ("TargetReady", "WaitingForTurn") and not was_waiting
        else item
        for item in conditions
    ]


def _start_time(observation: BenchmarkObservation) -> str | None:
    """Return when the first suite started, None if none has."""
    times = [result["startTime"] for result in observation.results if is_readable(SuiteResult, result)]
    if observation.job:
        times.append(observation.job["metadata"]["creationTimestamp"])
    return min(times, default=None)


def _completion_time(observation: BenchmarkObservation, now: str) -> str:
    """Return when the last suite ended: now, if its result cannot be read."""
    last = observation.results[-1]
    return str(last["completionTime"]) if is_readable(SuiteResult, last) else now


def _conditions(observation: BenchmarkObservation, verdict: Verdict | None, now: str) -> list[Condition]:
    reason = Reason(verdict.reason, verdict.message) if verdict else _state(observation, now)
    why_stalled = _why_stalled(observation, verdict)
    succeeded = verdict.verdict == "Passed" if verdict else None
    ended = Reason("SuitesEnded", f"all {len(observation.suites)} suites have ended")
    return [
        _accepted(observation),
        condition("TargetReady", observation.target.name in READY, observation.target),
        condition("Complete", verdict is not None, ended if verdict else reason),
        condition("Succeeded", succeeded, reason),
        reconciling(None if verdict or why_stalled else reason),
        stalled(why_stalled),
        # The status of a complete benchmark does not change any more.
        *([] if verdict else synced(observation.held, now)),
    ]


def _accepted(observation: BenchmarkObservation) -> Condition:
    if observation.not_applied and observation.not_applied.blames_spec:
        return condition("Accepted", False, observation.not_applied)
    return condition("Accepted", True, Reason("SpecValid", "The spec passes all rules"))


def _why_stalled(observation: BenchmarkObservation, verdict: Verdict | None) -> Reason | None:
    """Return the reason of Stalled: an invalid spec, or a verdict other than Passed.

    None if the benchmark is not stalled.
    """
    if verdict:
        return Reason(verdict.reason, verdict.message) if verdict.verdict != "Passed" else None
    if observation.not_applied and observation.not_applied.blames_spec:
        return observation.not_applied
    return None


def _state(observation: BenchmarkObservation, now: str) -> Reason:
    """Return why a benchmark is not complete: what runs now, or what the benchmark waits for."""
    if observation.not_applied:
        return observation.not_applied
    so_far = f"{observation.share} suites have ended"
    if observation.benchmark and observation.benchmark.spec.suspend:
        return Reason("Suspended", f"spec.suspend is true; {so_far}")
    if observation.current is None or observation.job is None:
        if failed := observation.failed_start:
            message = (
                f"suite {failed['suite']}: {failed['message']}; other benchmarks have gone first since {failed['time']}"
            )
            return Reason(failed["reason"], f"{message}; {so_far}")
        if observation.target.name not in READY:
            return Reason(observation.target.name, f"{observation.target.message}; {so_far}")
        return Reason("Starting", f"the next suite is about to start; {so_far}")
    if not_running := observation.not_running:
        limit = f"the time limit is {observation.benchmark.spec.timeout_seconds} s" if observation.benchmark else ""
        message = f"suite {observation.current}: {not_running.message}; {limit} (spec.timeoutSeconds); {so_far}"
        return Reason(not_running.name, message)
    attempt = int(observation.job.get("status", {}).get("failed", 0)) + 1
    again = f", attempt {attempt}" if attempt > 1 else ""
    return Reason("Running", f"suite {observation.current} runs{again}; {so_far}")
