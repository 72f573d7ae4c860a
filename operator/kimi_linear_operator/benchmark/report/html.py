"""One HTML page, complete in itself: no script, and nothing that a browser would fetch."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

import kimi_linear_operator
from kimi_linear_operator.benchmark.report import plot
from kimi_linear_operator.benchmark.report.run import Row, Run, SuiteRun

# The first that a suite has is what its card shows.
_KEY_FIGURES = ("output_throughput", "request_throughput")
_KEY_FIGURES_OF_ACCURACY = ("accuracy",)

# Escapes whatever is put in: results come from pods, and may hold anything.
_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)


def report(run: Run) -> str:
    """Return the report, or the comparison if another run is the reference."""
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
    names = _KEY_FIGURES if suite.kind == "speed" else _KEY_FIGURES_OF_ACCURACY
    return next((row for name in names if (row := suite.row(name))), None)
