"""Judging numbers: validity first, then bounds and regressions, each with its message."""

import json
from typing import Any

import pytest

from kimi_linear_operator.benchmark import load, verdict
from kimi_linear_operator.benchmark.baseline import Baseline
from kimi_linear_operator.benchmark.recipe import PUBLISHED
from kimi_linear_operator.benchmark.spec import RECIPE_SUITES, BenchmarkSpec, Suite, SuiteResult
from kimi_linear_operator.kubernetes.kinds import Manifest

LOW, GSM8K = (Suite.model_validate({"name": name}) for name in ("speed-low", "gsm8k"))


def spec(**fields: Any) -> BenchmarkSpec:
    return BenchmarkSpec.model_validate({"serverRef": {"name": "kimi"}, **fields})


def ended(name: str = "speed-low", metrics: dict[str, float] | None = None, **more: Any) -> Manifest:
    counts = {"requested": 10, "completed": 10}
    numbers = {"output_throughput": 100.0, "median_ttft_ms": 50.0} if metrics is None else metrics
    times = {"startTime": "2026-11-24T02:00:00Z", "completionTime": "2026-11-24T02:05:00Z"}
    about = {"name": name, "kind": "accuracy" if name == "gsm8k" else "speed", "outcome": "Succeeded", "message": ""}
    return {**about, **times, **counts, "metrics": numbers, **more}


def judged(given: BenchmarkSpec, baseline: dict[str, float] | None = None, **more: Any) -> verdict.Verdict:
    return verdict.conclude([verdict.judge(given, LOW, ended(**more), baseline=Baseline(baseline or {}), changes=[])])


def test_the_recipes_own_numbers_pass_even_if_no_regression_is_allowed() -> None:
    for given in (spec(), spec(baseline={"maxRegressionPercent": 0})):
        results = []
        for name in RECIPE_SUITES:
            suite = Suite.model_validate({"name": name})
            result = ended(name, dict(PUBLISHED[name]), completed=load.requests(suite))
            results.append(verdict.judge(given, suite, result, baseline=Baseline(PUBLISHED[name]), changes=[]))
        assert verdict.conclude(results).verdict == "Passed"
        assert {ratio for result in results for ratio in result["ratios"].values()} == {1}


def test_a_passed_benchmark_says_how_many_bounds_were_met() -> None:
    bound = {"suite": "speed-low", "metric": "output_throughput", "min": 100, "max": 100}
    assert judged(spec()).message == "The suite is valid, and the spec sets no limits for the numbers"
    assert judged(spec(thresholds=[bound])).message == "The suite is valid, and all 2 checks of numbers passed"


@pytest.mark.parametrize(
    ("bound", "message"),
    [
        ({"metric": "output_throughput", "min": 100.5}, "speed-low: output_throughput is 100, min 100.5"),
        ({"metric": "median_ttft_ms", "max": 49}, "speed-low: median_ttft_ms is 50, max 49"),
        (
            {"metric": "p95_ttft_ms", "max": 49},
            "speed-low: p95_ttft_ms is not among the numbers that this client reports, max 49",
        ),
    ],
)
def test_a_missed_bound_fails(bound: Manifest, message: str) -> None:
    found = judged(spec(thresholds=[{"suite": "speed-low", **bound}]))
    assert found == verdict.Verdict("Failed", "ThresholdMissed", message)


def test_a_bound_of_another_suite_does_not_apply_to_this_suite() -> None:
    bound = {"suite": "gsm8k", "metric": "accuracy", "min": 1}
    assert judged(spec(suites=[{"name": "speed-low"}, {"name": "gsm8k"}], thresholds=[bound])).verdict == "Passed"


@pytest.mark.parametrize(
    ("throughput", "latency", "expected"),
    [(90, 55, "Passed"), (89.9, 50, "Failed"), (200, 55.1, "Failed"), (200, 1, "Passed")],
)
def test_a_regression_depends_on_whether_higher_or_lower_is_better(
    throughput: float, latency: float, expected: str
) -> None:
    given = spec(baseline={"source": "benchmark", "benchmark": "last", "maxRegressionPercent": 10})
    baseline = {"output_throughput": 100.0, "median_ttft_ms": 50.0, "median_itl_ms": 5.0}
    metrics = {"output_throughput": throughput, "median_ttft_ms": latency, "median_itl_ms": 5.0}
    found = judged(given, baseline, metrics=metrics)
    assert (found.verdict, found.reason) == (expected, "ThresholdsMet" if expected == "Passed" else "Regressed")


def test_a_missed_threshold_outranks_a_regression_and_both_are_reported() -> None:
    given = spec(
        thresholds=[{"suite": "speed-low", "metric": "output_throughput", "min": 150}],
        baseline={"maxRegressionPercent": 10, "metrics": ["output_throughput"]},
    )
    found = judged(given, {"output_throughput": 120.0})
    assert found.reason == "ThresholdMissed"
    assert found.message == (
        "speed-low: output_throughput is 100, min 150; "
        "speed-low: output_throughput is 100, the baseline 120, at least 108 is allowed"
    )


