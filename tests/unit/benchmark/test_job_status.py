"""The state of a suite, derived from its Job and pod."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from kimi_linear_operator.benchmark import job_status
from kimi_linear_operator.benchmark.job_status import Clients
from kimi_linear_operator.benchmark.spec import Suite
from kimi_linear_operator.kubernetes.kinds import Manifest
from make import owned
from processor_time import cost

GSM8K = Suite.model_validate({"name": "gsm8k"})
METRICS = {"accuracy": 0.7, "invalid": 0.0, "latency": 11.9, "output_throughput": 3225.0}
RESULT = {"outcome": "Succeeded", "message": "", "requested": 200, "completed": 200, "metrics": METRICS}
NOW = "2026-11-24T09:10:00Z"


def make_job(condition: str = "Complete", **more: Any) -> Manifest:
    end = {"type": condition, "status": "True", "lastTransitionTime": "2026-11-24T09:05:00Z", **more}
    metadata = {"name": "nightly-gsm8k", "creationTimestamp": "2026-11-24T09:00:00Z"}
    status = {"startTime": "2026-11-24T09:00:01Z", "conditions": [end]}
    return owned({"metadata": metadata, "status": status}, "nightly", "KimiLinearBenchmark")


def ended(message: object, code: int = 0, time: str = "2026-11-24T09:05:00Z", **more: Any) -> Manifest:
    """Return a pod whose client has ended."""
    text = message if isinstance(message, str) else json.dumps(message)
    state = {"exitCode": code, "message": text, "finishedAt": time, **more}
    sidecar = {"name": "sidecar", "state": {"terminated": {"exitCode": 0, "message": "not this one"}}}
    client = {"name": "client", "state": {"terminated": state}}
    return {"metadata": {"name": time}, "status": {"containerStatuses": [sidecar, client]}}


RUNS = {"metadata": {"name": "runs"}, "status": {"containerStatuses": [{"name": "client", "state": {"running": {}}}]}}


def result(*pods: Manifest, job: Manifest | None = None) -> Manifest:
    return job_status.result_of(job or make_job(), GSM8K, pods, timeout_seconds=600)


def test_a_good_result_is_recorded_with_the_times_of_the_job() -> None:
    assert result(ended(RESULT)) == {
        "name": "gsm8k",
        "kind": "accuracy",
        **RESULT,
        "startTime": "2026-11-24T09:00:01Z",
        "completionTime": "2026-11-24T09:05:00Z",
    }


@pytest.mark.parametrize("condition", ["SuccessCriteriaMet", "FailureTarget", "Suspended"])
def test_a_job_whose_pods_may_still_run_has_not_ended(condition: str) -> None:
    assert not job_status.has_ended(make_job(condition))
    assert job_status.has_ended(make_job("Failed"))


def test_the_attempt_that_succeeded_counts_even_after_failed_ones() -> None:
    failed = ended({**RESULT, "outcome": "Failed", "message": "No answer."}, 1, "2026-11-24T09:09:00Z")
    assert result(failed, ended(RESULT), RUNS)["outcome"] == "Succeeded"


def test_the_last_of_several_failed_attempts_gives_the_reason() -> None:
    first, last = (
        ended({**RESULT, "outcome": "Failed", "message": word}, 1, time) for word, time in (("a", "1"), ("b", "2"))
    )
    found = result(last, first, job=make_job("Failed", reason="BackoffLimitExceeded"))
    assert (found["outcome"], found["reason"], found["message"], found["metrics"]) == (
        "Failed",
        "ClientFailed",
        "b",
        {},
    )


@pytest.mark.parametrize(
    ("pods", "reason", "message"),
    [
        ((), "NoResult", "its pod is gone and left no result"),
        ((RUNS,), "NoResult", "its pod is gone and left no result"),
        ((ended("", 137, reason="OOMKilled"),), "ClientFailed", "exit code 137 (OOMKilled)"),
        ((ended("a\nb token=abcdefgh", 1),), "ClientFailed", "exit code 1 (Error): a | b token=[redacted]"),
        # Numbers of a failed client do not count.
        ((ended({**RESULT, "message": "odd"}, 1),), "ClientFailed", "odd"),
        ((ended({**RESULT, "outcome": "Failed", "message": "odd"}, 0),), "ClientFailed", "odd"),
    ],
    ids=["no pod", "no end", "memory", "a log", "numbers and an error", "failed without an error"],
)
def test_an_attempt_without_a_result_gives_the_reason(pods: tuple[Manifest, ...], reason: str, message: str) -> None:
    found = result(*pods)
    assert (found["outcome"], found["reason"], found["message"], found["metrics"]) == ("Failed", reason, message, {})


LATE = make_job("Failed", reason="DeadlineExceeded")


def test_a_job_past_its_deadline_timed_out_unless_its_client_finished_in_time() -> None:
    stopped = ended({**RESULT, "outcome": "Failed", "message": "the run was stopped (SIGTERM)"}, 1)
    for pods in ((), (RUNS,), (stopped,)):
        found = result(*pods, job=LATE)
        assert (found["reason"], found["message"]) == ("TimedOut", "not done within 600 s (spec.timeoutSeconds)")
    assert result(ended(RESULT), job=LATE)["outcome"] == "Succeeded"


def going(job: Manifest | None = None, **status: Any) -> Manifest:
    """Return a Job that has not ended, according to its conditions."""
    return {**(job or make_job()), "status": {"startTime": "2026-11-24T09:00:01Z", **status}}


def beside_a_sidecar(message: object, code: int = 0, time: str = "2026-11-24T09:05:00Z") -> Manifest:
    """Return a pod whose client has ended while another container still runs."""
    pod = ended(message, code, time)
    return {**pod, "status": {**pod["status"], "phase": "Running"}}


def left(job: Manifest, *pods: Manifest, now: str = NOW) -> float:
    return job_status.seconds_left(job, pods, 600, now)


def test_a_suite_ends_with_its_client_even_if_a_sidecar_still_runs() -> None:
    assert left(going(), beside_a_sidecar(RESULT), now="2026-11-24T09:05:00Z") == 0
    found = job_status.result_of(going(), GSM8K, [beside_a_sidecar(RESULT)], timeout_seconds=600, now=NOW)
    assert (found["outcome"], found["metrics"]) == ("Succeeded", METRICS)
    assert (found["startTime"], found["completionTime"]) == ("2026-11-24T09:00:01Z", "2026-11-24T09:05:00Z")


def test_a_failed_client_beside_a_sidecar_is_given_up_after_a_moment() -> None:
    failed = beside_a_sidecar({**RESULT, "outcome": "Failed", "message": "No answer."}, 1)
    assert left(going(), failed, now="2026-11-24T09:05:10Z") == 20
    assert left(going(), failed, now="2026-11-24T09:05:30Z") == 0
    found = job_status.result_of(going(), GSM8K, [failed], timeout_seconds=600, now=NOW)
    assert (found["reason"], found["message"]) == ("ClientFailed", "No answer.")


def test_a_failed_attempt_whose_pod_has_ended_is_repeated_by_the_job() -> None:
    failed = ended({**RESULT, "outcome": "Failed"}, 1)
    failed["status"]["phase"] = "Failed"
    assert left(going(), failed, now="2026-11-24T09:06:01Z") == 360


def test_a_job_that_does_not_end_after_its_time_limit_is_given_up() -> None:
    """The pod's node is lost, or somebody has suspended the Job. So the Job's own time limit has no effect."""
    assert left(going(), RUNS, now="2026-11-24T09:12:01Z") == 0
    suspended = {**make_job(), "status": {}}
    assert left(suspended, now="2026-11-24T09:11:59Z") == 1
    assert left(suspended, now="2026-11-24T09:12:00Z") == 0
    found = job_status.result_of(suspended, GSM8K, [], timeout_seconds=600, now="2026-11-24T09:12:00Z")
    assert (found["reason"], found["startTime"], found["completionTime"]) == (
        "TimedOut",
        "2026-11-24T09:00:00Z",
        "2026-11-24T09:12:00Z",
    )


def test_a_pod_in_which_only_a_sidecar_runs_does_not_block_other_benchmarks() -> None:
    done = owned_by_job(beside_a_sidecar(RESULT))
    assert not is_busy([going()], [done])
    assert is_busy([going()], [])
    assert is_busy([], [RUNS])
    assert not is_busy([make_job()], [])


def is_busy(jobs: Sequence[Manifest], pods: Sequence[Manifest]) -> bool:
    return Clients().with_jobs(jobs).with_pods(pods).are_busy


def test_jobs_and_pods_are_counted_page_by_page() -> None:
    """After a failed client, its Job may have another pod. A page contains only some of the pods."""
    failed, running = owned_by_job(ended({}, code=1)), owned_by_job(RUNS)
    clients = Clients().with_jobs([going()])
    assert clients.with_pods([failed]).with_pods([running]).are_busy
    assert clients.with_pods([running]).with_pods([failed]).are_busy
    assert not clients.with_pods([]).with_pods([failed]).are_busy


def test_thousands_of_jobs_and_pods_take_little_time() -> None:
    numbers = [str(number) for number in range(8000)]
    going_on = [{**going(), "metadata": {**going()["metadata"], "uid": number}} for number in numbers]
    done = beside_a_sidecar(RESULT)
    pods = [{**done, "metadata": {**done["metadata"], "ownerReferences": [{"uid": number}]}} for number in numbers]
    assert not is_busy(going_on, pods)
    # It costs about 3, and more than 20 if each Job is compared with each pod.
    assert cost(lambda: is_busy(going_on, pods), tries=3) < 14


def owned_by_job(pod: Manifest) -> Manifest:
    references = [{"uid": make_job()["metadata"]["uid"]}]
    return {**pod, "metadata": {**pod["metadata"], "ownerReferences": references}}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"requested": 1, "completed": 1},
            "the suite asks for 200 requests, but the pod's result says that 1 were asked for",
        ),
        ({"completed": 201}, "more completed requests than the suite asks for"),
        ({"metrics": {}}, "lacks accuracy, invalid, latency, output_throughput"),
    ],
)
def test_numbers_that_a_pod_reports_are_checked_against_the_suite(change: Manifest, words: str) -> None:
    found = result(ended({**RESULT, **change}))
    assert (found["outcome"], found["reason"], found["requested"], found["completed"]) == ("Failed", "NoResult", 200, 0)
    assert words in found["message"]
