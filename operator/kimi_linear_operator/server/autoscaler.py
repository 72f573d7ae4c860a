"""The HorizontalPodAutoscaler of a server, which sets `spec.replicas` according to the load."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from kimi_linear_operator.kubernetes import metadata
from kimi_linear_operator.kubernetes.conditions import find_condition
from kimi_linear_operator.kubernetes.kinds import AUTOSCALER, Manifest
from kimi_linear_operator.kubernetes.times import seconds_between
from kimi_linear_operator.server.deployment import ENDPOINT_PAUSE_SECONDS
from kimi_linear_operator.server.sleeping import is_asleep
from kimi_linear_operator.server.spec import SERVER, KimiLinearServer, ServerSpec
from kimi_linear_operator.server.spec.autoscaling import Autoscaling

# SGLang's names contain a colon (sglang:num_queue_reqs). Prometheus reserves the colon for recording rules, so adapters
# must be configured to replace it: see docs/guide/scale.md.
QUEUED_REQUESTS = "sglang_num_queue_reqs"
RUNNING_REQUESTS = "sglang_num_running_reqs"
# How often the autoscaler checks the load by default (--horizontal-pod-autoscaler-sync-period).
_LOOK_SECONDS = 15
# MaxPeriodSeconds of Kubernetes' validation of autoscalers.
_LONGEST_PERIOD_SECONDS = 1800


@dataclass(frozen=True)
class Limits:
    """What the autoscaler of a server may do now.

    Attributes:
        may_grow: Whether it may add replicas: see `seconds_until_more`.
        may_sleep: Whether KEDA may remove the last replica, if the spec allows it.
    """

    may_grow: bool = True
    may_sleep: bool = True


NO_LIMITS = Limits()


def needs_autoscaler(server: KimiLinearServer) -> bool:
    """Return whether a server has an autoscaler: a HorizontalPodAutoscaler or a ScaledObject.

    A suspended server has none, because without pods there are no metrics.
    """
    return server.spec.autoscaling is not None and not server.spec.suspend


def build_autoscaler(server: KimiLinearServer, limits: Limits = NO_LIMITS) -> Manifest:
    """Return the HorizontalPodAutoscaler. It has the name of the server.

    Args:
        server: The server. It has `spec.autoscaling`.
        limits: What the autoscaler may do now.
    """
    scaling = server.spec.autoscaling
    assert scaling  # noqa: S101 - see needs_autoscaler
    spec = {
        "scaleTargetRef": scale_target(server),
        "minReplicas": scaling.min_replicas,
        "maxReplicas": most_replicas(server.spec, scaling, may_grow=limits.may_grow),
        "metrics": [
            _metric(QUEUED_REQUESTS, scaling.target.queued_requests),
            _metric(RUNNING_REQUESTS, scaling.target.running_requests),
        ],
        "behavior": behaviour(server.spec, scaling),
    }
    return metadata.build_manifest(server, AUTOSCALER, server.metadata.name, spec=spec)


def scale_target(server: KimiLinearServer) -> Manifest:
    """Return the reference to the server by which an autoscaler finds its `/scale`."""
    return {"apiVersion": SERVER.api_version, "kind": SERVER.kind, "name": server.metadata.name}


def most_replicas(spec: ServerSpec, scaling: Autoscaling, *, may_grow: bool) -> int:
    """Return the maximum for the autoscaler now.

    Args:
        spec: The server's spec.
        scaling: Its `autoscaling`.
        may_grow: Whether replicas may be added now. If not, the maximum is the current number of replicas.
    """
    held = max(scaling.min_replicas, min(scaling.max_replicas, spec.replicas), 1)
    return scaling.max_replicas if may_grow else held


def seconds_until_more(spec: ServerSpec, deployment: Manifest | None, pods: Sequence[Manifest], now: str) -> float:
    """Return the seconds until the autoscaler may add replicas: infinity while a replica does not serve.

    A server without replicas begins with one.

    A loading replica takes no requests from the other replicas, so their queues stay long, and the autoscaler would
    add more replicas until the first one serves. After that, the new replica takes its part of the load only slowly,
    because requests that wait in other replicas stay there.

    Args:
        spec: The server's spec.
        deployment: Its live Deployment. Without a Deployment (None), nothing is scaled.
        pods: Its pods.
        now: The time as RFC 3339.
    """
    if spec.autoscaling is None or deployment is None:
        return 0.0
    if serving(deployment) < spec.replicas or is_asleep(spec):
        return math.inf
    newest = max((_ready_since(pod) for pod in pods), default="")
    waited, pause = seconds_between(newest, now), spec.autoscaling.scale_up.stabilization_seconds
    return 0.0 if waited is None else min(max(pause - waited, 0.0), pause)


def serving(deployment: Manifest | None) -> int:
    """Return how many replicas serve."""
    return int((deployment or {}).get("status", {}).get("availableReplicas", 0))


def _ready_since(pod: Manifest) -> str:
    ready = find_condition(pod.get("status", {}), "Ready")
    return str(ready.get("lastTransitionTime", "")) if ready.get("status") == "True" else ""


def _metric(name: str, target: int) -> Manifest:
    average = {"type": "AverageValue", "averageValue": str(target)}
    return {"type": "Pods", "pods": {"metric": {"name": name}, "target": average}}


def behaviour(spec: ServerSpec, scaling: Autoscaling) -> Manifest:
    """Return how fast an autoscaler adds and removes replicas.

    Between two removals, the first replica has time to drain.
    """
    drain = min(ENDPOINT_PAUSE_SECONDS + spec.drain.timeout_seconds, _LONGEST_PERIOD_SECONDS)
    return {
        "scaleUp": _rules(scaling.scale_up.stabilization_seconds, scaling.scale_up.replicas, _LOOK_SECONDS),
        "scaleDown": _rules(scaling.scale_down.stabilization_seconds, 1, drain),
    }


def _rules(stabilization: int, replicas: int, period: int) -> Manifest:
    policy = {"type": "Pods", "value": replicas, "periodSeconds": period}
    return {"stabilizationWindowSeconds": stabilization, "policies": [policy]}
