"""Waits with a time limit: until something happens, or to check that it does not happen."""

import json
import time
from collections.abc import Callable
from typing import TypeVar

import pytest

Seen = TypeVar("Seen")

# Many times longer than necessary, because shared machines sometimes stand still for seconds.
PATIENCE_SECONDS = 60.0
_PAUSE_SECONDS = 0.04
# A longer wait checks less often, because each check costs the API server as much as a request of the operator.
_LONGEST_PAUSE_SECONDS = 0.25
_PAUSE_OF_A_WAIT = 1 / 40
_LONGEST_SHOWN = 3000


def wait_for(
    look: Callable[[], Seen],
    expected: str,
    accept: Callable[[Seen], object] = bool,
    seconds: float = PATIENCE_SECONDS,
    *,
    passes_soon: bool = False,
) -> Seen:
    """Observe until the value is accepted, and return it. After the time limit, fail with the last value.

    Args:
        look: Reads the value.
        expected: The awaited state, in words.
        accept: Says whether a value is the awaited one.
        seconds: How long to wait.
        passes_soon: Whether a test must act at once, because the state does not last.
    """
    begin = time.monotonic()
    while not accept(seen := look()):
        waited = time.monotonic() - begin
        if waited > seconds:
            pytest.fail(f"Not within {seconds:.0f} s: {expected}. Last seen:\n{_shown(seen)}")
        longer = min(waited * _PAUSE_OF_A_WAIT, _LONGEST_PAUSE_SECONDS)
        time.sleep(_PAUSE_SECONDS if passes_soon else max(longer, _PAUSE_SECONDS))
    return seen


def stays(look: Callable[[], Seen], expected: str, accept: Callable[[Seen], object], seconds: float) -> None:
    """Observe again and again for some seconds; fail as soon as a value is not accepted."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not accept(seen := look()):
            pytest.fail(f"Not for {seconds:.0f} s: {expected}. Seen:\n{_shown(seen)}")
        time.sleep(_PAUSE_SECONDS)


def seconds_until(look: Callable[[], object], expected: str) -> float:
    """Return the seconds until something was observed."""
    started = time.monotonic()
    wait_for(look, expected)
    return time.monotonic() - started


def _shown(seen: object) -> str:
    text = json.dumps(seen, indent=1, default=str)
    # The status of an object is written last.
    return text if len(text) <= _LONGEST_SHOWN else f"... {text[-_LONGEST_SHOWN:]}"
