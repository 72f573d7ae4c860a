"""How long the Jobs of a finished benchmark, and the benchmark itself, are kept."""

from typing import Any

import pytest

from kimi_linear_operator.benchmark import retention
from kimi_linear_operator.benchmark.spec import KimiLinearBenchmark
from kimi_linear_operator.kubernetes.kinds import Manifest
from make import VALID, make_benchmark, make_condition, make_result

ENDED = "2026-11-24T09:00:00Z"
FAILED = {"rule": "Validity", "passed": False, "message": ""}


def job(*conditions: str) -> Manifest:
    ends = [{"type": kind, "status": "True"} for kind in conditions]
    return {"metadata": {"labels": {"kimi-linear.io/suite": "gsm8k"}}, "status": {"conditions": ends}}


def status(*conditions: Manifest, **result: Any) -> Manifest:
    ended = make_result("gsm8k", **{"completionTime": ENDED, **result}) if result != {"name": None} else {}
    return {"conditions": list(conditions), "results": [ended] if result != {"name": None} else []}


COMPLETE = make_condition("Complete", "True", "SuitesEnded", "") | {"lastTransitionTime": ENDED}


@pytest.mark.parametrize(
    ("job", "status", "now", "left"),
    [
        (job("Complete"), status(), ENDED, 0),
        (job("Failed"), status(outcome="Failed"), "2026-11-24T09:10:00Z", 3000),
        (job("Failed"), status(outcome="Failed"), "2026-11-24T10:00:00Z", 0),
        (job("Complete"), status(findings=[FAILED]), "2026-11-24T09:59:59Z", 1),
        # A number beyond its limit is not a reason to keep a log.
        (job("Complete"), status(findings=[VALID, {**FAILED, "rule": "Threshold"}]), ENDED, 0),
        (job("Complete"), status(name=None), ENDED, None),
        (job("Complete"), status(COMPLETE, name=None), ENDED, 0),
        # Its pod ended a moment ago, or only a sidecar still runs.
        (job(), status(outcome="Failed"), "2026-11-24T09:00:10Z", 20),
        (job(), status(outcome="Failed"), "2026-11-24T09:00:30Z", 0),
        (job(), status(), ENDED, 0),
        (job("Failed"), status(outcome="Failed", completionTime="somebody wrote this"), ENDED, 0),
    ],
    ids=[
        "good",
        "failed",
        "an hour ago",
        "invalid",
        "missed",
        "no result",
        "not its own",
        "ends",
        "a sidecar",
        "a good sidecar",
        "odd",
    ],
)
def test_a_job_is_kept_while_its_log_may_be_needed(
    job: Manifest, status: Manifest, now: str, left: float | None
) -> None:
    assert retention.job_seconds_left(job, status, now) == left


def benchmark(**spec: Any) -> KimiLinearBenchmark:
    return KimiLinearBenchmark.model_validate(make_benchmark(**spec))


def test_a_benchmark_is_kept_after_its_end_for_as_long_as_its_spec_says() -> None:
    limited = benchmark(ttlSecondsAfterFinished=60)
    assert retention.seconds_to_live(limited, status(COMPLETE), "2026-11-24T09:00:20Z") == 40
    assert retention.seconds_to_live(limited, status(COMPLETE), "2026-11-24T09:01:00Z") == 0
    assert retention.seconds_to_live(benchmark(ttlSecondsAfterFinished=0), status(COMPLETE), ENDED) == 0


def test_a_benchmark_without_a_time_to_live_is_kept() -> None:
    late = "2036-11-24T09:00:00Z"
    odd = {**COMPLETE, "lastTransitionTime": "9999-99-99T00:00:00Z"}
    assert retention.seconds_to_live(benchmark(), status(COMPLETE), late) is None
    assert retention.seconds_to_live(benchmark(ttlSecondsAfterFinished=0), status(), late) is None
    assert retention.seconds_to_live(benchmark(ttlSecondsAfterFinished=0), status(odd), late) is None
    assert retention.seconds_to_live(None, status(COMPLETE), late) is None


def managed(*fields: str) -> dict[str, Any]:
    owner = {"manager": "gitops", "operation": "Apply", "fieldsV1": {"f:spec": {f"f:{name}": {} for name in fields}}}
    return {"metadata": {"managedFields": [owner]}}


def test_a_time_to_live_that_only_a_definition_sets_deletes_nothing() -> None:
    assert retention.is_wanted(managed("suites", "ttlSecondsAfterFinished"))
    assert not retention.is_wanted(managed("suites"))
    assert not retention.is_wanted({"metadata": {}})
