"""The result of the checks of `kimi-linear verify`."""

import sys
from dataclasses import dataclass

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
