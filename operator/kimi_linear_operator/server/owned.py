"""A server's own objects in the cache."""

from collections.abc import Iterable

from kimi_linear_operator.kubernetes import metadata
from kimi_linear_operator.kubernetes.kinds import (
    AUTOSCALER,
    DEPLOYMENT,
    HTTP_ROUTE,
    INGRESS,
    POD,
    SCALED_OBJECT,
    SERVICE,
    Kind,
    Manifest,
)
from kimi_linear_operator.reconcile.cache import Cache
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.server.exposure import LiveRoutes, is_exposed
from kimi_linear_operator.server.labels import ROUTER_SUFFIX
from kimi_linear_operator.server.spec import KimiLinearServer

OTHER_AUTOSCALER = {AUTOSCALER: SCALED_OBJECT, SCALED_OBJECT: AUTOSCALER}
"""Each kind of autoscaler, with the other kind."""


def own_child(cache: Cache, kind: Kind, key: Key, uid: str) -> Manifest | None:
    """Return the server's own child of a kind. The child has the name of the server.

    Args:
        cache: Where objects are read.
        kind: The kind.
        key: The server.
        uid: Its UID.
    """
    child = cache.get(key.of(kind))
    return child if child and metadata.is_owned_by(child, uid) else None


def own_deployment(cache: Cache, key: Key, uid: str) -> Manifest | None:
    """Return the server's own Deployment."""
    return own_child(cache, DEPLOYMENT, key, uid)


def own_router(cache: Cache, key: Key, uid: str) -> Manifest | None:
    """Return the Deployment of the server's router."""
    return own_deployment(cache, key._replace(name=key.name + ROUTER_SUFFIX), uid)


def kedas_autoscaler(cache: Cache, key: Key) -> Manifest | None:
    """Return the HorizontalPodAutoscaler that KEDA has made for the server's ScaledObject, None if it is not cached.

    KEDA copies our labels to it (`newHPAForScaledObject` of KEDA 2.17 to 2.21).
    """
    found = cache.get(key.of(AUTOSCALER)._replace(name=f"keda-hpa-{key.name}"))
    return found if found and metadata.is_controlled_by(found, SCALED_OBJECT.kind) else None


def other_autoscaler(cache: Cache, kind: Kind, key: Key, uid: str) -> Manifest | None:
    """Return the server's autoscaler of another kind. Two autoscalers would scale the server against each other.

    Args:
        cache: Where objects are read.
        kind: The kind of a child. It may be no autoscaler.
        key: The server.
        uid: Its UID.
    """
    if kind == AUTOSCALER:
        return kedas_autoscaler(cache, key) or own_child(cache, SCALED_OBJECT, key, uid)
    return own_child(cache, AUTOSCALER, key, uid) if kind == SCALED_OBJECT else None


def own_pods(cache: Cache, key: Key) -> list[Manifest]:
    """Return the server's own pods. Users can create other pods with the server's labels; no ReplicaSet controls these.

    If a pod refers to a ReplicaSet that does not own it, Kubernetes deletes the pod.
    """
    return controlled_pods(cache.children(POD, key))


def controlled_pods(labelled: Iterable[Manifest]) -> list[Manifest]:
    """Return those of the pods with a server's label that a ReplicaSet controls."""
    return [pod for pod in labelled if metadata.is_controlled_by(pod, "ReplicaSet")]


def own_routes(cache: Cache, key: Key, server: KimiLinearServer | None) -> LiveRoutes:
    """Return the server's own objects that lead to it from outside the cluster, empty if the spec asks for none."""
    if server is None or not is_exposed(server):
        return {}
    found = ((kind, own_child(cache, kind, key, server.metadata.uid)) for kind in (SERVICE, INGRESS, HTTP_ROUTE))
    return {kind: live for kind, live in found if live}