def test_a_baseline_without_the_number_makes_the_comparison_invalid() -> None:
    given = spec(baseline={"source": "benchmark", "benchmark": "last", "maxRegressionPercent": 10})
    found = judged(given, {"output_throughput": 100.0})
    assert (found.verdict, found.reason) == ("Invalid", "BaselineMissing")
    assert "speed-low: median_ttft_ms is missing in the baseline" in found.message


def test_a_custom_suite_is_not_compared_with_the_recipe() -> None:
    own = Suite.model_validate({"name": "own", "speed": {"numPrompts": 10}})
    given = spec(suites=[{"name": "own", "speed": {"numPrompts": 10}}], baseline={"maxRegressionPercent": 0})
    assert (
        verdict.conclude([verdict.judge(given, own, ended("own"), baseline=Baseline(), changes=[])]).verdict == "Passed"
    )


@pytest.mark.parametrize(
    ("rate", "completed", "expected"), [(0, 10, "Passed"), (0, 9, "Invalid"), (0.1, 9, "Passed"), (0.1, 8, "Invalid")]
)
def test_requests_may_fail_as_often_as_the_spec_allows(rate: float, completed: int, expected: str) -> None:
    found = judged(spec(maxErrorRate=rate), completed=completed)
    assert (found.verdict, found.reason) == (expected, "ThresholdsMet" if expected == "Passed" else "RequestsFailed")


def test_an_invalid_suite_is_never_failed_however_bad_its_numbers_are() -> None:
    given = spec(thresholds=[{"suite": "speed-low", "metric": "output_throughput", "min": 1000}])
    assert judged(given, completed=9) == verdict.Verdict(
        "Invalid", "RequestsFailed", "speed-low: 9 of 10 requests were completed"
    )


def test_a_server_that_changed_makes_a_suite_invalid() -> None:
    result = verdict.judge(
        spec(), LOW, ended(), baseline=Baseline(), changes=["the server's image changed during the suite"]
    )
    assert verdict.conclude([result]) == verdict.Verdict(
        "Invalid", "ServerChanged", "speed-low: the server's image changed during the suite"
    )


def test_a_few_of_a_thousand_changed_pods_are_named_so_that_the_status_fits() -> None:
    changes = [f"pod kimi-{number} started again" for number in range(1000)]
    bounds = [{"suite": "speed-low", "metric": "output_throughput", "min": 1, "max": 2}] * 64
    result = verdict.judge(spec(thresholds=bounds), LOW, ended(), baseline=Baseline({}), changes=changes)
    SuiteResult.model_validate(result)
    told = verdict.conclude([result])
    assert (told.verdict, told.reason) == ("Invalid", "ServerChanged")
    assert told.message.endswith("968 more changes of the server")


@pytest.mark.parametrize("number", [5e-324, 1.7e308])
def test_every_baseline_gives_numbers_that_json_can_hold(number: float) -> None:
    given = spec(baseline={"source": "benchmark", "benchmark": "last", "maxRegressionPercent": 50})
    metrics = {"output_throughput": 100.0, "median_ttft_ms": 50.0, "median_itl_ms": 5.0}
    baseline = dict.fromkeys(metrics, number)
    result = verdict.judge(given, LOW, ended(metrics=metrics), baseline=Baseline(baseline), changes=[])
    json.dumps(result, allow_nan=False)


def test_a_client_without_numbers_is_not_judged_on_them() -> None:
    given = spec(thresholds=[{"suite": "gsm8k", "metric": "accuracy", "min": 0.6}])
    failed = ended("gsm8k", {}, outcome="Failed", reason="TimedOut", message="not done within 10 s", completed=0)
    result = verdict.judge(given, GSM8K, failed, baseline=Baseline(PUBLISHED["gsm8k"]), changes=[])
    assert (result["findings"], result["baseline"]) == ([], {})
    assert verdict.conclude([result]) == verdict.Verdict("Invalid", "TimedOut", "gsm8k: not done within 10 s")


def test_a_baseline_of_another_load_makes_the_comparison_invalid_and_is_not_shown() -> None:
    given = spec(baseline={"source": "benchmark", "benchmark": "last", "maxRegressionPercent": 10})
    result = verdict.judge(
        given, LOW, ended(), baseline=Baseline(missing="speed-low of last ran a different load (x)"), changes=[]
    )
    assert (result["baseline"], result["ratios"]) == ({}, {})
    assert verdict.conclude([result]) == verdict.Verdict(
        "Invalid", "BaselineMissing", "speed-low: speed-low of last ran a different load (x)"
    )


def test_the_number_of_requests_comes_from_the_suite_and_not_from_the_result() -> None:
    assert judged(spec(), requested=1, completed=1).reason == "RequestsFailed"
