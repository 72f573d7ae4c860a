"""The report as one HTML page, without scripts and without files that a browser must fetch."""

from collections.abc import Mapping
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

import kimi_linear_operator
from kimi_linear_operator.benchmark.report import plot
from kimi_linear_operator.benchmark.report.run import Row, Run, SuiteRun
from kimi_linear_operator.benchmark.spec import SuiteKind

# A suite's card shows the first of these metrics that the suite measured.
_KEY_FIGURES: Mapping[SuiteKind, tuple[str, ...]] = {
    "speed": ("output_throughput", "request_throughput"),
    "accuracy": ("accuracy",),
    "tool-calls": ("valid_tool_calls",),
}

# `autoescape` is needed because results come from pods and may contain anything.
_TEMPLATES = Environment(
    loader=FileSystemLoader([Path(__file__).parent, Path(kimi_linear_operator.__file__).parent]),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)


def report(run: Run) -> str:
    """Return the report, or the comparison if the reference is another run."""
    return _TEMPLATES.get_template("page.html").render(
        run=run,
        measured_suites=[suite for suite in run.suites if suite.rows],
        curves=plot.curves(run),
        spreads=plot.spreads,
        key_figure=_key_figure,
        width=plot.WIDTH,
        version=kimi_linear_operator.__version__,
    )


def _key_figure(suite: SuiteRun) -> Row | None:
    """Return the metric on a suite's card, None if the suite measured none of them."""
    return next((row for name in _KEY_FIGURES[suite.kind] if (row := suite.row(name))), None)
