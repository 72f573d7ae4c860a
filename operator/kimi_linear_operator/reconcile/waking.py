"""Waking the controller that creates a server's pods, when what a quota was full of has gone."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from kimi_linear_operator.api import GROUP
from kimi_linear_operator.cluster import Cluster
from kimi_linear_operator.resources import DEPLOYMENT, POD, metadata
from kimi_linear_operator.status import refusals
from kimi_linear_operator.store import Key, Store

logger = logging.getLogger(__name__)

WAKE_ANNOTATION = f"{GROUP}/woken"


@dataclass(frozen=True)
class Waking:
    """Wakes controllers by an annotation of the Deployment, which its controller hands on to the ReplicaSet.

    Attributes:
        cluster: Where Deployments are annotated.
        store: Where objects are read.
        now: The time as RFC 3339.
    """

    cluster: Cluster
    store: Store
    now: Callable[[], str]

    async def wake(self, key: Key, uid: str) -> float | None:
        """Wake the controller of a server's Deployment if that can help; return after how many seconds to look again.

        Raises:
            ApiError: The API server could not do its part.
        """
        deployment = self.store.get(DEPLOYMENT, key)
        if deployment is None or not metadata.is_owned_by(deployment, uid):
            return None
        mark = deployment["metadata"].get("annotations", {}).get(WAKE_ANNOTATION, "")
        decision = refusals.wake(deployment, mark, self.store.children(POD, key), self.now())
        if decision.mark:
            self.store.put(
                DEPLOYMENT, await self.cluster.annotate(DEPLOYMENT, deployment, WAKE_ANNOTATION, decision.mark)
            )
            logger.info("Asked for the pods of %s/%s again, which a quota had refused", key.namespace, key.name)
        return decision.again
