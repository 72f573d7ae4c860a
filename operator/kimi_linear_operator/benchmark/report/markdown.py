"""The report as Markdown, for a pull request, a wiki or the summary of a CI job."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import astuple

from kimi_linear_operator.benchmark.report.run import Row, Run, SuiteRun
from kimi_linear_operator.benchmark.spec import Finding

# Characters that are markup in Markdown or HTML at any place, and characters that start a list or heading at the
# beginning.
_SPECIAL = re.compile(r"[\\`*_\[\]<>|~&]|^[-+#=]")
# References such as @team, #12, !12 and GH-12. GitHub and GitLab make them links that notify people. They search the
# rendered text, so a backslash does not help. An invisible zero-width space in the reference helps.
_REFERENCE = re.compile(r"[@#!](?=\w)|\bGH-(?=\d)", re.IGNORECASE)
_ZERO_WIDTH_SPACE = "&#8203;"
_NUMBERED = re.compile(r"^(\d+)([.)])(?=\s|$)")

_NUMBERS = ("---", "--:", "--:", "--:", "---", "---")


def report(run: Run) -> str:
    """Return the report, or the comparison if the reference is another run."""
    return "\n".join("".join(f"{line}\n" for line in part) for part in _parts(run) if part)


def _parts(run: Run) -> Iterator[list[str]]:
    yield [f"# Benchmark {_plain(run.name)}: {run.verdict}"]
    yield [f"- {_plain(reason)}" for reason in run.reasons]
    yield list(_environment(run))
    for name, command in run.commands:
        yield list(_command(name, command))
    for suite in run.suites:
        yield from _suite(run, suite)
    if run.reference and run.reference.note:
        yield [f"*{_plain(run.reference.note)}*"]


def _environment(run: Run) -> Iterator[str]:
    rows = [astuple(row)[: 3 if run.reference else 2] for row in run.environment]
    yield from _table(["", run.name, *_reference_name(run)], rows, ["---"] * 3)


def _command(name: str, command: str) -> Iterator[str]:
    yield f"Command of {_plain(name)}:"
    yield ""
    yield from (f"    {line}" for line in command.splitlines())


def _suite(run: Run, suite: SuiteRun) -> Iterator[list[str]]:
    yield [f"## {_plain(suite.name)}"]
    result = suite.result
    if not result:
        yield ["Has not run."]
        return
    counts = f"{result.completed} of {result.requested} requests succeeded."
    yield [_plain(f"{result.outcome}: {counts} {result.message}".rstrip())]
    yield [f"- {_mark(finding)} {_plain(finding.rule)}: {_plain(finding.message)}" for finding in suite.findings]
    if suite.rows:
        header = ["metric", run.name, *([*_reference_name(run), "ratio", "better is", ""] if run.reference else [])]
        yield list(_table(header, [_cells(run, row) for row in suite.rows], _NUMBERS))


def _mark(finding: Finding) -> str:
    return "passed," if finding.passed else "**failed**,"


def _reference_name(run: Run) -> list[str]:
    return [run.reference.name] if run.reference else []


def _cells(run: Run, row: Row) -> list[str]:
    metric = row.metric
    measured = [metric.title, metric.text(row.value)]
    if not run.reference:
        return measured
    reference = "" if row.reference is None else metric.text(row.reference)
    return [*measured, reference, row.ratio_text, metric.better or "", row.change or ""]


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], alignments: Sequence[str]) -> Iterator[str]:
    yield _line(header)
    yield "".join(f"|{alignment}" for alignment in alignments[: len(header)]) + "|"
    yield from (_line(row) for row in rows)


def _line(cells: Sequence[str]) -> str:
    return "".join(f"| {_plain(cell)} " for cell in cells) + "|"


def _plain(text: str) -> str:
    """Escape a text so that Markdown shows it unchanged, on one line, and notifies nobody."""
    line = " ".join(text.split())
    escaped = _NUMBERED.sub(r"\1\\\2", _SPECIAL.sub(r"\\\g<0>", line))
    return _REFERENCE.sub(rf"\g<0>{_ZERO_WIDTH_SPACE}", escaped)
