"""Whether the number of a server's replicas follows the load, as the autoscaler reports it."""

from dataclasses import dataclass
from typing import Final

from kimi_linear_operator.kubernetes.conditions import Reason, condition, find_condition
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.models import Condition
from kimi_linear_operator.reasons import ReasonName
from kimi_linear_operator.server.autoscaler import serving
from kimi_linear_operator.server.sleeping import is_asleep
from kimi_linear_operator.server.spec import ServerSpec
from kimi_linear_operator.server.spec.autoscaling import Autoscaling

CONDITION: Final = "Autoscaling"
# The autoscaler has this reason if it checked a new server before the server's status had a selector. It checks again
# after some seconds.
_LOOKED_TOO_EARLY = "InvalidSelector"
# KEDA cannot ask Prometheus, or a result is empty (`RequestScale` of KEDA 2.17 to 2.21).
_NO_METRICS = ("PartialTriggerError", "TriggerError")


@dataclass(frozen=True)
class Autoscalers:
    """The live autoscalers of a server.

    Attributes:
        autoscaler: Its HorizontalPodAutoscaler, or the one that KEDA has made for it; None if there is none.
        scaled_object: Its ScaledObject, None if there is none.
        awaited: Sentences about autoscalers that wait until a former one is gone.
    """

    autoscaler: Manifest | None = None
    scaled_object: Manifest | None = None
    awaited: tuple[str, ...] = ()


@dataclass(frozen=True)
class Growth:
    """Whether replicas may be added.

    Attributes:
        is_allowed: Whether they may be added now.
        awaits_weights: Whether no replica is created until the weights are complete.
    """

    is_allowed: bool = True
    awaits_weights: bool = False


MAY_GROW = Growth()


def autoscaling_condition(
    spec: ServerSpec, deployment: Manifest | None, seen: Autoscalers, growth: Growth = MAY_GROW
) -> Condition:
    """Return the condition Autoscaling of a server.

    Args:
        spec: The server's spec.
        deployment: Its Deployment, None if there is none.
        seen: Its live autoscalers.
        growth: Whether replicas may be added.
    """
    scaling = spec.autoscaling
    assert scaling  # noqa: S101 - only a server that asks for autoscaling has this condition
    if missing := _without_autoscaler(spec, scaling, seen):
        return missing
    if scaling.keda and (told := _by_keda(spec, seen, growth)):
        return told
    status = (seen.autoscaler or {}).get("status", {})
    if not status.get("conditions"):
        return condition(CONDITION, None, _UNSEEN)
    if failed := _failure(status, "AbleToScale"):
        return condition(CONDITION, False, Reason("ScalingFailed", failed))
    active = find_condition(status, "ScalingActive")
    failed = _failure(status, "ScalingActive") if active.get("reason") != _LOOKED_TOO_EARLY else ""
    # Without a serving replica, there are no metrics. So the missing metrics are not the problem.
    if failed and serving(deployment):
        return condition(CONDITION, False, Reason("MetricsMissing", failed))
    if not growth.is_allowed:
        return condition(CONDITION, True, _awaited(serving(deployment), spec.replicas, growth))
    if active.get("status") != "True":
        return condition(CONDITION, None, _UNSEEN)
    return condition(CONDITION, True, _followed(spec.replicas, scaling, status))


_UNSEEN = Reason("AutoscalerPending", "No autoscaler has checked the load of the server yet")


def _without_autoscaler(spec: ServerSpec, scaling: Autoscaling, seen: Autoscalers) -> Condition | None:
    """Return why no autoscaler scales the server, None if there is one or will soon be one."""
    if off := _why_off(spec, scaling):
        return condition(CONDITION, False, off)
    if seen.awaited:
        return condition(CONDITION, False, Reason("AutoscalerPending", "; ".join(seen.awaited)))
    return None


def _why_off(spec: ServerSpec, scaling: Autoscaling) -> Reason | None:
    if spec.suspend:
        return Reason("Suspended", "spec.suspend is true, so there is no autoscaler, and spec.replicas does not change")
    if spec.replicas == 0 and not scaling.keda:
        return Reason("NoReplicas", "spec.replicas is 0, so the autoscaler does nothing")
    return None


def _by_keda(spec: ServerSpec, seen: Autoscalers, growth: Growth) -> Condition | None:
    """Return what KEDA says, None if its HorizontalPodAutoscaler says more."""
    status = (seen.scaled_object or {}).get("status", {})
    ready = find_condition(status, "Ready")
    if find_condition(status, "Paused").get("status") == "True":
        message = "An annotation autoscaling.keda.sh/paused... of the ScaledObject pauses KEDA"
        return condition(CONDITION, False, Reason("AutoscalerPaused", message))
    if not ready.get("reason"):
        return condition(CONDITION, None, _UNSEEN)
    if ready.get("status") != "True":
        name: ReasonName = "MetricsMissing" if ready["reason"] in _NO_METRICS else "ScalingFailed"
        return condition(CONDITION, False, Reason(name, str(ready.get("message") or ready["reason"])))
    if is_asleep(spec):
        return condition(CONDITION, True, _asleep(growth))
    return None


def _failure(status: Manifest, kind: str) -> str:
    """Return the message of the autoscaler's condition of this type if the condition is False, else an empty text."""
    found = find_condition(status, kind)
    return str(found.get("message") or found.get("reason")) if found.get("status") == "False" else ""


def _asleep(growth: Growth) -> Reason:
    if not growth.awaits_weights:
        return Reason("ScaledToZero", "KEDA starts a replica when a request arrives")
    message = "KEDA asks for a replica when a request arrives; the replica starts when the weights are complete"
    return Reason("ScaledToZero", message)


def _awaited(ready: int, replicas: int, growth: Growth) -> Reason:
    until = "all do" if ready < replicas else "the newest replica has had time to take its part of the load"
    until = "the weights are complete" if growth.awaits_weights else until
    return Reason("ReplicaAwaited", f"{ready} of {replicas} replicas serve; no more are added until {until}")


def _followed(replicas: int, scaling: Autoscaling, status: Manifest) -> Reason:
    """Return how many replicas the load asks for, and whether this is more than the maximum."""
    limited = find_condition(status, "ScalingLimited")
    if (limited.get("status"), limited.get("reason")) == ("True", "TooManyReplicas"):
        message = f"The load asks for more than {scaling.max_replicas} replicas (autoscaling.maxReplicas)"
        return Reason("MaximumReached", message)
    wanted, most = status.get("desiredReplicas", replicas), scaling.max_replicas
    message = f"{replicas} replicas; the autoscaler wants {wanted} of {scaling.min_replicas} to {most}"
    return Reason("FollowsLoad", message)
