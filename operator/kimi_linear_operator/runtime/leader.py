"""Leader election: of several replicas of the operator, only the holder of a Lease works.

A holder trusts its lease for some seconds, counted from before it sent the request to renew it. Other replicas take the
lease over only after they saw it unchanged for a longer time, so the holder has stopped before. Each replica uses its
own clock, which nobody sets and which goes on while the machine is suspended. Wall clocks may be wrong, so the times in
the Lease are only for people.

While a replica cannot find out whether it renewed the lease, its passes go on but start no writes: the API server may
come back with data restored from a backup.
https://kubernetes.io/docs/concepts/architecture/leases/
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field

from kimi_linear_operator import clock, counters
from kimi_linear_operator.backoff import Backoff
from kimi_linear_operator.cluster.client import Cluster
from kimi_linear_operator.cluster.errors import ApiError, Meaning
from kimi_linear_operator.cluster.transport import PendingWrites
from kimi_linear_operator.kubernetes.kinds import LEASE
from kimi_linear_operator.runtime.seen_lease import LEASE_SECONDS, SeenLease

logger = logging.getLogger(__name__)

# The rest of LEASE_SECONDS is for requests that are under way when trust ends.
TRUST_SECONDS = 10.0
RENEW_SECONDS = 3.0
# How often waiting replicas read the Lease. After a release, nobody works for up to this long.
LOOK_SECONDS = 1.0
REQUEST_SECONDS = 5.0
_BACKOFF = Backoff(first=0.5, longest=5.0)


class NotLeadingError(ApiError):
    """This replica may not write."""

    @property
    def meaning(self) -> Meaning:
        """Return what to do about the error."""
        return Meaning.FENCED


@dataclass
class Leader:
    """One replica's part in the leader election.

    Attributes:
        cluster: Where the Lease is.
        namespace: The Lease's namespace.
        name: The Lease's name.
        identity: The name of this replica. No other replica may have it, not even an earlier one.
        clock: Returns monotonic seconds that also count while the machine is suspended.
        restored: Called when the Lease is older than before, because etcd was restored from a backup.
    """

    cluster: Cluster
    namespace: str
    name: str
    identity: str
    clock: Callable[[], float] = clock.seconds
    restored: Callable[[], None] = lambda: None
    _pending: PendingWrites = field(default_factory=PendingWrites)
    _trusted_until: float = float("-inf")
    # Whether the last attempt to renew the lease failed.
    _has_renewal_failed: bool = False
    _logged: str = ""
    _lease: SeenLease = field(init=False)

    def __post_init__(self) -> None:
        """Begin without having seen the Lease."""
        self._lease = SeenLease(self.namespace, self.name, self.identity)

    @property
    def is_leading(self) -> bool:
        """Return whether this replica still trusts its lease."""
        return self.clock() < self._trusted_until

    def fenced(self) -> Cluster:
        """Return the cluster for passes, with a fence: writes are possible only while this replica leads."""
        return self.cluster.fenced(self.write_seconds, self._pending)

    def write_seconds(self) -> float:
        """Return how many seconds a write that begins now may take, so that it ends before another replica works.

        Raises:
            NotLeadingError: No write may begin.
        """
        if not self.is_leading:
            raise NotLeadingError(0, "this replica does not hold the lease")
        if self._has_renewal_failed:
            raise NotLeadingError(0, "this replica could not renew the lease, and asks again soon")
        return self._trusted_until + LEASE_SECONDS - TRUST_SECONDS - self.clock()

    async def look_first(self) -> None:
        """Read the lease before anything is listed, so that `acquire` knows whether anybody has held it since."""
        try:
            await self._look(REQUEST_SECONDS)
        except (ApiError, TimeoutError):
            return  # The holder is unknown.
        self._lease.is_untouched = not self._lease.exists or self._lease.is_released

    async def acquire(self) -> bool:
        """Wait until the lease is ours.

        Returns:
            Whether no other replica can have worked since this replica last held the lease: it still is as this replica
            wrote it. In the first term: since `look_first`, if the lease did not exist or was released then.
        """
        failures = 0
        self._lease.distrust(self.clock())
        while not self.is_leading:
            try:
                await self._take_if_free()
            except (ApiError, TimeoutError) as error:
                self._log_error(error)
                await asyncio.sleep(_BACKOFF.delay(failures))
                failures += 1
            else:
                failures = 0
                await asyncio.sleep(0 if self.is_leading else LOOK_SECONDS)
        self._log(logging.INFO, f"Leading as {self.identity}")
        counters.LEADING.set(1)
        is_untouched, self._lease.is_untouched = self._lease.is_untouched, True
        return is_untouched

    async def hold(self, work: Coroutine[None, None, None]) -> bool:
        """Work while the lease is ours, and stop at once when it is not; return whether the work ended by itself."""
        working, renewing = asyncio.ensure_future(work), asyncio.ensure_future(self._renew())
        try:
            await asyncio.wait((working, renewing), return_when=asyncio.FIRST_COMPLETED)
            ended = working if working.done() else renewing
        finally:
            await _cancel(working, renewing)
            counters.LEADING.set(0)
        ended.result()
        return ended is working

    async def release(self) -> None:
        """Release the lease if it is ours, so that another replica need not wait until it expires.

        Keep it while a write may still be committed: the lease expires only after the deadlines of all writes.
        """
        if not self.is_leading:
            return
        if self._pending:
            self._log(
                logging.WARNING,
                "Not giving the lease back, because a write may still be under way: the lease will expire",
            )
            return
        try:
            await self._write("", REQUEST_SECONDS)
        except (ApiError, TimeoutError) as error:
            self._log_error(error)
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
                self._has_renewal_failed = True
                self._log_error(error)
                if not await self._is_ours():
                    break
        self._trusted_until = float("-inf")
        self._log(logging.WARNING, f"No longer leading: {self._lease.holder} holds the lease, or its holder is unknown")

    async def _is_ours(self) -> bool:
        """After a failed write, read whether the lease is still ours. If the read fails, assume that it is."""
        try:
            await self._look(self._remaining())
        except (ApiError, TimeoutError):
            return True
        return self._lease.holder == self.identity

    async def _take_if_free(self) -> None:
        """Read the lease, and take it if nobody holds it."""
        await self._look(REQUEST_SECONDS)
        if self._lease.is_free(self.clock()):
            await self._write(self.identity, REQUEST_SECONDS)
        elif self._lease.is_held_by_another:
            self._log(logging.INFO, f"Waiting: {self._lease.holder} leads")
        else:
            self._log(logging.INFO, "Waiting: the lease was deleted or rewritten, and its last holder may still work")

    async def _look(self, seconds: float) -> None:
        """Read the lease, and note when it changed."""
        async with asyncio.timeout(min(seconds, REQUEST_SECONDS)):
            lease = await self.cluster.get(LEASE, self.namespace, self.name)
        if self._lease.observe(lease, self.clock(), is_leading=self.is_leading):
            self.restored()

    async def _write(self, holder: str, seconds: float) -> None:
        """Write the lease over the version that was read last.

        Raises:
            ApiError: The write failed, for example because another replica wrote meanwhile.
            TimeoutError: Nobody knows whether the lease was written.
        """
        started = self.clock()
        lease = self._lease.build(holder)
        write = self.cluster.replace if self._lease.exists else self.cluster.create
        async with asyncio.timeout(min(seconds, REQUEST_SECONDS)):
            written = await write(LEASE, lease)
        self._lease.note_written(written, self.clock())
        self._trusted_until, self._has_renewal_failed = started + TRUST_SECONDS, False

    def _remaining(self) -> float:
        return max(0.0, self._trusted_until - self.clock())

    def _log_error(self, error: Exception) -> None:
        self._log(
            logging.WARNING,
            f"Could not read or write the lease {self.namespace}/{self.name}: {str(error) or type(error).__name__}",
        )

    def _log(self, level: int, text: str) -> None:
        """Log a message, unless it is the same as the last one."""
        if text != self._logged:
            self._logged = text
            logger.log(level, text)


async def _cancel(*tasks: asyncio.Future[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
