"""Names, labels and ownership of children: the only place where they are put together."""

import hashlib
import json
from typing import Any

from kimi_linear_operator.api import GROUP, KimiLinearServer, Manifest
from kimi_linear_operator.resources.kinds import SERVER, Kind

MANAGER = "kimi-linear-operator"
MANAGED_BY = "app.kubernetes.io/managed-by"
SERVER_LABEL = f"{GROUP}/server"
ADOPT_ANNOTATION = f"{GROUP}/adopt"
FINGERPRINT_ANNOTATION = f"{GROUP}/fingerprint"
SELECTOR = f"{MANAGED_BY}={MANAGER}"
"""Selects every object that the operator made, in lists and watches."""

HEADLESS_SUFFIX = "-headless"


def build_manifest(server: KimiLinearServer, kind: Kind, name: str, spec: Manifest) -> Manifest:
    """Return an object of this server, labelled and owned."""
    owned = {"ownerReferences": [_owner_reference(server)]} if server.metadata.uid else {}
    return {
        "apiVersion": kind.api_version,
        "kind": kind.kind,
        "metadata": {"name": name, "namespace": server.metadata.namespace, "labels": labels(server), **owned},
        "spec": spec,
    }


def labels(server: KimiLinearServer) -> dict[str, str]:
    """Return the labels of everything that belongs to a server."""
    return {
        "app.kubernetes.io/name": "kimi-linear",
        "app.kubernetes.io/instance": server.metadata.name,
        "app.kubernetes.io/component": "server",
        MANAGED_BY: MANAGER,
        **selector(server),
    }


def selector(server: KimiLinearServer) -> dict[str, str]:
    """Return the labels that select a server's pods. A Deployment's selector can never change, so neither can this."""
    return {SERVER_LABEL: server.metadata.name}


def selector_text(server: KimiLinearServer) -> str:
    """Return the same labels as a list request and /scale take them."""
    return ",".join(f"{key}={value}" for key, value in selector(server).items())


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


def is_owned_by(manifest: Manifest, uid: str) -> bool:
    """Return whether an object belongs to the resource with this UID."""
    references = manifest["metadata"].get("ownerReferences", ())
    return any(reference["uid"] == uid for reference in references)


def is_of_former(manifest: Manifest, server: KimiLinearServer) -> bool:
    """Return whether an object belongs to a server of the same name that was there before this one."""
    former = (SERVER.kind, server.metadata.name)
    references = manifest["metadata"].get("ownerReferences", ())
    return any((reference["kind"], reference["name"]) == former for reference in references)


def _owner_reference(server: KimiLinearServer) -> Manifest:
    return {
        "apiVersion": SERVER.api_version,
        "kind": SERVER.kind,
        "name": server.metadata.name,
        "uid": server.metadata.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }
