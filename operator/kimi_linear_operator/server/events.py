"""Events about changes of a server's conditions."""

from kimi_linear_operator.kubernetes.conditions import find_condition, ready_condition
from kimi_linear_operator.kubernetes.events import build_event, ready_event
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.reasons import ReasonName

# Every start of a server passes through these states. They cause an Event only if the server was ready before.
_IN_PROGRESS: tuple[ReasonName, ...] = (
    "ModelLoading",
    "Queued",
    "Replacing",
    "RollingOut",
    "RouterUnavailable",
    "Starting",
    "Verifying",
    "WeightsDownloading",
)
# The server has no replicas, because its spec asks for none.
WITHOUT_REPLICAS: tuple[ReasonName, ...] = ("NoReplicas", "ScaledToZero", "Suspended")
NORMAL_REASONS: tuple[ReasonName, ...] = (*_IN_PROGRESS, "AllReplicasServe", *WITHOUT_REPLICAS)


def transition_event(manifest: Manifest, status: Manifest, now: str) -> Manifest | None:
    """Return the Event for a change of the Ready condition, None if the change needs no Event.

    Args:
        manifest: The resource with its previous status.
        status: Its new status.
        now: The time as RFC 3339.
    """
    before, after = ready_condition(manifest.get("status", {})), ready_condition(status)
    if after["reason"] in _IN_PROGRESS and before.get("status") != "True":
        return None
    if after["reason"] == "ChangedByOthers" == find_condition(status, "Synced").get("reason"):
        return None  # `contested_event` reports this change.
    return ready_event(manifest, status, now, NORMAL_REASONS)


def contested_event(manifest: Manifest, status: Manifest, now: str) -> Manifest | None:
    """Return the Event for a newly contested field, which somebody else keeps changing; None if there is none.

    Args:
        manifest: The resource with its previous status.
        status: Its new status.
        now: The time as RFC 3339.
    """
    before, after = find_condition(manifest.get("status", {}), "Synced"), find_condition(status, "Synced")
    if after["status"] != "False" or before.get("status") == "False":
        return None
    return build_event(manifest, after, now, is_normal=False)


def verified_event(manifest: Manifest, status: Manifest, now: str) -> Manifest | None:
    """Return the Event for a new result of a verification, None if there is none.

    Args:
        manifest: The resource with its previous status.
        status: Its new status.
        now: The time as RFC 3339.
    """
    before, after = find_condition(manifest.get("status", {}), "Verified"), find_condition(status, "Verified")
    if after.get("reason", "Verifying") in ("Verifying", before.get("reason")):
        return None
    return build_event(manifest, after, now, is_normal=after["reason"] == "Verified")
