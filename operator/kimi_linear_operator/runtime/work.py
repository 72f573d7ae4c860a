"""The work of a leading replica.

It makes passes over the resources that are due. It also does work that is not about a single resource.
"""

import asyncio
import functools
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

from kimi_linear_operator.cluster.client import Cluster
from kimi_linear_operator.cluster.errors import ApiError
from kimi_linear_operator.kubernetes.kinds import Kind
from kimi_linear_operator.reconcile.cache import Cache
from kimi_linear_operator.reconcile.cached_object import CachedObject, Key
from kimi_linear_operator.reconcile.errors import NotReadYetError
from kimi_linear_operator.reconcile.resource_type import Options, Reconciler, Scheduling, Types
from kimi_linear_operator.runtime.dispatch import make_pass, reconcilers, shared_context
from kimi_linear_operator.runtime.order import PROGRESS
from kimi_linear_operator.runtime.pass_memory import PassMemory
from kimi_linear_operator.runtime.queue import WorkQueue
from kimi_linear_operator.runtime.scopes import Scope, Scopes

# One namespace gets at most half of the workers (`runtime/order.py`).
WORKERS = 32
# After this time, passes wait for the next turn of the event loop. A usual pass takes a few milliseconds.
TURN_SECONDS = 0.01
# How many bytes a usual pass takes at most. A server with 80 pods takes about this much. All workers together take 32
# MiB, four times as much if their text contains rare characters. The room for larger passes is limited.
LARGEST_USUAL_PASS = 2**20
# The delay of a requeue if there is no room for a large pass.
NO_ROOM_SECONDS = 1.0
# The source of bulk work for which nobody waits: new resources, and all resources at the start. Each namespace has one
# such source.
BULK = "bulk"
# The delay of a requeue in two cases. A resource needs everything, but not everything was read. Or a resource asks for
# an optional kind, and it is unknown whether this kind can be read.
READ_AGAIN_SECONDS = 5.0


