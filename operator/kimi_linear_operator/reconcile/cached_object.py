"""Cached objects: JSON text without the parts that the operator never reads, and facts about the object.

Facts are values that are read from the object when it is cached. JSON text needs a fifth of the memory of dictionaries,
and packed text needs less than half of that. `decoded.py` decodes it for a pass.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple, Protocol, Self, cast

from kimi_linear_operator import jsontext
from kimi_linear_operator.kubernetes.bounds import (
    HEAVIEST_CHILD,
    LARGEST_CHILD,
    is_without_room,
    within_bounds,
    without_room,
)
from kimi_linear_operator.kubernetes.conditions import CONDITION_TYPES
from kimi_linear_operator.kubernetes.deletion import Deletion, deletion_of
from kimi_linear_operator.kubernetes.drift import with_digests
from kimi_linear_operator.kubernetes.essence import (
    compact,
    essence,
    essential_metadata,
    essential_owners,
    essential_status,
)
from kimi_linear_operator.kubernetes.kinds import JOB, POD, Kind, Manifest
from kimi_linear_operator.kubernetes.metadata import owner_uids, version_of
from kimi_linear_operator.kubernetes.models import Resource, Status
from kimi_linear_operator.kubernetes.ownership import mark_of_second_manager
from kimi_linear_operator.kubernetes.stored import with_readable_status
from kimi_linear_operator.reasons import REASONS
from kimi_linear_operator.reconcile.packed import PackedText

# https://kubernetes.io/docs/reference/labels-annotations-taints/#deployment-kubernetes-io-revision
REVISION_ANNOTATION = "deployment.kubernetes.io/revision"
# This annotation of `kubectl apply` contains a second copy of the whole object.
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"

# In bytes, several times the usual length of a child or a spec. The cache limits the total length of longer ones.
LARGE_CHILD = 16 * 2**10

# In bytes. A status with the results of eight suites is about this long. The limit of a namespace counts longer ones.
LARGE_STATUS = 32 * 2**10

# In bytes. The total length of large children, specs and statuses is limited, but the total length of resources'
# metadata is not.
# Passes read only the essential part of a resource's metadata.
_LARGEST_METADATA = LARGE_CHILD

# How many bytes a decoded object takes for each unit of its weight, in addition to its text.
_BYTES_OF_WEIGHT = 50

# How many bytes the cache takes for an object in addition to its text. Measured with 50,000 Services.
_BYTES_OF_OBJECT = 1024

# How many bytes of the JSON of managed fields have one unit of weight, in those of the operator's children.
_BYTES_OF_FIELD = 6

# In characters. Names of managers have at most 128; a UID in an owner reference can have any number.
_LONGEST_SHARED = 128
# In characters. A revision is a number.
_LONGEST_REVISION = 32


class Key(NamedTuple):
    """Namespace, name and kind of an object."""

    namespace: str
    name: str
    kind: Kind

    def of(self, kind: Kind) -> "Key":
        """Return the key of an object of another kind in the same namespace, with the same name."""
        return Key(self.namespace, self.name, kind)


RoomGroup = tuple[str, Kind | None]
"""A namespace, and one of our kinds. All children of a namespace are one group, without a kind."""

Conditions = tuple[tuple[str, str, str], ...]
"""Type, status and reason of each condition that the operator knows."""

OTHER_REASON = "other"
"""Stands for all reasons that the operator does not know."""


class CachedType(Protocol):
    """The part of a resource type that is needed to cache its objects."""

    @property
    def model(self) -> type[Resource]:
        """Return the model of the resource."""

    @property
    def status(self) -> type[Status]:
        """Return the model of its status."""

    def facts(self, kind: Kind, manifest: Manifest) -> object | None:
        """Return the facts of such a resource or its child.

        Facts are data that is needed too often to decode the object each time.
        """


@dataclass(frozen=True, slots=True)
class CachedObject:
    """An observed object.

    Attributes:
        key: Its key.
        version: Its resource version.
        generation: The generation of its spec, 0 if it has none.
        revision: The number that the Deployment controller gives to a Deployment's current pod template.
        owner: The resource that the label of the object names, None without a label. A resource is its own owner.
        parent: For a resource that is also a child of another resource: this other resource, which a label names. None
            otherwise.
        facts: The facts that the owner's type has read from the object, None without facts.
        conditions: The conditions of a resource, empty for a child.
        source: The field manager that last changed a resource, for example kubectl; empty for a child.
        owners: The UIDs in its essential owner references.
        text: The object as JSON, without the parts that the operator never reads.
        weight: The weight of the text, see `jsontext.weight`.
        is_deleted: Whether this is the last state of a deleted object.
        deletion: Since when the object is being deleted, and which finalizers hold it. None if nobody has deleted it.
        large: The bytes that count towards the limit of the namespace, 0 for a usual size. For a large child, these are
            the bytes of its text. For a large resource, these are the bytes of its spec and its status.
        decoded_size: About how many bytes the whole object takes when it is decoded, also if only its essence is
            cached. For an object that a pass may write, this includes its managed fields, because an answer contains
            them.
        cut: If there was no room and only a part was cached, the bytes of the text of the whole object. Otherwise 0.
        is_least: Whether this is the smallest part of the object. It takes no room, so that a namespace with very many
            objects leaves room to the others.
    """

    key: Key
    version: int
    generation: int
    revision: str
    owner: Key | None
    parent: Key | None
    facts: object | None
    conditions: Conditions
    source: str
    owners: tuple[str, ...]
    text: PackedText
    weight: int
    is_deleted: bool
    deletion: Deletion | None
    large: int
    decoded_size: int
    cut: int = 0
    is_least: bool = False

    @property
    def is_resource(self) -> bool:
        """Return whether this is one of our resources, not a child."""
        return self.owner == self.key

    @property
    def child_of(self) -> Key | None:
        """Return the owner of this child, None if it is not a child."""
        return self.parent if self.is_resource else self.owner

    def parts(self, others: str) -> Iterator[Self]:
        """Yield smaller and smaller parts of this object. The last part has a few KiB.

        The parts of a resource have no spec, and less and less of the metadata and of the status. If only the metadata
        makes a child large, its first part contains the rest. The next part is its essence.

        Args:
            others: The resources that take most of the room, as text for people. Not used for a child.
        """
        manifest = self.manifest()
        *larger, least = _resource_parts(manifest, others) if self.is_resource else self._child_parts(manifest)
        yield from map(self._part, larger)
        yield replace(self._part(least), is_least=True)

    def _part(self, manifest: Manifest) -> Self:
        text, owners = jsontext.encode(manifest), _owner_uids(manifest)
        cut = self.cut or self.text.size
        return replace(self, text=_packed(text), weight=jsontext.weight(text), owners=owners, large=0, cut=cut)

    def _child_parts(self, manifest: Manifest) -> Iterator[Manifest]:
        if self.large:
            yield _small_part(manifest)
        reduced = _essence(manifest)
        yield reduced
        # No pass reads a whole pod or Job instead of a part, so the spec that is left of them stays.
        yield compact(manifest if self.key.kind in _SPEC_TRIMMERS else reduced)

    @property
    def held(self) -> int:
        """Return about how many bytes the cache holds for this object, as far as they take room."""
        return 0 if self.is_least else held_bytes(len(self.text.content))

    @property
    def is_unreported(self) -> bool:
        """Return whether no operator has written a condition of the resource so far."""
        return all(status == "Unknown" for _, status, _ in self.conditions)

    def manifest(self) -> Manifest:
        """Return the object as a manifest."""
        return cast(Manifest, jsontext.decode(self.text.read()))


class _Kept(NamedTuple):
    """The part of an object that is cached, its JSON text, and the weight of the text."""

    manifest: Manifest
    text: bytes
    weight: int


class Reader:
    """Converts manifests into cached objects. This is most of the work of caching. Any thread is allowed to do it."""

    def __init__(self, types: Mapping[Kind, CachedType]) -> None:
        """Take the resource types by kind."""
        self._types = types
        self._by_label = {resource_type.model.label(): kind for kind, resource_type in types.items()}

    @property
    def kinds(self) -> Collection[Kind]:
        """Return the kinds of our resources."""
        return self._types.keys()

    def is_resource(self, kind: Kind) -> bool:
        """Return whether objects of a kind are our resources, not children."""
        return kind in self._types

    def with_readable_status(self, kind: Kind, manifest: Manifest) -> Manifest:
        """Return a resource of ours with the readable fields of its status."""
        return with_readable_status(manifest, self._types[kind].status)

    def read(self, kind: Kind, manifest: Manifest, *, is_deleted: bool = False) -> CachedObject:
        """Return a cached object.

        A cached resource contains only a spec within bounds and the readable fields of the status.
        """
        if kind in self._types:
            manifest = self.with_readable_status(kind, within_bounds(manifest))
        kept = self._within_limits(kind, self._trimmed(kind, manifest))
        owner = self._owner(kind, manifest)
        return CachedObject(
            key=key_of(kind, manifest),
            version=version_of(manifest),
            generation=manifest["metadata"].get("generation", 0),
            revision=manifest["metadata"].get("annotations", {}).get(REVISION_ANNOTATION, "")[:_LONGEST_REVISION],
            owner=owner,
            parent=self._labelled(manifest) if kind in self._types else None,
            facts=self._types[owner.kind].facts(kind, manifest if kind in self._types else kept.manifest)
            if owner
            else None,
            conditions=_interned(_conditions(manifest) if kind in self._types else ()),
            source=_source(manifest) if kind in self._types else "",
            owners=_owner_uids(kept.manifest),
            text=_packed(kept.text),
            weight=kept.weight,
            is_deleted=is_deleted,
            deletion=deletion_of(manifest),
            large=_large_bytes_of_resource(kept) if kind in self._types else _large_bytes_of_child(kept),
            decoded_size=_decoded_size(len(kept.text), kept.weight) + _size_of_managed_fields(kind, manifest),
            # If this manifest comes from the cache, for example with a new status, the original size of the spec is
            # unknown.
            cut=LARGE_CHILD if kind in self._types and is_without_room(manifest) else 0,
        )

    def _owner(self, kind: Kind, manifest: Manifest) -> Key | None:
        return key_of(kind, manifest) if kind in self._types else self._labelled(manifest)

    def _labelled(self, manifest: Manifest) -> Key | None:
        """Return the resource that an object's label names, None without one."""
        labels, namespace = manifest["metadata"].get("labels", {}), manifest["metadata"]["namespace"]
        owners = (
            Key(namespace, labels[label], resource_kind)
            for label, resource_kind in self._by_label.items()
            if labels.get(label)
        )
        return next(owners, None)

    def _trimmed(self, kind: Kind, manifest: Manifest) -> dict[str, Any]:
        """Remove parts that the operator never reads.

        These are managed fields, kubectl's copy, most of a spec, and data of ConfigMaps.
        """
        metadata = _trimmed_metadata(manifest["metadata"])
        if kind not in self._types:
            metadata |= mark_of_second_manager(manifest)
        kept = {**with_digests(manifest), "metadata": metadata}
        return {**kept, "spec": _SPEC_TRIMMERS[kind](manifest)} if kind in _SPEC_TRIMMERS else kept

    def _within_limits(self, kind: Kind, manifest: Manifest) -> _Kept:
        """Return the largest part of an object that is within the limits.

        If an object exceeds one of them, most of its metadata is not cached. If a child still exceeds it, only its
        essence is cached.
        """
        for part in self._reductions(kind, manifest):
            text = jsontext.encode(part)
            # Compare the length first, because it takes long to compute the weight of a long text.
            if len(text) <= LARGEST_CHILD and (weight := jsontext.weight(text)) <= HEAVIEST_CHILD:
                return _Kept(part, text, weight)
        return _Kept(part, text, jsontext.weight(text))

    def _reductions(self, kind: Kind, manifest: Manifest) -> Iterator[Manifest]:
        """Yield smaller and smaller parts of an object, beginning with the whole object."""
        if kind not in self._types or len(jsontext.encode(manifest["metadata"])) <= _LARGEST_METADATA:
            yield manifest
        yield _with_essential_metadata(manifest)
        # The spec and status of a resource are already within bounds.
        if kind not in self._types:
            yield _essence(manifest)


