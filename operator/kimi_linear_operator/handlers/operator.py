"""The process: reads the cluster once, then keeps up with it, and works whenever it leads, until it is told to stop."""

import asyncio
import gc
import logging
import signal
import socket
import time
import uuid
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from kimi_linear_operator import clock, metrics
from kimi_linear_operator.cluster import Cluster, connect
from kimi_linear_operator.handlers.endpoints import Readiness, serving
from kimi_linear_operator.handlers.lists import Lists
from kimi_linear_operator.handlers.scopes import Scope, Scopes
from kimi_linear_operator.handlers.watch import Watch
from kimi_linear_operator.leader import Leader
from kimi_linear_operator.reconcile import Reconciler
from kimi_linear_operator.reconcile.rollouts import Rollouts
from kimi_linear_operator.resources import BENCHMARK, RESOURCES
from kimi_linear_operator.store import Key, Sight, Store
from kimi_linear_operator.workqueue import PROGRESS, WorkQueue

logger = logging.getLogger(__name__)

WORKERS = 16
# What comes in bulk and nobody waits for counts as one source: new servers, all servers at the start.
BULK = "bulk"
STOP_SECONDS = 10.0
# What the watches saw is taken over in slices of this length: whom a change concerns may take milliseconds to find out.
OBSERVED_SECONDS = 0.02
# After how many new containers Python looks for cycles among them. A page of a list has tens of thousands and no cycle;
# after 700, the default, it would look so often that a list takes twice as much processor time.
GARBAGE = 50_000
# How often to look how late the event loop is: often enough for what hinders it, and next to nothing at rest.
LAG_SECONDS = 0.25
# No pass takes that long: each of its few requests ends after 30 seconds.
STUCK_SECONDS = 300.0
# Who gets the Lease within that time after its first lists knows the cluster. Else another replica may have worked.
FRESH_SECONDS = 5.0
# How often a benchmark looks whether everything was read.
SETTLING_SECONDS = 5.0
SILENT_SECONDS = 60.0


@dataclass(frozen=True)
class Settings:
    """How to run.

    Attributes:
        namespaces: Where to look for servers; everywhere if empty.
        lease_namespace: Where the Lease is that decides which replica works.
        lease_name: Its name.
        host: The address on which to answer health checks and show metrics; all if empty.
        port: Its port; the system chooses one if it is 0.
        rollout_pause: How many seconds to wait between two servers when new pod templates are rolled out to all; None
            if they are only offered.
        allows_node_access: Whether the pods of servers and benchmarks may reach beyond themselves.
    """

    namespaces: list[str]
    lease_namespace: str
    lease_name: str
    host: str
    port: int
    rollout_pause: float | None = None
    allows_node_access: bool = False


async def serve(settings: Settings) -> None:
    """Run the operator until SIGTERM or SIGINT.

    Raises:
        ApiError: There is no cluster to connect to.
        AddressError: The address for health checks cannot be had.
    """
    gc.set_threshold(GARBAGE)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with connect() as cluster:
        logger.info("Connected to %s", cluster.server)
        identity = f"{socket.gethostname()}_{uuid.uuid4().hex[:8]}"
        leader = Leader(cluster, settings.lease_namespace, settings.lease_name, identity)
        operator = Operator(cluster, leader, settings.namespaces, settings.rollout_pause, settings.allows_node_access)
        checks = (operator.illnesses, operator.readiness)
        async with serving(settings.host, settings.port, *checks, operator.store.snapshot) as port:
            logger.info("Listening on %s:%d", settings.host, port)
            await operator.run(stop)
    logger.info("Stopped")


