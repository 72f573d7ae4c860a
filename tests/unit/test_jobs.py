"""What Jobs and pods tell of a suite that has ended."""

import json
from typing import Any

import pytest

from kimi_linear_operator.api import Manifest
from kimi_linear_operator.api.benchmark import Suite
from kimi_linear_operator.status import jobs
from make import owned

GSM8K = Suite.model_validate({"name": "gsm8k"})
RESULT = {"outcome": "Succeeded", "message": "", "requested": 200, "completed": 200, "metrics": {"accuracy": 0.7}}


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
    return jobs.result_of(job or make_job(), GSM8K, pods, 600)


def test_a_good_result_is_taken_over_with_the_times_of_the_job() -> None:
    assert result(ended(RESULT)) == {
        "name": "gsm8k",
        "kind": "accuracy",
        **RESULT,
        "startTime": "2026-11-24T09:00:01Z",
        "completionTime": "2026-11-24T09:05:00Z",
    }


@pytest.mark.parametrize("condition", ["SuccessCriteriaMet", "FailureTarget", "Suspended"])
def test_a_job_whose_pods_may_still_run_has_not_ended(condition: str) -> None:
    assert not jobs.has_ended(make_job(condition))
    assert jobs.has_ended(make_job("Failed"))


def test_the_attempt_that_succeeded_counts_whatever_came_before() -> None:
    failed = ended({**RESULT, "outcome": "Failed", "message": "No answer."}, 1, "2026-11-24T09:09:00Z")
    assert result(failed, ended(RESULT), RUNS)["outcome"] == "Succeeded"


def test_of_attempts_that_all_failed_the_last_tells_why() -> None:
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
        ((), "NoResult", "its pod is gone, and has left no result"),
        ((RUNS,), "NoResult", "its pod is gone, and has left no result"),
        ((ended("", 137, reason="OOMKilled"),), "ClientFailed", "exit code 137 (OOMKilled)"),
        ((ended("a\nb token=abcdefgh", 1),), "ClientFailed", "exit code 1 (Error): a | b token=[redacted]"),
        # Numbers of a client that ended badly are worth nothing.
        ((ended({**RESULT, "message": "odd"}, 1),), "ClientFailed", "odd"),
        ((ended({**RESULT, "outcome": "Failed", "message": "odd"}, 0),), "ClientFailed", "odd"),
    ],
    ids=["no pod", "no end", "memory", "a log", "numbers and an error", "failed without an error"],
)
def test_what_is_no_result_says_why(pods: tuple[Manifest, ...], reason: str, message: str) -> None:
    found = result(*pods)
    assert (found["outcome"], found["reason"], found["message"], found["metrics"]) == ("Failed", reason, message, {})


def test_a_job_past_its_deadline_timed_out_whatever_its_pods_have_left() -> None:
    found = result(ended(RESULT), job=make_job("Failed", reason="DeadlineExceeded"))
    assert (found["reason"], found["message"]) == ("TimedOut", "not done within 600 s (spec.timeoutSeconds)")


def test_pods_of_another_job_of_the_name_are_not_this_ones() -> None:
    job = make_job()
    own = {"metadata": {"name": "own", "ownerReferences": [{"uid": job["metadata"]["uid"]}]}}
    former = {"metadata": {"name": "former", "ownerReferences": [{"uid": "another"}]}}
    assert jobs.pods_of(job, [own, former, RUNS]) == [own]