def held_bytes(length: int) -> int:
    """Return about how many bytes the cache holds for an object with a text of this length."""
    return length + _BYTES_OF_OBJECT


def _packed(text: bytes) -> PackedText:
    """Pack a text that is not large. Large texts take too long, and their total length is limited in any case."""
    return PackedText.of(text, LARGE_CHILD)


def _size_of_managed_fields(kind: Kind, manifest: Manifest) -> int:
    """Return about how many bytes the managed fields of an object take when they are decoded.

    No answer contains a pod by itself, and from other answers, `cluster/light.py` drops heavier managed fields.
    """
    if kind == POD:
        return 0
    text = jsontext.encode(manifest["metadata"].get("managedFields") or ())
    # Most are short. Then an estimate is enough, because it takes longer to compute the weight.
    weight = jsontext.weight(text) if len(text) > LARGE_CHILD else len(text) // _BYTES_OF_FIELD
    return _decoded_size(min(len(text), LARGEST_CHILD), min(weight, HEAVIEST_CHILD))


def _decoded_size(length: int, weight: int) -> int:
    return length + _BYTES_OF_WEIGHT * weight


def _large_bytes_of_child(kept: _Kept) -> int:
    """Return the bytes of a large child, 0 for any other child."""
    return _if_more(len(kept.text), LARGE_CHILD)


def _large_bytes_of_resource(kept: _Kept) -> int:
    """Return the bytes of the large parts of a resource (spec and status), 0 if neither is large."""
    if len(kept.text) <= LARGE_CHILD:
        return 0
    spec, status = (len(jsontext.encode(kept.manifest.get(part))) for part in ("spec", "status"))
    return _if_more(spec, LARGE_CHILD) + _if_more(status, LARGE_STATUS)


def _if_more(size: int, usual: int) -> int:
    return size if size > usual else 0


def key_of(kind: Kind, manifest: Manifest) -> Key:
    """Return the key of an object."""
    metadata = manifest["metadata"]
    return Key(metadata["namespace"], metadata["name"], kind)


def _conditions(manifest: Manifest) -> Conditions:
    """Return the conditions of a type that the operator knows. Anybody may have written others, with any reason."""
    conditions = manifest.get("status", {}).get("conditions", [])
    return tuple(
        (condition["type"], condition["status"], _known(condition.get("reason", "")))
        for condition in conditions
        if condition["type"] in CONDITION_TYPES
    )


def _known(reason: str) -> str:
    return reason if reason in REASONS or reason == "" else OTHER_REASON


def _source(manifest: Manifest) -> str:
    latest: Manifest = max(
        manifest["metadata"].get("managedFields") or (),
        key=lambda entry: (entry.get("subresource") != "status", entry.get("time", "")),
        default={},
    )
    return _shared(str(latest.get("manager", "")))


