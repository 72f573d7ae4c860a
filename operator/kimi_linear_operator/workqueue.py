"""A queue of keys: each is worked on once at a time, however often it was added.

The same promises as client-go's workqueue: a key added while it waits is one key, a key added while it is
worked on is worked on once more, a key that fails comes back later and later, and no key delays another.
"""

import asyncio
import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable

from kimi_linear_operator.cluster import ApiError
from kimi_linear_operator.store import Key

logger = logging.getLogger(__name__)

FIRST_BACKOFF_SECONDS = 0.5
LONGEST_BACKOFF_SECONDS = 60.0

Work = Callable[[Key], Awaitable[float | None]]
"""Works on a key. Returns after how many seconds the key is due again, if at all; raises to be retried."""


class WorkQueue:
    """Keys that wait, and keys that are being worked on."""

    def __init__(self) -> None:
        self._waiting: deque[Key] = deque()
        self._dirty: set[Key] = set()
        self._busy: set[Key] = set()
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self._failures: dict[Key, int] = {}
        self._wake = asyncio.Event()
        self._closed = False

    def add(self, key: Key) -> None:
        """Ask for a key to be worked on as soon as possible."""
        if timer := self._timers.pop(key, None):
            timer.cancel()
        if key in self._dirty or self._closed:
            return
        self._dirty.add(key)
        if key not in self._busy:
            self._waiting.append(key)
            self._wake.set()

    def add_after(self, key: Key, seconds: float) -> None:
        """Ask for a key to be worked on later; what was asked for sooner stays."""
        if key in self._dirty or self._closed:
            return
        loop = asyncio.get_running_loop()
        if timer := self._timers.get(key):
            if timer.when() <= loop.time() + seconds:
                return
            timer.cancel()
        self._timers[key] = loop.call_later(seconds, self.add, key)

    def close(self) -> None:
        """Take no more keys and drop those that wait; workers finish what they hold and end."""
        self._closed = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._waiting.clear()
        self._dirty.clear()
        self._wake.set()

    async def work(self, work: Work) -> None:
        """Work on keys until the queue is closed. Run as many of these at once as there should be workers."""
        while key := await self._next():
            try:
                again = await work(key)
            except Exception as error:
                again = self._backoff(key)
                bug = None if isinstance(error, ApiError) else error
                logger.warning(
                    "Could not reconcile %s/%s, trying again in %.1f s: %s", *key, again, error, exc_info=bug
                )
            else:
                self._failures.pop(key, None)
            self._finish(key, again)

    async def _next(self) -> Key | None:
        while not self._waiting:
            if self._closed:
                return None
            self._wake.clear()
            await self._wake.wait()
        key = self._waiting.popleft()
        self._dirty.discard(key)
        self._busy.add(key)
        return key

    def _finish(self, key: Key, again: float | None) -> None:
        self._busy.discard(key)
        if key in self._dirty:
            self._waiting.append(key)
            self._wake.set()
        elif again is not None:
            self.add_after(key, again)

    def _backoff(self, key: Key) -> float:
        """Return how long a failed key waits: twice as long each time, spread so that keys do not come in step."""
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        longest = min(LONGEST_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2.0 ** min(failures - 1, 16))
        return longest * random.uniform(0.5, 1)  # noqa: S311 - spreads load, protects nothing
