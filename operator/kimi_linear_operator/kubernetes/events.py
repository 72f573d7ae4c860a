"""Kubernetes Events about a resource, for `kubectl describe` and `kubectl events`."""

import hashlib
from collections.abc import Collection

from kimi_linear_operator import foreigntext
from kimi_linear_operator.kubernetes.conditions import LONGEST_MESSAGE, ready_condition
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.metadata import MANAGER


def refusal_event(manifest: Manifest, message: str, now: str) -> Manifest:
    """Return the Event for a status that the API server refused.

    Args:
        manifest: The resource.
        message: The API server's error.
        now: The time as RFC 3339.
    """
    error = foreigntext.one_line(message)
    cause = {"reason": "StatusRefused", "message": f"The status cannot be written: {error}"[:LONGEST_MESSAGE]}
    return build_event(manifest, cause, now, is_normal=False)


def ready_event(manifest: Manifest, status: Manifest, now: str, normal: Collection[str]) -> Manifest | None:
    """Return the Event for a new status or reason of Ready, None if neither has changed.

    Args:
        manifest: The resource with its previous status.
        status: Its new status.
        now: The time as RFC 3339.
        normal: The reasons for which the type of the Event is Normal. For all other reasons, it is Warning.
    """
    before, after = ready_condition(manifest.get("status", {})), ready_condition(status)
    if (before.get("status"), before.get("reason")) == (after["status"], after["reason"]):
        return None
    return build_event(manifest, after, now, is_normal=after["reason"] in normal)


def build_event(manifest: Manifest, cause: Manifest, now: str, *, is_normal: bool) -> Manifest:
    """Return an Event about a resource.

    Args:
        manifest: The resource.
        cause: An object with the Event's `reason` and `message`, for example a condition.
        now: The time as RFC 3339.
        is_normal: Whether the Event's type is Normal; otherwise it is Warning.
    """
    metadata = manifest["metadata"]
    involved = {key: metadata[key] for key in ("name", "namespace", "uid", "resourceVersion")}
    # Each Event needs a different name. A time is not enough, because a server can become ready twice within a second.
    state = f"{metadata['uid']}{metadata['resourceVersion']}{cause['reason']}"
    digest = hashlib.sha256(state.encode()).hexdigest()[:16]
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{metadata['name']}.{digest}", "namespace": metadata["namespace"]},
        "involvedObject": {"apiVersion": manifest["apiVersion"], "kind": manifest["kind"], **involved},
        "type": "Normal" if is_normal else "Warning",
        "reason": cause["reason"],
        "message": cause["message"],
        "source": {"component": MANAGER},
        "reportingComponent": MANAGER,
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    }