@dataclass
class Operator:
    """Watches, lists and workers, and what they share."""

    cluster: Cluster
    leader: Leader
    namespaces: list[str]
    rollout_pause: float | None = None
    allows_node_access: bool = False
    store: Store = field(default_factory=Store)
    # What is to be done, while this replica leads.
    queue: WorkQueue | None = None
    scopes: Scopes = field(init=False)
    _lists: Lists = field(init=False)
    _watch: Watch = field(init=False)
    # What the watching thread saw and the store does not have yet, and whether there is any.
    _seen: deque[Sight] = field(default_factory=deque)
    _noticed: asyncio.Event = field(default_factory=asyncio.Event)
    # Everything was read that can be.
    _settled: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        """Prepare to watch and list the same scopes."""
        self.scopes = Scopes(self.namespaces)
        self._lists = Lists(
            self.cluster,
            self.store,
            self.scopes,
            self._take_note,
            is_watched=self._is_watched,
            restored=self._begin_anew,
        )
        self.leader.restored = self._begin_anew
        loop = asyncio.get_running_loop()

        def observe(sight: Sight) -> None:
            self._seen.append(sight)
            loop.call_soon_threadsafe(self._noticed.set)

        def want_list(scope: Scope) -> None:
            loop.call_soon_threadsafe(self._lists.ask_for, scope)

        self._watch = Watch(self.namespaces, tuple(self.scopes), observe, want_list)

    def _is_watched(self, scope: Scope) -> bool:
        return scope not in self._watch.unwatched()

    async def run(self, stop: asyncio.Event) -> None:
        """Keep up with the cluster, and work whenever this replica leads, until told to stop."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(asyncio.to_thread(self._watch.run))
            chores = (self._observe_forever(), self._lists.run(), _measure_lag_forever())
            doing = [tasks.create_task(chore) for chore in chores]
            leading = tasks.create_task(self._lead())
            try:
                await stop.wait()
            finally:
                for task in doing:
                    task.cancel()
                self._watch.stop()
                await self._end(leading)

    def illnesses(self) -> list[str]:
        """Return what only a restart can cure."""
        silent = self._watch.silent_seconds()
        stuck = self.queue.stuck_seconds() if self.queue else 0.0
        return [
            *([f"the watching thread gave no sign for {silent:.0f} s"] if silent > SILENT_SECONDS else []),
            *([f"no worker took a server for {stuck:.0f} s"] if stuck > STUCK_SECONDS else []),
        ]

    def readiness(self) -> Readiness:
        """Return whether this replica knows the state of the cluster, and which parts of it it does not know."""
        unread, unwatched = self.scopes.unreadable(time.monotonic()), self._watch.unwatched()
        unknown = [
            *(f"cannot list {scope}: {why}" for scope, why in unread.items()),
            *(f"not watching {scope}" for scope in unwatched if scope not in unread),
        ]
        if not self._settled.is_set():
            return Readiness(["the cluster has not been read yet"], unknown)
        if not self.scopes.is_anything_readable() or len(unwatched) == len(tuple(self.scopes)):
            return Readiness(["nothing can be read"], unknown)
        return Readiness([], unknown)

    async def _lead(self) -> None:
        """Work whenever the lease is ours, once everything was read that can be; give it back in the end."""
        await self._lists.wait_until_settled()
        logger.info("Started with %d servers and benchmarks", len(self.store.resources()))
        self._settled.set()
        read_at = clock.seconds()
        try:
            while True:
                await self.leader.acquire()
                is_fresh = clock.seconds() - read_at <= FRESH_SECONDS
                if await self.leader.hold(self._work() if is_fresh else self._take_over()):
                    return
        finally:
            await self.leader.release()

    async def _take_over(self) -> None:
        """Work after another replica may have: a watch that died silently did not tell what that one did.

        What is listed anew is worked on, and no server waits for the slowest list of a kind that it does not need.
        """
        self._lists.begin_anew()
        await self._work()

    def _begin_anew(self) -> None:
        """Forget everything and read it again: etcd was restored from a backup, and older versions are news."""
        logger.warning("The cluster is older than before: etcd was restored from a backup. Everything is read anew")
        self._seen.clear()
        self.store.clear()
        self._lists.begin_anew()
        self._watch.restart()

    async def _work(self) -> None:
        """Work on all resources, and then on those that change, until the queue is closed."""
        self.queue = WorkQueue()
        reconciler = Reconciler(
            self.leader.fenced(),
            self.store,
            concern=self._add,
            allows_node_access=self.allows_node_access,
            postpone=self.queue.postpone,
        )

        async def reconcile(key: Key, failures: int) -> float | None:
            # A pass that has nothing to write waits for nothing, and thousands of them would keep out everybody else.
            await asyncio.sleep(0)
            if not self.scopes.is_known(key, self.store.measured(key)):
                return None  # It is due when it is known.
            if key.kind == BENCHMARK and not self.scopes.is_settled(time.monotonic()):
                return SETTLING_SECONDS  # Benchmarks of other namespaces may have their turn.
            return await reconciler.reconcile(key, failures)

        rolling = asyncio.ensure_future(self._roll_out(reconciler))
        try:
            self._add(self.store.resources())
            async with asyncio.TaskGroup() as workers:
                for _ in range(WORKERS):
                    workers.create_task(self.queue.work(reconcile))
        finally:
            rolling.cancel()
            self.queue.close()
            self.queue = None

    async def _roll_out(self, reconciler: Reconciler) -> None:
        """Roll new pod templates out to all servers, if that is wanted."""
        if self.rollout_pause is not None:
            rollouts = Rollouts(self.store, reconciler.chosen, self._add, self.rollout_pause, reconciler.now)
            await rollouts.run(lambda: self.scopes.is_settled(time.monotonic()))

    async def _end(self, leading: asyncio.Task[None]) -> None:
        """Let workers finish what they hold, for a while: a pod that is asked to stop has 30 seconds."""
        if self.queue:
            self.queue.close()
            await asyncio.wait((leading,), timeout=STOP_SECONDS)
        leading.cancel()

    async def _observe_forever(self) -> None:
        """Take over what the watches saw, a little at a time: meanwhile the lease is renewed and workers go on."""
        while True:
            await self._noticed.wait()
            self._noticed.clear()
            while self._seen:
                until = time.monotonic() + OBSERVED_SECONDS
                while self._seen and time.monotonic() < until:
                    self._observe(self._seen.popleft())
                await asyncio.sleep(0)

    def _observe(self, sight: Sight) -> None:
        is_progress = not sight.is_deleted and self.store.is_progress(sight)
        is_new = sight.address.kind in RESOURCES and sight.is_unreported
        keys = self.store.take(sight)
        if self.queue is None:
            return  # a replica that waits takes all resources when it begins to lead
        for key in keys:
            if is_progress:
                self.queue.add_settled(key, PROGRESS)
            else:
                self.queue.add(key, BULK if is_new else sight.source)

    def _add(self, keys: Iterable[Key]) -> None:
        if self.queue is None:
            return
        for key in keys:
            self.queue.add(key, BULK)

    def _take_note(self, scope: Scope, concerned: set[Key], is_new: bool) -> None:
        """Enqueue what a list found, which is everything in a scope that was unknown before."""
        if is_new:
            self._add(self.scopes.concerned(scope, self.store.resources()))
        else:
            metrics.RESYNC_FINDINGS.inc(len(concerned))
            self._add(concerned)


async def _measure_lag_forever() -> None:
    while True:
        due = time.monotonic() + LAG_SECONDS
        await asyncio.sleep(LAG_SECONDS)
        metrics.LOOP_LAG_SECONDS.observe(max(0.0, time.monotonic() - due))
