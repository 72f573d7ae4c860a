"""Deletions that finalizers hold.

Kubernetes keeps an object that is being deleted until all its finalizers are removed. The program that has set a
finalizer removes it.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from kimi_linear_operator.kubernetes.conditions import Reason, condition
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.models import Condition
from kimi_linear_operator.kubernetes.times import seconds_between

PATIENCE_SECONDS = 10.0
"""How long a finalizer may hold an object before a status says so. A program that runs needs a few seconds."""

# The garbage collector removes these when it has deleted or orphaned the object's own children. The pods of a
# Deployment can need minutes to end, and their own reasons say so.
_OF_GARBAGE_COLLECTOR = ("foregroundDeletion", "orphan")
# A message names this many objects, and this many finalizers of each. Anybody can set any number of finalizers.
_MOST = 4


# Characters of each finalizer that is remembered. The API server does not limit them.
_LONGEST = 128


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
    metadata = live["metadata"]
    held = metadata.get("finalizers") or () if "deletionTimestamp" in metadata else ()
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
    names = " ".join(f"{live['kind'].lower()}/{live['metadata']['name']}" for live in held[:_MOST])
    return (
        "Start the programs that remove these finalizers. If they no longer exist, remove the finalizers: "
        f"`kubectl edit {names}`"
    )


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
    return PATIENCE_SECONDS - (seconds_between(live["metadata"]["deletionTimestamp"], now) or 0.0)
