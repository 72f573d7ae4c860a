"""How long to wait before trying again."""

import random
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Backoff:
    """Delays in seconds that double from the first to the longest, and never run out.

    Each is spread over half its length, so that many who fail together do not come back in step.
    """

    first: float
    longest: float

    def __iter__(self) -> Iterator[float]:
        """Yield one delay for each attempt that failed."""
        attempt = 0
        while True:
            yield self.delay(attempt)
            attempt += 1

    def delay(self, attempt: int) -> float:
        """Return how long to wait after this many attempts that failed before."""
        length = min(self.longest, self.first * 2.0 ** min(attempt, 16))
        return length * random.uniform(0.5, 1)  # noqa: S311 - spreads load, protects nothing
