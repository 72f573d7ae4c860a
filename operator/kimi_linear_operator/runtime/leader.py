"""Leader election: of several replicas of the operator, only the holder of a Lease works.

A holder trusts its lease for some seconds. This time begins just before it sends the request that renews the lease.
Another replica takes over only if the Lease has not changed for a longer time. By then, the former holder no longer
trusts its lease and has stopped. Each replica uses its own clock, which nobody sets and which continues while the
machine is suspended. Wall clocks can be wrong, so the times in the Lease are only for people.

While a replica does not know whether it has renewed the lease, its passes continue but start no writes. The reason is
that the API server may come back with data from a backup. https://kubernetes.io/docs/concepts/architecture/leases/
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeVar

from kimi_linear_operator import clock, counters
from kimi_linear_operator.backoff import Backoff
from kimi_linear_operator.cluster.client import Cluster
from kimi_linear_operator.cluster.errors import UNREACHABLE, ApiError, Meaning
from kimi_linear_operator.cluster.transport import PendingWrites
from kimi_linear_operator.kubernetes.kinds import LEASE
from kimi_linear_operator.runtime.seen_lease import LEASE_SECONDS, SeenLease, proves_write

logger = logging.getLogger(__name__)

# The rest of LEASE_SECONDS is for requests that are under way when the holder's trust ends.
TRUST_SECONDS = 10.0
RENEW_SECONDS = 3.0
# How often waiting replicas read the Lease. After a release, no replica works for up to this time.
LOOK_SECONDS = 1.0
# The holder renews the lease in time as long as two requests in a row end within TRUST_SECONDS.
REQUEST_SECONDS = 5.0
# A pod has 30 s to stop. Before the release, passes end (10 s), and a renewal is answered (REQUEST_SECONDS).
RELEASE_SECONDS = 10.0
# A waiting replica can see again and again that the Lease is older than before. It then starts over only after a rest.
# Such Leases can come from a proxy that caches answers. If etcd really was restored twice, a list shows it.
RESTORE_REST = Backoff(first=60.0, longest=3600.0)
_BACKOFF = Backoff(first=0.5, longest=5.0)

_Result = TypeVar("_Result")


class NotLeadingError(ApiError):
    """This replica is not allowed to write."""

    @property
    def meaning(self) -> Meaning:
        """Return what to do about the error."""
        return Meaning.FENCED


@dataclass
class Leader:
    """One replica's part in the leader election.

    Attributes:
        cluster: Where the Lease is. Each request should have its own connection. A connection can die silently, and a
            request on it would get no answer in time.
        namespace: The Lease's namespace.
        name: The Lease's name.
        identity: The name of this replica. No other replica may have it, and no earlier replica may have had it.
        clock: Returns monotonic seconds that also count while the machine is suspended.
        restored: Called when the Lease is older than before, because etcd was restored from a backup. If this replica
            waits, it is called again only after a rest (RESTORE_REST).
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
    # How many restores this replica has noticed in a row, and when it noticed the last one.
    _restores: int = 0
    _restored_at: float = float("-inf")
    _logged: str = ""
    _lease: SeenLease = field(init=False)

    def __post_init__(self) -> None:
        """Begin without knowledge of the Lease."""
        self._lease = SeenLease(self.namespace, self.name, self.identity)

    @property
    def is_leading(self) -> bool:
        """Return whether this replica still trusts its lease."""
        return self.clock() < self._trusted_until

    def fenced(self, cluster: Cluster) -> Cluster:
        """Return a cluster for passes, with a fence: writes are possible only while this replica leads."""
        return cluster.fenced(self.write_seconds, self._pending)

    def write_seconds(self) -> float:
        """Return how many seconds a write that begins now may take, so that it ends before another replica works.

        Raises:
            NotLeadingError: This replica is not allowed to write.
        """
        if not self.is_leading:
            raise NotLeadingError(0, "this replica does not hold the lease")
        if self._has_renewal_failed:
            raise NotLeadingError(0, "this replica could not renew the lease, and tries again soon")
        return self._trusted_until + LEASE_SECONDS - TRUST_SECONDS - self.clock()

    async def look_first(self) -> None:
        """Read the lease before anything is listed.

        So `acquire` knows later whether another replica has held it since then.
        """
        try:
            await self._look(REQUEST_SECONDS)
        except ApiError:
            return  # The holder is unknown.
        self._lease.is_untouched = not self._lease.exists or self._lease.is_released

    async def acquire(self) -> bool:
        """Wait until the lease is ours.

        Returns:
            True if no other replica can have worked since this replica last held the lease, because the Lease still is
            as this replica wrote it. The first time, True if no other replica can have worked since `look_first`,
            because the lease did not exist or was released then, and no other replica has written it since.
        """
        failures = 0
        self._lease.distrust(self.clock())
        while not self.is_leading:
            try:
                await self._take_if_free()
            except ApiError as error:
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
        """Work while the lease is ours, and stop as soon as it is lost. Return whether the work ended by itself."""
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
        """Release the lease if it is ours, so that other replicas do not wait until it expires.

        Keep the lease while a write may still be committed. The lease expires only after the deadlines of all writes.
        """
        self._trusted_until = float("-inf")
        if not self._lease.may_be_ours:
            return
        if self._pending:
            self._log(
                logging.WARNING,
                "The lease is not released, because a write may still be under way. It will expire",
            )
            return
        try:
            await self._write_released(self.clock() + RELEASE_SECONDS)
        except ApiError as error:
            self._log_error(error)

    async def _write_released(self, until: float) -> None:
        """Write that nobody holds the lease.

        If this write fails, the API server may have stored an earlier write of this replica whose answer was lost. In
        this case, try again.
        """
        try:
            await self._write("", until - self.clock())
        except ApiError:
            await self._look(until - self.clock())
            if self._lease.holder == self.identity:
                await self._write("", until - self.clock())

    async def _renew(self) -> None:
        """Renew the lease until it is lost."""
        failures = 0
        while self.is_leading:
            pause = _BACKOFF.delay(failures - 1) if failures else self._until_renewal()
            await asyncio.sleep(min(pause, self._remaining()))
            try:
                await self._write(self.identity, self._remaining())
                failures = 0
            except ApiError as error:
                failures += 1
                self._has_renewal_failed = True
                self._log_error(error)
                if not await self._is_ours():
                    break
        self._trusted_until = float("-inf")
        self._log(
            logging.WARNING,
            f"This replica no longer leads: {self._lease.holder} holds the lease, or the holder is unknown",
        )

    async def _is_ours(self) -> bool:
        """After a failed write, read whether the lease is still ours. If the read fails, assume that it is."""
        try:
            await self._look(self._remaining())
        except ApiError:
            return True
        return self._lease.holder == self.identity

    async def _take_if_free(self) -> None:
        """Read the lease, and take it if nobody holds it."""
        await self._look(REQUEST_SECONDS)
        if self._lease.is_free(self.clock()):
            await self._take()
        elif self._lease.is_held_by_another:
            self._log(logging.INFO, f"Waiting: {self._lease.holder} leads")
        elif self._lease.is_yielding:
            self._log(
                logging.INFO,
                "Waiting: this replica got no answer when it took the lease, so another replica may take it",
            )
        else:
            self._log(
                logging.INFO, "Waiting: somebody deleted or rewrote the lease, and its last holder may still work"
            )

    async def _take(self) -> None:
        try:
            await self._write(self.identity, REQUEST_SECONDS)
        except ApiError as error:
            if error.may_be_stored:
                self._lease.note_unanswered(self.clock())
            raise

    async def _look(self, seconds: float) -> None:
        """Read the lease, and note when it changed.

        Raises:
            ApiError: The lease could not be read.
        """
        lease = await _answered(self.cluster.get(LEASE, self.namespace, self.name), seconds)
        is_restored = self._lease.observe(lease, self.clock(), is_leading=self.is_leading)
        if is_restored and (self.is_leading or self._ends_rest()):
            self.restored()

    def _ends_rest(self) -> bool:
        """Return whether the rest after the last restore is over. If it is, the next rest begins, twice as long.

        If the last restore was at least two rests ago, the next rest is short again.
        """
        passed, rest = self.clock() - self._restored_at, RESTORE_REST.length(self._restores)
        if passed < rest:
            return False
        self._restores = self._restores + 1 if passed < 2 * rest else 0
        self._restored_at = self.clock()
        return True

    async def _write(self, holder: str, seconds: float) -> None:
        """Write the lease, if its version still is the version that was read last.

        A request that was sent is not cancelled. Without its answer, nobody would know who holds the lease.

        Raises:
            ApiError: The write failed, for example because another replica wrote meanwhile, or it is unknown whether
                the lease was written.
        """
        writing = asyncio.ensure_future(self._write_once(holder, seconds))
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            with suppress(ApiError):
                await writing
            raise

    async def _write_once(self, holder: str, seconds: float) -> None:
        started = self.clock()
        lease = self._lease.build(holder)
        write = self.cluster.replace if self._lease.exists else self.cluster.create
        written = await _answered(write(LEASE, lease), seconds)
        if not proves_write(written, lease):
            raise ApiError(UNREACHABLE, "the answer to a write of the lease shows another state")
        self._lease.note_written(written, self.clock())
        self._trusted_until = started + TRUST_SECONDS if holder else float("-inf")
        self._has_renewal_failed = False

    def _until_renewal(self) -> float:
        """Return the seconds until RENEW_SECONDS after the last renewal was sent."""
        return max(0.0, self._remaining() - (TRUST_SECONDS - RENEW_SECONDS))

    def _remaining(self) -> float:
        return max(0.0, self._trusted_until - self.clock())

    def _log_error(self, error: ApiError) -> None:
        self._log(logging.WARNING, f"Could not read or write the lease {self.namespace}/{self.name}: {error}")

    def _log(self, level: int, text: str) -> None:
        """Log a message, unless it is the same as the last one."""
        if text != self._logged:
            self._logged = text
            logger.log(level, text)


async def _answered(request: Awaitable[_Result], seconds: float) -> _Result:
    """Return the answer to a request for the lease.

    Raises:
        ApiError: There is no answer in time, or no usable one. No failure of a request may end the process, so a bug
            raises this error, too.
    """
    try:
        async with asyncio.timeout(min(seconds, REQUEST_SECONDS)):
            return await request
    except ApiError:
        raise
    except TimeoutError as error:
        raise ApiError(UNREACHABLE, "no answer in time") from error
    except Exception as error:
        raise ApiError(UNREACHABLE, f"{type(error).__name__}: {error}") from error


async def _cancel(*tasks: asyncio.Future[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
