"""Writing a status if it changed, once, and then saying so in an Event."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from kimi_linear_operator.api import Manifest
from kimi_linear_operator.cluster import ApiError, Cluster
from kimi_linear_operator.resources import EVENT, Kind
from kimi_linear_operator.store import Key, Store

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reporting:
    """The status of resources.

    Attributes:
        cluster: Where objects are written.
        store: Takes over what was written.
        concern: Called with the resources that a status concerns: no watch will tell what the store has already.
    """

    cluster: Cluster
    store: Store
    concern: Callable[[Iterable[Key]], None]

    async def write(self, kind: Kind, manifest: Manifest, status: Manifest, event: Manifest | None) -> bool:
        """Write a status that differs from the stored one, and the event.

        Returns whether the spec is still the one that the status is about.
        """
        if status == manifest.get("status"):
            return True
        written = await self.cluster.patch_status(kind, manifest, status)
        own = Key(written["metadata"]["namespace"], written["metadata"]["name"], kind)
        self.concern(self.store.put(kind, written) - {own})
        if event:
            await self._publish(event)
        return bool(written["metadata"]["generation"] == manifest["metadata"]["generation"])

    async def _publish(self, event: Manifest) -> None:
        """Record an Event. It is news, not state: when it gets lost, the status still says the same."""
        try:
            await self.cluster.create(EVENT, event)
        except ApiError as error:
            logger.warning("Could not record the event %s: %s", event["reason"], error)
