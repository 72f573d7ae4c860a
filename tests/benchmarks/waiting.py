"""Waiting that ends."""

import time
from collections.abc import Callable


class BenchmarkError(Exception):
    """The event to measure did not happen. The message names the event and the seconds."""


def wait_until(holds: Callable[[], bool], expected: str, seconds: float, pause: float = 0.1) -> None:
    """Check until something is true. Raises BenchmarkError after the time limit."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise BenchmarkError(f"Not within {seconds:.0f} s: {expected}")
        time.sleep(pause)
