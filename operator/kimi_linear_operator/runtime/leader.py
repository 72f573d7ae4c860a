"""Which of several replicas of the operator works: the one that holds a Lease.

A holder trusts its lease for some seconds, counted from before it asked to renew it. Others take it over only when they
saw it unchanged for longer than that, so the holder has stopped before. Each counts with its own clock, which nobody
sets and which goes on while the machine is suspended: wall clocks may be wrong, and what the Lease says of times is for
people to read.

A Lease that somebody deleted or rewrote says nothing of its last holder, which may work for as long as it trusts its
lease. Who saw another hold it waits that long. So does everybody when etcd was restored from a backup: the Lease then
tells who held it once.

While nobody can tell whether the lease was renewed, what is under way goes on, and nothing new is written: the API
server may come back with another past.
https://kubernetes.io/docs/concepts/architecture/leases/
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime

from kimi_linear_operator import clock, metrics
from kimi_linear_operator.backoff import Backoff
from kimi_linear_operator.cluster.client import Cluster
from kimi_linear_operator.cluster.errors import ApiError, Meaning
from kimi_linear_operator.cluster.transport import PendingWrites
from kimi_linear_operator.kubernetes.kinds import LEASE, Manifest
from kimi_linear_operator.kubernetes.metadata import version_of

logger = logging.getLogger(__name__)

LEASE_SECONDS = 15
# The rest of the lease is for requests that are under way when trust ends.
TRUST_SECONDS = 10.0
RENEW_SECONDS = 3.0
# How often those who wait look, which is also how long nobody works after a holder gave its lease back.
LOOK_SECONDS = 1.0
REQUEST_SECONDS = 5.0
# How long a lease lasts that was given back, as client-go writes it.
_GIVEN_BACK_SECONDS = 1
_BACKOFF = Backoff(first=0.5, longest=5.0)


class NotLeadingError(ApiError):
    """This replica may not write."""

    @property
    def meaning(self) -> Meaning:
        """Return what to do about it."""
        return Meaning.FENCED


@dataclass
class Leader:
    """One replica's part in deciding who works.

    Attributes:
        cluster: Where the Lease is.
        namespace: The Lease's namespace.
        name: The Lease's name.
        identity: Who this replica is; no other may have the same, and none that was there before.
        clock: Seconds that nobody sets and that no suspension stops.
        restored: Called when the Lease is older than it was: etcd was restored from a backup.
    """

    cluster: Cluster
    namespace: str
    name: str
    identity: str
    clock: Callable[[], float] = clock.seconds
    restored: Callable[[], None] = lambda: None
    _pending: PendingWrites = field(default_factory=PendingWrites)
    _trusted_until: float = float("-inf")
    # Whether the lease could not be renewed when that was tried last.
    _is_doubted: bool = False
    _seen: Manifest | None = None
    _seen_at: float = 0.0
    # Until when another replica may work although the lease no longer names it.
    _doubtful_until: float = float("-inf")
    # The last spec that this replica asked to write.
    _asked: Manifest | None = None
    # Whether nobody held the lease at the first look, and no look since has found it otherwise.
    _is_untouched: bool = False
    _said: str = ""

    @property
    def is_leading(self) -> bool:
        """Return whether this replica holds the lease, as far as it can know."""
        return self.clock() < self._trusted_until

    def fenced(self) -> Cluster:
        """Return the cluster for work: it is written to only while this replica leads."""
        return self.cluster.fenced(self.write_seconds, self._pending)

    def write_seconds(self) -> float:
        """Return how long a write that begins now may take, so that it ends before another replica works.

        Raises:
            NotLeadingError: None may begin.
        """
        if not self.is_leading:
            raise NotLeadingError(0, "this replica does not hold the lease")
        if self._is_doubted:
            raise NotLeadingError(0, "this replica could not renew the lease, and asks again soon")
        return self._trusted_until + LEASE_SECONDS - TRUST_SECONDS - self.clock()

    async def look_first(self) -> None:
        """Look at the lease, before anything is listed: `acquire` tells whether another may have held it since."""
        try:
            await self._look(REQUEST_SECONDS)
        except (ApiError, TimeoutError):
            return  # Whoever holds it, nobody can tell.
        self._is_untouched = self._seen is None or self._is_given_back()

    async def acquire(self) -> bool:
        """Wait until the lease is ours.

        Returns:
            Whether nobody can have worked since `look_first`: the lease was free then, as there was none or its holder
            had given it back, and it was still the same when this replica took it. That is true of the first term only.
        """
        failures = 0
        # Nobody has looked for a while: it may have changed meanwhile, and a backup may have brought it back.
        self._seen_at = self.clock()
        while not self.is_leading:
            try:
                await self._take_if_free()
            except (ApiError, TimeoutError) as error:
                self._complain(error)
                await asyncio.sleep(_BACKOFF.delay(failures))
                failures += 1
            else:
                failures = 0
                await asyncio.sleep(0 if self.is_leading else LOOK_SECONDS)
        self._say(logging.INFO, f"Leading as {self.identity}")
        metrics.LEADING.set(1)
        is_untouched, self._is_untouched = self._is_untouched, False
        return is_untouched

    async def hold(self, work: Coroutine[None, None, None]) -> bool:
        """Work while the lease is ours, and stop at once when it is not; return whether the work came to its end."""
        working, renewing = asyncio.ensure_future(work), asyncio.ensure_future(self._renew())
        try:
            await asyncio.wait((working, renewing), return_when=asyncio.FIRST_COMPLETED)
            ended = working if working.done() else renewing
        finally:
            await _cancel(working, renewing)
            metrics.LEADING.set(0)
        ended.result()
        return ended is working

    async def release(self) -> None:
        """Give the lease back, if it is ours, so that another replica need not wait until it runs out.

        Not while a write may still be committed: the lease runs out when the time of all writes is over.
        """
        if not self.is_leading:
            return
        if self._pending:
            self._say(logging.WARNING, "Not giving the lease back, as a write may still be under way: it will run out")
            return
        try:
            await self._write("", REQUEST_SECONDS)
        except (ApiError, TimeoutError) as error:
            self._complain(error)
        self._trusted_until = float("-inf")

    async def _renew(self) -> None:
        """Renew the lease until it is lost."""
        failures = 0
        while self.is_leading:
            pause = _BACKOFF.delay(failures - 1) if failures else RENEW_SECONDS
            await asyncio.sleep(min(pause, self._remaining()))
            try:
                await self._write(self.identity, self._remaining())
                failures = 0
            except (ApiError, TimeoutError) as error:
                failures += 1
                self._is_doubted = True
                self._complain(error)
                if not await self._is_ours():
                    break
        self._trusted_until = float("-inf")
        self._say(logging.WARNING, f"No longer leading: {self._holder()} holds the lease, or nobody can tell")

    async def _is_ours(self) -> bool:
        """Look whether the lease is still ours after a write failed; while nobody can tell, it is."""
        try:
            await self._look(self._remaining())
        except (ApiError, TimeoutError):
            return True
        return self._holder() == self.identity

    async def _take_if_free(self) -> None:
        """Look at the lease, and take it if nobody holds it."""
        await self._look(REQUEST_SECONDS)
        if self._is_free():
            await self._write(self.identity, REQUEST_SECONDS)
        elif self._is_of_another():
            self._say(logging.INFO, f"Waiting: {self._holder()} leads")
        else:
            self._say(logging.INFO, "Waiting: the lease was deleted or rewritten, and its last holder may still work")

    def _is_free(self) -> bool:
        now = self.clock()
        if self._is_of_another():
            return bool(now - self._seen_at >= self._spec().get("leaseDurationSeconds", LEASE_SECONDS))
        return now >= self._doubtful_until

    def _is_of_another(self) -> bool:
        return self._holder() not in ("", self.identity)

    def _is_settled(self) -> bool:
        """Return whether the lease was written by who may: its holder gave it back, or this replica took it."""
        spec = self._spec()
        return self._is_given_back() or (bool(spec) and spec == self._asked)

    def _is_given_back(self) -> bool:
        spec = self._spec()
        return spec.get("holderIdentity") == "" and spec.get("leaseDurationSeconds") == _GIVEN_BACK_SECONDS

    async def _look(self, seconds: float) -> None:
        """Read the lease, and note since when it is as it is."""
        async with asyncio.timeout(min(seconds, REQUEST_SECONDS)):
            found = await self.cluster.get(LEASE, self.namespace, self.name)
        if found == self._seen:
            return
        self._is_untouched = False
        is_older = bool(found and self._seen and version_of(found) < version_of(self._seen))
        was_of_another = self._is_of_another()
        self._seen, self._seen_at = found, self.clock()
        if is_older:
            self.restored()
        if self._is_settled() and not is_older:
            self._doubtful_until = float("-inf")
        elif was_of_another or (is_older and not self.is_leading):
            # It may have been renewed right before.
            self._doubtful_until = self._seen_at + LEASE_SECONDS

    async def _write(self, holder: str, seconds: float) -> None:
        """Write the lease on top of what was seen last; if somebody else wrote it meanwhile, that is an error.

        Raises:
            ApiError: It could not be written.
            TimeoutError: Nobody knows whether it was written.
        """
        asked = self.clock()
        lease = self._lease(holder)
        self._asked = lease["spec"]
        write = self.cluster.replace if self._seen else self.cluster.create
        async with asyncio.timeout(min(seconds, REQUEST_SECONDS)):
            self._seen = await write(LEASE, lease)
        self._seen_at = self.clock()
        self._trusted_until, self._is_doubted = asked + TRUST_SECONDS, False

    def _lease(self, holder: str) -> Manifest:
        """Return the Lease with this holder; an empty one gives it back, and says so as client-go does."""
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        before = self._spec()
        is_taken = bool(holder) and holder != before.get("holderIdentity")
        spec = {
            **before,
            "holderIdentity": holder,
            "leaseDurationSeconds": LEASE_SECONDS if holder else _GIVEN_BACK_SECONDS,
            "acquireTime": now if is_taken else before.get("acquireTime", now),
            "renewTime": now,
            "leaseTransitions": before.get("leaseTransitions", 0) + (is_taken and "holderIdentity" in before),
        }
        metadata = self._seen["metadata"] if self._seen else {"name": self.name, "namespace": self.namespace}
        return {"apiVersion": LEASE.api_version, "kind": LEASE.kind, "metadata": metadata, "spec": spec}

    def _spec(self) -> Manifest:
        return dict((self._seen or {}).get("spec") or {})

    def _holder(self) -> str:
        return str(self._spec().get("holderIdentity") or "")

    def _remaining(self) -> float:
        return max(0.0, self._trusted_until - self.clock())

    def _complain(self, error: Exception) -> None:
        self._say(
            logging.WARNING,
            f"Could not read or write the lease {self.namespace}/{self.name}: {str(error) or type(error).__name__}",
        )

    def _say(self, level: int, text: str) -> None:
        """Log something, once while it stays the same."""
        if text != self._said:
            self._said = text
            logger.log(level, text)


async def _cancel(*tasks: asyncio.Future[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
