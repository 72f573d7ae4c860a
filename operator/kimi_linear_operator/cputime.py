"""Processor time of a coroutine, without the time of tasks that run while the coroutine waits."""

import time
from collections.abc import Coroutine, Generator
from contextvars import ContextVar
from typing import Any, Generic, TypeVar

_Result = TypeVar("_Result")
_CURRENT: ContextVar["Measured[Any] | None"] = ContextVar("_CURRENT", default=None)


class Measured(Generic[_Result]):
    """A coroutine that measures its own processor time with the thread's clock. Await it once.

    Attributes:
        seconds: Processor time so far. Tasks that the coroutine starts are included only if they call `count`.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, _Result]) -> None:
        """Wrap a coroutine that has not started."""
        self._coroutine = coroutine
        self.seconds = 0.0

    def __await__(self) -> Generator[Any, Any, _Result]:
        """Run the coroutine step by step, and measure each step."""
        _CURRENT.set(self)
        value: Any = None
        error: BaseException | None = None
        while True:
            begin = time.thread_time()
            try:
                awaited = self._coroutine.throw(error) if error else self._coroutine.send(value)
            except StopIteration as stop:
                result: _Result = stop.value
                return result
            finally:
                self.seconds += time.thread_time() - begin
            try:
                value, error = (yield awaited), None
            except BaseException as thrown:
                error = thrown


def count(seconds: float) -> None:
    """Add processor time of other tasks to the coroutine that is measured in this context, if any."""
    if measured := _CURRENT.get():
        measured.seconds += seconds
