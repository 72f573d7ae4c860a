"""The processor time of a pass: its own and that of its children's tasks, and not that of others."""

import asyncio
import time

from kimi_linear_operator.cputime import Measured
from kimi_linear_operator.reconcile.children import settle


async def busy(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass
    await asyncio.sleep(0)


def test_a_pass_is_charged_for_its_children_and_for_nobody_else() -> None:
    async def work() -> None:
        await settle([busy(0.02), busy(0.03)])

    async def main() -> float:
        working = Measured(work())
        await asyncio.gather(working, busy(0.5))
        return working.seconds

    assert 0.05 <= asyncio.run(main()) < 0.3
