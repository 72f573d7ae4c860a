"""Where the lists of a kind are under way: a few at a time, and those that take long beside the others."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from kimi_linear_operator.runtime.scopes import Scope

# Of each kind, and beside them as many that take long. Four pages of every kind fit into the operator's memory as text;
# one page of all is held as objects (`cluster/pages.py`).
LISTS_AT_ONCE = 2
# A list that is not over by then makes room for another.
LONG_SECONDS = 5.0
# Who took that long last time, with an answer or without, is expected to do so again.
LATE_SECONDS = 30.0


@dataclass
class Lanes:
    """Two lanes for the lists of one kind.

    However many scopes list slowly, they share one lane, and the other one is for those that do not. Who is slow for
    the first time changes over when there is room.
    """

    _quick: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(LISTS_AT_ONCE))
    _slow: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(LISTS_AT_ONCE))
    _late: set[Scope] = field(default_factory=set)

    @asynccontextmanager
    async def place(self, scope: Scope) -> AsyncIterator[None]:
        """Wait for a place for a list of a scope, and keep it meanwhile."""
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
        changing = asyncio.create_task(self._change_over())
        try:
            yield
        finally:
            if changing.done():
                self._slow.release()
            else:
                changing.cancel()
                self._quick.release()

    async def _change_over(self) -> None:
        """Leave the quick lane for the slow one, once that is worth it."""
        await asyncio.sleep(LONG_SECONDS)
        await self._slow.acquire()
        self._quick.release()
