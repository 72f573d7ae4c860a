"""The process: reads the cluster once, then keeps up with it, and works whenever it leads, until it is told to stop."""

import asyncio
import functools
import gc
import logging
import signal
import socket
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from kimi_linear_operator import metrics
from kimi_linear_operator.cluster.client import Cluster, connect
from kimi_linear_operator.reconcile.cache import Cache
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.reconcile.resource_type import Options, Types, kinds_of_children
from kimi_linear_operator.runtime.endpoints import serving
from kimi_linear_operator.runtime.exposition import exposition
from kimi_linear_operator.runtime.health import Health
from kimi_linear_operator.runtime.intake import Intake
from kimi_linear_operator.runtime.kopf_watch import Watch
from kimi_linear_operator.runtime.leader import Leader
from kimi_linear_operator.runtime.lists import Lists
from kimi_linear_operator.runtime.scopes import Scope, Scopes
from kimi_linear_operator.runtime.work import Work

logger = logging.getLogger(__name__)

STOP_SECONDS = 10.0
# After how many new containers Python looks for cycles among them. A page of a list has tens of thousands and no cycle;
# after 700, the default, it would look so often that a list takes twice as much processor time.
GARBAGE = 50_000
# How often to look how late the event loop is: often enough for what hinders it, and next to nothing at rest.
LAG_SECONDS = 0.25


@dataclass(frozen=True)
class Settings:
    """How to run.

    Attributes:
        namespaces: Where to look for resources; everywhere if empty.
        lease_namespace: Where the Lease is that decides which replica works.
        lease_name: Its name.
        host: The address on which to answer health checks and show metrics; all if empty.
        port: Its port; the system chooses one if it is 0.
        options: What the administrator has chosen for all resources.
    """

    namespaces: list[str]
    lease_namespace: str
    lease_name: str
    host: str
    port: int
    options: Options


async def serve(settings: Settings, types: Types) -> None:
    """Run the operator until SIGTERM or SIGINT.

    Args:
        settings: How to run.
        types: The resource types.

    Raises:
        ApiError: There is no cluster to connect to.
        AddressError: The address for health checks cannot be had.
    """
    gc.set_threshold(GARBAGE)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with connect(metrics.count_request) as cluster:
        logger.info("Connected to %s", cluster.server)
        identity = f"{socket.gethostname()}_{uuid.uuid4().hex[:8]}"
        leader = Leader(cluster, settings.lease_namespace, settings.lease_name, identity)
        operator = Operator(cluster, leader, settings.namespaces, types, settings.options)
        checks = (operator.health.liveness_problems, operator.health.readiness)
        async with serving(settings.host, settings.port, *checks, operator.exposition) as port:
            logger.info("Listening on %s:%d", settings.host, port)
            await operator.run(stop)
    logger.info("Stopped")


class Operator:
    """Watches, lists and work, put together."""

    def __init__(self, cluster: Cluster, leader: Leader, namespaces: list[str], types: Types, options: Options) -> None:
        """Prepare to watch and list the same scopes."""
        self._types = types
        self._leader = leader
        self.cache = Cache(types)
        self.scopes = Scopes(namespaces, (*kinds_of_children(types), *types))
        self.work = Work(types, self.scopes, self.cache, options)
        self.intake = Intake(self.cache, self.work.enqueue_changed, self._look_again)
        self.lists = Lists(
            cluster,
            self.cache,
            self.scopes,
            self._take_note,
            is_watched=lambda scope: scope not in self.watch.unwatched(),
            restored=self._begin_anew,
        )
        leader.restored = self._begin_anew
        loop = asyncio.get_running_loop()

        def want_list(scope: Scope) -> None:
            loop.call_soon_threadsafe(self.lists.ask_for, scope)

        self.watch = Watch(namespaces, tuple(self.scopes), self.cache.reader, self.intake.see, want_list)
        self.health = Health(self.watch, self.scopes, self.lists.unreadable, self.work)

    async def run(self, stop: asyncio.Event) -> None:
        """Keep up with the cluster, and work whenever this replica leads, until told to stop."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(asyncio.to_thread(self.watch.run))
            chores = (self.intake.run(), self._keep_listed(), _measure_lag_forever())
            doing = [tasks.create_task(chore) for chore in chores]
            leading = tasks.create_task(self.lead())
            try:
                await stop.wait()
            finally:
                for task in doing:
                    task.cancel()
                self.watch.stop()
                await self._end(leading)

    def exposition(self) -> Callable[[], bytes]:
        """Return what makes metrics of all that is known now, in any thread."""
        return functools.partial(exposition, self._types, self.cache.snapshot())

    async def _keep_listed(self) -> None:
        """List all that there is, for ever. What was listed is known to whoever leads if nobody else has led since."""
        await self._leader.look_first()
        await self.lists.run()

    async def lead(self) -> None:
        """Work whenever the lease is ours, once everything was read that can be; give it back in the end."""
        await self.lists.wait_until_settled()
        logger.info("Started with %d servers and benchmarks", len(self.cache.resources()))
        self.health.has_read = True
        try:
            while True:
                is_known = await self._leader.acquire()
                if await self._leader.hold(self._work() if is_known else self._take_over()):
                    return
        finally:
            await self._leader.release()

    async def _work(self) -> None:
        await self.work.run(self._leader.fenced())

    async def _take_over(self) -> None:
        """Work after another replica may have, while this one listed or since.

        A list shows what was before it, and a watch that does not work or died silently did not tell what came after.
        What is listed anew is worked on, and no server waits for the slowest list of a kind that it does not need.
        """
        self.lists.begin_anew()
        await self._work()

    def _begin_anew(self) -> None:
        """Forget everything and read it again: etcd was restored from a backup, and older versions are news."""
        logger.warning("The cluster is older than before: etcd was restored from a backup. Everything is read anew")
        self.intake.clear()
        self.cache.clear()
        self.lists.begin_anew()
        self.watch.restart()

    async def _end(self, leading: asyncio.Task[None]) -> None:
        """Let workers finish what they hold, for a while: a pod that is asked to stop has 30 seconds."""
        if self.work.close():
            await asyncio.wait((leading,), timeout=STOP_SECONDS)
        leading.cancel()

    def _look_again(self, key: Key) -> None:
        """Have an object listed that could not be taken over: if that stays so, the list tells it."""
        for scope in self.scopes:
            if scope.kind == key.kind and scope.covers(key.namespace):
                self.lists.ask_for(scope)

    def _take_note(self, scope: Scope, concerned: set[Key], is_new: bool) -> None:
        """Enqueue what a list found, which is everything in a scope that was unknown before."""
        if is_new:
            self.work.enqueue_scope(scope)
        else:
            metrics.RESYNC_FINDINGS.inc(len(concerned))
            self.work.enqueue(concerned)


async def _measure_lag_forever() -> None:
    while True:
        due = time.monotonic() + LAG_SECONDS
        await asyncio.sleep(LAG_SECONDS)
        metrics.LOOP_LAG_SECONDS.observe(max(0.0, time.monotonic() - due))
