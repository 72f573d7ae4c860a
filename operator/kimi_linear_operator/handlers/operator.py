"""The process: reads the cluster once, then keeps up with it and works until it is told to stop."""

import asyncio
import logging
import random
import signal
from collections.abc import Collection, Coroutine, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from kimi_linear_operator.api import Manifest
from kimi_linear_operator.cluster import ApiError, Cluster, connect
from kimi_linear_operator.handlers.watch import CHILDREN, EndlessBackoffs, Watch
from kimi_linear_operator.reconcile import Reconciler
from kimi_linear_operator.resources import DEPLOYMENT, POD, SERVER, Kind
from kimi_linear_operator.resources.metadata import SELECTOR
from kimi_linear_operator.store import Key, Store
from kimi_linear_operator.workqueue import WorkQueue

logger = logging.getLogger(__name__)

WORKERS = 16
# What can only change a status waits for what follows it, so that a burst of pod events is one write.
SETTLE_SECONDS = 1.5
# A list heals what watches lost: soon after they begin, for what happened between list and watch, then now and then.
FIRST_RESYNC_SECONDS = 10.0
RESYNC_SECONDS = 300.0
STOP_SECONDS = 10.0


async def serve(namespaces: Sequence[str]) -> None:
    """Run the operator until SIGTERM or SIGINT.

    Args:
        namespaces: Where to look for servers; everywhere if empty.

    Raises:
        ApiError: There is no cluster to connect to.
    """
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with connect() as cluster:
        logger.info("Connected to %s", cluster.server)
        await Operator(cluster, list(namespaces)).run(stop)
    logger.info("Stopped")


@dataclass
class Operator:
    """Watches, lists and workers, and what they share."""

    cluster: Cluster
    namespaces: list[str]
    store: Store = field(default_factory=Store)
    queue: WorkQueue = field(default_factory=WorkQueue)
    _resync_due: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self, stop: asyncio.Event) -> None:
        """Work until told to stop; then finish what is being worked on."""
        if not await _before(stop, self._first_list()):
            return
        loop = asyncio.get_running_loop()

        def observe(kind: Kind, manifest: Manifest, deleted: bool) -> None:
            loop.call_soon_threadsafe(self._observe, kind, manifest, deleted)

        def started() -> None:
            loop.call_soon_threadsafe(self._resync_due.set)

        watch = Watch(self.namespaces, observe, started)
        reconciler = Reconciler(self.cluster, self.store)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(asyncio.to_thread(watch.run))
            resync = tasks.create_task(self._resync_forever())
            workers = [tasks.create_task(self.queue.work(reconciler.reconcile)) for _ in range(WORKERS)]
            logger.info("Started with %d servers", len(self.store.servers()))
            try:
                await stop.wait()
            finally:
                resync.cancel()
                watch.stop()
                self.queue.close()
                await _end(workers)

    def _observe(self, kind: Kind, manifest: Manifest, deleted: bool) -> None:
        is_progress = not deleted and self._is_progress(kind, manifest)
        keys = self.store.delete(kind, manifest) if deleted else self.store.put(kind, manifest)
        self._enqueue(keys, SETTLE_SECONDS if is_progress else 0)

    def _is_progress(self, kind: Kind, manifest: Manifest) -> bool:
        """Return whether a change tells how things go: a pod's, or a Deployment's whose spec is still the same."""
        if kind != DEPLOYMENT:
            return kind == POD
        metadata = manifest["metadata"]
        known = self.store.get(kind, Key(metadata["namespace"], metadata["name"]))
        return known is not None and bool(known["metadata"]["generation"] == metadata["generation"])

    def _enqueue(self, keys: Iterable[Key], seconds: float = 0) -> None:
        for key in keys:
            if seconds:
                self.queue.add_after(key, seconds)
            else:
                self.queue.add(key)

    async def _first_list(self) -> None:
        """List everything, so that no worker takes an object that was not read yet for one that is missing."""
        for delay in EndlessBackoffs():
            try:
                await self.resync()
            except ApiError as error:
                missing = " (are the CRDs installed? kubectl apply -f crds/)" if error.status == 404 else ""
                logger.warning("Could not list the servers%s, trying again in %.1f s: %s", missing, delay, error)
                await asyncio.sleep(delay)
            else:
                return

    async def _resync_forever(self) -> None:
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._resync_due.wait(), RESYNC_SECONDS * random.uniform(0.8, 1))  # noqa: S311
                await asyncio.sleep(FIRST_RESYNC_SECONDS)
            self._resync_due.clear()
            try:
                await self.resync()
            except ApiError as error:
                logger.warning("Could not list, trying again later: %s", error)

    async def resync(self) -> None:
        """List all kinds, children first, and enqueue the servers whose objects are not as we knew them.

        Raises:
            ApiError: A list failed.
        """
        for kind in (*CHILDREN, SERVER):
            selector = "" if kind == SERVER else SELECTOR
            for namespace in self.namespaces or (None,):
                self.store.begin_list(kind)
                listing = await self.cluster.list(kind, namespace, selector)
                self._enqueue(self.store.end_list(kind, namespace, listing.manifests, listing.version))


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


async def _end(workers: Collection[asyncio.Task[None]]) -> None:
    """Let workers finish what they hold, for a while: a pod that is asked to stop has 30 seconds."""
    _, late = await asyncio.wait(workers, timeout=STOP_SECONDS)
    for worker in late:
        worker.cancel()
