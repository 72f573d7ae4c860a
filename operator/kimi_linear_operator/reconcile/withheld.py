"""Children that are not written because their kind cannot be read, and the reasons."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kimi_linear_operator.cluster.errors import ApiError
from kimi_linear_operator.kubernetes.conditions import Reason
from kimi_linear_operator.kubernetes.kinds import Kind, Manifest, kind_of

_FORBIDDEN = 403
_MISSING = 404


@dataclass(frozen=True)
class Split:
    """The wanted children of a resource.

    Attributes:
        writable: The children that can be written.
        withheld: Why the other children cannot be written, with one reason for each kind.
        unreadable: The kinds of the other children. A list of them may succeed while the pass goes on, so the pass must
            not delete such children as unwanted.
    """

    writable: list[Manifest]
    withheld: tuple[Reason, ...] = ()
    unreadable: frozenset[Kind] = frozenset()


def split(children: Sequence[Manifest], unreadable: Mapping[Kind, ApiError]) -> Split:
    """Return the wanted children of a resource, without those whose kind cannot be read.

    Args:
        children: The wanted children.
        unreadable: The kinds that cannot be read in the namespace, each with the error.
    """
    writable = [child for child in children if kind_of(child) not in unreadable]
    names = {kind: _names(children, kind) for kind in unreadable}
    withheld = (_reason(kind, names[kind], error) for kind, error in unreadable.items() if names[kind])
    return Split(writable, tuple(sorted(withheld, key=lambda reason: reason.message)), frozenset(unreadable))


def _names(children: Sequence[Manifest], kind: Kind) -> list[str]:
    return [child["metadata"]["name"] for child in children if kind_of(child) == kind]


def _reason(kind: Kind, names: list[str], error: ApiError) -> Reason:
    """Return why children cannot be written.

    The reason does not contain the error's text, because the text may change.
    """
    subject = f"{kind.kind} {', '.join(names)}"
    if error.status == _MISSING:
        source = f": install {kind.source}" if kind.source else ""
        return Reason("KindMissing", f"{subject}: the cluster has no {kind.resource} of version {kind.version}{source}")
    if error.status == _FORBIDDEN:
        return Reason("KindForbidden", f"{subject}: the operator's Role does not allow {kind.resource}")
    return Reason("KindUnreadable", f"{subject}: the operator cannot list {kind.resource}")
