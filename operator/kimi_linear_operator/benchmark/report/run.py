"""A benchmark for reports: each number with its reference."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from pydantic import ValidationError

from kimi_linear_operator.benchmark import load, metric, recipe
from kimi_linear_operator.benchmark.metric import Metric
from kimi_linear_operator.benchmark.spec import (
    BenchmarkStatus,
    Environment,
    Finding,
    KimiLinearBenchmark,
    Speed,
    Suite,
    SuiteKind,
    SuiteResult,
)
from kimi_linear_operator.foreigntext import printable_json
from kimi_linear_operator.kubernetes.check import field_path
from kimi_linear_operator.kubernetes.kinds import Manifest

Change = Literal["better", "worse", "same"]

UNFINISHED = "Unfinished"
UNKNOWN = "Unknown"
_VERDICTS = ("Passed", "Failed", "Invalid")

_ENVIRONMENT = [name for name in Environment.model_fields if name != "command"]


class UnreadableError(Exception):
    """A manifest that is not a benchmark, or whose status this version cannot read."""


@dataclass(frozen=True)
class Reference:
    """The reference of a run: the recipe, a baseline, or another run."""

    name: str
    status: BenchmarkStatus
    """The reference with its environment and times, as far as they are known."""

    metrics: Mapping[str, Mapping[str, float]]
    """The numbers, by suite and metric."""

    note: str = ""
    """A note that must be shown with the numbers."""

    verdict: str = ""
    """The verdict of the other run, empty if the reference is not another run."""


RECIPE = Reference(
    "recipe",
    BenchmarkStatus.model_validate(
        {
            "environment": {
                "hardware": recipe.HARDWARE,
                "tensorParallelism": recipe.TENSOR_PARALLELISM,
                "version": recipe.VERSION,
            }
        }
    ),
    recipe.PUBLISHED,
    recipe.NOTE,
)


@dataclass(frozen=True)
class EnvironmentRow:
    """A fact about the environment, with its values for the run and the reference. An unknown value is empty."""

    name: str
    value: str
    reference: str


@dataclass(frozen=True)
class Row:
    """A metric of a suite, with its value and that of the reference."""

    metric: Metric
    value: float
    reference: float | None

    @property
    def ratio(self) -> float | None:
        """Return the value divided by the reference. None without a reference, or if the result is not finite."""
        ratio = self.value / self.reference if self.reference else math.inf
        return ratio if math.isfinite(ratio) else None

    @property
    def ratio_text(self) -> str:
        """Return the ratio as text, empty if there is none."""
        return "" if self.ratio is None else metric.in_decimals(self.ratio, 2)

    @property
    def change(self) -> Change | None:
        """Compare the value with the reference; None without a reference, or if neither higher nor lower is better.

        A difference of less than half a percent counts as "same", because the ratio has two decimals.
        """
        if self.reference is None or self.metric.better is None:
            return None
        if self.value == self.reference or round(self.ratio or 0, 2) == 1:
            return "same"
        return "better" if (self.value > self.reference) == (self.metric.better == "higher") else "worse"


@dataclass(frozen=True)
class SuiteRun:
    """A suite of the spec, with its result (None until it has ended) and the numbers of the reference."""

    suite: Suite
    result: SuiteResult | None
    reference: Mapping[str, float]

    @property
    def name(self) -> str:
        """Return the suite's name."""
        return self.suite.name

    @property
    def load(self) -> load.Load:
        """Return the load of the suite."""
        return load.of(self.suite)

    @property
    def kind(self) -> SuiteKind:
        """Return what the suite measures."""
        return load.kind(self.suite)

    @property
    def requests(self) -> int:
        """Return how many requests the suite makes."""
        return load.requests(self.suite)

    @property
    def max_concurrency(self) -> int | None:
        """Return how many requests are made at the same time.

        None if there is no limit, or if this is not a speed suite.
        """
        return self.load.max_concurrency if isinstance(self.load, Speed) else None

    @property
    def rows(self) -> list[Row]:
        """Return the metrics in the result, in the client's order."""
        measured = self.result.metrics if self.result else {}
        return [
            Row(item, measured[item.name], self.reference.get(item.name))
            for item in metric.METRICS[self.kind]
            if item.name in measured
        ]

    def row(self, name: str) -> Row | None:
        """Return the metric with this name, None if it is not in the result."""
        return next((row for row in self.rows if row.metric.name == name), None)

    @property
    def findings(self) -> list[Finding]:
        """Return the findings in the result."""
        return self.result.findings if self.result else []

    @property
    def problems(self) -> list[str]:
        """Return messages about the failure of the suite and the findings that did not pass."""
        failure = [self.result.message] if self.result and self.result.outcome != "Succeeded" else []
        return [*failure, *(finding.message for finding in self.findings if not finding.passed)]


