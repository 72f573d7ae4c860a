"""Kubernetes Events: what changed, for `kubectl describe` and `kubectl events`."""

import hashlib

from kimi_linear_operator import foreigntext
from kimi_linear_operator.api import Manifest
from kimi_linear_operator.reasons import Reason
from kimi_linear_operator.resources.metadata import MANAGER
from kimi_linear_operator.status.conditions import LONGEST_MESSAGE, find_condition, ready_condition

# States that every server passes on its way; they are news only to a server that was ready.
_ON_THE_WAY: tuple[Reason, ...] = ("ModelLoading", "Queued", "Replacing", "RollingOut", "Starting")
# States of servers that are to have no replica.
WITHOUT_REPLICAS: tuple[Reason, ...] = ("NoReplicas", "Suspended")
# What a benchmark passes on its way.
UNDER_WAY: tuple[Reason, ...] = ("Queued", "Running", "ServerUnready", "Starting", "Suspended", "WaitingForTurn")
AS_WISHED: tuple[Reason, ...] = (*_ON_THE_WAY, "AllReplicasServe", *WITHOUT_REPLICAS)


def benchmark_event(manifest: Manifest, status: Manifest, now: str) -> Manifest | None:
    """Return the Event that a step of a benchmark deserves, or None if nothing has happened.

    Args:
        manifest: The resource with its previous status.
        status: Its new status.
        now: The time as RFC 3339.
    """
    previous: Manifest = manifest.get("status", {})
    before, after = find_condition(previous, "Succeeded"), find_condition(status, "Succeeded")
    is_same = before.get("reason") == after["reason"]
    if is_same and previous.get("currentSuite") == status.get("currentSuite"):
        return None
    return _event(manifest, after, now, is_normal=after["status"] == "True" or after["reason"] in UNDER_WAY)


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
    if after["reason"] == find_condition(status, "Synced").get("reason"):
        return None  # This has an Event of its own.
    return _event(manifest, after, now, is_normal=after["reason"] in AS_WISHED)


def refusal_event(manifest: Manifest, message: str, now: str) -> Manifest:
    """Return the Event about a status that the API server refuses.

    Args:
        manifest: The resource.
        message: What the API server said.
        now: The time as RFC 3339.
    """
    words = foreigntext.one_line(message)
    told = {"reason": "StatusRefused", "message": f"The status cannot be written: {words}"[:LONGEST_MESSAGE]}
    return _event(manifest, told, now, is_normal=False)


def disturbance_event(manifest: Manifest, status: Manifest, now: str) -> Manifest | None:
    """Return the Event that somebody deserves who began to change what the operator writes, or None.

    Args:
        manifest: The resource with its previous status.
        status: Its new status.
        now: The time as RFC 3339.
    """
    before, after = find_condition(manifest.get("status", {}), "Synced"), find_condition(status, "Synced")
    if after["status"] != "False" or before.get("status") == "False":
        return None
    return _event(manifest, after, now, is_normal=False)


def _event(manifest: Manifest, told: Manifest, now: str, *, is_normal: bool) -> Manifest:
    metadata = manifest["metadata"]
    involved = {key: metadata[key] for key in ("name", "namespace", "uid", "resourceVersion")}
    # Not the time: a server may become ready twice in a second, and what exists is not created again.
    state = f"{metadata['uid']}{metadata['resourceVersion']}{told['reason']}"
    digest = hashlib.sha256(state.encode()).hexdigest()[:16]
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{metadata['name']}.{digest}", "namespace": metadata["namespace"]},
        "involvedObject": {"apiVersion": manifest["apiVersion"], "kind": manifest["kind"], **involved},
        "type": "Normal" if is_normal else "Warning",
        "reason": told["reason"],
        "message": told["message"],
        "source": {"component": MANAGER},
        "reportingComponent": MANAGER,
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    }