def _owner_uids(manifest: Manifest) -> tuple[str, ...]:
    """Return the UIDs of the owners. Real UIDs are short, but an owner reference can contain any text."""
    return tuple(_shared(uid) for uid in owner_uids(manifest) if len(uid) <= _LONGEST_SHARED)


def _shared(text: str) -> str:
    """Return the same string object for equal short strings, to save memory.

    For example, all children of a server contain its UID.
    """
    return _remembered(text) if len(text) <= _LONGEST_SHARED else text


@lru_cache(maxsize=16_384)
def _remembered(text: str) -> str:
    """Return the string itself, from a cache that forgets.

    With `sys.intern`, Python 3.12 would never free the string.
    """
    return text


@lru_cache(maxsize=1024)
def _interned(conditions: Conditions) -> Conditions:
    """Return the same tuple for equal conditions, to save memory: thousands of servers have the same conditions."""
    return conditions


# How many items of each list in a pod's spec are cached. Lists in a server's pod template are not longer. The limit is
# needed because users can create pods with thousands of items, and each pass decodes pods.
_MOST_OF_POD = 64
# The fields of a pod's spec that a status depends on while the pod is not ready.
_READ_OF_POD_SPEC = (
    "nodeName",
    "readinessGates",
    "schedulerName",
    "schedulingGates",
    "terminationGracePeriodSeconds",
    "volumes",
)


