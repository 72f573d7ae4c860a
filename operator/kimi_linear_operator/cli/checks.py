"""What came of the checks of `kimi-linear verify`."""

import sys
from dataclasses import dataclass

from kimi_linear_operator.foreigntext import one_line
from kimi_linear_operator.kubernetes.kinds import Manifest


@dataclass(frozen=True)
class Outcome:
    """What came of the checks.

    Attributes:
        benchmark: The benchmark that has ended.
        message: Why its verdict is as it is.
        next_step: What to do if it has no result.
    """

    benchmark: Manifest
    message: str
    next_step: str


def tell(text: str) -> None:
    """Say on standard error what happens now, on one line: standard output has nothing but the report."""
    if line := one_line(text):
        print(line, file=sys.stderr, flush=True)
