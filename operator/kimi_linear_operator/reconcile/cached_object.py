"""Objects as they are cached: as JSON text, without what nobody reads, with what is asked for often beside it.

JSON text takes a fifth of the memory of a tree of dictionaries, and nobody can change what is kept.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple, Protocol, Self, cast

from pydantic import BaseModel

from kimi_linear_operator import jsontext
from kimi_linear_operator.kubernetes.bounds import LARGEST_SPEC, within_bounds
from kimi_linear_operator.kubernetes.drift import with_digests
from kimi_linear_operator.kubernetes.essence import essence, essential_metadata
from kimi_linear_operator.kubernetes.kinds import JOB, POD, Kind, Manifest
from kimi_linear_operator.kubernetes.metadata import MANAGER, owner_uids, version_of
from kimi_linear_operator.kubernetes.models import Resource
from kimi_linear_operator.kubernetes.ownership import has_second_manager
from kimi_linear_operator.kubernetes.stored import readable_status

# https://kubernetes.io/docs/reference/labels-annotations-taints/#deployment-kubernetes-io-revision
REVISION_ANNOTATION = "deployment.kubernetes.io/revision"
# The whole object once more, as `kubectl apply` was given it.
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"

# Of an object that exceeds one of these, little metadata is kept; of a child that still does, its essence. What the
# operator makes of the largest spec stays below both: a kept pod template has the spec's fields twice, and annotations.
LARGEST_CHILD = 4 * LARGEST_SPEC
HEAVIEST_CHILD = 60_000
# Children that are longer than this, a multiple of what they usually are, have a bound of their own.
LARGE_CHILD = 16 * 2**10

# How many characters of a revision are kept: it is a number.
_LONGEST_REVISION = 32


class Key(NamedTuple):
    """Which object: its namespace, its name and its kind."""

    namespace: str
    name: str
    kind: Kind

    def of(self, kind: Kind) -> "Key":
        """Return the key of an object of another kind in the same namespace, with the same name."""
        return Key(self.namespace, self.name, kind)


Conditions = tuple[tuple[str, str, str], ...]
"""Type, status and reason of each condition."""


class CachedType(Protocol):
    """What has to be known of a resource type to cache its objects."""

    @property
    def model(self) -> type[Resource]:
        """Return the resource."""

    @property
    def status(self) -> type[BaseModel]:
        """Return its status."""

    def facts(self, kind: Kind, manifest: Manifest) -> object | None:
        """Return what is asked so often of such a resource, or of a child of one, that it is read once."""


@dataclass(frozen=True, slots=True)
class CachedObject:
    """An object as it was seen.

    Attributes:
        key: Which object.
        version: Its resource version.
        generation: The generation of its spec, 0 where it counts none.
        revision: Which of a Deployment's pod templates is current, as its controller counts them.
        owner: The resource of ours that it belongs to, if any; such a resource belongs to itself.
        facts: What the type of this resource reads of it, None if that is nothing.
        conditions: Those of a resource of ours.
        source: Who changed such a resource last, as far as it can be told: the field manager, for example kubectl.
        owners: The UIDs of its owners.
        text: The object as JSON, without what nobody reads.
        weight: What it takes to read the text.
        is_deleted: Whether this is the last of it.
        cut: How long the text was before all but the essence was left out for want of room, 0 if nothing was.
    """

    key: Key
    version: int
    generation: int
    revision: str
    owner: Key | None
    facts: object | None
    conditions: Conditions
    source: str
    owners: tuple[str, ...]
    text: bytes
    weight: int
    is_deleted: bool
    cut: int = 0

    @property
    def is_resource(self) -> bool:
        """Return whether this is a resource of ours, and no child."""
        return self.owner == self.key

    @property
    def is_large(self) -> bool:
        """Return whether this is a child that is much longer than they usually are."""
        return len(self.text) > LARGE_CHILD and not self.is_resource

    def essence(self) -> Self:
        """Return the same with the essence of the object only."""
        kept = _essence(self.manifest())
        text = jsontext.encode(kept)
        return replace(self, text=text, weight=jsontext.weight(text), owners=_owner_uids(kept), cut=len(self.text))

    @property
    def is_unreported(self) -> bool:
        """Return whether no operator has reported on a resource yet."""
        return all(status == "Unknown" for _, status, _ in self.conditions)

    def manifest(self) -> Manifest:
        """Return the object."""
        return cast(Manifest, jsontext.decode(self.text))


class Reader:
    """Makes objects ready to be cached. That is most of the work, and may be done in any thread."""

    def __init__(self, types: Mapping[Kind, CachedType]) -> None:
        """Take the types of our resources."""
        self._types = types
        self._by_label = {found.model.label(): kind for kind, found in types.items()}

    def is_resource(self, kind: Kind) -> bool:
        """Return whether objects of a kind are resources of ours, and no children."""
        return kind in self._types

    def read(self, kind: Kind, manifest: Manifest, *, is_deleted: bool = False) -> CachedObject:
        """Return what is cached of an object. Of a resource of ours it is what can be read without harm."""
        if kind in self._types:
            status = readable_status(self._types[kind].status, manifest.get("status"))
            manifest = {**within_bounds(manifest), "status": status}
        kept, text, weight = self._bounded_text(kind, self._trimmed(kind, manifest))
        owner = self._owner(kind, manifest)
        return CachedObject(
            key=key_of(kind, manifest),
            version=version_of(manifest),
            generation=manifest["metadata"].get("generation", 0),
            revision=manifest["metadata"].get("annotations", {}).get(REVISION_ANNOTATION, "")[:_LONGEST_REVISION],
            owner=owner,
            facts=self._types[owner.kind].facts(kind, manifest if kind in self._types else kept) if owner else None,
            conditions=_shared(_conditions(manifest) if kind in self._types else ()),
            source=_source(manifest) if kind in self._types else "",
            owners=_owner_uids(kept),
            text=text,
            weight=weight,
            is_deleted=is_deleted,
        )

    def _owner(self, kind: Kind, manifest: Manifest) -> Key | None:
        if kind in self._types:
            return key_of(kind, manifest)
        labels, namespace = manifest["metadata"].get("labels", {}), manifest["metadata"]["namespace"]
        owners = (Key(namespace, labels[label], of) for label, of in self._by_label.items() if labels.get(label))
        return next(owners, None)

    def _trimmed(self, kind: Kind, manifest: Manifest) -> dict[str, Any]:
        """Leave out what nobody reads: managed fields, what kubectl applied, most of a spec, a ConfigMap's data."""
        metadata = _trimmed_metadata(manifest["metadata"])
        if kind not in self._types and has_second_manager(manifest, MANAGER):
            metadata["managedFields"] = [{"manager": MANAGER, "operation": "Update"}]
        kept = {**with_digests(manifest), "metadata": metadata}
        return {**kept, "spec": _SPECS[kind](manifest)} if kind in _SPECS else kept

    def _bounded_text(self, kind: Kind, manifest: Manifest) -> tuple[Manifest, bytes, int]:
        """Return what is kept of an object, as JSON, and what that weighs: less of it, if all of it is too much."""
        for kept in self._less_and_less(kind, manifest):
            text = jsontext.encode(kept)
            # To weigh a text takes a time that grows with its length.
            if len(text) <= LARGEST_CHILD and (weight := jsontext.weight(text)) <= HEAVIEST_CHILD:
                return kept, text, weight
        return kept, text, jsontext.weight(text)

    def _less_and_less(self, kind: Kind, manifest: Manifest) -> Iterator[Manifest]:
        """Yield what may be kept of an object, all of it first."""
        yield manifest
        yield _with_essential_metadata(manifest)
        # The spec and the status of a resource of ours have bounds of their own.
        if kind not in self._types:
            yield _essence(manifest)


