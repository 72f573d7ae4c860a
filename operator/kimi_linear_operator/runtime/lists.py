"""Lists each scope when its watch has started again, and at every resync."""

import asyncio
import functools
import logging
import random
import time
from collections.abc import Callable, Collection, Iterable
from contextlib import aclosing, suppress
from dataclasses import dataclass, field

from kimi_linear_operator.backoff import Backoff
from kimi_linear_operator.cluster.client import Cluster
from kimi_linear_operator.cluster.errors import ApiError, OtherVersionError
from kimi_linear_operator.cluster.pages import Page
from kimi_linear_operator.kubernetes.kinds import Kind
from kimi_linear_operator.kubernetes.metadata import SELECTOR
from kimi_linear_operator.reconcile.cache import Cache
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.reconcile.listing import Listing
from kimi_linear_operator.runtime.lanes import Lanes
from kimi_linear_operator.runtime.scopes import Scope, Scopes
from kimi_linear_operator.runtime.unreadable import Unreadable

logger = logging.getLogger(__name__)

# A watch can lose an event. After this time at the latest, a list finds the change.
RESYNC_SECONDS = 300.0
# The first list waits for the watch to start, but not longer than this, because the watch may never start.
WATCH_SECONDS = 10.0
# A watch often restarts twice in a row. A requested list waits for this time, so that one list serves both.
GATHER_SECONDS = 0.5
# The pause after a list, so that a watch that keeps starting again does not cause a list each time.
REST = Backoff(first=5.0, longest=60.0)
# The pause after a failed list.
RETRY = Backoff(first=0.5, longest=30.0)
# How many objects to cache before letting other tasks run: renewing the Lease, workers, other lists.
TAKEN_AT_ONCE = 50
_NOT_FOUND = 404

Read = Callable[[Scope, set[Key], bool], None]
"""Called after each list, complete or not.

It gets the scope, the resources to enqueue, and whether this list has made an unknown scope known.
"""


