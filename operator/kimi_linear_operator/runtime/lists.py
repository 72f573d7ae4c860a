"""Lists: each kind in each namespace on its own, when its watch has begun anew, and now and then."""

import asyncio
import functools
import logging
import random
import time
from collections.abc import Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass, field

from kimi_linear_operator import metrics
from kimi_linear_operator.backoff import Backoff
from kimi_linear_operator.cluster.client import Cluster
from kimi_linear_operator.cluster.errors import ApiError
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

# A watch can lose an event. This is how long it takes at most until a list finds it.
RESYNC_SECONDS = 300.0
# The first list follows the watch, and waits no longer than this for one that cannot begin.
WATCH_SECONDS = 10.0
# A watch that has just begun anew often does so again at once; one list is enough.
GATHER_SECONDS = 0.5
# How long to wait after a list, so that a watch that keeps beginning anew does not cause one each time.
REST = Backoff(first=5.0, longest=60.0)
# How long to wait after a list that failed.
RETRY = Backoff(first=0.5, longest=30.0)
# Between two of these, the Lease is renewed, workers go on, and other lists arrive.
TAKEN_AT_ONCE = 50

Read = Callable[[Scope, set[Key], bool], None]
"""Takes a scope that was listed, the resources about which that showed something new, and whether all in it was new."""


