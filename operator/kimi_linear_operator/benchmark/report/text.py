"""The report as plain text: the tables as SGLang's clients print them, the findings, and the comparison."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import astuple

from kimi_linear_operator.benchmark import recipe
from kimi_linear_operator.benchmark.report.run import Row, Run, SuiteRun
from kimi_linear_operator.benchmark.spec import Speed
from kimi_linear_operator.columns import table

_WIDTH = 50
_NO_VALUE = "-"


def report(run: Run) -> str:
    """Return the whole report."""
    baseline_metrics = run.benchmark.spec.baseline.metrics
    suites = [_suite(run, suite) for suite in run.suites]
    table_of_baseline = _comparison_table(run, lambda row: row.metric.name in baseline_metrics)
    return _joined([_heading(run), _environment(run), *suites, _findings(run), table_of_baseline])


def comparison(run: Run) -> str:
    """Return all numbers of a run beside those of its reference."""
    return _joined([_heading(run), _environment(run), _comparison_table(run, lambda _: True)])


def suite_lines(suite: SuiteRun) -> Iterator[str]:
    """Yield the metrics of a suite as its client prints them."""
    if suite.kind == "speed":
        yield from _speed_lines(suite)
    else:
        for row in suite.rows:
            yield f"{row.metric.label}: {row.metric.text(row.value)} {row.metric.unit}".rstrip()


def _joined(parts: Iterable[Iterator[str]]) -> str:
    """Join parts with an empty line between them. Parts without lines are left out. No text begins another line."""
    return "\n".join(
        "".join(f"{' '.join(line.splitlines())}\n" for line in lines) for part in parts if (lines := list(part))
    )


def _speed_lines(suite: SuiteRun) -> Iterator[str]:
    yield f"{' Serving Benchmark Result ':=^{_WIDTH}}"
    for label, value in _traffic(suite):
        yield _line(label, value)
    section = ""
    for row in suite.rows:
        if row.metric.section != section:
            section = row.metric.section
            yield f"{section:-^{_WIDTH}}"
        yield _line(row.metric.label, row.metric.text(row.value))
    yield "=" * _WIDTH


def _traffic(suite: SuiteRun) -> Iterator[tuple[str, str]]:
    load = suite.load
    rate = load.request_rate if isinstance(load, Speed) else None
    yield "Backend", recipe.BACKEND
    yield "Traffic request rate", str(rate or recipe.REQUEST_RATE)
    yield "Max request concurrency", str(suite.max_concurrency or "not set")


def _line(label: str, value: str) -> str:
    return f"{label + ':':<40} {value}"


def _heading(run: Run) -> Iterator[str]:
    yield f"{run.name}: {run.verdict}"
    yield from (f"  {_one_line(reason)}" for reason in run.reasons)


def _environment(run: Run) -> Iterator[str]:
    header = ["", run.name.upper(), run.reference.name.upper() if run.reference else ""]
    yield from table(header, [[_one_line(cell) for cell in astuple(row)] for row in run.environment])
    for name, command in run.commands:
        yield f"Command of {name}: {_one_line(command)}"


def _one_line(text: str) -> str:
    return " ".join(text.replace("\\\n", "").split())


def _suite(run: Run, suite: SuiteRun) -> Iterator[str]:
    result = suite.result
    if not result:
        yield f"{suite.name}: {'is running' if run.status.current_suite == suite.name else 'has not run'}"
        return
    counts = f"{result.completed} of {result.requested} requests succeeded. "
    yield _one_line(f"{suite.name}: {counts if result.outcome == 'Succeeded' else 'failed: '}{result.message}")
    if suite.rows:
        yield from suite_lines(suite)


def _findings(run: Run) -> Iterator[str]:
    rows = [
        (suite.name, _one_line(finding.rule), "passed" if finding.passed else "FAILED", _one_line(finding.message))
        for suite in run.suites
        for finding in suite.findings
    ]
    if rows:
        yield from table(("SUITE", "FINDING", "RESULT", "MESSAGE"), rows)


def _comparison_table(run: Run, is_shown: Callable[[Row], bool]) -> Iterator[str]:
    rows = [_comparison_row(suite, row) for suite in run.suites for row in suite.rows if is_shown(row)]
    if not run.reference or not rows:
        return
    header = ("SUITE", "METRIC", run.name.upper(), run.reference.name.upper(), "RATIO", "BETTER IS", "CHANGE")
    yield from table(header, rows)
    if run.reference.note:
        yield run.reference.note


def _comparison_row(suite: SuiteRun, row: Row) -> Sequence[str]:
    metric = row.metric
    return (
        suite.name,
        metric.title,
        metric.text(row.value),
        _NO_VALUE if row.reference is None else metric.text(row.reference),
        row.ratio_text or _NO_VALUE,
        metric.better or _NO_VALUE,
        row.change or _NO_VALUE,
    )
