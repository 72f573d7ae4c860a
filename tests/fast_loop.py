"""Runs tests of code that waits, without real waits."""

import asyncio
from collections.abc import Coroutine
from typing import Any


class FastLoop(asyncio.SelectorEventLoop):
    """An event loop with its own clock.

    The clock stands still while a task runs, and jumps to the next timer when no task runs.
    """

    def __init__(self) -> None:
        self._now = 0.0
        super().__init__()

    def time(self) -> float:
        return self._now

    def _run_once(self) -> None:
        due = [timer.when() for timer in self._scheduled if not timer.cancelled()]  # type: ignore[attr-defined]
        if not self._ready and due:  # type: ignore[attr-defined]
            self._now = max(self._now, min(due))
        super()._run_once()  # type: ignore[misc]


def run(test: Coroutine[Any, Any, None]) -> None:
    """Run a test in an event loop whose time passes as fast as possible."""
    with asyncio.Runner(loop_factory=FastLoop) as runner:
        runner.run(asyncio.wait_for(test, 3600))


def now() -> float:
    """Return the loop's time in seconds."""
    return asyncio.get_running_loop().time()