@dataclass
class Lists:
    """Corrects the cache with lists.

    Attributes:
        cluster: Where objects are listed.
        cache: Where the listed objects are cached.
        scopes: The scopes to list, and the outcomes of their lists.
        read: Called after each list, complete or not.
        clock: Returns monotonic seconds.
        is_watched: Returns whether the watch of a scope works.
        lost: Called when a scope has become unreadable.
        restored: Called when the cluster is older than before, because etcd was restored from a backup.
        unreadable: The listed objects that cannot be read.
    """

    cluster: Cluster
    cache: Cache
    scopes: Scopes
    read: Read
    clock: Callable[[], float] = time.monotonic
    is_watched: Callable[[Scope], bool] = lambda _: True
    lost: Callable[[Scope], None] = lambda _: None
    restored: Callable[[], None] = lambda: None
    unreadable: Unreadable = field(default_factory=Unreadable)
    _due: dict[Scope, asyncio.Event] = field(init=False)
    # `relist_all` sets this. Earlier lists then no longer count, and the pause ends.
    _urgent: dict[Scope, asyncio.Event] = field(init=False)
    # Scopes whose list was requested and has not ended.
    _asked: set[Scope] = field(default_factory=set)
    _lanes: dict[Kind, Lanes] = field(init=False)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    # The newest version of an object that a list of each scope has shown.
    _newest: dict[Scope, int] = field(default_factory=dict)
    # The last logged error of each scope that could not be listed.
    _logged: dict[Scope, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Begin without a list that is due, because the watches start first."""
        self._due = {scope: asyncio.Event() for scope in self.scopes}
        self._urgent = {scope: asyncio.Event() for scope in self.scopes}
        self._lanes = {scope.kind: Lanes() for scope in self.scopes}

    def ask_for(self, scope: Scope) -> None:
        """Request a list of a scope."""
        self._asked.add(scope)
        self._due[scope].set()

    def newest_version(self, scope: Scope) -> int:
        """Return the newest version of an object that a list of a scope has shown, 0 if there is none.

        Any thread may call this.
        """
        return self._newest.get(scope, 0)

    async def run(self) -> None:
        """List every scope whenever it is due. This never returns."""
        async with asyncio.TaskGroup() as tasks:
            for scope in self.scopes:
                tasks.create_task(self._keep_listed(scope))

    def relist_all(self) -> None:
        """Request a list of every scope. Each scope counts as unknown until its own new list has succeeded."""
        # After a restore of etcd, versions cannot be compared with earlier ones.
        self._newest.clear()
        self._relist([*self.scopes])

    def relist_broken(self, broken: Collection[Scope]) -> None:
        """Request a list of the scopes for which the watches have perhaps not shown all changes.

        Args:
            broken: The scopes whose watch does not work. Scopes whose requested list has not ended are added.
        """
        self._relist([scope for scope in self.scopes if scope in broken or scope in self._asked])

    def _relist(self, scopes: Collection[Scope]) -> None:
        self.scopes.forget(scopes)
        self.list_at_once(scopes)

    def list_at_once(self, scopes: Iterable[Scope]) -> None:
        """Request a list of some scopes, and end the pause after their last lists."""
        for scope in scopes:
            self._urgent[scope].set()
            self.ask_for(scope)

    async def wait_until_everything_is_read(self) -> None:
        """Wait until everything that can be read in time was read."""
        while not self.scopes.may_lead(self.clock()):
            self._changed.clear()
            # A list that takes too long makes its scope unreadable without setting `_changed`, so poll.
            with suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await self._changed.wait()

    async def _keep_listed(self, scope: Scope) -> None:
        wait_seconds, failures, early_lists = WATCH_SECONDS, 0, 0
        while True:
            was_requested = await self._wait_until_due(scope, wait_seconds)
            try:
                seconds = await self._list(scope)
            except Exception as error:
                # Any error affects only this scope. The other scopes go on.
                failure = error if isinstance(error, ApiError) else ApiError(0, f"{type(error).__name__}: {error}")
                self._note_failure(scope, failure, None if failure is error else error)
                await asyncio.sleep(failure.retry_seconds)
                is_urgent = await self._pause(scope, self._retry_seconds(scope, failures) - failure.retry_seconds)
                wait_seconds, failures = 0, 0 if is_urgent else failures + 1
            else:
                wait_seconds, failures = _resync_seconds(), 0
                early_lists = early_lists + 1 if was_requested else 0
                if await self._pause(scope, max(seconds, REST.delay(early_lists))):
                    early_lists = 0

    def _retry_seconds(self, scope: Scope, failures: int) -> float:
        """Return the pause after a failed list.

        If the API server refuses a scope and no resource asks for it, the scope is listed only at each resync.
        """
        is_idle = self.scopes.is_dormant(scope) and self.scopes.is_unasked(scope)
        return _resync_seconds() if is_idle else RETRY.delay(failures)

    async def _pause(self, scope: Scope, seconds: float) -> bool:
        """Wait before the next list of a scope; return whether `relist_all` ended the pause early.

        A restarted watch does not end the pause.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._urgent[scope].wait()
        return self._urgent[scope].is_set()

    async def _wait_until_due(self, scope: Scope, seconds: float) -> bool:
        """Wait until a list is requested, at most for these seconds; return whether it was requested."""
        due = self._due[scope]
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await due.wait()
            await asyncio.sleep(GATHER_SECONDS)
        is_requested = due.is_set()
        due.clear()
        return is_requested

    async def _list(self, scope: Scope) -> float:
        """List a scope into the cache; return how many seconds that took.

        Raises:
            Exception: The list failed, with ApiError or because of a bug.
        """
        kind, namespace = scope
        # The wait for a place in a lane counts, too: a scope is unreadable after 90 s (`OWN_FAULT_SECONDS`).
        self.scopes.begin(scope, self.clock())
        self._urgent[scope].clear()
        async with self._lanes[kind].place(scope):
            began = self.clock()
            self.unreadable.begin(scope)
            listing = Listing(self.cache, kind, namespace, functools.partial(self.unreadable.add, scope))
            await self._read_pages(scope, listing)
        to_enqueue = listing.end()
        self._newest[scope] = listing.newest_object
        self.unreadable.end(scope)
        if not self._due[scope].is_set():
            self._asked.discard(scope)
        is_new = self.scopes.succeed(scope, self.clock())
        self._note_success(scope)
        self.read(scope, to_enqueue, is_new)
        return self.clock() - began

    async def _read_pages(self, scope: Scope, listing: Listing) -> None:
        kind, namespace = scope
        try:
            async with aclosing(self.cluster.pages(kind, namespace, self._selector(kind))) as pages:
                async for page in pages:
                    await self._take(listing, page)
        except Exception:
            # The first pages are cached already, so the next list would not enqueue their resources.
            self.read(scope, listing.to_enqueue, False)
            raise

    async def _take(self, listing: Listing, page: Page) -> None:
        """Put a page into the cache, a few objects at a time.

        Raises:
            ApiError: The list is older than the cache, because etcd was restored.
        """
        for begin in range(0, len(page.manifests) or 1, TAKEN_AT_ONCE):
            listing.take(page.manifests[begin : begin + TAKEN_AT_ONCE], page.version)
            if listing.is_restored:
                self.restored()
                raise ApiError(0, "the cluster shows an older state than before, so everything is listed again")
            await asyncio.sleep(0)

    def _note_success(self, scope: Scope) -> None:
        if self._logged.pop(scope, None):
            logger.info("Listed %s again", scope)
        self._changed.set()

    def _note_failure(self, scope: Scope, error: ApiError, bug: Exception | None) -> None:
        """Record that a scope could not be listed. Log each error only once.

        A bug is logged with its traceback.
        """
        if self.scopes.fail(scope, error, self.clock(), is_watched=self.is_watched(scope)):
            self.lost(scope)
        if self._logged.get(scope) != str(error) and not self.scopes.is_unasked(scope):
            self._logged[scope] = str(error)
            hint = _hint(scope.kind, error)
            logger.warning("Cannot list %s%s, retrying until it works: %s", scope, hint, error, exc_info=bug)
        self._changed.set()

    def _selector(self, kind: Kind) -> str:
        return "" if self.cache.reader.is_resource(kind) else SELECTOR


def _resync_seconds() -> float:
    """Return the seconds until the next list of a scope. A random part spreads the load."""
    return RESYNC_SECONDS * random.uniform(0.8, 1)  # noqa: S311 - no secret


def _hint(kind: Kind, error: ApiError) -> str:
    """Return what to check if the cluster has a kind in no version, empty after any other error."""
    if error.status != _NOT_FOUND or isinstance(error, OtherVersionError):
        return ""
    return f" (is {kind.source} installed?)" if kind.source else " (is its CRD installed? kubectl apply -f crds/)"
