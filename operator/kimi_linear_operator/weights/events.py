"""Events about weights: one for each new reason."""

from kimi_linear_operator.kubernetes.conditions import ready_condition
from kimi_linear_operator.kubernetes.events import build_event
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.reasons import ReasonName

NORMAL_REASONS: tuple[ReasonName, ...] = (
    "HubLimited",
    "Queued",
    "Replacing",
    "Starting",
    "VolumeBusy",
    "WeightsComplete",
    "WeightsDownloading",
)


def weights_event(manifest: Manifest, status: Manifest, now: str) -> Manifest | None:
    """Return the Event for a new reason of Ready, None if it is as before.

    Args:
        manifest: The resource with its previous status.
        status: Its new status.
        now: The time as RFC 3339.
    """
    before, after = ready_condition(manifest.get("status", {})), ready_condition(status)
    if (before.get("status"), before.get("reason")) == (after["status"], after["reason"]):
        return None
    return build_event(manifest, after, now, is_normal=after["reason"] in NORMAL_REASONS)
