"""What the watches saw goes into the cache, a little at a time: the Lease is renewed and workers go on meanwhile."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from kimi_linear_operator.reconcile.cache import Cache
from kimi_linear_operator.reconcile.cached_object import CachedObject, Key

logger = logging.getLogger(__name__)

# In slices of this length: whom a change concerns may take milliseconds to find out.
SLICE_SECONDS = 0.02


class Enqueue(Protocol):
    """Asks for passes over resources that a change concerns."""

    def __call__(self, found: CachedObject, keys: set[Key], *, is_progress: bool) -> None:
        """Take what has changed, the resources, and whether the change can at most change a status."""


class Intake:
    """What the watching thread saw and the cache does not have yet."""

    def __init__(self, cache: Cache, enqueue: Enqueue, skip: Callable[[Key], None]) -> None:
        """Begin with nothing, in the event loop to which the cache belongs.

        Args:
            cache: Where it goes.
            enqueue: Called for every change.
            skip: Called for every object that the cache cannot take over: it is left as it was known.
        """
        self._cache = cache
        self._enqueue = enqueue
        self._skip = skip
        self._seen: deque[CachedObject] = deque()
        self._noticed = asyncio.Event()
        self._call_soon: Callable[..., object] = asyncio.get_running_loop().call_soon_threadsafe

    def see(self, found: CachedObject) -> None:
        """Note what was seen; may be called from any thread."""
        self._seen.append(found)
        self._call_soon(self._noticed.set)

    def clear(self) -> None:
        """Forget what was seen: it is of a past that is no more."""
        self._seen.clear()

    async def run(self) -> None:
        """Take over what was seen, for ever."""
        while True:
            await self._noticed.wait()
            self._noticed.clear()
            while self._seen:
                until = time.monotonic() + SLICE_SECONDS
                while self._seen and time.monotonic() < until:
                    self._take_or_skip(self._seen.popleft())
                await asyncio.sleep(0)

    def _take_or_skip(self, found: CachedObject) -> None:
        try:
            self._take(found)
        except Exception:
            logger.debug("Cannot take over %s %s/%s", found.key.kind.kind, *found.key[:2], exc_info=True)
            self._skip(found.key)

    def _take(self, found: CachedObject) -> None:
        is_progress = not found.is_deleted and self._cache.is_progress(found)
        self._enqueue(found, self._cache.take(found), is_progress=is_progress)
