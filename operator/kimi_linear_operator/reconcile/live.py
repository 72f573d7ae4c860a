"""Reads what the cache does not contain, or contains too late.

For example, it reads managed fields, the owner of an object that a resource wants to adopt, and the pods of a Job.
"""

from collections.abc import Iterable, Sequence
from heapq import nlargest

from kimi_linear_operator.cluster.client import Cluster
from kimi_linear_operator.kubernetes.essence import essence, head
from kimi_linear_operator.kubernetes.kinds import POD, Kind, Manifest, kind_of
from kimi_linear_operator.kubernetes.metadata import is_owned_by
from kimi_linear_operator.kubernetes.models import Resource
from kimi_linear_operator.kubernetes.plan import Apply, Relation, Step, blocked, holder_of, relation_of
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.reconcile.errors import BehindError, GoneError

# A Job of ours has one pod after the other, so the newest pod says the most. Users can add pods that look like them.
_MOST_PODS = 16


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
        raise BehindError("the operator has not seen the latest change of the spec yet")
    return live


async def blocked_if_held(cluster: Cluster, kinds: Iterable[Kind], owner: Resource, step: Step | None) -> Step | None:
    """Return a step. If the step would take an object from another existing resource of ours, return a blocked step.

    Otherwise two resources that want the same name would take the object from each other again and again.

    Args:
        cluster: Where the object and its owner are read. The cache may be late, and may contain only the object's
            essence.
        kinds: The kinds of our resources.
        owner: The resource whose step it is.
        step: The step.

    Raises:
        ApiError: The object or its owner could not be read.
    """
    if not isinstance(step, Apply) or relation_of(step.live, owner) != Relation.OFFERED:
        return step
    namespace, name = owner.metadata.namespace, step.wanted["metadata"]["name"]
    # Only the head, because the object can be large, and another read follows.
    live = head(await cluster.get(kind_of(step.wanted), namespace, name) or step.live)
    holder = holder_of(live, owner)
    kind = next((kind for kind in kinds if holder and kind.kind == holder["kind"]), None)
    if holder is None or kind is None:
        return step
    resource = await cluster.get(kind, namespace, holder["name"])
    is_there = resource is not None and resource["metadata"]["uid"] == holder["uid"]
    return blocked(owner, step.wanted, live) if is_there else step


async def newest_pods(cluster: Cluster, job: Manifest, selector: str) -> list[Manifest]:
    """Return the essence of the newest pods that a Job owns, as the API server has them now.

    A decision that cannot be undone is made from these pods. The cache can lack news: each watch has its own
    connection, and a minute can pass before the operator notices that the connection is dead.

    Args:
        cluster: Where they are read.
        job: The Job.
        selector: The label selector of its pods.

    Raises:
        ApiError: They could not be read.
    """

    def add(newest: list[Manifest], pods: Sequence[Manifest]) -> list[Manifest]:
        own = [essence(pod) for pod in pods if is_owned_by(pod, job["metadata"]["uid"])]
        return nlargest(_MOST_PODS, [*newest, *own], key=_created)

    return await cluster.summarize(POD, job["metadata"]["namespace"], selector, list[Manifest](), add)


def _created(manifest: Manifest) -> str:
    return str(manifest["metadata"].get("creationTimestamp", ""))
