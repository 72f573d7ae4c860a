"""Events about benchmarks: one for each new reason, and for each new suite."""

from kimi_linear_operator.kubernetes.conditions import find_condition
from kimi_linear_operator.kubernetes.events import build_event
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.reasons import ReasonName

# Reasons with which an Event is normal and not a warning, although the benchmark has not succeeded.
UNDER_WAY: tuple[ReasonName, ...] = ("Queued", "Running", "ServerUnready", "Starting", "Suspended", "WaitingForTurn")


def benchmark_event(manifest: Manifest, status: Manifest, now: str) -> Manifest | None:
    """Return the Event for a new reason or a new current suite, None if both are as before.

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
    return build_event(manifest, after, now, is_normal=after["status"] == "True" or after["reason"] in UNDER_WAY)
