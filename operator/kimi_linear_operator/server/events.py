"""Events about servers: what a change of their conditions deserves."""

from kimi_linear_operator.kubernetes.conditions import find_condition, ready_condition
from kimi_linear_operator.kubernetes.events import build_event
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.reasons import ReasonName

# States that every server passes on its way; they are news only to a server that was ready.
_ON_THE_WAY: tuple[ReasonName, ...] = ("ModelLoading", "Queued", "Replacing", "RollingOut", "Starting")
# States of servers that are to have no replica.
WITHOUT_REPLICAS: tuple[ReasonName, ...] = ("NoReplicas", "Suspended")
AS_WISHED: tuple[ReasonName, ...] = (*_ON_THE_WAY, "AllReplicasServe", *WITHOUT_REPLICAS)


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
    return build_event(manifest, after, now, is_normal=after["reason"] in AS_WISHED)


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
    return build_event(manifest, after, now, is_normal=False)