@dataclass
class Lists:
    """Keeps the store right by lists.

    Attributes:
        cluster: Where objects are listed.
        store: Where they are kept.
        scopes: What is listed, and what came of it.
        read: Called for every list.
        clock: Seconds.
        is_watched: Whether the watch of a scope works.
        restored: Called when the cluster is older than what was seen of it.
        unreadable: What cannot be read of what was listed.
    """

    cluster: Cluster
    cache: Cache
    scopes: Scopes
    read: Read
    clock: Callable[[], float] = time.monotonic
    is_watched: Callable[[Scope], bool] = lambda _: True
    restored: Callable[[], None] = lambda: None
    unreadable: Unreadable = field(default_factory=Unreadable)
    _due: dict[Scope, asyncio.Event] = field(init=False)
    # What is to be listed before anything is known again: no list that was made before counts.
    _urgent: dict[Scope, asyncio.Event] = field(init=False)
    _lanes: dict[Kind, Lanes] = field(init=False)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    # What was said of scopes that could not be listed: once each.
    _said: dict[Scope, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Begin with no list due: watches come first."""
        self._due = {scope: asyncio.Event() for scope in self.scopes}
        self._urgent = {scope: asyncio.Event() for scope in self.scopes}
        self._lanes = {scope.kind: Lanes() for scope in self.scopes}
        for scope in self.scopes:
            self._show(scope)

    def ask_for(self, scope: Scope) -> None:
        """Have a scope listed soon."""
        self._due[scope].set()

    async def run(self) -> None:
        """List every scope when it is due, for ever."""
        async with asyncio.TaskGroup() as tasks:
            for scope in self.scopes:
                tasks.create_task(self._keep_listed(scope))

    def begin_anew(self) -> None:
        """Have everything listed anew; until then nothing is known."""
        self.scopes.forget()
        for scope in self.scopes:
            self._urgent[scope].set()
            self.ask_for(scope)

    async def wait_until_settled(self) -> None:
        """Wait until all was read that can be."""
        while not self.scopes.is_settled(self.clock()):
            self._changed.clear()
            # A scope that takes too long changes nothing but the time.
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), 1.0)

    async def _keep_listed(self, scope: Scope) -> None:
        patience, failures, hurries = WATCH_SECONDS, 0, 0
        while True:
            is_hurried = await self._wait_until_due(scope, patience)
            try:
                seconds = await self._list(scope)
            except Exception as error:
                # Whatever it is, it is the fault of this scope: others go on.
                failure = error if isinstance(error, ApiError) else ApiError(0, f"{type(error).__name__}: {error}")
                self._note_failure(scope, failure, None if failure is error else error)
                await asyncio.sleep(failure.retry_seconds)
                is_urgent = await self._rest(scope, RETRY.delay(failures) - failure.retry_seconds)
                patience, failures = 0, 0 if is_urgent else failures + 1
            else:
                patience, failures = RESYNC_SECONDS * random.uniform(0.8, 1), 0  # noqa: S311 - spreads load
                hurries = hurries + 1 if is_hurried else 0
                if await self._rest(scope, max(seconds, REST.delay(hurries))):
                    hurries = 0

    async def _rest(self, scope: Scope, seconds: float) -> bool:
        """Leave the API server alone; return whether that ended early, as everything is to be listed anew.

        A watch that begins anew does not shorten it.
        """
        with suppress(TimeoutError):
            await asyncio.wait_for(self._urgent[scope].wait(), seconds)
        return self._urgent[scope].is_set()

    async def _wait_until_due(self, scope: Scope, seconds: float) -> bool:
        """Wait for a while, or until a list is asked for; return whether it was."""
        due = self._due[scope]
        with suppress(TimeoutError):
            await asyncio.wait_for(due.wait(), seconds)
            await asyncio.sleep(GATHER_SECONDS)
        is_asked_for = due.is_set()
        due.clear()
        return is_asked_for

    async def _list(self, scope: Scope) -> float:
        """List a scope, take over what it shows, and return how many seconds that took.

        Raises:
            Exception: It failed: ApiError, or a fault of ours.
        """
        kind, namespace = scope
        # A scope that waits for its turn is not read, either.
        self.scopes.begin(scope, self.clock())
        self._urgent[scope].clear()
        async with self._lanes[kind].place(scope):
            began = self.clock()
            self.unreadable.begin(scope)
            listing = Listing(self.cache, kind, namespace, functools.partial(self.unreadable.add, scope))
            try:
                async with aclosing(self.cluster.pages(kind, namespace, self._selector(kind))) as pages:
                    async for page in pages:
                        await self._take(listing, page)
            except Exception:
                # The store has what the first pages showed, so the next list will not find it again.
                self.read(scope, listing.concerned, False)
                raise
        concerned = listing.end()
        self.unreadable.end(scope)
        is_new = self.scopes.succeed(scope, self.clock())
        self._note_success(scope)
        self.read(scope, concerned, is_new)
        return self.clock() - began

    async def _take(self, listing: Listing, page: Page) -> None:
        """Take over a page, a few objects at a time.

        Raises:
            ApiError: It is older than what was seen before.
        """
        for begin in range(0, len(page.manifests) or 1, TAKEN_AT_ONCE):
            listing.take(page.manifests[begin : begin + TAKEN_AT_ONCE], page.version)
            if listing.is_restored:
                self.restored()
                raise ApiError(0, "the cluster is older than before, so all of it is read anew")
            await asyncio.sleep(0)

    def _note_success(self, scope: Scope) -> None:
        if self._said.pop(scope, None):
            logger.info("Listed %s again", scope)
        self._show(scope)
        self._changed.set()

    def _note_failure(self, scope: Scope, error: ApiError, bug: Exception | None) -> None:
        """Say why a scope could not be listed, once while that stays the same; of a bug, with its trace."""
        self.scopes.fail(scope, error, self.clock(), is_watched=self.is_watched(scope))
        missing = " (is its CRD installed? kubectl apply -f crds/)" if error.status == 404 else ""
        if self._said.get(scope) != str(error):
            self._said[scope] = str(error)
            logger.warning("Cannot list %s%s, trying again until it works: %s", scope, missing, error, exc_info=bug)
        self._show(scope)
        self._changed.set()

    def _show(self, scope: Scope) -> None:
        is_unreadable = scope in self.scopes.unreadable(self.clock())
        metrics.SCOPE_UNREADABLE.labels(scope.kind.plural, scope.namespace or "").set(is_unreadable)

    def _selector(self, kind: Kind) -> str:
        return "" if self.cache.reader.is_resource(kind) else SELECTOR
