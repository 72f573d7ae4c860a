"""Wakes the ReplicaSet controller after a quota has become free, so that it tries again to create a server's pods."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from kimi_linear_operator.cluster.client import Cluster
from kimi_linear_operator.kubernetes import quota
from kimi_linear_operator.kubernetes.kinds import DEPLOYMENT, GROUP
from kimi_linear_operator.reconcile.cache import Cache
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.server.owned import own_deployment, own_pods

logger = logging.getLogger(__name__)

WAKE_ANNOTATION = f"{GROUP}/woken"


@dataclass(frozen=True)
class Waking:
    """Annotates Deployments.

    The Deployment controller copies the annotation to the ReplicaSet, and this change wakes the ReplicaSet controller.

    Attributes:
        cluster: Where Deployments are annotated.
        cache: Where objects are read.
        now: The time as RFC 3339.
    """

    cluster: Cluster
    cache: Cache
    now: Callable[[], str]

    async def wake(self, key: Key, uid: str) -> float | None:
        """Annotate a server's Deployment if this can help. Return the seconds until the next check, if any.

        Args:
            key: The server.
            uid: Its UID.

        Raises:
            ApiError: The request failed.
        """
        deployment = own_deployment(self.cache, key, uid)
        if deployment is None:
            return None
        mark = deployment["metadata"].get("annotations", {}).get(WAKE_ANNOTATION, "")
        decision = quota.wake(deployment, mark, own_pods(self.cache, key), self.now())
        if decision.mark:
            self.cache.put(
                DEPLOYMENT, await self.cluster.annotate(DEPLOYMENT, deployment, WAKE_ANNOTATION, decision.mark)
            )
            logger.info(
                "Made Kubernetes try again to create pods of %s/%s that a quota had refused", key.namespace, key.name
            )
        return decision.again
