"""The result of a benchmark, and of the checks of `kimi-linear verify`."""

import sys
from dataclasses import dataclass

from kimi_linear_operator.benchmark import report
from kimi_linear_operator.cli.failure import CommandError
from kimi_linear_operator.foreigntext import one_line
from kimi_linear_operator.kubernetes.kinds import Manifest


@dataclass(frozen=True)
class Outcome:
    """The result of the checks.

    Attributes:
        benchmark: The benchmark that has ended.
        message: The reason for its verdict.
        next_step: What to do if there is no result.
    """

    benchmark: Manifest
    message: str
    next_step: str


def tell(text: str) -> None:
    """Print the current step on standard error, on one line. Standard output contains only the report."""
    if line := one_line(text):
        print(line, file=sys.stderr, flush=True)


def read_run(origin: str, benchmark: Manifest) -> report.Run:
    """Return what a benchmark has measured.

    Args:
        origin: Its name or file, for the message of an error.
        benchmark: The benchmark as it is stored.

    Raises:
        CommandError: This version cannot read it.
    """
    try:
        return report.read(benchmark)
    except report.UnreadableError as error:
        raise CommandError(f"{origin}: {error}") from error
