"""A queue of keys: each is worked on once at a time, however often it was added.

The same promises as client-go's workqueue: a key added while it waits is one key, a key added while it is
worked on is worked on once more, a key that fails comes back later and later, and no key delays another.
And one that client-go's REST client makes: whom the API server asked to wait waits, whatever happens meanwhile.

Sources take turns: whoever adds a few keys does not wait until those are done of one who adds thousands. Namespaces
share the workers: whoever has passes that take long leaves some of them to others.
"""

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable

from kimi_linear_operator import metrics
from kimi_linear_operator.backoff import Backoff
from kimi_linear_operator.cluster.errors import ApiError
from kimi_linear_operator.cputime import Measured
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.runtime import logs
from kimi_linear_operator.runtime.order import PROGRESS, Due, Order, Shares, Turns

logger = logging.getLogger(__name__)

BACKOFF = Backoff(first=0.5, longest=30.0)
# What can only change a status waits for what follows it, so that a burst of events of a pod is one write.
SETTLE_SECONDS = 1.5
LONGEST_SETTLE_SECONDS = 5.0
Work = Callable[[Key, int], Awaitable[float | None]]
"""Works on a key that has failed so many times in a row.

Returns after how many seconds the key is due again, if at all; raises to be retried.
"""


class WorkQueue:
    """Keys that wait for a worker, and keys that none may take yet."""

    def __init__(self, *, is_shared: bool = True) -> None:
        """Begin with no keys.

        Args:
            is_shared: Whether there may be keys of several namespaces.
        """
        # Keys that wait for a worker.
        self._due = Order()
        self._turns = Turns()
        self._shares = Shares(is_shared=is_shared)
        self._numbers = itertools.count()
        # Keys that are being worked on or to be left alone for a while, and who has asked for them meanwhile.
        self._busy: dict[Key, set[str]] = {}
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        # Keys whose timer waits for them to settle, and since when.
        self._settling: dict[Key, float] = {}
        self._failures: dict[Key, int] = {}
        self._wake = asyncio.Event()
        self._closed = False
        # When a worker began or ended with a key last.
        self._moved = 0.0

    def add(self, key: Key, source: str = "") -> None:
        """Ask for a key to be worked on as soon as its source has its turn.

        Args:
            key: What to work on.
            source: Who or what asks. A key that several ask for is worked on when the first of them has its turn.
        """
        if timer := self._timers.pop(key, None):
            timer.cancel()
        self._settling.pop(key, None)
        if self._closed:
            return
        if key in self._busy:
            self._busy[key].add(source)
            return
        known = self._due.get(key)
        place = self._turns.take_place(key.namespace, source, known.place if known else None)
        if place is None:
            return
        self._due.add(key, Due(place, next(self._numbers), known.since if known else _now()))
        metrics.QUEUE_DEPTH.set(len(self._due))
        self._wake.set()

    def add_after(self, key: Key, seconds: float) -> None:
        """Ask for a key to be worked on later; what was asked for sooner stays."""
        when, timer = _now() + seconds, self._timers.get(key)
        if not self._is_asked_for(key) and not (timer and timer.when() <= when):
            self._set_timer(key, when)

    def add_settled(self, key: Key, source: str) -> None:
        """Ask for a key to be worked on once nobody has asked for a moment, or some have kept asking for too long."""
        now, timer = _now(), self._timers.get(key)
        began = self._settling.get(key, now)
        when = min(now + SETTLE_SECONDS, began + LONGEST_SETTLE_SECONDS)
        is_sooner = timer and key not in self._settling and timer.when() <= when
        if not self._is_asked_for(key) and not is_sooner:
            self._settling[key] = began
            self._set_timer(key, when, source)

    def close(self) -> None:
        """Take no more keys and drop those that wait; workers finish what they hold and end."""
        self._closed = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._settling.clear()
        self._due.clear()
        self._wake.set()
        metrics.QUEUE_DEPTH.set(0)

    def postpone(self, key: Key) -> bool:
        """Let others go first, if any wait: the key is worked on again as progress is. Return whether it will be."""
        if not len(self._due):
            return False
        self.add(key, PROGRESS)
        return True

    def stuck_seconds(self) -> float:
        """Return for how long keys have been waiting while no worker began or ended with any."""
        oldest = self._due.oldest()
        return 0.0 if oldest is None else _now() - max(self._moved, oldest)

    async def work(self, work: Work) -> None:
        """Work on keys until the queue is closed. Run as many of these at once as there should be workers."""
        self._shares.join()
        while key := await self._next():
            with logs.about(key.kind.kind, key.namespace, key.name), metrics.RECONCILE_SECONDS.time():
                working = Measured(self._work_on(key, work))
                try:
                    await working
                finally:
                    self._shares.give_back(key.namespace)
                    self._moved = _now()
                metrics.RECONCILE_CPU_SECONDS.observe(working.seconds)

    async def _work_on(self, key: Key, work: Work) -> None:
        """Work on a key, and see to it that it is worked on again when it is due, but no sooner than it may be."""
        try:
            again = await work(key, self._failures.get(key, 0))
        except Exception as error:
            bug = None if isinstance(error, ApiError) else error
            asked = error.retry_seconds if isinstance(error, ApiError) else 0.0
            again = max(self._backoff(key), asked)
            metrics.RECONCILES.labels("failed" if bug else "retried").inc()
            told = (key.kind.kind, key.namespace, key.name, again, error)
            logger.warning("Could not reconcile %s %s/%s, trying again in %.1f s: %s", *told, exc_info=bug)
            # As long as the API server wants to be left alone, nobody may take the key, whoever asks for it.
            asyncio.get_running_loop().call_later(asked, self._finish, key, again - asked)
        else:
            self._failures.pop(key, None)
            metrics.RECONCILES.labels("succeeded").inc()
            self._finish(key, again)

    async def _next(self) -> Key | None:
        while not (key := self._take()):
            if self._closed:
                return None
            self._wake.clear()
            await self._wake.wait()
        return key

    def _take(self) -> Key | None:
        """Take the key that is next, None if no key waits whose namespace may have another worker."""
        taken = self._due.take(self._shares)
        if taken is None:
            return None
        due, key = taken
        self._shares.take(key.namespace)
        self._busy[key] = set()
        self._turns.reach(due.place)
        self._moved = _now()
        metrics.QUEUE_SECONDS.observe(self._moved - due.since)
        metrics.QUEUE_DEPTH.set(len(self._due))
        return key

    def _set_timer(self, key: Key, when: float, source: str = "") -> None:
        if timer := self._timers.get(key):
            timer.cancel()
        if not self._closed:
            self._timers[key] = asyncio.get_running_loop().call_at(when, self.add, key, source)

    def _is_asked_for(self, key: Key) -> bool:
        """Return whether a key is worked on, or worked on once more, as soon as possible anyway."""
        return self._due.get(key) is not None or bool(self._busy.get(key))

    def _finish(self, key: Key, again: float | None) -> None:
        for source in sorted(self._busy.pop(key)):
            self.add(key, source)
        if again is not None:
            self.add_after(key, again)

    def _backoff(self, key: Key) -> float:
        """Return how long a failed key waits: twice as long each time."""
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        return BACKOFF.delay(failures - 1)


def _now() -> float:
    return asyncio.get_running_loop().time()
