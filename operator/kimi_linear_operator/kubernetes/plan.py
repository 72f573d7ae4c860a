"""The plan: the steps that turn the live children of a resource into the wanted children.

The operator carries out the plan, and `kimi-linear diff` shows it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from kimi_linear_operator.kubernetes import deletion, metadata, ownership
from kimi_linear_operator.kubernetes.drift import differences
from kimi_linear_operator.kubernetes.kinds import GROUP, Manifest
from kimi_linear_operator.kubernetes.models import Resource


class Relation(Enum):
    """How a live object with the name of a child is related to the resource."""

    OWNED = "the resource owns it"
    OFFERED = "a user annotated it, so that the resource adopts it"
    ORPHANED = "the operator made it for a resource of this name, and it has no owner"
    LEFT_OVER = "a deleted resource of this name owns it, so it will be removed"
    FOREIGN = "somebody else made it"


_ADOPTABLE = (Relation.OWNED, Relation.OFFERED, Relation.ORPHANED)


@dataclass(frozen=True)
class Create:
    """A child that does not exist."""

    wanted: Manifest


@dataclass(frozen=True)
class Apply:
    """A child that has drifted.

    Attributes:
        live: The live object.
        wanted: The wanted object.
        fields: The paths of the fields that differ.
    """

    live: Manifest
    wanted: Manifest
    fields: tuple[str, ...]

    @property
    def is_repair(self) -> bool:
        """Return whether somebody else changed the child after the operator had applied the same wanted object.

        A plan has no memory, so only the annotation with the fingerprint shows this. Somebody may have changed the
        annotation, too.
        """
        mark = metadata.FINGERPRINT_ANNOTATION
        return metadata.annotations(self.live).get(mark) == metadata.annotations(self.wanted).get(mark)


@dataclass(frozen=True)
class Delete:
    """A child that is no longer wanted."""

    live: Manifest


@dataclass(frozen=True)
class Blocked:
    """A child that cannot be created. An object has its name, and the resource is not allowed to adopt this object.

    Attributes:
        wanted: The wanted child.
        is_passing: Whether the other object is being removed.
        message: The cause and the remedy.
    """

    wanted: Manifest
    is_passing: bool
    message: str


Step = Create | Apply | Delete | Blocked


def plan(owner: Resource, wanted: Sequence[Manifest], live: Sequence[Manifest]) -> list[Step]:
    """Return the steps for all children of a resource.

    Args:
        owner: The resource.
        wanted: The wanted children.
        live: The live objects of these kinds that have the labels of the resource or the name of a child.
    """
    existing = {_address(manifest): manifest for manifest in live}
    steps = (step_for(owner, child, existing.get(_address(child))) for child in wanted)
    return [*(step for step in steps if step), *_unwanted(owner, wanted, live)]


def step_for(owner: Resource, wanted: Manifest, live: Manifest | None) -> Step | None:
    """Return the step for one child, None if it is as wanted, or if it is the resource's own and is being deleted."""
    if live is None:
        return Create(wanted)
    is_deleted = metadata.is_being_deleted(live)
    if not (is_made_for(live, owner) if is_deleted else may_be_taken(live, owner)):
        return blocked(owner, wanted, live)
    if is_deleted:
        return None
    fields = tuple(differences(live, wanted)) or _second_manager(live)
    return Apply(live, wanted, fields) if fields else None


def _unwanted(owner: Resource, wanted: Sequence[Manifest], live: Sequence[Manifest]) -> Iterator[Delete]:
    """Yield a deletion for each child that is no longer wanted."""
    names = {_address(child) for child in wanted}
    for manifest in live:
        is_own = metadata.is_owned_by(manifest, owner.metadata.uid)
        if is_own and _address(manifest) not in names and not metadata.is_being_deleted(manifest):
            yield Delete(manifest)


def relation_of(live: Manifest, owner: Resource) -> Relation:
    """Return how a live object with the name of a child relates to the resource."""
    if metadata.is_owned_by(live, owner.metadata.uid):
        return Relation.OWNED
    if metadata.annotations(live).get(metadata.ADOPT_ANNOTATION) == "true":
        return Relation.OFFERED
    if metadata.is_owned_by_namesake(live, owner):
        return Relation.LEFT_OVER
    return Relation.ORPHANED if _is_orphan(live, owner) else Relation.FOREIGN


def may_be_taken(live: Manifest, owner: Resource) -> bool:
    """Return whether a resource owns an object or may adopt it."""
    return relation_of(live, owner) in _ADOPTABLE


def is_made_for(live: Manifest, owner: Resource) -> bool:
    """Return whether a resource owns an object, or whether the object is an orphan: see `_is_orphan`."""
    return relation_of(live, owner) in (Relation.OWNED, Relation.ORPHANED)


def _is_orphan(live: Manifest, owner: Resource) -> bool:
    """Return whether an operator made an object for a resource of this name, and it has no owner.

    This happens after a deletion of the resource with `--cascade=orphan`, and after a restore from a backup.
    """
    has_labels = metadata.identity(owner).items() <= live["metadata"].get("labels", {}).items()
    has_owner = bool(live["metadata"].get("ownerReferences"))
    return has_labels and not has_owner and metadata.FINGERPRINT_ANNOTATION in metadata.annotations(live)


def _second_manager(live: Manifest) -> tuple[str, ...]:
    """Return the path of managedFields as a difference if we have patched fields: an apply cannot remove them."""
    return ("metadata.managedFields",) if ownership.has_second_manager(live, metadata.MANAGER) else ()


def holder_of(live: Manifest, owner: Resource) -> Manifest | None:
    """Return the owner reference of another resource of ours that controls an object, None if there is none."""
    references = live["metadata"].get("ownerReferences", ())
    return next((reference for reference in references if _is_of_ours(reference, owner)), None)


def _is_of_ours(reference: Manifest, owner: Resource) -> bool:
    """Return whether an owner reference names another resource of ours as the controller."""
    is_other = reference["uid"] != owner.metadata.uid
    return is_other and bool(reference.get("controller")) and reference["apiVersion"].startswith(f"{GROUP}/")


def blocked(owner: Resource, wanted: Manifest, live: Manifest) -> Blocked:
    """Return the step for a child that cannot be created because a live object has its name."""
    kind, name = live["kind"], live["metadata"]["name"]
    if relation_of(live, owner) == Relation.LEFT_OVER:
        message = f"{kind} {name} of a deleted {owner.kind} of this name is still being removed"
        return Blocked(wanted, True, message + deletion.hint(live))
    noun = owner.kind.removeprefix("KimiLinear").lower()
    if metadata.is_being_deleted(live):
        message = f"{kind} {name}, which does not belong to this {noun}, is still being removed"
        return Blocked(wanted, True, message + deletion.hint(live))
    if holder := holder_of(live, owner):
        other = f"{holder['kind']} {holder['name']}"
        return Blocked(wanted, False, f"{kind} {name} belongs to {other}: rename this {noun}, or delete {other}")
    message = (
        f"{kind} {name} exists and does not belong to this {noun}: delete it, rename the {noun}, or let the "
        f"{noun} take it over with `kubectl annotate {kind.lower()} {name} {metadata.ADOPT_ANNOTATION}=true`"
    )
    return Blocked(wanted, False, message)


def _address(manifest: Manifest) -> tuple[str, str]:
    return manifest["kind"], manifest["metadata"]["name"]
