"""Writes a status if it has changed, and then records an Event about the change."""

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from kimi_linear_operator import counters
from kimi_linear_operator.backoff import Backoff
from kimi_linear_operator.cluster.client import Cluster
from kimi_linear_operator.cluster.errors import CONFLICT, ApiError
from kimi_linear_operator.kubernetes.events import refusal_event
from kimi_linear_operator.kubernetes.kinds import EVENT, Kind, Manifest
from kimi_linear_operator.kubernetes.metadata import own_annotations
from kimi_linear_operator.reconcile.cache import Cache
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.reconcile.errors import BEHIND_RETRY_SECONDS
from kimi_linear_operator.reconcile.event_limit import EventLimiter
from kimi_linear_operator.reconcile.fair_memory import FairMemory

logger = logging.getLogger(__name__)

_INVALID = 422
# The codes for bad request, forbidden, too large and invalid. The API server refuses the same request until somebody
# changes something.
_REFUSALS = (400, 403, 413, _INVALID)
# When to retry a refused status. A change that makes the status valid, such as a new CRD, may cause no watch event.
REFUSED_RETRY = Backoff(first=15.0, longest=300.0)
# How many refusals and unanswered writes to remember, more than any cluster should have. A forgotten refusal is
# reported again.
_MOST_REMEMBERED = 4096


def _unchanged(status: Manifest) -> Manifest:
    return status


@dataclass(frozen=True)
class _Refusal:
    """A status that the API server refused.

    Attributes:
        version: The resource version of the object at the time of the refusal.
        attempts: How many statuses of the object were refused in a row.
        again_at: When to try again if the object does not change, in seconds of the monotonic clock.
    """

    version: str
    attempts: int
    again_at: float

    def seconds_left(self, manifest: Manifest) -> float:
        """Return the seconds until a retry is due, 0 if the object has changed after the refusal."""
        is_same = self.version == manifest["metadata"]["resourceVersion"]
        return max(0.0, self.again_at - time.monotonic()) if is_same else 0.0


