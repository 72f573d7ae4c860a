"""A queue of keys. Only one worker at a time works on a key, however often it was added.

It behaves like client-go's workqueue. If a waiting key is added again, it still counts once. If a key is added while a
worker has it, a worker takes it again later. A key that fails is tried again with back-off. No key delays another.

If the API server answers a key's request with `Retry-After`, the key is not tried again before that time, even if it is
added again. client-go's REST client does the same.

Sources take turns, so a source with a few keys does not wait for a source with thousands. Namespaces share the workers,
so a namespace with slow passes does not occupy all of them.
"""

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable

from kimi_linear_operator import counters
from kimi_linear_operator.backoff import Backoff
from kimi_linear_operator.cluster.errors import ApiError
from kimi_linear_operator.cputime import Measured
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.runtime import logs
from kimi_linear_operator.runtime.order import PROGRESS, Due, Order, Shares, Turns

logger = logging.getLogger(__name__)

BACKOFF = Backoff(first=0.5, longest=30.0)
# A key that asks for a shorter delay waits for this time. If it does so again and again, it waits as after failures.
# Otherwise a resource whose state nobody expected could keep a worker and the API server busy for ever.
SHORTEST_SECONDS = 1.0
# If a change can only affect a status, the pass waits for further changes. So a burst of a pod's watch events causes
# one write.
QUIET_SECONDS = 1.5
LONGEST_QUIET_SECONDS = 5.0
Work = Callable[[Key, int], Awaitable[float | None]]
"""Called with a key and how many times it has failed in a row.

Returns the seconds until the key is requeued, None for no requeue. If it raises, the key is retried.
"""