def _resource_parts(manifest: Manifest, others: str) -> Iterator[Manifest]:
    status = manifest.get("status", {})
    small = {**manifest, "status": essential_status(status)}
    if len(jsontext.encode(status)) <= LARGE_STATUS:
        yield without_room(manifest, others)
    yield without_room(small, others)
    yield without_room({**small, "metadata": essential_metadata(manifest["metadata"])}, others)


def _small_part(manifest: Manifest) -> Manifest:
    """Return a child without the parts that make it large."""
    reduced = _with_essential_metadata(manifest)
    return reduced if len(jsontext.encode(reduced)) <= LARGE_CHILD else _essence(manifest)


def _essence(manifest: Manifest) -> Manifest:
    return {**essence(manifest), "metadata": _with_essential_metadata(manifest)["metadata"]}


def _with_essential_metadata(manifest: Manifest) -> Manifest:
    """Return an object with its essential metadata and its managed fields, which are already trimmed."""
    metadata = manifest["metadata"]
    managed = {"managedFields": metadata["managedFields"]} if "managedFields" in metadata else {}
    return {**manifest, "metadata": {**essential_metadata(metadata), **managed}}


def _trimmed_metadata(metadata: Manifest) -> Manifest:
    kept = {key: value for key, value in metadata.items() if key != "managedFields"}
    if isinstance(annotations := metadata.get("annotations"), dict) and LAST_APPLIED in annotations:
        kept["annotations"] = {key: value for key, value in annotations.items() if key != LAST_APPLIED}
    if references := metadata.get("ownerReferences"):
        kept["ownerReferences"] = essential_owners(references)
    return kept


def _trimmed_pod_spec(manifest: Manifest) -> Manifest:
    spec: Manifest = manifest.get("spec", {})
    if ("Ready", "True") in {
        (item["type"], item["status"]) for item in manifest.get("status", {}).get("conditions", ())
    }:
        return {}
    probes = [
        {"name": container["name"], "startupProbe": container["startupProbe"]}
        for container in spec.get("containers", ())[:_MOST_OF_POD]
        if "startupProbe" in container
    ]
    return {**{name: _shortened(spec[name]) for name in _READ_OF_POD_SPEC if name in spec}, "containers": probes}


def _shortened(value: Any) -> Any:
    return value[:_MOST_OF_POD] if isinstance(value, list) else value


def _trimmed_job_spec(manifest: Manifest) -> Manifest:
    spec: Manifest = manifest.get("spec", {})
    return {"suspend": True} if spec.get("suspend") else {}


# Pods and Jobs are not compared with a wanted object, so most of their spec is not cached.
_SPEC_TRIMMERS: Mapping[Kind, Callable[[Manifest], Manifest]] = {POD: _trimmed_pod_spec, JOB: _trimmed_job_spec}
