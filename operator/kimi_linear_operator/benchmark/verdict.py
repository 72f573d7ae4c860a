"""The verdict on a benchmark: whether the numbers of each suite are valid, and whether they are good enough."""

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from math import isfinite
from typing import Literal

from kimi_linear_operator.benchmark import load, metric
from kimi_linear_operator.benchmark.baseline import Baseline, Metrics, validity_of
from kimi_linear_operator.benchmark.spec import BenchmarkSpec, Finding, Suite, SuiteKind, SuiteResult, Threshold
from kimi_linear_operator.kubernetes.conditions import Reason
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.stored import is_readable
from kimi_linear_operator.reasons import ReasonName

_RATIO_DIGITS = 4
# A message names at most this many changes of the server. A server may have a thousand pods, and the status has a
# limited size.
_MOST_CHANGES = 32
# The reasons that this version writes into results.
_FAILURES: tuple[ReasonName, ...] = ("ClientFailed", "NoResult", "TimedOut")


@dataclass(frozen=True)
class Verdict:
    """The verdict on a whole benchmark.

    Attributes:
        verdict: Invalid if the numbers of a suite do not count, else Failed if a number is beyond its limit, else
            Passed.
        reason: The most important reason.
        message: The messages of all reasons.
    """

    verdict: Literal["Passed", "Failed", "Invalid"]
    reason: ReasonName
    message: str


def judge(
    spec: BenchmarkSpec, suite: Suite, result: Manifest, *, baseline: Baseline, changes: Sequence[str]
) -> Manifest:
    """Return a suite's result with the baseline's numbers, the ratios to these numbers, and all findings.

    Args:
        spec: The benchmark's spec.
        suite: The suite.
        result: The runner's result, with start and end times.
        baseline: The numbers that the suite is compared with.
        changes: Messages about how the server changed during the benchmark.
    """
    shared = {name: value for name, value in baseline.metrics.items() if name in result["metrics"]}
    exact = {name: result["metrics"][name] / value for name, value in shared.items() if value}
    ratios = {name: round(ratio, _RATIO_DIGITS) for name, ratio in exact.items() if isfinite(ratio)}
    findings = [*_validity(spec, suite, result, changes)]
    if result["outcome"] == "Succeeded":
        findings += [*_thresholds(spec, suite, result["metrics"])]
        findings += [*_regressions(spec, load.kind(suite), result["metrics"], baseline)]
    dumped = [finding.model_dump(by_alias=True, exclude_none=True) for finding in findings]
    return {**result, "baseline": shared, "ratios": ratios, "findings": dumped}


def conclude(results: Sequence[Manifest]) -> Verdict:
    """Return the verdict on a benchmark, given the results of all its suites.

    Another version of the operator may have written some of the results.
    """
    invalid = [reason for result in results for reason in _why_invalid(result)]
    if invalid:
        return Verdict("Invalid", invalid[0].name, _joined(reason.message for reason in invalid))
    judged = [(result, finding) for result in results for finding in result.get("findings") or ()]
    missed = [(result, finding) for result, finding in judged if not finding["passed"]]
    if missed:
        messages = (f"{result['name']}: {finding['message']}" for result, finding in missed)
        return Verdict("Failed", _why_failed({finding["rule"] for _, finding in missed}), _joined(messages))
    count = sum(finding["rule"] != "Validity" for _, finding in judged)
    bounds = f"all {count} checks of numbers passed" if count else "the spec sets no limits for the numbers"
    suites = "The suite is" if len(results) == 1 else f"All {len(results)} suites are"
    return Verdict("Passed", "ThresholdsMet", f"{suites} valid, and {bounds}")


def _why_failed(rules: Set[str]) -> ReasonName:
    """Return the most important reason, given the rules of the findings that did not pass."""
    if "Threshold" in rules:
        return "ThresholdMissed"
    return "Regressed" if "Regression" in rules else "ResultUnknown"


