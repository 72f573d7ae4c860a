"""The process: reads the cluster once, then keeps up with it, and works whenever it leads, until it is told to stop."""

import asyncio
import logging
import random
import signal
import socket
import time
import uuid
from collections import deque
from collections.abc import Coroutine, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace

from kimi_linear_operator import metrics
from kimi_linear_operator.cluster import ApiError, Cluster, connect
from kimi_linear_operator.handlers.endpoints import serving
from kimi_linear_operator.handlers.watch import BACKOFF, CHILDREN, Watch
from kimi_linear_operator.leader import Leader
from kimi_linear_operator.reconcile import Reconciler
from kimi_linear_operator.resources import RESOURCES, Kind
from kimi_linear_operator.resources.metadata import SELECTOR
from kimi_linear_operator.store import Key, Sight, Store
from kimi_linear_operator.workqueue import WorkQueue

logger = logging.getLogger(__name__)

WORKERS = 16
# What comes in bulk and nobody waits for counts as one source: new servers, all servers at the start, progress.
BULK = "bulk"
# A list tells what was before the watches began, and now and then what they lost.
RESYNC_SECONDS = 300.0
# Watches begin together: one list follows them all, soon, but not one list at once after another.
GATHER_SECONDS = 0.5
REST_SECONDS = 5.0
# So long the first list waits for watches that cannot begin.
WATCH_SECONDS = 10.0
STOP_SECONDS = 10.0
OBSERVED_AT_ONCE = 100
# How often to look how late the event loop is: often enough for what hinders it, and next to nothing at rest.
LAG_SECONDS = 0.25
# No pass takes that long: each of its few requests ends after 30 seconds.
STUCK_SECONDS = 300.0
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
    """

    namespaces: list[str]
    lease_namespace: str
    lease_name: str
    host: str
    port: int


async def serve(settings: Settings) -> None:
    """Run the operator until SIGTERM or SIGINT.

    Raises:
        ApiError: There is no cluster to connect to.
        AddressError: The address for health checks cannot be had.
    """
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with connect() as cluster:
        logger.info("Connected to %s", cluster.server)
        identity = f"{socket.gethostname()}_{uuid.uuid4().hex[:8]}"
        leader = Leader(cluster, settings.lease_namespace, settings.lease_name, identity)
        operator = Operator(cluster, leader, settings.namespaces)
        async with serving(settings.host, settings.port, operator.illnesses, operator.impediments) as port:
            logger.info("Listening on %s:%d", settings.host, port)
            await operator.run(stop)
    logger.info("Stopped")


@dataclass
class Operator:
    """Watches, lists and workers, and what they share."""

    cluster: Cluster
    leader: Leader
    namespaces: list[str]
    store: Store = field(default_factory=Store)
    # What is to be done, while this replica leads.
    queue: WorkQueue | None = None
    _watch: Watch | None = None
    # What the watching thread saw and the store does not have yet, and whether there is any.
    _seen: deque[Sight] = field(default_factory=deque)
    _noticed: asyncio.Event = field(default_factory=asyncio.Event)
    _resync_due: asyncio.Event = field(default_factory=asyncio.Event)
    # No worker may take an object that was not read yet for one that is missing.
    _listed: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self, stop: asyncio.Event) -> None:
        """Keep up with the cluster, and work whenever this replica leads, until told to stop."""
        metrics.REGISTRY.register(metrics.ResourceCollector(self.store))
        if not await _before(stop, self._wait_for_kinds()):
            return
        loop = asyncio.get_running_loop()

        def observe(sight: Sight) -> None:
            self._seen.append(sight)
            loop.call_soon_threadsafe(self._noticed.set)

        def began() -> None:
            loop.call_soon_threadsafe(self._resync_due.set)

        self._watch = Watch(self.namespaces, observe, began)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(asyncio.to_thread(self._watch.run))
            chores = (self._observe_forever(), self._resync_forever(), _measure_lag_forever())
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
        silent = self._watch.silent_seconds() if self._watch else 0.0
        stuck = self.queue.stuck_seconds() if self.queue else 0.0
        return [
            *([f"the watching thread gave no sign for {silent:.0f} s"] if silent > SILENT_SECONDS else []),
            *([f"no worker took a server for {stuck:.0f} s"] if stuck > STUCK_SECONDS else []),
        ]

    def impediments(self) -> list[str]:
        """Return why this replica does not know the state of the cluster."""
        if self._watch is None or not self._listed.is_set():
            return ["the cluster has not been read yet"]
        return [f"not watching {path}" for path in self._watch.unwatched()]

    async def _lead(self) -> None:
        """Work whenever the lease is ours, once the cluster is known; give it back in the end."""
        await self._listed.wait()
        try:
            while True:
                await self.leader.acquire()
                if await self.leader.hold(self._work()):
                    return
        finally:
            await self.leader.release()

    async def _work(self) -> None:
        """Work on all resources, and then on those that change, until the queue is closed."""
        reconciler = Reconciler(
            replace(self.cluster, write_seconds=self.leader.write_seconds), self.store, concern=self._add
        )
        self.queue = WorkQueue()
        try:
            self._add(self.store.resources())
            async with asyncio.TaskGroup() as workers:
                for _ in range(WORKERS):
                    workers.create_task(self.queue.work(reconciler.reconcile))
        finally:
            self.queue.close()
            self.queue = None

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
                for _ in range(min(len(self._seen), OBSERVED_AT_ONCE)):
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
                self.queue.add_settled(key, BULK)
            else:
                self.queue.add(key, BULK if is_new else sight.source)

    def _add(self, keys: Iterable[Key]) -> None:
        if self.queue is None:
            return
        for key in keys:
            self.queue.add(key, BULK)

    async def _wait_for_kinds(self) -> None:
        """Wait until all kinds can be listed: kopf looks only once which there are."""
        for delay in BACKOFF:
            try:
                for kind in (*CHILDREN, *RESOURCES):
                    for namespace in self.namespaces or (None,):
                        await anext(self.cluster.pages(kind, namespace, _selector(kind)))
            except ApiError as error:
                missing = " (are the CRDs installed? kubectl apply -f crds/)" if error.status == 404 else ""
                logger.warning("Could not list all kinds%s, trying again in %.1f s: %s", missing, delay, error)
                await asyncio.sleep(delay)
            else:
                return

    async def _resync_forever(self) -> None:
        """List when watches have begun anew, else now and then."""
        patience, failures = WATCH_SECONDS, 0
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._resync_due.wait(), patience)
                await asyncio.sleep(GATHER_SECONDS)
            self._resync_due.clear()
            try:
                findings = await self.resync()
            except ApiError as error:
                patience = max(BACKOFF.delay(failures), error.retry_seconds)
                failures += 1
                logger.warning("Could not list, trying again in %.1f s: %s", patience, error)
            else:
                patience, failures = RESYNC_SECONDS * random.uniform(0.8, 1), 0  # noqa: S311
                self._take_note(findings)
                await asyncio.sleep(REST_SECONDS)

    def _take_note(self, findings: int) -> None:
        """Count what watches did not tell; all that the first list shows is no finding."""
        if self._listed.is_set():
            metrics.RESYNC_FINDINGS.inc(findings)
        else:
            logger.info("Started with %d servers and benchmarks", len(self.store.resources()))
            self._listed.set()

    async def resync(self) -> int:
        """List all kinds, children first, and enqueue the resources whose objects are not as we knew them.

        Returns how many these are.

        Raises:
            ApiError: A list failed.
        """
        concerned: set[Key] = set()
        for kind in (*CHILDREN, *RESOURCES):
            for namespace in self.namespaces or (None,):
                listing = self.store.begin_list(kind, namespace)
                async for page in self.cluster.pages(kind, namespace, _selector(kind)):
                    listing.take(page.manifests, page.version)
                concerned |= listing.end()
        # Not before our resources were listed: a child may be missing because its owner is.
        self._add(concerned)
        return len(concerned)


def _selector(kind: Kind) -> str:
    return "" if kind in RESOURCES else SELECTOR


async def _measure_lag_forever() -> None:
    while True:
        due = time.monotonic() + LAG_SECONDS
        await asyncio.sleep(LAG_SECONDS)
        metrics.LOOP_LAG_SECONDS.observe(max(0.0, time.monotonic() - due))


async def _before(stop: asyncio.Event, work: Coroutine[None, None, None]) -> bool:
    """Do something unless told to stop first; return whether it was done."""
    working, stopping = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
    await asyncio.wait((working, stopping), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if working.done():
        working.result()
        return True
    working.cancel()
    return False
