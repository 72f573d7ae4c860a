"""Deletions that finalizers hold.

Kubernetes keeps an object that is being deleted until all its finalizers are removed. The program that has set a
finalizer removes it.
"""

from collections.abc import Iterable, Sequence
from enum import Enum
from typing import NamedTuple

from kimi_linear_operator.kubernetes.conditions import Reason, condition
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.metadata import is_being_deleted
from kimi_linear_operator.kubernetes.models import Condition
from kimi_linear_operator.kubernetes.times import seconds_between

PATIENCE_SECONDS = 10.0
"""How long a finalizer may hold an object before `Synced` is False. A program that runs needs a few seconds."""

LONG_PATIENCE_SECONDS = 300.0
"""How long a usual finalizer of a cloud or of Kubernetes may hold an object before `Synced` is False.

A cloud needs a minute or two to delete a load balancer. Pods that use a volume can need minutes to end.
"""

# The garbage collector removes these when it has deleted or orphaned the object's own children. The pods of a
# Deployment can need minutes to end, and their own reasons say so.
_OF_GARBAGE_COLLECTOR = ("foregroundDeletion", "orphan")
# https://kubernetes.io/docs/concepts/storage/persistent-volumes/#storage-object-in-use-protection
_PROTECTION_OF_CLAIM = "kubernetes.io/pvc-protection"
# The kinds of objects for which a cloud makes a load balancer, and the domains of the finalizers of the programs that
# do it: the cloud controllers (k8s.io/cloud-provider, LoadBalancerCleanupFinalizer), the AWS Load Balancer Controller,
# and the controllers of GKE (ingress-gce).
_BALANCED = ("Service", "Ingress", "HTTPRoute")
_OF_CLOUDS = ("kubernetes.io", "k8s.io", "k8s.aws", "gke.io", "gke.networking.io")
# A message names this many objects, and this many finalizers of each. Anybody can set any number of finalizers.
_MOST = 4
# Characters of each finalizer that is remembered. The API server does not limit them.
_LONGEST = 128


class Remover(Enum):
    """Who removes a finalizer, as the remedy for people. `{names}` stands for the objects."""

    PROGRAM = (
        "Start the programs that remove these finalizers. If they no longer exist, remove the finalizers: "
        "`kubectl edit {names}`"
    )
    PODS = (
        "Kubernetes removes the finalizer of {names} when no pod uses the volume any more. Do not remove it yourself: "
        "the pods would lose their volume"
    )
    CLOUD = (
        "The cloud removes the finalizers of {names} when it has deleted the load balancer. Do not remove them "
        "yourself: the load balancer could stay. The Events show errors of the cloud: `kubectl describe {names}`"
    )

    @property
    def patience(self) -> float:
        """Return for how many seconds it may hold an object before `Synced` is False."""
        return PATIENCE_SECONDS if self is Remover.PROGRAM else LONG_PATIENCE_SECONDS


class Deletion(NamedTuple):
    """The deletion of an object that still exists.

    Attributes:
        since: When somebody deleted it, as RFC 3339.
        finalizers: The first finalizers that hold it.
    """

    since: str
    finalizers: tuple[str, ...]

    def manifest(self, kind: str, name: str) -> Manifest:
        """Return the head of the object with this kind and name."""
        about = {"name": name, "deletionTimestamp": self.since, "finalizers": [*self.finalizers]}
        return {"kind": kind, "metadata": about}


def deletion_of(live: Manifest) -> Deletion | None:
    """Return the deletion of an object, None if nobody has deleted it."""
    since = live["metadata"].get("deletionTimestamp")
    names = tuple(name[:_LONGEST] for name in finalizers_of(live)[: _MOST + 1])
    return Deletion(since, names) if since else None


def finalizers_of(live: Manifest) -> list[str]:
    """Return the finalizers that hold an object, empty if it is not being deleted.

    Those of the garbage collector are left out.
    """
    held = live["metadata"].get("finalizers") or () if is_being_deleted(live) else ()
    return [name for name in held if name not in _OF_GARBAGE_COLLECTOR]


def hint(live: Manifest) -> str:
    """Return a sentence about the finalizers that hold an object, and what to do; empty if none holds it."""
    return f". Finalizers hold it: {_named(live)}. {_remedy([live])}" if finalizers_of(live) else ""


def why_blocked(held: Sequence[Manifest]) -> Reason:
    """Return why the objects that finalizers hold differ from the spec, and what to do."""
    subjects = ", ".join(f"{live['kind']} {live['metadata']['name']} ({_named(live)})" for live in held[:_MOST])
    more = f" and {len(held) - _MOST} more" if len(held) > _MOST else ""
    return Reason(
        "DeletionBlocked",
        f"Finalizers hold objects that are being deleted: {subjects}{more}. Until an object is gone, the operator "
        f"neither changes it nor creates it again. {_remedy(held)}",
    )


def _named(live: Manifest) -> str:
    names = finalizers_of(live)
    return ", ".join([*names[:_MOST], *(["and more"] if len(names) > _MOST else [])])


def _remedy(held: Sequence[Manifest]) -> str:
    names = {remover: _held_by(remover, held[:_MOST]) for remover in Remover}
    return ". ".join(remover.value.format(names=found) for remover, found in names.items() if found)


def _held_by(remover: Remover, held: Iterable[Manifest]) -> str:
    """Return the names of the objects that a remover holds, as arguments of kubectl."""
    found = [live for live in held if remover in _removers(live)]
    return " ".join(f"{live['kind'].lower()}/{live['metadata']['name']}" for live in found)


def _removers(live: Manifest) -> set[Remover]:
    return {_remover(live["kind"], finalizer) for finalizer in finalizers_of(live)}


def _remover(kind: str, finalizer: str) -> Remover:
    if finalizer == _PROTECTION_OF_CLAIM:
        return Remover.PODS
    domain = finalizer.partition("/")[0]
    is_of_cloud = any(f".{domain}".endswith(f".{known}") for known in _OF_CLOUDS)
    return Remover.CLOUD if is_of_cloud and kind in _BALANCED else Remover.PROGRAM


def why_blocked_long(held: Iterable[Manifest], now: str) -> Reason | None:
    """Return why objects differ from the spec that finalizers have held for a while, None if there are none.

    Args:
        held: Objects that finalizers hold.
        now: The time as RFC 3339.
    """
    long = [live for live in held if _seconds_left(live, now) <= 0]
    return why_blocked(long) if long else None


def synced(held: Iterable[Manifest], now: str) -> list[Condition]:
    """Return a list with the condition Synced while finalizers have held objects for a while, else an empty list.

    Args:
        held: Objects that finalizers hold.
        now: The time as RFC 3339.
    """
    blocked = why_blocked_long(held, now)
    return [condition("Synced", False, blocked)] if blocked else []


def seconds_until_named(held: Iterable[Manifest], now: str) -> float | None:
    """Return the seconds until `why_blocked_long` names another object, None if it names all of them.

    Args:
        held: Objects that finalizers hold.
        now: The time as RFC 3339.
    """
    return min((left for live in held if (left := _seconds_left(live, now)) > 0), default=None)


def _seconds_left(live: Manifest, now: str) -> float:
    patience = min((remover.patience for remover in _removers(live)), default=PATIENCE_SECONDS)
    return patience - (seconds_between(live["metadata"]["deletionTimestamp"], now) or 0.0)