@dataclass
class Work:
    """Passes over resources, while this replica leads.

    Attributes:
        types: The resource types.
        scopes: The scopes that were read, and the scopes that cannot be read.
        cache: Where objects are read.
        options: The administrator's choices.
        list_at_once: Called to list scopes immediately, when a resource has begun to ask for them.
    """

    types: Types
    scopes: Scopes
    cache: Cache
    options: Options
    list_at_once: Callable[[Iterable[Scope]], None] = lambda _: None
    # None while this replica does not lead.
    _queue: WorkQueue | None = None
    _memory: PassMemory = field(default_factory=PassMemory)
    # One item for each pass that waits for its turn, the next one first.
    _waiting: deque[object] = field(default_factory=deque)
    # When the current turn of the event loop began, for passes.
    _turn_began: float = float("-inf")

    async def run(self, cluster: Cluster) -> None:
        """Make passes over all resources, and then over each resource that changes, until the queue is closed.

        Args:
            cluster: The client that writes objects. Before each write, it asks the leader's fence.

        Raises:
            ExceptionGroup: A bug has ended a worker, or the other work of a reconciler. No such task ends silently.
        """
        queue = self._queue = WorkQueue(is_shared=len(self.scopes.namespaces) != 1)
        scheduling = Scheduling(self.enqueue, queue.postpone, self.scopes.has_read, self._ask)
        context = shared_context(self.types, cluster, self.cache, options=self.options, scheduling=scheduling)
        by_kind = reconcilers(self.types, context)
        try:
            self.enqueue(self.cache.resources())
            async with asyncio.TaskGroup() as others:
                running = [
                    others.create_task(reconciler.run(self.scopes.has_read_everything, self._unreadable))
                    for reconciler in by_kind.values()
                ]
                async with asyncio.TaskGroup() as workers:
                    for _ in range(WORKERS):
                        workers.create_task(queue.work(functools.partial(self._reconcile, by_kind)))
                for task in running:
                    task.cancel()
        finally:
            queue.close()
            self._queue = None
            self.scopes.forget_askers()

    def enqueue(self, keys: Iterable[Key]) -> None:
        """Enqueue resources as bulk work.

        A replica that does not lead drops them, because it enqueues all resources when it begins to lead.
        """
        if self._queue:
            for key in keys:
                self._queue.add(key, BULK)

    def enqueue_changed(self, changed: CachedObject, keys: Iterable[Key], *, is_progress: bool) -> None:
        """Enqueue the resources that depend on a changed object.

        Args:
            changed: The object.
            keys: The resources.
            is_progress: Whether the change can only affect a status.
        """
        if self._queue is None:
            return
        is_new = changed.is_resource and changed.is_unreported
        for key in keys:
            if is_progress:
                self._queue.add_when_quiet(key, PROGRESS)
            else:
                self._queue.add(key, BULK if is_new else changed.source)

    def enqueue_scope(self, scope: Scope) -> None:
        """Enqueue all resources that may need a scope."""
        keys = self.cache.resources(scope.namespace)
        self.enqueue(key for key in keys if scope.kind in self.types[key.kind].all_kinds)

    def enqueue_askers(self, scope: Scope) -> None:
        """Enqueue the resources that ask for an optional scope."""
        self.enqueue(sorted(self.scopes.askers(scope), key=lambda key: key[:2]))

    def stuck_seconds(self) -> float:
        """Return for how long resources have waited while no worker took or finished one."""
        return self._queue.stuck_seconds() if self._queue else 0.0

    def close(self) -> bool:
        """Close the queue; return whether any worker may have a key."""
        if self._queue is None:
            return False
        self._queue.close()
        return True

    async def turn(self) -> None:
        """Wait until a pass may go on, so that all passes together do not take too long in a turn of the event loop.

        A pass without writes never waits, and the answers to many passes can arrive at the same time. Many parts of
        passes in one turn of the event loop would block all other tasks, such as the renewal of the Lease. So each pass
        calls this before it begins, and at the end of every request.
        """
        ticket = object()
        self._waiting.append(ticket)
        try:
            while self._waiting[0] is not ticket or time.monotonic() - self._turn_began > TURN_SECONDS:
                asked = time.monotonic()
                await asyncio.sleep(0)
                if self._turn_began < asked:  # Nothing else has gone on in this turn so far.
                    self._turn_began = time.monotonic()
        finally:
            self._waiting.remove(ticket)

    async def _reconcile(self, by_kind: Mapping[Kind, Reconciler], key: Key, failures: int) -> float | None:
        """Make a pass over a resource if everything that the resource needs was read."""
        await self.turn()
        if not self._may_reconcile(key):
            return None  # The resource is enqueued again when its scopes are read.
        if self.types[key.kind].needs_everything and not self.scopes.has_read_everything():
            return READ_AGAIN_SECONDS
        size = self._size(key)
        if not self._memory.take(key.namespace, size):
            return NO_ROOM_SECONDS
        try:
            return await make_pass(by_kind, key, failures)
        except NotReadYetError:
            return READ_AGAIN_SECONDS
        finally:
            self._memory.give_back(key.namespace, size)

    def _size(self, key: Key) -> int:
        """Return about how many bytes a pass over a resource takes, 0 for a usual pass."""
        size = sum(self.cache.sizes(key, self.types[key.kind].all_kinds))
        return size if size > LARGEST_USUAL_PASS else 0

    def _may_reconcile(self, key: Key) -> bool:
        """Return whether all scopes that a resource needs were read.

        If not, there must be no pass over the resource.
        """
        resource_type = self.types[key.kind]
        return self.scopes.has_read(
            key.namespace, (*resource_type.own_kinds, *resource_type.refers_to(self.cache, key))
        )

    def _ask(self, key: Key, kinds: Collection[Kind]) -> Mapping[Kind, ApiError]:
        """Note which optional kinds a resource asks for. Return the kinds that cannot be read, each with the error.

        Raises:
            NotReadYetError: This is unknown until a list has ended.
        """
        self.list_at_once(self.scopes.ask(key, kinds))
        return self.scopes.unreadable_kinds(key.namespace, kinds)

    def _unreadable(self) -> list[str]:
        unreadable = self.scopes.unreadable(time.monotonic())
        return [str(scope) for scope in unreadable if scope.kind not in self.scopes.optional]
