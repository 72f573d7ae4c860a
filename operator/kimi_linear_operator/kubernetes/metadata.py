"""Names, labels and ownership of children: the only place where they are put together."""

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
"""Selects every object that the operator made, in lists and watches."""


def build_manifest(owner: Resource, kind: Kind, name: str, **content: Any) -> Manifest:
    """Return an object that belongs to one of our resources, labelled and owned."""
    owned = {"ownerReferences": [_owner_reference(owner)]} if owner.metadata.uid else {}
    return {
        "apiVersion": kind.api_version,
        "kind": kind.kind,
        "metadata": {"name": name, "namespace": owner.metadata.namespace, **inherited(owner), **owned},
        **content,
    }


def inherited(owner: Resource) -> Manifest:
    """Return the labels and annotations of every object that belongs to a resource, pods included."""
    wished = owner.inherited_metadata
    noted = {"annotations": dict(wished.annotations)} if wished.annotations else {}
    return {"labels": {**wished.labels, **labels(owner)}, **noted}


def labels(owner: Resource) -> dict[str, str]:
    """Return the labels that the operator gives to everything that belongs to a resource."""
    return {
        "app.kubernetes.io/name": "kimi-linear",
        "app.kubernetes.io/instance": owner.metadata.name,
        "app.kubernetes.io/component": owner.COMPONENT,
        MANAGED_BY: MANAGER,
        **selector(owner),
    }


def identity(owner: Resource) -> dict[str, str]:
    """Return the labels by which what the operator made for a resource is found."""
    return {MANAGED_BY: MANAGER, **selector(owner)}


def annotations(manifest: Manifest) -> dict[str, str]:
    """Return an object's annotations, empty if it has none."""
    return dict(manifest["metadata"].get("annotations", {}))


def annotate(manifest: Manifest, name: str, value: str) -> None:
    """Give an object that is being built an annotation."""
    manifest["metadata"]["annotations"] = {**annotations(manifest), name: value}


def selector(owner: Resource) -> dict[str, str]:
    """Return the labels that select what is a resource's own, and a server's pods.

    A Deployment's selector can never change, so neither can this.
    """
    return {owner.label(): owner.metadata.name}


def selector_text(owner: Resource) -> str:
    """Return the same labels as a list request and /scale take them."""
    return ",".join(f"{key}={value}" for key, value in selector(owner).items())


def with_fingerprint(manifest: Manifest) -> Manifest:
    """Return the object with an annotation that changes whenever any of its wanted fields does.

    Comparing a live object with the wanted one shows fields that differ, but not fields that are no longer
    wanted; the fingerprint shows those.
    """
    text = json.dumps(manifest, sort_keys=True)
    fingerprint = hashlib.sha256(text.encode()).hexdigest()[:16]
    meta: dict[str, Any] = manifest["metadata"]
    annotations = {**meta.get("annotations", {}), FINGERPRINT_ANNOTATION: fingerprint}
    return {**manifest, "metadata": {**meta, "annotations": annotations}}


def version_of(manifest: Manifest) -> int:
    """Return the resource version. Versions of one kind can be compared since Kubernetes 1.35 (KEP-5504).

    Older API servers on etcd keep the same order without promising it.
    """
    return int(manifest["metadata"]["resourceVersion"])


def is_owned_by(manifest: Manifest, uid: str) -> bool:
    """Return whether an object belongs to the resource with this UID."""
    references = manifest["metadata"].get("ownerReferences", ())
    return any(reference["uid"] == uid for reference in references)


def owner_uids(manifest: Manifest) -> list[str]:
    """Return the UIDs of an object's owners."""
    return [str(reference["uid"]) for reference in manifest["metadata"].get("ownerReferences") or ()]


def is_of_former(manifest: Manifest, owner: Resource) -> bool:
    """Return whether an object belongs to a resource of the same name that was there before this one."""
    former = (owner.kind, owner.metadata.name)
    references = manifest["metadata"].get("ownerReferences", ())
    return any((reference["kind"], reference["name"]) == former for reference in references)


def _owner_reference(owner: Resource) -> Manifest:
    return {
        "apiVersion": owner.api_version,
        "kind": owner.kind,
        "name": owner.metadata.name,
        "uid": owner.metadata.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }
