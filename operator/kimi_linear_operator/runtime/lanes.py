"""Limits how many lists of a kind run at the same time. Slow lists have a separate lane."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from kimi_linear_operator.runtime.scopes import Scope

# Number of lists of a kind in each lane. Four pages of every kind fit into the operator's memory as text. Only one page
# of all kinds is decoded at a time (`cluster/pages.py`).
LISTS_AT_ONCE = 2
# A list that takes longer than this moves to the slow lane.
LONG_SECONDS = 5.0
# The next list of a scope starts in the slow lane if the last one took longer than this, or failed after this time.
LATE_SECONDS = 30.0


@dataclass
class Lanes:
    """Two lanes for the lists of one kind.

    The slow lists of all scopes share the slow lane. So the quick lane stays free for other lists. When a list becomes
    slow, it moves to the slow lane as soon as there is room.
    """

    _quick: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(LISTS_AT_ONCE))
    _slow: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(LISTS_AT_ONCE))
    _late: set[Scope] = field(default_factory=set)

    @asynccontextmanager
    async def place(self, scope: Scope) -> AsyncIterator[None]:
        """Wait for a place for the list of a scope, and hold the place within the context."""
        async with self._slow_place() if scope in self._late else self._quick_place():
            began = asyncio.get_running_loop().time()
            try:
                yield
            finally:
                is_late = asyncio.get_running_loop().time() - began >= LATE_SECONDS
                (self._late.add if is_late else self._late.discard)(scope)

    @asynccontextmanager
    async def _slow_place(self) -> AsyncIterator[None]:
        async with self._slow:
            yield

    @asynccontextmanager
    async def _quick_place(self) -> AsyncIterator[None]:
        await self._quick.acquire()
        moving = asyncio.create_task(self._move_to_slow())
        try:
            yield
        finally:
            if moving.done():
                self._slow.release()
            else:
                moving.cancel()
                self._quick.release()

    async def _move_to_slow(self) -> None:
        """Move a list to the slow lane once it has taken LONG_SECONDS."""
        await asyncio.sleep(LONG_SECONDS)
        await self._slow.acquire()
        self._quick.release()
