"""Delays between attempts."""

import random
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Backoff:
    """Delays that double with each attempt, up to a maximum. The number of attempts has no limit.

    Each delay is random, between half and all of its length. So clients that failed together do not try again together.

    Attributes:
        first: Seconds after the first failure.
        longest: Maximum in seconds.
    """

    first: float
    longest: float

    def __iter__(self) -> Iterator[float]:
        """Yield the seconds to wait after each failed attempt."""
        attempt = 0
        while True:
            yield self.delay(attempt)
            attempt += 1

    def delay(self, attempt: int) -> float:
        """Return the seconds to wait after an attempt.

        Args:
            attempt: Number of the attempt, counted from 0.
        """
        return self.length(attempt) * random.uniform(0.5, 1)  # noqa: S311 - spreads load, protects nothing

    def length(self, attempt: int) -> float:
        """Return the seconds of which `delay` returns a random part.

        Args:
            attempt: Number of the attempt, counted from 0.
        """
        # After 1023 attempts, the power would be too large for a float.
        return min(self.longest, self.first * 2.0 ** min(attempt, 16))
