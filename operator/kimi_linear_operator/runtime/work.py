"""What a replica does while it leads: it works on what is due, and on what nobody asks for."""

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass

from kimi_linear_operator.cluster.client import Cluster
from kimi_linear_operator.kubernetes.kinds import Kind
from kimi_linear_operator.reconcile.cache import Cache
from kimi_linear_operator.reconcile.cached_object import CachedObject, Key
from kimi_linear_operator.reconcile.resource_type import Options, Scheduling, Types
from kimi_linear_operator.runtime.dispatch import reconcilers, shared_context
from kimi_linear_operator.runtime.order import PROGRESS
from kimi_linear_operator.runtime.queue import WorkQueue
from kimi_linear_operator.runtime.scopes import Scope, Scopes

# One namespace has half of them at most (`runtime/order.py`).
WORKERS = 32
# What comes in bulk and nobody waits for counts as one source: new servers, all servers at the start.
BULK = "bulk"
# How often a resource that needs everything looks whether everything was read.
SETTLING_SECONDS = 5.0


@dataclass
class Work:
    """Passes over resources, while this replica leads.

    Attributes:
        types: The resource types.
        scopes: What was read.
        cache: Where objects are read.
        options: What the administrator has chosen.
    """

    types: Types
    scopes: Scopes
    cache: Cache
    options: Options
    # What is to be done, while this replica leads.
    _queue: WorkQueue | None = None

    async def run(self, cluster: Cluster) -> None:
        """Work on all resources, and then on those that change, until the queue is closed.

        Args:
            cluster: Where objects are written, while this replica leads.
        """
        queue = self._queue = WorkQueue(is_shared=len(self.scopes.namespaces) != 1)
        scheduling = Scheduling(self.enqueue, queue.postpone)
        context = shared_context(self.types, cluster, self.cache, self.options, scheduling)
        by_kind = reconcilers(self.types, context)

        async def reconcile(key: Key, failures: int) -> float | None:
            # A pass that has nothing to write waits for nothing, and thousands of them would keep out everybody else.
            await asyncio.sleep(0)
            if not self._is_known(key):
                return None  # It is due when it is known.
            if self.types[key.kind].needs_everything and not self._is_settled():
                return SETTLING_SECONDS
            return await by_kind[key.kind].reconcile(key, failures)

        running = [asyncio.ensure_future(reconciler.run(self._is_settled)) for reconciler in by_kind.values()]
        try:
            self.enqueue(self.cache.resources())
            async with asyncio.TaskGroup() as workers:
                for _ in range(WORKERS):
                    workers.create_task(queue.work(reconcile))
        finally:
            for task in running:
                task.cancel()
            queue.close()
            self._queue = None

    def enqueue(self, keys: Iterable[Key]) -> None:
        """Ask for passes that nobody waits for, if this replica leads; one that waits takes all when it begins to."""
        if self._queue:
            for key in keys:
                self._queue.add(key, BULK)

    def enqueue_changed(self, found: CachedObject, keys: Iterable[Key], *, is_progress: bool) -> None:
        """Ask for passes over the resources that a change concerns.

        Args:
            found: What has changed.
            keys: The resources.
            is_progress: Whether the change can at most change a status.
        """
        if self._queue is None:
            return
        is_new = found.is_resource and found.is_unreported
        for key in keys:
            if is_progress:
                self._queue.add_settled(key, PROGRESS)
            else:
                self._queue.add(key, BULK if is_new else found.source)

    def enqueue_scope(self, scope: Scope) -> None:
        """Ask for passes over all resources that may need a scope."""
        keys = (key for key in self.cache.resources() if scope.covers(key.namespace))
        self.enqueue(key for key in keys if scope.kind in self._may_need(key))

    def stuck_seconds(self) -> float:
        """Return for how long resources have been waiting while no worker began or ended with any."""
        return self._queue.stuck_seconds() if self._queue else 0.0

    def close(self) -> bool:
        """Take no more keys; return whether any worker may hold one."""
        if self._queue is None:
            return False
        self._queue.close()
        return True

    def _is_known(self, key: Key) -> bool:
        """Return whether everything that a resource needs was read. If not, it must be left alone."""
        found = self.types[key.kind]
        return self.scopes.is_known(key.namespace, (*found.own_kinds, *found.refers_to(self.cache, key)))

    def _may_need(self, key: Key) -> Iterable[Kind]:
        found = self.types[key.kind]
        return (*found.own_kinds, *found.referenced)

    def _is_settled(self) -> bool:
        return self.scopes.is_settled(time.monotonic())
