"""Reports on a benchmark: pure functions of the resource as it is stored.

`read` takes a manifest, `beside` puts another run in the place of what it is compared with, and the writers in
`REPORTS` and `COMPARISONS` make a text of it.
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
"""Writers of what `beside` returned; JUnit XML knows no numbers side by side."""
