"""The process. It reads the cluster, follows changes, and reconciles while it leads, until it must stop."""

import asyncio
import gc
import logging
import signal
import socket
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

from kimi_linear_operator import clock, counters
from kimi_linear_operator.cluster.client import Cluster, connect
from kimi_linear_operator.reconcile.cache import Cache
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.reconcile.resource_type import Options, Types, kinds_of_children, optional_kinds
from kimi_linear_operator.runtime.daemon_thread import run_in_daemon
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
# Python's garbage collector runs after this number of new container objects. A page of a list consists of tens of
# thousands of containers without cycles. With the default of 700, a list would take twice as much processor time.
GARBAGE = 50_000
# How often to measure the lag of the event loop. This notices a blocked loop, and costs little when the operator is
# idle.
LAG_SECONDS = 0.25
# If the machine was suspended for longer than this, its watches do not count. A watch whose connection is dead shows
# nothing, and kopf notices that only after a minute.
SUSPENDED_SECONDS = 2.0


@dataclass(frozen=True)
class Settings:
    """How to run.

    Attributes:
        namespaces: The namespaces of the resources, all if empty.
        lease_namespace: The namespace of the Lease that decides which replica works.
        lease_name: The name of the Lease.
        host: The address for health checks and metrics, all addresses if empty.
        port: The port for health checks and metrics. If it is 0, the system chooses one.
        options: The administrator's choices for all resources.
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
        ApiError: There are no credentials for a cluster.
        AddressError: The address for health checks is not available.
    """
    gc.set_threshold(GARBAGE)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with (
        connect(counters.count_request) as cluster,
        connect(counters.count_request, keep_alive=False) as of_lease,
    ):
        logger.info("Connected to %s", cluster.server)
        identity = f"{socket.gethostname()}_{uuid.uuid4().hex[:8]}"
        leader = Leader(of_lease, settings.lease_namespace, settings.lease_name, identity)
        operator = Operator(cluster, leader, namespaces=settings.namespaces, types=types, options=settings.options)
        async with serving(
            settings.host,
            settings.port,
            healthz=operator.health.liveness_problems,
            readyz=operator.health.readiness,
            exposition=operator.exposition,
        ) as port:
            logger.info("Listening on %s:%d", settings.host, port)
            await operator.run(stop)
    logger.info("Stopped")


