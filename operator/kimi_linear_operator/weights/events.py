"""Events about weights: one for each new reason."""

from kimi_linear_operator.kubernetes.events import ready_event
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
    """Return the Event for a new reason of Ready, None if the reason has not changed.

    Args:
        manifest: The resource with its previous status.
        status: Its new status.
        now: The time as RFC 3339.
    """
    return ready_event(manifest, status, now, NORMAL_REASONS)
