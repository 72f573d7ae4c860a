"""Whether the number of a server's replicas follows the load, as the autoscaler reports it."""

from typing import Final

from kimi_linear_operator.kubernetes.conditions import Reason, condition, find_condition
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.models import Condition
from kimi_linear_operator.server.autoscaler import serving
from kimi_linear_operator.server.spec import ServerSpec
from kimi_linear_operator.server.spec.autoscaling import Autoscaling

CONDITION: Final = "Autoscaling"
# The autoscaler has this reason if it checked a new server before the server's status had a selector. It checks again
# after some seconds.
_LOOKED_TOO_EARLY = "InvalidSelector"


def autoscaling_condition(
    spec: ServerSpec, deployment: Manifest | None, autoscaler: Manifest | None, *, may_grow: bool = True
) -> Condition:
    """Return the condition Autoscaling of a server.

    Args:
        spec: The server's applied spec.
        deployment: Its Deployment, None if there is none.
        autoscaler: Its live HorizontalPodAutoscaler, None if there is none.
        may_grow: Whether replicas may be added now.
    """
    if off := _why_off(spec):
        return condition(CONDITION, False, off)
    status = (autoscaler or {}).get("status", {})
    if not status.get("conditions"):
        return condition(CONDITION, None, _UNSEEN)
    if failed := _failure(status, "AbleToScale"):
        return condition(CONDITION, False, Reason("ScalingFailed", failed))
    active = find_condition(status, "ScalingActive")
    failed = _failure(status, "ScalingActive") if active.get("reason") != _LOOKED_TOO_EARLY else ""
    # Without a serving replica, there are no metrics. So the missing metrics are not the problem.
    if failed and serving(deployment):
        return condition(CONDITION, False, Reason("MetricsMissing", failed))
    if not may_grow:
        return condition(CONDITION, True, _awaited(serving(deployment), spec.replicas))
    if active.get("status") != "True":
        return condition(CONDITION, None, _UNSEEN)
    return condition(CONDITION, True, _followed(spec.replicas, spec.autoscaling, status))


_UNSEEN = Reason("AutoscalerPending", "No autoscaler has checked the load of the server yet")


def _why_off(spec: ServerSpec) -> Reason | None:
    if spec.suspend:
        return Reason("Suspended", "spec.suspend is true, so there is no autoscaler, and spec.replicas does not change")
    if spec.replicas == 0:
        return Reason("NoReplicas", "spec.replicas is 0, so the autoscaler does nothing")
    return None


def _failure(status: Manifest, kind: str) -> str:
    """Return the message of the autoscaler's condition of this type if the condition is False, else an empty text."""
    found = find_condition(status, kind)
    return str(found.get("message") or found.get("reason")) if found.get("status") == "False" else ""


def _awaited(ready: int, replicas: int) -> Reason:
    until = "all do" if ready < replicas else "the newest replica has had time to take its part of the load"
    return Reason("ReplicaAwaited", f"{ready} of {replicas} replicas serve; no more are added until {until}")


def _followed(replicas: int, scaling: Autoscaling | None, status: Manifest) -> Reason:
    """Return how many replicas the load asks for, and whether this is more than the maximum."""
    assert scaling  # noqa: S101 - only a server that asks for autoscaling has this condition
    limited = find_condition(status, "ScalingLimited")
    if (limited.get("status"), limited.get("reason")) == ("True", "TooManyReplicas"):
        message = f"The load asks for more than {scaling.max_replicas} replicas (autoscaling.maxReplicas)"
        return Reason("MaximumReached", message)
    wanted, most = status.get("desiredReplicas", replicas), scaling.max_replicas
    message = f"{replicas} replicas; the autoscaler wants {wanted} of {scaling.min_replicas} to {most}"
    return Reason("FollowsLoad", message)
