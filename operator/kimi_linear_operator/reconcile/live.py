"""Reads what the cache does not have: managed fields."""

from kimi_linear_operator.cluster.client import Cluster
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.reconcile.errors import BehindError, GoneError


async def read_unchanged(cluster: Cluster, key: Key, uid: str, generation: int) -> Manifest:
    """Return a resource from the API server, with its managed fields.

    Args:
        cluster: Where it is read.
        key: The resource.
        uid: The UID of the cached resource.
        generation: The generation of the cached spec.

    Raises:
        BehindError: The spec was changed after it was cached.
        GoneError: The resource was deleted.
        ApiError: The resource could not be read.
    """
    live = await cluster.get(key.kind, key.namespace, key.name)
    if live is None or live["metadata"]["uid"] != uid:
        raise GoneError
    if live["metadata"]["generation"] != generation:
        raise BehindError("the latest change of the spec was not seen yet")
    return live