class Operator:
    """Connects watches, lists and passes."""

    def __init__(
        self, cluster: Cluster, leader: Leader, *, namespaces: list[str], types: Types, options: Options
    ) -> None:
        """Create the parts, which watch and list the same scopes."""
        self._types = types
        self._cluster = cluster
        self._leader = leader
        self._suspended_seconds = clock.suspended_seconds()
        self.cache = Cache(types)
        self.scopes = Scopes(namespaces, (*kinds_of_children(types), *types), optional_kinds(types))
        self.work = Work(types, self.scopes, self.cache, options, lambda scopes: self.lists.list_at_once(scopes))
        self.intake = Intake(self.cache, self.work.enqueue_changed, self._relist)
        self.lists = Lists(
            cluster,
            self.cache,
            self.scopes,
            self._enqueue_listed,
            is_watched=lambda scope: scope not in self.watch.watched.unwatched(),
            lost=self.work.enqueue_askers,
            restored=self._start_over,
        )
        leader.restored = self._start_over
        loop = asyncio.get_running_loop()

        def request_list(scope: Scope) -> None:
            loop.call_soon_threadsafe(self.lists.ask_for, scope)

        self.watch = Watch(
            namespaces,
            tuple(self.scopes),
            self.cache.reader,
            self.intake.add,
            request_list,
            self.scopes.is_dormant,
            self.lists.newest_version,
        )
        self.health = Health(self.watch, self.scopes, self.lists.unreadable, self.work)

    async def run(self, stop: asyncio.Event) -> None:
        """Follow the cluster's changes, and reconcile whenever this replica leads, until `stop` is set."""
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(run_in_daemon(self.watch.run))
            chores = (self.intake.run(), self._keep_listed(), _measure_lag())
            chore_tasks = [tasks.create_task(chore) for chore in chores]
            leading = tasks.create_task(self.lead())
            try:
                await stop.wait()
            finally:
                for task in chore_tasks:
                    task.cancel()
                self.watch.stop()
                await asyncio.gather(self._stop(leading), self._end(watching))

    def exposition(self) -> Iterator[bytes]:
        """Take a snapshot of the cache. Return its metrics in pieces, which any thread can make."""
        # A scope can become unreadable while its list waits, so no event shows it.
        now = time.monotonic()
        for scope in self.scopes:
            gauge = counters.SCOPE_UNREADABLE.labels(scope.kind.plural, scope.namespace or "")
            gauge.set(self.scopes.is_unreadable(scope, now))
        return exposition(self._types, self.cache.snapshot())

    async def _keep_listed(self) -> None:
        """List all scopes; this never returns.

        Read the lease first, to know later whether another replica has worked since then.
        """
        await self._leader.look_first()
        await self.lists.run()

    async def lead(self) -> None:
        """Wait until everything that can be read was read, and then work whenever the lease is ours.

        Release the lease at the end.

        Another replica may have worked since this replica started or last led. This replica may not know all writes of
        the other replica, because a watch may have stopped without an error. So this replica lists everything again. It
        reconciles a resource when the scopes that the resource needs are listed.
        """
        await self.lists.wait_until_everything_is_read()
        logger.info("Started with %d resources", len(self.cache.resources()))
        self.health.has_read = True
        try:
            while True:
                self._catch_up(is_untouched=await self._leader.acquire())
                if await self._leader.hold(self._work()):
                    return
        finally:
            await self._leader.release()

    def _catch_up(self, *, is_untouched: bool) -> None:
        """Request the lists that this replica needs when it begins to lead.

        Args:
            is_untouched: Whether no other replica can have worked since this replica last led.
        """
        if self._was_suspended():
            logger.warning("The machine was suspended, so everything is watched and listed again")
            self.watch.restart()
            self.lists.relist_all()
        elif is_untouched:
            # No other replica has worked, so the working watches have shown every change.
            self.lists.relist_broken(self.watch.watched.broken())
        else:
            self.lists.relist_all()

    def _was_suspended(self) -> bool:
        """Return whether the machine was suspended since the last call. The connections of watches can then be dead."""
        before, self._suspended_seconds = self._suspended_seconds, clock.suspended_seconds()
        return self._suspended_seconds - before > SUSPENDED_SECONDS

    async def _work(self) -> None:
        await self.work.run(self._leader.fenced(self._cluster).in_turns(self.work.turn))

    def _start_over(self) -> None:
        """Forget everything and read it again.

        etcd was restored from a backup, so older versions are now the current states.
        """
        logger.warning(
            "The cluster shows an older state than before, because etcd was restored from a backup. Everything is "
            "listed again"
        )
        self.intake.clear()
        self.cache.clear()
        self.lists.relist_all()
        self.watch.restart()

    async def _stop(self, leading: asyncio.Task[None]) -> None:
        """Let workers finish their passes, at most for STOP_SECONDS, because a pod has 30 seconds to stop."""
        if self.work.close():
            await asyncio.wait((leading,), timeout=STOP_SECONDS)
        leading.cancel()

    async def _end(self, watching: asyncio.Task[None]) -> None:
        """Wait at most STOP_SECONDS for kopf, because kopf may wait for ever for one of its tasks."""
        _, pending = await asyncio.wait((watching,), timeout=STOP_SECONDS)
        if pending:
            logger.warning("kopf did not end within %.0f s. The operator ends without it", STOP_SECONDS)
            watching.cancel()

    def _relist(self, key: Key) -> None:
        """Request a list for an object that could not be cached. If that fails again, the list reports it."""
        for scope in self.scopes:
            if scope.kind == key.kind and scope.covers(key.namespace):
                self.lists.ask_for(scope)

    def _enqueue_listed(self, scope: Scope, to_enqueue: set[Key], is_new: bool) -> None:
        """Enqueue resources after a list. If the scope was unknown before, enqueue all resources that may need it."""
        if is_new:
            self.work.enqueue_scope(scope)
        else:
            counters.RESYNC_FINDINGS.inc(len(to_enqueue))
            self.work.enqueue(to_enqueue)


async def _measure_lag() -> None:
    while True:
        due = time.monotonic() + LAG_SECONDS
        await asyncio.sleep(LAG_SECONDS)
        counters.LOOP_LAG_SECONDS.observe(max(0.0, time.monotonic() - due))
