"""Writing a status if it changed, once, and then saying so in an Event."""

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from kimi_linear_operator import metrics
from kimi_linear_operator.backoff import Backoff
from kimi_linear_operator.cluster.client import Cluster
from kimi_linear_operator.cluster.errors import ApiError
from kimi_linear_operator.kubernetes.events import refusal_event
from kimi_linear_operator.kubernetes.kinds import EVENT, Kind, Manifest
from kimi_linear_operator.reconcile.cache import Cache
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.reconcile.event_limit import EventLimiter

logger = logging.getLogger(__name__)

# Bad request, forbidden, too large, invalid: the same request is refused again until somebody changes something.
_REFUSALS = (400, 403, 413, 422)
# When to try a refused status again: what would let it through, such as another definition, shows in no watch.
REFUSED_RETRY = Backoff(first=15.0, longest=300.0)
# What passes by itself is told when it has not for some ten seconds, by the back-off of the queue.
TOLD_FAILURES = 5
# How often to look again while the store is not as the cluster is.
BEHIND_RETRY_SECONDS = 5.0
# Refusals that are remembered; more than any cluster should have. A forgotten one is told once more.
_MOST_REFUSALS = 4096


@dataclass(frozen=True)
class _Refusal:
    """A status that the API server refused.

    Attributes:
        version: The resource version of the object then.
        attempts: How many statuses of the object were refused in a row.
        again_at: When to try again, by the monotonic clock, unless the object changes before.
    """

    version: str
    attempts: int
    again_at: float

    def seconds_left(self, manifest: Manifest) -> float:
        """Return for how long not to try again."""
        is_same = self.version == manifest["metadata"]["resourceVersion"]
        return max(0.0, self.again_at - time.monotonic()) if is_same else 0.0


@dataclass(frozen=True)
class Reporting:
    """The status of resources.

    Attributes:
        cluster: Where objects are written.
        store: Takes over what was written.
        enqueue: Enqueues the resources that a status concerns. The store holds our own write, so its watch event is
            dropped as a duplicate.
        now: The time as RFC 3339.
    """

    cluster: Cluster
    cache: Cache
    enqueue: Callable[[Iterable[Key]], None]
    now: Callable[[], str]
    _limiter: EventLimiter = field(default_factory=EventLimiter)
    # By uid, the oldest first.
    _refusals: OrderedDict[str, _Refusal] = field(default_factory=OrderedDict)

    async def write(self, kind: Kind, manifest: Manifest, status: Manifest, event: Manifest | None) -> float | None:
        """Write a status that differs from the stored one, and the event.

        Returns:
            After how many seconds the resource is due again: at once if its spec is no longer the one that the status
            is about, and later and later, up to five minutes, if the API server refuses the status.
        """
        if status == manifest.get("status"):
            return None
        refusal = self._refusals.get(manifest["metadata"]["uid"])
        if refusal and (seconds := refusal.seconds_left(manifest)):
            return seconds
        try:
            metadata = await self.cluster.patch_status(kind, manifest, status)
        except ApiError as error:
            if error.status not in _REFUSALS:
                raise
            return await self._tell_refusal(kind, manifest, error)
        self._refusals.pop(metadata["uid"], None)
        is_current = _wishes(metadata) == _wishes(manifest["metadata"])
        if is_current:
            own = Key(metadata["namespace"], metadata["name"], kind)
            self.enqueue(self.cache.put(kind, {**manifest, "metadata": metadata, "status": status}) - {own})
        if event:
            await self._publish(event)
        return None if is_current else await self._read_anew(kind, metadata)

    async def _read_anew(self, kind: Kind, metadata: Manifest) -> float | None:
        """Read a resource whose spec has changed meanwhile, and have it looked at again.

        At once if that is news to the store. If not, what is in the cluster is older, and lists find out why.
        """
        found = await self.cluster.get(kind, metadata["namespace"], metadata["name"])
        if found is None:
            return None
        return 0.0 if self.cache.put(kind, found) else BEHIND_RETRY_SECONDS

    async def _tell_refusal(self, kind: Kind, manifest: Manifest, error: ApiError) -> float:
        """Count a refused status, and tell of the first refusal in a row; return when to try again, in seconds."""
        metrics.STATUS_REFUSED.labels(kind.kind, error.status).inc()
        metadata = manifest["metadata"]
        former = self._refusals.pop(metadata["uid"], None)
        attempts = former.attempts if former else 0
        seconds = REFUSED_RETRY.delay(attempts)
        again_at = time.monotonic() + seconds
        self._refusals[metadata["uid"]] = _Refusal(metadata["resourceVersion"], attempts + 1, again_at)
        if len(self._refusals) > _MOST_REFUSALS:
            self._refusals.popitem(last=False)
        if not former:
            logger.warning("The API server refuses the status, trying again later: %s", error)
            await self._publish(refusal_event(manifest, str(error), self.now()))
        return seconds

    async def _publish(self, event: Manifest) -> None:
        """Record an Event, unless its object had too many. It is news, not state: the status says the same."""
        allowed = self._limiter.admit(event, time.monotonic())
        if allowed is None:
            return
        try:
            await self.cluster.create(EVENT, allowed)
        except ApiError as error:
            logger.warning("Could not record the event %s: %s", event["reason"], error)


def _wishes(metadata: Manifest) -> tuple[int, Manifest]:
    """Return what tells whether somebody asks for something else: the spec's generation, and the annotations."""
    return metadata["generation"], metadata.get("annotations", {})