@dataclass(frozen=True)
class Run:
    """A benchmark, with the reference for its numbers."""

    benchmark: KimiLinearBenchmark
    status: BenchmarkStatus
    reference: Reference | None
    suites: tuple[SuiteRun, ...]
    name: str
    """The name in reports: that of the benchmark, unless two benchmarks with the same name are compared."""

    @property
    def verdict(self) -> str:
        """Return the verdict: Passed, Failed, Invalid or Unfinished; Unknown if this version does not know it."""
        verdict = self.status.verdict or UNFINISHED
        return verdict if verdict in (*_VERDICTS, UNFINISHED) else UNKNOWN

    @property
    def environment(self) -> list[EnvironmentRow]:
        """Return rows about the environment."""
        own, other = self.status, self.reference.status if self.reference else BenchmarkStatus()
        own_environment, other_environment = (status.environment or Environment() for status in (own, other))
        rows = [
            ("verdict", self.verdict, self.reference.verdict if self.reference else ""),
            *(
                (name.replace("_", " "), getattr(own_environment, name), getattr(other_environment, name))
                for name in _ENVIRONMENT
            ),
            ("started", own.start_time, other.start_time),
            ("ended", own.completion_time, other.completion_time),
        ]
        return [
            EnvironmentRow(name, _shown(value), _shown(reference))
            for name, value, reference in rows
            if value or reference
        ]

    @property
    def commands(self) -> list[tuple[str, str]]:
        """Return the names of the run and its reference, each with its server's command if that is known."""
        both = [(self.name, self.status), *([(self.reference.name, self.reference.status)] if self.reference else [])]
        commands = [(name, status.environment and status.environment.command) for name, status in both]
        return [(name, command) for name, command in commands if command]

    @property
    def reasons(self) -> list[str]:
        """Return the reasons of the verdict, or the progress of the benchmark."""
        if self.status.verdict is None:
            return [
                "Not finished: "
                f"{self._message('Complete') or 'the operator has not handled it yet. Does the operator run?'}"
            ]
        problems = [f"{suite.name}: {problem}" for suite in self.suites for problem in suite.problems]
        return problems or [message for message in [self._message("Succeeded")] if message]

    def _message(self, condition: str) -> str:
        return next((item.message for item in self.status.conditions if item.type == condition), "")


def read(manifest: Manifest) -> Run:
    """Parse a stored KimiLinearBenchmark, with the baseline of its spec as the reference.

    Raises:
        UnreadableError: The manifest is not a benchmark, or this version cannot read its status.
    """
    clean = printable_json(manifest)
    try:
        benchmark = KimiLinearBenchmark.model_validate(clean)
    except ValidationError as error:
        raise UnreadableError(_first_problem("", error)) from error
    _require_known_suites(benchmark)
    try:
        status = BenchmarkStatus.model_validate(benchmark.status, extra="ignore")
    except ValidationError as error:
        raise UnreadableError(_first_problem("status.", error)) from error
    reference = _reference(benchmark, status)
    results = {result.name: result for result in status.results}
    numbers = reference.metrics if reference else {}
    suites = tuple(
        SuiteRun(suite, results.get(suite.name), numbers.get(suite.name, {})) for suite in benchmark.spec.suites
    )
    return Run(benchmark, status, reference, suites, benchmark.metadata.name)


def beside(run: Run, other: Run) -> Run:
    """Return a run with another one as its reference, for the suites that have the same name and load in both."""
    numbers = {
        theirs.name: theirs.result.metrics
        for ours in run.suites
        for theirs in other.suites
        if ours.name == theirs.name and load.is_same(ours.suite, theirs.suite) and theirs.result
    }
    reference = Reference(other.name, other.status, numbers, verdict=other.verdict)
    suites = tuple(replace(suite, reference=numbers.get(suite.name, {})) for suite in run.suites)
    return replace(run, reference=reference, suites=suites)


def _reference(benchmark: KimiLinearBenchmark, status: BenchmarkStatus) -> Reference | None:
    baseline = benchmark.spec.baseline
    if baseline.source == "none":
        return None
    if baseline.source == "recipe":
        return RECIPE
    numbers = {result.name: result.baseline for result in status.results}
    return Reference(baseline.benchmark or "baseline", BenchmarkStatus(), numbers)


def _require_known_suites(benchmark: KimiLinearBenchmark) -> None:
    for suite in benchmark.spec.suites:
        if not load.is_known(suite):
            raise UnreadableError(f"spec.suites: {suite.name} is not in the recipe, and lacks a load")


def _first_problem(prefix: str, error: ValidationError) -> str:
    detail = error.errors(include_url=False)[0]
    return f"{prefix}{field_path(detail['loc'])}: {detail['msg']}"


def _shown(value: object) -> str:
    return "" if value is None else str(value)
