"""The HorizontalPodAutoscaler of a server, which sets `spec.replicas` of the server by its load."""

from kimi_linear_operator.kubernetes import metadata
from kimi_linear_operator.kubernetes.kinds import AUTOSCALER, Manifest
from kimi_linear_operator.server.deployment import ENDPOINT_PAUSE_SECONDS
from kimi_linear_operator.server.spec import SERVER, Autoscaling, KimiLinearServer, ServerSpec

# SGLang's names have a colon (sglang:num_queue_reqs). In Prometheus that marks names of recording rules, so adapters
# are told to replace it: see docs/guide/scale.md.
QUEUED_REQUESTS = "sglang_num_queue_reqs"
RUNNING_REQUESTS = "sglang_num_running_reqs"
# How often the autoscaler looks, by default (--horizontal-pod-autoscaler-sync-period).
_LOOK_SECONDS = 15
# MaxPeriodSeconds of Kubernetes' validation of autoscalers.
_LONGEST_PERIOD_SECONDS = 1800


def needs_autoscaler(server: KimiLinearServer) -> bool:
    """Return whether a server has an autoscaler: without pods there are no metrics, so a suspended one has none."""
    return server.spec.autoscaling is not None and not server.spec.suspend


def build_autoscaler(server: KimiLinearServer, deployment: Manifest | None = None) -> Manifest:
    """Return the HorizontalPodAutoscaler, named like the server.

    Args:
        server: The server. It has `spec.autoscaling`.
        deployment: Its live Deployment, None if there is none.
    """
    scaling = server.spec.autoscaling
    assert scaling  # noqa: S101 - see needs_autoscaler
    name = server.metadata.name
    spec = {
        "scaleTargetRef": {"apiVersion": SERVER.api_version, "kind": SERVER.kind, "name": name},
        "minReplicas": scaling.min_replicas,
        "maxReplicas": most_replicas(server.spec, scaling, deployment),
        "metrics": [
            _metric(QUEUED_REQUESTS, scaling.target.queued_requests),
            _metric(RUNNING_REQUESTS, scaling.target.running_requests),
        ],
        "behavior": _behaviour(server.spec, scaling),
    }
    return metadata.build_manifest(server, AUTOSCALER, name, spec=spec)


def most_replicas(spec: ServerSpec, scaling: Autoscaling, deployment: Manifest | None) -> int:
    """Return the most replicas that the server may have now: no more than it has, while one of them does not serve.

    The autoscaler counts a replica that loads as one without load, and would add replicas until the first one serves.
    """
    if is_waiting(spec, deployment):
        return max(scaling.min_replicas, min(scaling.max_replicas, spec.replicas))
    return scaling.max_replicas


def is_waiting(spec: ServerSpec, deployment: Manifest | None) -> bool:
    """Return whether a replica does not serve yet, or not any more."""
    serving = (deployment or {}).get("status", {}).get("availableReplicas", 0)
    return deployment is not None and serving < spec.replicas


def _metric(name: str, target: int) -> Manifest:
    average = {"type": "AverageValue", "averageValue": str(target)}
    return {"type": "Pods", "pods": {"metric": {"name": name}, "target": average}}


def _behaviour(spec: ServerSpec, scaling: Autoscaling) -> Manifest:
    """Return how fast replicas come and go: each that goes has the time to drain before the next one goes."""
    drain = min(ENDPOINT_PAUSE_SECONDS + spec.drain.timeout_seconds, _LONGEST_PERIOD_SECONDS)
    return {
        "scaleUp": _rules(scaling.scale_up.stabilization_seconds, scaling.scale_up.replicas, _LOOK_SECONDS),
        "scaleDown": _rules(scaling.scale_down.stabilization_seconds, 1, drain),
    }


def _rules(stabilization: int, replicas: int, period: int) -> Manifest:
    policy = {"type": "Pods", "value": replicas, "periodSeconds": period}
    return {"stabilizationWindowSeconds": stabilization, "policies": [policy]}
