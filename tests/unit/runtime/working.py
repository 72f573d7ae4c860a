"""Workers at a queue. Some note their keys, some fail. Time is the event loop's own time."""

import asyncio
from collections.abc import Awaitable, Callable

from fast_loop import now
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.runtime.queue import Work, WorkQueue
from kimi_linear_operator.server.spec import SERVER

A, B, C = Key("default", "a", SERVER), Key("default", "b", SERVER), Key("default", "c", SERVER)


async def settle() -> None:
    """Run all tasks that can run without waiting for time."""
    for _ in range(20):
        await asyncio.sleep(0)


async def worked(queue: WorkQueue, work: Work, seconds: float = 0, workers: int = 1) -> None:
    """Let workers work for this time, then close the queue and wait for them."""
    async with asyncio.TaskGroup() as tasks:
        for _ in range(workers):
            tasks.create_task(queue.work(work))
        await settle()
        await asyncio.sleep(seconds)
        queue.close()


def recorder(done: list[Key], again: float | None = None) -> Work:
    async def work(key: Key, _: int) -> float | None:
        done.append(key)
        return again

    return work


def failing(times: list[float], until: Callable[[], bool] = lambda: False) -> Callable[[Key, int], Awaitable[None]]:
    async def work(key: Key, _: int) -> None:
        times.append(now())
        if not until():
            raise ValueError("no")

    return work
