"""Kubernetes Events: what changed, for `kubectl describe` and `kubectl events`."""

import hashlib

from kimi_linear_operator.api import Manifest
from kimi_linear_operator.resources.metadata import MANAGER
from kimi_linear_operator.status.conditions import ready_condition

# States that every server passes on its way; they are news only to a server that was ready.
_ON_THE_WAY = ("ModelLoading", "Replacing", "RollingOut", "Starting")
# States of servers that are to have no replica.
WITHOUT_REPLICAS = ("NoReplicas", "Suspended")
AS_WISHED = (*_ON_THE_WAY, "AllReplicasServe", *WITHOUT_REPLICAS)


def transition_event(manifest: Manifest, status: Manifest, now: str) -> Manifest | None:
    """Return the Event that a change of the Ready condition deserves, or None if it deserves none.

    Args:
        manifest: The resource with its previous status.
        status: Its new status.
        now: The time as RFC 3339.
    """
    before, after = ready_condition(manifest.get("status", {})), ready_condition(status)
    if (before.get("status"), before.get("reason")) == (after["status"], after["reason"]):
        return None
    if after["reason"] in _ON_THE_WAY and before.get("status") != "True":
        return None
    return _event(manifest, after, now)


def _event(manifest: Manifest, ready: Manifest, now: str) -> Manifest:
    metadata = manifest["metadata"]
    involved = {key: metadata[key] for key in ("name", "namespace", "uid", "resourceVersion")}
    digest = hashlib.sha256(f"{metadata['uid']}{ready['reason']}{now}".encode()).hexdigest()[:16]
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{metadata['name']}.{digest}", "namespace": metadata["namespace"]},
        "involvedObject": {"apiVersion": manifest["apiVersion"], "kind": manifest["kind"], **involved},
        "type": "Normal" if ready["reason"] in AS_WISHED else "Warning",
        "reason": ready["reason"],
        "message": ready["message"],
        "source": {"component": MANAGER},
        "reportingComponent": MANAGER,
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    }