def _why_invalid(result: Manifest) -> Iterator[Reason]:
    """Yield the reasons why a suite's numbers do not count."""
    name = result["name"]
    if not is_readable(SuiteResult, result):
        yield Reason("ResultUnknown", f"{name}: this version of the operator cannot read the stored result")
        return
    if result["outcome"] != "Succeeded":
        reasons = [known for known in _FAILURES if known == result.get("reason")]
        other: ReasonName = "ClientFailed" if result["outcome"] == "Failed" else "ResultUnknown"
        message = result.get("message") or f"its outcome is {result['outcome']}"
        yield Reason(reasons[0] if reasons else other, f"{name}: {message}")
        return
    if not validity_of(result):
        yield Reason("ResultUnknown", f"{name}: the stored result does not say whether the numbers are valid")
    for finding in result.get("findings") or ():
        if finding["passed"]:
            continue
        if finding["rule"] == "Validity":
            reason: ReasonName = "RequestsFailed" if "metric" in finding else "ServerChanged"
            yield Reason(reason, f"{name}: {finding['message']}")
        elif finding["rule"] == "Regression" and "limit" not in finding:
            yield Reason("BaselineMissing", f"{name}: {finding['message']}")


def _joined(messages: Iterator[str]) -> str:
    """Join messages without duplicates."""
    return "; ".join(dict.fromkeys(messages))


def _validity(spec: BenchmarkSpec, suite: Suite, result: Manifest, changes: Sequence[str]) -> Iterator[Finding]:
    for change in changes[:_MOST_CHANGES]:
        yield Finding.model_construct(rule="Validity", passed=False, message=change)
    if more := len(changes[_MOST_CHANGES:]):
        yield Finding.model_construct(rule="Validity", passed=False, message=f"{more} more changes of the server")
    if result["outcome"] == "Failed":
        return
    requested, completed = load.requests(suite), result["completed"]
    failed = max(requested - completed, 0)
    yield Finding.model_construct(
        rule="Validity",
        metric="completed",
        value=completed,
        limit=round(requested * (1 - spec.max_error_rate), 3),
        passed=failed <= requested * spec.max_error_rate,
        message=f"{completed} of {requested} requests were completed"
        + (f" ({result['message'].rstrip('.')})" if failed and result["message"] else ""),
    )


def _thresholds(spec: BenchmarkSpec, suite: Suite, metrics: Metrics) -> Iterator[Finding]:
    for threshold in spec.thresholds:
        if threshold.suite == suite.name:
            yield from _bounds(threshold, metrics.get(threshold.metric))


def _bounds(threshold: Threshold, value: float | None) -> Iterator[Finding]:
    for bound, limit, sign in (("min", threshold.min, 1), ("max", threshold.max, -1)):
        if limit is None:
            continue
        passed = value is not None and (value - limit) * sign >= 0
        measured = "is not among the numbers that this client reports" if value is None else f"is {value:g}"
        yield Finding.model_construct(
            rule="Threshold",
            metric=threshold.metric,
            value=value,
            limit=limit,
            passed=passed,
            message=f"{threshold.metric} {measured}, {bound} {limit:g}",
        )


def _regressions(spec: BenchmarkSpec, kind: SuiteKind, metrics: Metrics, baseline: Baseline) -> Iterator[Finding]:
    allowed = spec.baseline.max_regression_percent
    # The recipe publishes numbers only for its own suites.
    if allowed is None or (spec.baseline.source == "recipe" and not baseline.metrics):
        return
    if baseline.missing:
        yield Finding.model_construct(rule="Regression", passed=False, message=baseline.missing)
        return
    compared = [item for name in spec.baseline.metrics if (item := metric.find(kind, name))]
    yield from (_regression(item, metrics, baseline.metrics, allowed) for item in compared)


def _regression(compared: metric.Metric, metrics: Metrics, baseline: Metrics, allowed: float) -> Finding:
    """Return the finding on one metric.

    Args:
        compared: The metric.
        metrics: The suite's numbers.
        baseline: The baseline's numbers.
        allowed: By how many percent the metric may be worse than the baseline.
    """
    name = compared.name
    if name not in baseline or name not in metrics:
        where = "the baseline" if name not in baseline else "the result"
        return Finding.model_construct(
            rule="Regression", metric=name, passed=False, message=f"{name} is missing in {where}"
        )
    sign = -1 if compared.better == "higher" else 1
    limit = baseline[name] * (1 + sign * allowed / 100)
    if not isfinite(limit):
        return Finding.model_construct(
            rule="Regression", metric=name, passed=False, message=f"{name} of the baseline is too large to compare with"
        )
    return Finding.model_construct(
        rule="Regression",
        metric=name,
        value=metrics[name],
        limit=round(limit, 6),
        passed=(metrics[name] - limit) * sign <= 0,
        message=f"{name} is {metrics[name]:g}, the baseline {baseline[name]:g}, "
        f"{'at least' if sign < 0 else 'at most'} {limit:g} is allowed",
    )