def key_of(kind: Kind, manifest: Manifest) -> Key:
    """Return the key of an object."""
    metadata = manifest["metadata"]
    return Key(metadata["namespace"], metadata["name"], kind)


def _conditions(manifest: Manifest) -> Conditions:
    conditions = manifest.get("status", {}).get("conditions", [])
    return tuple((condition["type"], condition["status"], condition.get("reason", "")) for condition in conditions)


def _source(manifest: Manifest) -> str:
    latest: Manifest = max(
        manifest["metadata"].get("managedFields", ()),
        key=lambda entry: (entry.get("subresource") != "status", entry.get("time", "")),
        default={},
    )
    return sys.intern(str(latest.get("manager", "")))


def _owner_uids(manifest: Manifest) -> tuple[str, ...]:
    return tuple(map(sys.intern, owner_uids(manifest)))


@lru_cache(maxsize=1024)
def _shared(conditions: Conditions) -> Conditions:
    """Return the same tuple for equal conditions: thousands of servers share a few."""
    return conditions


# What a status tells of a pod's spec while the pod is not ready.
_READ_OF_POD_SPEC = (
    "nodeName",
    "readinessGates",
    "schedulerName",
    "schedulingGates",
    "terminationGracePeriodSeconds",
    "volumes",
)


def _essence(manifest: Manifest) -> Manifest:
    return {**essence(manifest), "metadata": _with_essential_metadata(manifest)["metadata"]}


def _with_essential_metadata(manifest: Manifest) -> Manifest:
    """Return an object with little metadata; who manages its fields was trimmed before."""
    metadata = manifest["metadata"]
    managed = {"managedFields": metadata["managedFields"]} if "managedFields" in metadata else {}
    return {**manifest, "metadata": {**essential_metadata(metadata), **managed}}


def _trimmed_metadata(metadata: Manifest) -> Manifest:
    kept = {key: value for key, value in metadata.items() if key != "managedFields"}
    if isinstance(annotations := metadata.get("annotations"), dict) and LAST_APPLIED in annotations:
        kept["annotations"] = {key: value for key, value in annotations.items() if key != LAST_APPLIED}
    return kept


def _trimmed_pod_spec(manifest: Manifest) -> Manifest:
    spec: Manifest = manifest.get("spec", {})
    if ("Ready", "True") in {
        (item["type"], item["status"]) for item in manifest.get("status", {}).get("conditions", ())
    }:
        return {}
    probes = [
        {"name": container["name"], "startupProbe": container["startupProbe"]}
        for container in spec.get("containers", ())
        if "startupProbe" in container
    ]
    return {**{name: spec[name] for name in _READ_OF_POD_SPEC if name in spec}, "containers": probes}


def _trimmed_job_spec(manifest: Manifest) -> Manifest:
    spec: Manifest = manifest.get("spec", {})
    return {"suspend": True} if spec.get("suspend") else {}


# Pods and Jobs are never compared with what is wanted, so most of their specs is left out.
_SPECS: Mapping[Kind, Callable[[Manifest], Manifest]] = {POD: _trimmed_pod_spec, JOB: _trimmed_job_spec}
