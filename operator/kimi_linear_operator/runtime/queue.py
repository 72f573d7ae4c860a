"""A queue of keys: each is worked on once at a time, however often it was added.

The same promises as client-go's workqueue: a key added while it waits is one key, a key added while it is
worked on is worked on once more, a key that fails comes back later and later, and no key delays another.
And one that client-go's REST client makes: whom the API server asked to wait waits, whatever happens meanwhile.

Sources take turns: whoever adds a few keys does not wait until those are done of one who adds thousands.
"""

import asyncio
import heapq
import itertools
import logging
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from kimi_linear_operator import metrics
from kimi_linear_operator.backoff import Backoff
from kimi_linear_operator.cluster.errors import ApiError
from kimi_linear_operator.cputime import Measured
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.runtime import logs

logger = logging.getLogger(__name__)

BACKOFF = Backoff(first=0.5, longest=30.0)
# What can only change a status waits for what follows it, so that a burst of events of a pod is one write.
SETTLE_SECONDS = 1.5
LONGEST_SETTLE_SECONDS = 5.0
Work = Callable[[Key, int], Awaitable[float | None]]
"""Works on a key that has failed so many times in a row.

Returns after how many seconds the key is due again, if at all; raises to be retried.
"""


PROGRESS = "progress"
"""The source of what can only change a status: nobody waits for that as for a first Deployment."""

# How many places a key takes; others take one. So eight keys of each other source come before one of these.
_STRIDES = {PROGRESS: 8}


# How many sources of one namespace have turns of their own; all others share one. Whoever may write in a namespace can
# do so under any number of names, and would have as many turns.
MOST_SOURCES = 8
_OTHERS = "others"


class _Turns:
    """Which source's key is next: start-time fair queueing, which knows no time and no speed.

    The keys of a source get places one after the other, the first one right after that of the key taken last. So many
    keys reach far ahead, and the first of another source comes right after the one of them that is next. The same name
    in two namespaces is two sources: what comes in bulk in one does not delay another.
    https://dl.acm.org/doi/10.1145/248157.248171
    """

    def __init__(self) -> None:
        self._current = 0
        # The last place of each source that has any ahead, by namespace.
        self._last: dict[str, dict[str, int]] = {}

    def take_place(self, namespace: str, source: str, before: int | None) -> int | None:
        """Return the place of the next key that a source adds; None if the key has one before that already."""
        last = self._last.get(namespace, {})
        name = source if source in last or len(last) < MOST_SOURCES else _OTHERS
        place = last.get(name, self._current) + _STRIDES.get(name, 1)
        if before is not None and before <= place:
            return None
        self._last.setdefault(namespace, {})[name] = place
        return place

    def reach(self, place: int) -> None:
        """Go on to a place whose key is being taken."""
        if place <= self._current:
            return
        self._current = place
        for namespace, last in list(self._last.items()):
            ahead = {source: at for source, at in last.items() if at > place}
            if ahead:
                self._last[namespace] = ahead
            else:
                del self._last[namespace]


class _Due(NamedTuple):
    """Where in the order a key is to be worked on: the first place first, among equals the one that came first."""

    place: int
    number: int
    since: float


class WorkQueue:
    """Keys that wait for a worker, and keys that none may take yet."""

    def __init__(self) -> None:
        # Keys that wait for a worker.
        self._due: dict[Key, _Due] = {}
        # The same in order. An entry counts only while it is what is due: nothing is ever taken out of the middle.
        self._order: list[tuple[_Due, Key]] = []
        self._turns = _Turns()
        self._numbers = itertools.count()
        # Keys that are being worked on or to be left alone for a while, and who has asked for them meanwhile.
        self._busy: dict[Key, set[str]] = {}
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        # Keys whose timer waits for them to settle, and since when.
        self._settling: dict[Key, float] = {}
        self._failures: dict[Key, int] = {}
        self._wake = asyncio.Event()
        self._closed = False
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
        due = self._due[key] = _Due(place, next(self._numbers), known.since if known else _now())
        heapq.heappush(self._order, (due, key))
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
        self._order.clear()
        self._due.clear()
        self._wake.set()
        metrics.QUEUE_DEPTH.set(0)

    def postpone(self, key: Key) -> bool:
        """Let others go first, if any wait: the key is worked on again as progress is. Return whether it will be."""
        if not self._due:
            return False
        self.add(key, PROGRESS)
        return True

    def stuck_seconds(self) -> float:
        """Return for how long keys have been waiting while no worker took any."""
        return _now() - max(self._moved, min(due.since for due in self._due.values())) if self._due else 0.0

    async def work(self, work: Work) -> None:
        """Work on keys until the queue is closed. Run as many of these at once as there should be workers."""
        while key := await self._next():
            with logs.about(key.kind.kind, key.namespace, key.name), metrics.RECONCILE_SECONDS.time():
                working = Measured(self._work_on(key, work))
                await working
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
        """Take the key that is next, None if no key waits."""
        while self._order:
            due, key = heapq.heappop(self._order)
            if self._due.get(key) == due:
                del self._due[key]
                self._busy[key] = set()
                self._turns.reach(due.place)
                self._moved = _now()
                metrics.QUEUE_SECONDS.observe(self._moved - due.since)
                metrics.QUEUE_DEPTH.set(len(self._due))
                return key
        return None

    def _set_timer(self, key: Key, when: float, source: str = "") -> None:
        if timer := self._timers.get(key):
            timer.cancel()
        if not self._closed:
            self._timers[key] = asyncio.get_running_loop().call_at(when, self.add, key, source)

    def _is_asked_for(self, key: Key) -> bool:
        """Return whether a key is worked on, or worked on once more, as soon as possible anyway."""
        return key in self._due or bool(self._busy.get(key))

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
