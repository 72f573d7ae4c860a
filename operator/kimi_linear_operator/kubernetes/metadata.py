"""Labels, annotations and owner references of children. This module sets them for all children."""

import hashlib
import json
from typing import Any

from kimi_linear_operator.kubernetes.kinds import GROUP, Kind, Manifest
from kimi_linear_operator.kubernetes.models import Resource

MANAGER = "kimi-linear-operator"
MANAGED_BY = "app.kubernetes.io/managed-by"
ADOPT_ANNOTATION = f"{GROUP}/adopt"
FINGERPRINT_ANNOTATION = f"{GROUP}/fingerprint"
SELECTOR = f"{MANAGED_BY}={MANAGER}"
"""The selector for all objects that the operator made, for lists and watches."""


def build_manifest(owner: Resource, kind: Kind, name: str, **content: Any) -> Manifest:
    """Return a child with labels, annotations and an owner reference. `content` contains its other fields."""
    owned = {"ownerReferences": [_owner_reference(owner)]} if owner.metadata.uid else {}
    return {
        "apiVersion": kind.api_version,
        "kind": kind.kind,
        "metadata": {"name": name, "namespace": owner.metadata.namespace, **inherited(owner), **owned},
        **content,
    }


def inherited(owner: Resource) -> Manifest:
    """Return the labels and annotations of all children of a resource and of its pods."""
    spec = owner.inherited_metadata
    extra = {"annotations": dict(spec.annotations)} if spec.annotations else {}
    return {"labels": {**spec.labels, **labels(owner)}, **extra}


def labels(owner: Resource) -> dict[str, str]:
    """Return the operator's own labels for all children of a resource and for its pods."""
    return {
        "app.kubernetes.io/name": "kimi-linear",
        "app.kubernetes.io/instance": owner.metadata.name,
        "app.kubernetes.io/component": owner.COMPONENT,
        MANAGED_BY: MANAGER,
        **selector(owner),
    }


def identity(owner: Resource) -> dict[str, str]:
    """Return the labels that identify what the operator made for a resource."""
    return {MANAGED_BY: MANAGER, **selector(owner)}


def annotations(manifest: Manifest) -> dict[str, str]:
    """Return an object's annotations, empty if it has none."""
    return dict(manifest["metadata"].get("annotations", {}))


def own_annotations(manifest: Manifest) -> dict[str, str]:
    """Return our own annotations of an object. Users set such annotations to ask the operator for something."""
    return {name: value for name, value in annotations(manifest).items() if name.startswith(f"{GROUP}/")}


def annotate(manifest: Manifest, name: str, value: str) -> None:
    """Set an annotation of an object that is being built. This changes the object."""
    manifest["metadata"]["annotations"] = {**annotations(manifest), name: value}


def selector(owner: Resource) -> dict[str, str]:
    """Return the labels that select the children and pods of a resource.

    They can never change, because the selector of a Deployment is immutable.
    """
    return {owner.label(): owner.metadata.name}


def selector_text(owner: Resource) -> str:
    """Return the selector as text, for list requests and /scale."""
    return ",".join(f"{key}={value}" for key, value in selector(owner).items())


def hash_of(value: Manifest) -> str:
    """Return a hash of an object or of a part of it."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def with_fingerprint(manifest: Manifest) -> Manifest:
    """Return an object with the hash of its fields as an annotation.

    Drift shows wanted fields that differ. The fingerprint shows when a field is no longer wanted.
    """
    annotated = {**annotations(manifest), FINGERPRINT_ANNOTATION: hash_of(manifest)}
    return {**manifest, "metadata": {**manifest["metadata"], "annotations": annotated}}


def version_of(manifest: Manifest) -> int:
    """Return the resource version as a number, which grows with each write of an object of this kind.

    Kubernetes promises this order since 1.35 (KEP-5504). Older API servers with etcd have it, too.
    """
    return int(manifest["metadata"]["resourceVersion"])


def is_owned_by(manifest: Manifest, uid: str) -> bool:
    """Return whether the resource with this UID is an owner of an object."""
    references = manifest["metadata"].get("ownerReferences", ())
    return any(reference["uid"] == uid for reference in references)


def is_controlled_by(manifest: Manifest, kind: str) -> bool:
    """Return whether an object has a controller of this kind."""
    references = manifest["metadata"].get("ownerReferences") or ()
    return any(reference.get("controller") and reference["kind"] == kind for reference in references)


def is_being_deleted(manifest: Manifest) -> bool:
    """Return whether somebody has deleted an object that still exists."""
    return "deletionTimestamp" in manifest["metadata"]


def owner_uids(manifest: Manifest) -> list[str]:
    """Return the UIDs of an object's owners."""
    return [str(reference["uid"]) for reference in manifest["metadata"].get("ownerReferences") or ()]


def is_owned_by_namesake(manifest: Manifest, resource: Resource) -> bool:
    """Return whether an owner of an object has the kind and name of a resource, with any UID."""
    name = (resource.kind, resource.metadata.name)
    references = manifest["metadata"].get("ownerReferences", ())
    return any((reference["kind"], reference["name"]) == name for reference in references)


def _owner_reference(owner: Resource) -> Manifest:
    return {
        "apiVersion": owner.api_version,
        "kind": owner.kind,
        "name": owner.metadata.name,
        "uid": owner.metadata.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }
