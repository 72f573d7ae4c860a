"""The plan: what has to be done so that the objects of a resource are as wanted.

It follows from what exists and what is wanted. The operator carries it out, and `kimi-linear diff` shows it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from kimi_linear_operator.kubernetes import metadata, ownership
from kimi_linear_operator.kubernetes.drift import differences
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.models import Resource


class Claim(Enum):
    """Whose an object with the name of a child is."""

    OURS = "it belongs to the resource"
    OFFERED = "somebody lets the resource take it over"
    ORPHANED = "the operator made it for a resource of this name, and it belongs to nobody"
    LEFT_OVER = "it belongs to a deleted resource of this name and will be removed"
    FOREIGN = "it belongs to somebody else"


_TAKEN = (Claim.OURS, Claim.OFFERED, Claim.ORPHANED)


@dataclass(frozen=True)
class Create:
    """A child that does not exist."""

    wanted: Manifest


@dataclass(frozen=True)
class Apply:
    """A child that is not as wanted.

    Attributes:
        live: The child as it is.
        wanted: The child as it should be.
        fields: Where it differs.
    """

    live: Manifest
    wanted: Manifest
    fields: tuple[str, ...]

    @property
    def is_repair(self) -> bool:
        """Return whether the child was as wanted until somebody changed it."""
        mark = metadata.FINGERPRINT_ANNOTATION
        return metadata.annotations(self.live).get(mark) == metadata.annotations(self.wanted).get(mark)


@dataclass(frozen=True)
class Delete:
    """A child that is no longer wanted."""

    live: Manifest


@dataclass(frozen=True)
class Blocked:
    """A child whose name is taken.

    Attributes:
        wanted: The child.
        is_passing: Whether the object in its place will be gone soon.
        message: What is in the way and what to do.
    """

    wanted: Manifest
    is_passing: bool
    message: str


Step = Create | Apply | Delete | Blocked


def plan(owner: Resource, wanted: Sequence[Manifest], live: Sequence[Manifest]) -> list[Step]:
    """Return what has to be done.

    Args:
        owner: The resource.
        wanted: Its children as they should be.
        live: The objects of these kinds that have its labels or a child's name.
    """
    existing = {_address(manifest): manifest for manifest in live}
    steps = (step_for(owner, child, existing.get(_address(child))) for child in wanted)
    return [*(step for step in steps if step), *unwanted(owner, wanted, live)]


def step_for(owner: Resource, wanted: Manifest, live: Manifest | None) -> Step | None:
    """Return what has to be done about one child, None if nothing has or nothing can be yet."""
    if live is None:
        return Create(wanted)
    if not may_be_taken(live, owner):
        return _blocked(owner, wanted, live)
    if "deletionTimestamp" in live["metadata"]:
        return None
    fields = tuple(differences(live, wanted)) or _second_manager(live)
    return Apply(live, wanted, fields) if fields else None


def unwanted(owner: Resource, wanted: Sequence[Manifest], live: Sequence[Manifest]) -> Iterator[Delete]:
    """Yield the children that belong to a resource and are not wanted any more."""
    names = {_address(child) for child in wanted}
    for manifest in live:
        is_own = metadata.is_owned_by(manifest, owner.metadata.uid)
        if is_own and _address(manifest) not in names and "deletionTimestamp" not in manifest["metadata"]:
            yield Delete(manifest)


def claim_of(live: Manifest, owner: Resource) -> Claim:
    """Return whose an object is."""
    if metadata.is_owned_by(live, owner.metadata.uid):
        return Claim.OURS
    if metadata.annotations(live).get(metadata.ADOPT_ANNOTATION) == "true":
        return Claim.OFFERED
    if metadata.is_of_former(live, owner):
        return Claim.LEFT_OVER
    return Claim.ORPHANED if _is_orphan(live, owner) else Claim.FOREIGN


def may_be_taken(live: Manifest, owner: Resource) -> bool:
    """Return whether an object is a resource's, or may become its."""
    return claim_of(live, owner) in _TAKEN


def _is_orphan(live: Manifest, owner: Resource) -> bool:
    """Return whether an operator made an object for a resource of this name, and nothing owns it now.

    So it is after a deletion with `--cascade=orphan`, and when it was restored from a backup.
    """
    has_labels = metadata.identity(owner).items() <= live["metadata"].get("labels", {}).items()
    has_owner = bool(live["metadata"].get("ownerReferences"))
    return has_labels and not has_owner and metadata.FINGERPRINT_ANNOTATION in metadata.annotations(live)


def _second_manager(live: Manifest) -> tuple[str, ...]:
    """Return the field that shows that we own fields of an object twice, if we do: none of them could be removed."""
    return ("metadata.managedFields",) if ownership.has_second_manager(live, metadata.MANAGER) else ()


def _blocked(owner: Resource, wanted: Manifest, live: Manifest) -> Blocked:
    kind, name = live["kind"], live["metadata"]["name"]
    if claim_of(live, owner) == Claim.LEFT_OVER:
        return Blocked(wanted, True, f"{kind} {name} of a deleted {owner.kind} of this name is still being removed")
    what = owner.kind.removeprefix("KimiLinear").lower()
    message = (
        f"{kind} {name} exists and does not belong to this {what}: delete it, rename the {what}, or let the "
        f"{what} take it over with `kubectl annotate {kind.lower()} {name} {metadata.ADOPT_ANNOTATION}=true`"
    )
    return Blocked(wanted, False, message)


def _address(manifest: Manifest) -> tuple[str, str]:
    return manifest["kind"], manifest["metadata"]["name"]
