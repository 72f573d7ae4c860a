"""Waiting that ends."""

import time
from collections.abc import Callable


class BenchmarkError(Exception):
    """The event to be measured did not happen; the message names it and the seconds."""


def wait_until(holds: Callable[[], bool], expected: str, seconds: float, pause: float = 0.1) -> None:
    """Look until something holds; BenchmarkError if it does not in time."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise BenchmarkError(f"Not within {seconds:.0f} s: {expected}")
        time.sleep(pause)
