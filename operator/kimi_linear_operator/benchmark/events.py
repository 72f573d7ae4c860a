"""Events about benchmarks: what their steps deserve."""

from kimi_linear_operator.kubernetes.conditions import find_condition
from kimi_linear_operator.kubernetes.events import build_event
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.reasons import ReasonName

# What a benchmark passes on its way.
UNDER_WAY: tuple[ReasonName, ...] = ("Queued", "Running", "ServerUnready", "Starting", "Suspended", "WaitingForTurn")


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
    return build_event(manifest, after, now, is_normal=after["status"] == "True" or after["reason"] in UNDER_WAY)