@dataclass(frozen=True)
class Reporting:
    """Writes the status of resources.

    Attributes:
        cluster: Where the status is written.
        cache: The cache, which gets a written status immediately.
        enqueue: Enqueues the resources that depend on a written status. The watch event of the write does not do this:
            the status is already cached, so the cache drops the event as a duplicate.
        now: Returns the time as RFC 3339.
    """

    cluster: Cluster
    cache: Cache
    enqueue: Callable[[Iterable[Key]], None]
    now: Callable[[], str]
    _limiter: EventLimiter = field(default_factory=EventLimiter)
    # By UID.
    _refusals: FairMemory[str, _Refusal] = field(default_factory=lambda: FairMemory(_MOST_REMEMBERED))
    # The UIDs of resources whose last status may have been stored although no answer has said so.
    _unanswered: FairMemory[str, bool] = field(default_factory=lambda: FairMemory(_MOST_REMEMBERED))

    async def write(
        self,
        kind: Kind,
        manifest: Manifest,
        status: Manifest,
        event: Manifest | None,
        *,
        storable: Callable[[Manifest], Manifest] = _unchanged,
        if_unchanged: bool = False,
    ) -> float | None:
        """Write a status and record an Event, unless the resource already has this status.

        Args:
            kind: The kind of the resource.
            manifest: The resource, with its previous status.
            status: The status.
            event: The Event, None if there is no news.
            storable: Returns a status without parts that the CRD may refuse. It is written only if the CRD refuses the
                status.
            if_unchanged: Whether to write the status only if the spec has not changed since it was cached. The time of
                such a write proves that nobody had written a newer spec before it.

        Returns:
            The seconds until the resource is requeued, None for no requeue. They are 0 if the spec has changed since
            the status was computed. While the API server refuses the status, they grow up to five minutes.
        """
        manifest = await self._with_stored_status(kind, manifest)
        if status == manifest.get("status"):
            return None
        refusal = self._refusals.get(manifest["metadata"]["namespace"], manifest["metadata"]["uid"])
        if refusal and (seconds := refusal.seconds_left(manifest)):
            return seconds
        try:
            status, metadata = await self._patch(kind, manifest, status, storable, if_unchanged=if_unchanged)
        except ApiError as error:
            if if_unchanged and error.status == CONFLICT:
                return await self._reread(kind, manifest["metadata"])
            return await self._note_refusal(kind, manifest, error)
        self._refusals.forget(metadata["namespace"], metadata["uid"])
        has_same_spec = metadata["generation"] == manifest["metadata"]["generation"]
        if has_same_spec:
            self._take(kind, {**manifest, "metadata": metadata, "status": status})
        if event:
            await self._publish(event)
        if not has_same_spec:
            return await self._reread(kind, metadata)
        return None if self._has_same_annotations(kind, manifest) else 0.0

    async def _with_stored_status(self, kind: Kind, manifest: Manifest) -> Manifest:
        """Return a resource with the status that the next write changes.

        After a write without an answer, this status is read again, because the cached status can be the one before the
        write. A patch of the cached status would leave fields that only the unanswered write contained.

        Raises:
            ApiError: The resource could not be read.
        """
        metadata = manifest["metadata"]
        if not self._unanswered.get(metadata["namespace"], metadata["uid"]):
            return manifest
        live = await self.cluster.get(kind, metadata["namespace"], metadata["name"])
        self._unanswered.forget(metadata["namespace"], metadata["uid"])
        if live is None or live["metadata"]["uid"] != metadata["uid"]:
            return manifest
        return {**manifest, "status": self.cache.reader.with_readable_status(kind, live)["status"]}

    def _take(self, kind: Kind, manifest: Manifest) -> bool:
        """Cache a resource, and enqueue the resources that depend on it. Return whether the cache has accepted it."""
        own = Key(manifest["metadata"]["namespace"], manifest["metadata"]["name"], kind)
        affected = self.cache.put(kind, manifest)
        self.enqueue(affected - {own})
        return bool(affected)

    def _has_same_annotations(self, kind: Kind, manifest: Manifest) -> bool:
        """Return whether the cached resource still has those of our annotations that the pass has read.

        Other annotations do not matter to a pass. A pass reads only two parts that users write: our annotations, and
        the spec. The generation shows whether the spec has changed.
        """
        cached = self.cache.get(Key(manifest["metadata"]["namespace"], manifest["metadata"]["name"], kind))
        return cached is None or own_annotations(cached) == own_annotations(manifest)

    async def _patch(
        self,
        kind: Kind,
        manifest: Manifest,
        status: Manifest,
        storable: Callable[[Manifest], Manifest],
        **options: bool,
    ) -> tuple[Manifest, Manifest]:
        """Write a status, without parts that the CRD refuses. Return the written status and the new metadata."""
        try:
            return status, await self.cluster.patch_status(kind, manifest, status, **options)
        except ApiError as error:
            reduced = storable(status) if error.status == _INVALID else status
            if reduced == status:
                raise
            logger.warning("The CRD refuses a part of the status, so the operator writes only the rest: %s", error)
        return reduced, await self.cluster.patch_status(kind, manifest, reduced, **options)

    async def _reread(self, kind: Kind, metadata: Manifest) -> float:
        """Read a resource with a changed spec into the cache. Return the seconds until the next pass.

        If the cache does not accept the resource, the cluster is older than the cache. A list will find out why. If the
        resource is gone, its watch event comes later.
        """
        live = await self.cluster.get(kind, metadata["namespace"], metadata["name"])
        return 0.0 if live and self._take(kind, live) else BEHIND_RETRY_SECONDS

    async def _note_refusal(self, kind: Kind, manifest: Manifest, error: ApiError) -> float:
        """Count a refused status, and report the first refusal in a row. Return the seconds until the retry.

        Raises:
            ApiError: The error may end in a moment, so it is not a refusal.
        """
        metadata = manifest["metadata"]
        namespace, uid = metadata["namespace"], metadata["uid"]
        if error.may_be_stored:
            self._unanswered.put(namespace, uid, True)
        if error.status not in _REFUSALS:
            raise error
        counters.STATUS_REFUSED.labels(kind.kind, error.status).inc()
        previous = self._refusals.get(namespace, uid)
        attempts = previous.attempts if previous else 0
        seconds = REFUSED_RETRY.delay(attempts)
        again_at = time.monotonic() + seconds
        self._refusals.put(namespace, uid, _Refusal(metadata["resourceVersion"], attempts + 1, again_at))
        if not previous:
            logger.warning("The API server refuses the status. The operator tries again later: %s", error)
            await self._publish(refusal_event(manifest, str(error), self.now()))
        return seconds

    async def _publish(self, event: Manifest) -> None:
        """Record an Event, unless its object has too many.

        A failure is only logged, because the status contains the same message.
        """
        allowed = self._limiter.admit(event, time.monotonic())
        if allowed is None:
            return
        try:
            await self.cluster.create(EVENT, allowed)
        except ApiError as error:
            logger.warning("Could not record the event %s: %s", event["reason"], error)
