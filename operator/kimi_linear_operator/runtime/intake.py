"""Puts watch events into the cache, a few at a time.

In between, the operator renews the Lease, and workers continue.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from kimi_linear_operator.reconcile.cache import Cache
from kimi_linear_operator.reconcile.cached_object import CachedObject, Key

logger = logging.getLogger(__name__)

# How long to work before other tasks can run. For one event, it may take milliseconds to find the resources to enqueue.
SLICE_SECONDS = 0.02


class Enqueue(Protocol):
    """Enqueues the resources that depend on a changed object."""

    def __call__(self, changed: CachedObject, keys: set[Key], *, is_progress: bool) -> None:
        """Take the changed object, the resources, and whether the change can only affect a status."""


class Intake:
    """Objects that the watching thread has observed and that are not in the cache yet."""

    def __init__(self, cache: Cache, enqueue: Enqueue, skip: Callable[[Key], None]) -> None:
        """Begin empty. Call this in the event loop to which the cache belongs.

        Args:
            cache: The cache to update.
            enqueue: Called for every change.
            skip: Called for every object that cannot be cached. The older state of the object stays in the cache.
        """
        self._cache = cache
        self._enqueue = enqueue
        self._skip = skip
        self._waiting: deque[CachedObject] = deque()
        self._wake = asyncio.Event()
        self._call_soon: Callable[..., object] = asyncio.get_running_loop().call_soon_threadsafe

    def add(self, observed: CachedObject) -> None:
        """Add an observed object; any thread may call this."""
        self._waiting.append(observed)
        self._call_soon(self._wake.set)

    def clear(self) -> None:
        """Drop the waiting objects. After a restore of etcd, they may contain changes that were undone."""
        self._waiting.clear()

    async def run(self) -> None:
        """Put observed objects into the cache, for ever."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                deadline = time.monotonic() + SLICE_SECONDS
                while self._waiting and time.monotonic() < deadline:
                    self._take_or_skip(self._waiting.popleft())
                await asyncio.sleep(0)

    def _take_or_skip(self, observed: CachedObject) -> None:
        try:
            self._take(observed)
        except Exception:
            logger.debug("Cannot put %s %s/%s into the cache", observed.key.kind.kind, *observed.key[:2], exc_info=True)
            self._skip(observed.key)

    def _take(self, observed: CachedObject) -> None:
        is_progress = not observed.is_deleted and self._cache.is_progress(observed)
        self._enqueue(observed, self._cache.take(observed), is_progress=is_progress)
