"""A coroutine's own processor time is measured, and its behaviour does not change."""

import asyncio

import pytest

from kimi_linear_operator.cputime import Measured
from kimi_linear_operator.reconcile.writes import write_all


class Processor:
    """The thread's clock, which only work moves."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def work(self, seconds: float) -> None:
        self.seconds += seconds


@pytest.fixture
def processor(monkeypatch: pytest.MonkeyPatch) -> Processor:
    """A processor in place of the real one."""
    processor = Processor()
    monkeypatch.setattr("kimi_linear_operator.cputime.time.thread_time", lambda: processor.seconds)
    return processor


def test_only_the_coroutines_own_steps_count(processor: Processor) -> None:
    async def own_work() -> str:
        processor.work(2)
        await asyncio.sleep(0.05)
        processor.work(3)
        return "done"

    async def other_work() -> None:
        processor.work(20)

    async def both() -> tuple[str, float]:
        measured = Measured(own_work())
        other = asyncio.create_task(other_work())
        result = await measured
        await other
        return result, measured.seconds

    assert asyncio.run(both()) == ("done", 5)
    assert processor.seconds == 25


def test_the_time_of_a_pass_includes_its_child_tasks(processor: Processor) -> None:
    async def child() -> None:
        processor.work(3)

    async def parent() -> float:
        measured = Measured(write_all([child(), child()]))
        await measured
        return measured.seconds

    assert asyncio.run(parent()) == 6


def test_errors_and_cancellation_pass_through() -> None:
    async def failing() -> None:
        await asyncio.sleep(0)
        raise ValueError("inside")

    async def cancelled() -> None:
        task = asyncio.ensure_future(_awaiting(Measured(asyncio.sleep(60))))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def catching() -> None:
        with pytest.raises(ValueError, match="inside"):
            await Measured(failing())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await Measured(asyncio.sleep(60))

    asyncio.run(cancelled())
    asyncio.run(catching())


async def _awaiting(measured: Measured[None]) -> None:
    await measured
