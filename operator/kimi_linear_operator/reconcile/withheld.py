"""Children that the operator does not write now, and the reasons.

Either it cannot read their kind, or a former object must be deleted first.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from kimi_linear_operator.cluster.errors import ApiError, OtherVersionError
from kimi_linear_operator.kubernetes.conditions import Reason
from kimi_linear_operator.kubernetes.deletion import finalizers_of
from kimi_linear_operator.kubernetes.kinds import Kind, Manifest, kind_of

_FORBIDDEN = 403
_MISSING = 404


@dataclass(frozen=True)
class Former:
    """An object that must be deleted before a child of another kind can take its place.

    Attributes:
        kind: The kind whose objects the operator has to delete for this. It is the kind of the object, or of its owner.
        live: The object, according to the cache.
    """

    kind: Kind
    live: Manifest


NONE: Mapping[Kind, Former] = MappingProxyType({})


@dataclass(frozen=True)
class Split:
    """The wanted children of a resource.

    Attributes:
        writable: The children that can be written.
        withheld: Why the other children cannot be written, with one reason for each kind.
        unreadable: The kinds of the other children. A list of them may succeed while the pass goes on, so the pass must
            not delete such children as unwanted.
        awaited: Sentences about the children that wait until a former object is gone.
    """

    writable: list[Manifest]
    withheld: tuple[Reason, ...] = ()
    unreadable: frozenset[Kind] = frozenset()
    awaited: tuple[str, ...] = ()


def split(
    children: Sequence[Manifest], unreadable: Mapping[Kind, ApiError], former: Mapping[Kind, Former] = NONE
) -> Split:
    """Return the wanted children of a resource, without those that cannot be written now.

    A child that waits for a former object is in `awaited`. If the operator cannot delete that object, `withheld` has a
    reason for this child, too.

    Args:
        children: The wanted children.
        unreadable: The kinds that cannot be read in the namespace, each with the error.
        former: The former objects, by the kind of the children that wait for them.
    """
    waiting = {kind: item for kind, item in former.items() if not _is_surely_gone(item, unreadable)}
    writable = [child for child in children if kind_of(child) not in unreadable and kind_of(child) not in waiting]
    withheld = sorted(_reasons(children, unreadable, waiting), key=lambda reason: reason.message)
    awaited = tuple(_awaited(children, kind, item) for kind, item in waiting.items())
    return Split(writable, tuple(withheld), frozenset(unreadable), awaited)


def _is_surely_gone(former: Former, unreadable: Mapping[Kind, ApiError]) -> bool:
    """Return whether a cached object is gone, because discovery says that the cluster no longer has its kind.

    A list fails with this status only if that is proven (`cluster/refusals.py`). If the cluster still has the kind in
    another version, the object may exist.
    """
    error = unreadable.get(kind_of(former.live))
    return error is not None and error.status == _MISSING and not isinstance(error, OtherVersionError)


def _reasons(
    children: Sequence[Manifest], unreadable: Mapping[Kind, ApiError], waiting: Mapping[Kind, Former]
) -> Iterator[Reason]:
    for kind, error in unreadable.items():
        if names := _names(children, kind):
            yield _reason(kind, names, error)
    for kind, former in waiting.items():
        if kind not in unreadable and former.kind in unreadable:
            yield _reason(former.kind, _awaited(children, kind, former), unreadable[former.kind])


def _awaited(children: Sequence[Manifest], kind: Kind, former: Former) -> str:
    """Return which children wait for a former object, and the finalizers that hold it if it is being deleted."""
    held = finalizers_of(former.live)
    holders = f" (finalizers: {', '.join(held)})" if held else ""
    name = former.live["metadata"]["name"]
    return f"{_names(children, kind)} waits until {former.live['kind']} {name} is gone{holders}"


def _names(children: Sequence[Manifest], kind: Kind) -> str:
    """Return the kind and the names of the children of a kind, empty if there are none."""
    names = ", ".join(child["metadata"]["name"] for child in children if kind_of(child) == kind)
    return f"{kind.kind} {names}" if names else ""


def _reason(kind: Kind, subject: str, error: ApiError) -> Reason:
    """Return why children cannot be written.

    The reason does not contain the error's text, because the text may change.
    """
    if isinstance(error, OtherVersionError):
        message = f"{subject}: the cluster has {kind.resource}, but not of version {kind.version}"
        return Reason("KindMissing", message)
    if error.status == _MISSING:
        source = f": install {kind.source}" if kind.source else ""
        return Reason("KindMissing", f"{subject}: the cluster has no {kind.resource} of version {kind.version}{source}")
    if error.status == _FORBIDDEN:
        return Reason("KindForbidden", f"{subject}: the operator's Role does not allow {kind.resource}")
    return Reason("KindUnreadable", f"{subject}: the operator cannot list {kind.resource}")
