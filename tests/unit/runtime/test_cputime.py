"""A coroutine's own processor time is measured, and its behaviour does not change."""

import asyncio
import time

import pytest

from kimi_linear_operator.cputime import Measured
from kimi_linear_operator.reconcile.children import write_all


def work(seconds: float) -> None:
    """Use up processor time."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


async def own_work() -> str:
    work(0.02)
    await asyncio.sleep(0.05)
    work(0.02)
    return "done"


async def other_work() -> None:
    work(0.2)


def test_only_the_coroutines_own_steps_count() -> None:
    async def both() -> tuple[str, float]:
        measured = Measured(own_work())
        other = asyncio.create_task(other_work())
        result = await measured
        await other
        return result, measured.seconds

    result, seconds = asyncio.run(both())
    assert result == "done"
    assert 0.04 <= seconds < 0.15


def test_the_time_of_a_pass_includes_its_child_tasks() -> None:
    async def child() -> None:
        work(0.03)

    async def parent() -> float:
        measured = Measured(write_all([child(), child()]))
        await measured
        return measured.seconds

    assert 0.06 <= asyncio.run(parent()) < 0.3


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
