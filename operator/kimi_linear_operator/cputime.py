"""How much processor time a coroutine takes, without what runs while it waits."""

import time
from collections.abc import Coroutine, Generator
from contextvars import ContextVar
from typing import Any, Generic, TypeVar

_Result = TypeVar("_Result")
_CURRENT: ContextVar["Measured[Any] | None"] = ContextVar("_CURRENT", default=None)


class Measured(Generic[_Result]):
    """A coroutine to be awaited once, whose steps are timed by the clock of the thread.

    Attributes:
        seconds: Processor time so far. That of tasks which the coroutine starts is not in it, unless it is `count`ed.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, _Result]) -> None:
        """Take over a coroutine that has not begun."""
        self._coroutine = coroutine
        self.seconds = 0.0

    def __await__(self) -> Generator[Any, Any, _Result]:
        """Pass everything on between the coroutine and whoever drives it."""
        _CURRENT.set(self)
        value: Any = None
        error: BaseException | None = None
        while True:
            begin = time.thread_time()
            try:
                waits_for = self._coroutine.throw(error) if error else self._coroutine.send(value)
            except StopIteration as stop:
                result: _Result = stop.value
                return result
            finally:
                self.seconds += time.thread_time() - begin
            try:
                value, error = (yield waits_for), None
            except BaseException as thrown:
                error = thrown


def count(seconds: float) -> None:
    """Count processor time of other tasks to the coroutine that is measured here, if one is."""
    if measured := _CURRENT.get():
        measured.seconds += seconds