class WorkQueue:
    """Keys that wait for a worker, and keys that wait for a time."""

    def __init__(self, *, is_shared: bool = True) -> None:
        """Begin empty.

        Args:
            is_shared: Whether keys can be of several namespaces.
        """
        # Keys that wait for a worker.
        self._due = Order()
        self._turns = Turns()
        self._shares = Shares(is_shared=is_shared)
        self._numbers = itertools.count()
        # Keys that a worker has or that wait for `Retry-After`, with the sources that have added them since then.
        self._busy: dict[Key, set[str]] = {}
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        # Keys that `add_when_quiet` has added and whose timer runs, with the time of the first addition.
        self._settling: dict[Key, float] = {}
        self._failures: dict[Key, int] = {}
        # How often in a row a key has asked for a delay below SHORTEST_SECONDS.
        self._hasty: dict[Key, int] = {}
        self._wake = asyncio.Event()
        self._closed = False
        # When a worker last took or finished a key.
        self._progressed_at = 0.0

    def add(self, key: Key, source: str = "") -> None:
        """Enqueue a key for the next turn of its source.

        Args:
            key: The key.
            source: The cause. If several sources add a key, the key belongs to the source whose turn comes first.
        """
        if timer := self._timers.pop(key, None):
            timer.cancel()
        self._settling.pop(key, None)
        if self._closed:
            return
        if key in self._busy:
            self._busy[key].add(source)
            return
        waiting = self._due.get(key)
        place = self._turns.take_place(key.namespace, source, waiting.place if waiting else None)
        if place is None:
            return
        self._due.add(key, Due(place, next(self._numbers), waiting.since if waiting else _now()))
        counters.QUEUE_DEPTH.set(len(self._due))
        self._wake.set()

    def add_after(self, key: Key, seconds: float) -> None:
        """Enqueue a key after a time, unless it is already due earlier."""
        when, timer = _now() + seconds, self._timers.get(key)
        if not self._is_due(key) and not (timer and timer.when() <= when):
            self._set_timer(key, when)

    def add_when_quiet(self, key: Key, source: str) -> None:
        """Enqueue a key when it has not been added for QUIET_SECONDS.

        After LONGEST_QUIET_SECONDS at the latest, enqueue it even if it was added in between.
        """
        now, timer = _now(), self._timers.get(key)
        began = self._settling.get(key, now)
        when = min(now + QUIET_SECONDS, began + LONGEST_QUIET_SECONDS)
        is_sooner = timer and key not in self._settling and timer.when() <= when
        if not self._is_due(key) and not is_sooner:
            self._settling[key] = began
            self._set_timer(key, when, source)

    def close(self) -> None:
        """Accept no more keys, and drop the waiting keys. Workers finish their current keys and end."""
        self._closed = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._settling.clear()
        self._due.clear()
        self._wake.set()
        counters.QUEUE_DEPTH.set(0)

    def postpone(self, key: Key) -> bool:
        """If other keys wait, requeue a key with the source PROGRESS. Return whether other keys wait."""
        if not len(self._due):
            return False
        self.add(key, PROGRESS)
        return True

    def stuck_seconds(self) -> float:
        """Return for how long keys have waited while no worker took or finished one."""
        oldest = self._due.oldest()
        return 0.0 if oldest is None else _now() - max(self._progressed_at, oldest)

    async def work(self, work: Work) -> None:
        """Work on keys until the queue is closed. Run this once for each worker."""
        self._shares.join()
        while key := await self._next():
            with logs.about(key.kind.kind, key.namespace, key.name), counters.RECONCILE_SECONDS.time():
                working = Measured(self._work_on(key, work))
                try:
                    await working
                finally:
                    self._shares.give_back(key.namespace)
                    self._progressed_at = _now()
                counters.RECONCILE_CPU_SECONDS.observe(working.seconds)

    async def _work_on(self, key: Key, work: Work) -> None:
        """Work on a key, and requeue it if it is due again, but not before `Retry-After`."""
        try:
            delay = await work(key, self._failures.get(key, 0))
        except Exception as error:
            bug = None if isinstance(error, ApiError) else error
            retry_after = error.retry_seconds if isinstance(error, ApiError) else 0.0
            delay = max(self._backoff(key), retry_after)
            counters.RECONCILES.labels("failed" if bug else "retried").inc()
            details = (key.kind.kind, key.namespace, key.name, delay, error)
            logger.warning("Could not reconcile %s %s/%s, trying again in %.1f s: %s", *details, exc_info=bug)
            # The key counts as busy until `Retry-After` is over. So no worker takes it, even if it is added again.
            asyncio.get_running_loop().call_later(retry_after, self._finish, key, delay - retry_after)
        else:
            self._failures.pop(key, None)
            counters.RECONCILES.labels("succeeded").inc()
            self._finish(key, self._spaced(key, delay))

    async def _next(self) -> Key | None:
        while not (key := self._take()):
            if self._closed:
                return None
            self._wake.clear()
            await self._wake.wait()
        return key

    def _take(self) -> Key | None:
        """Take the next key whose namespace can get another worker, None if there is no such key."""
        taken = self._due.take(self._shares)
        if taken is None:
            return None
        due, key = taken.due, taken.key
        self._shares.take(key.namespace)
        self._busy[key] = set()
        self._turns.reach(due.place)
        self._progressed_at = _now()
        counters.QUEUE_SECONDS.observe(self._progressed_at - due.since)
        counters.QUEUE_DEPTH.set(len(self._due))
        return key

    def _set_timer(self, key: Key, when: float, source: str = "") -> None:
        if timer := self._timers.get(key):
            timer.cancel()
        if not self._closed:
            self._timers[key] = asyncio.get_running_loop().call_at(when, self.add, key, source)

    def _is_due(self, key: Key) -> bool:
        """Return whether a key waits for a worker, or will wait when its current worker has finished."""
        return self._due.get(key) is not None or bool(self._busy.get(key))

    def _finish(self, key: Key, delay: float | None) -> None:
        for source in sorted(self._busy.pop(key)):
            self.add(key, source)
        if delay is not None:
            self.add_after(key, delay)

    def _spaced(self, key: Key, delay: float | None) -> float | None:
        """Return a requeue's delay, at least SHORTEST_SECONDS, and more if the key asks for short delays repeatedly."""
        if delay is None or delay >= SHORTEST_SECONDS:
            self._hasty.pop(key, None)
            return delay
        self._hasty[key] = self._hasty.get(key, 0) + 1
        return max(SHORTEST_SECONDS, BACKOFF.delay(self._hasty[key] - 1))

    def _backoff(self, key: Key) -> float:
        """Count a failure of a key. Return how long to wait before the retry, twice as long each time."""
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        return BACKOFF.delay(failures - 1)


def _now() -> float:
    return asyncio.get_running_loop().time()
