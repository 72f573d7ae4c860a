"""Kubernetes Events: what happened, for `kubectl describe` and `kubectl events`."""

import hashlib

from kimi_linear_operator import foreigntext
from kimi_linear_operator.kubernetes.conditions import LONGEST_MESSAGE
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.metadata import MANAGER


def refusal_event(manifest: Manifest, message: str, now: str) -> Manifest:
    """Return the Event about a status that the API server refuses.

    Args:
        manifest: The resource.
        message: What the API server said.
        now: The time as RFC 3339.
    """
    words = foreigntext.one_line(message)
    told = {"reason": "StatusRefused", "message": f"The status cannot be written: {words}"[:LONGEST_MESSAGE]}
    return build_event(manifest, told, now, is_normal=False)


def build_event(manifest: Manifest, told: Manifest, now: str, *, is_normal: bool) -> Manifest:
    """Return an Event about a resource.

    Args:
        manifest: The resource.
        told: Its reason and message, for example a condition.
        now: The time as RFC 3339.
        is_normal: Whether all is as it should be; else the Event is a warning.
    """
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
