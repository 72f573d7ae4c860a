"""Reports on a benchmark, built by pure functions from the stored resource.

`read` parses a manifest into a run. `beside` gives a run another run as its reference. The writers in `REPORTS` and
`COMPARISONS` return a run as text.
"""

from collections.abc import Callable, Mapping

from kimi_linear_operator.benchmark.report import html, junit, markdown, structured, text
from kimi_linear_operator.benchmark.report.run import Run, UnreadableError, beside, read

__all__ = ["COMPARISONS", "REPORTS", "Run", "UnreadableError", "beside", "read"]

REPORTS: Mapping[str, Callable[[Run], str]] = {
    "text": text.report,
    "markdown": markdown.report,
    "json": structured.report,
    "junit": junit.report,
    "html": html.report,
}
"""Writers by format."""

COMPARISONS: Mapping[str, Callable[[Run], str]] = {
    "text": text.comparison,
    "markdown": markdown.report,
    "json": structured.report,
    "html": html.report,
}
"""Writers by format, for a run that `beside` has returned. JUnit XML cannot show two numbers side by side."""
