"""Why a server is not Ready."""

from kimi_linear_operator.kubernetes import quota, waits
from kimi_linear_operator.kubernetes.conditions import Reason
from kimi_linear_operator.kubernetes.deletion import why_blocked
from kimi_linear_operator.kubernetes.pod_reasons import worst_reason
from kimi_linear_operator.reasons import ReasonName
from kimi_linear_operator.server.gate import GATE
from kimi_linear_operator.server.gpu_nodes import needed_node
from kimi_linear_operator.server.observation import ServerObservation
from kimi_linear_operator.server.sglang.program import SGLANG
from kimi_linear_operator.server.sleeping import is_asleep
from kimi_linear_operator.server.startup import describe


def why_not_ready(observation: ServerObservation, now: str) -> Reason:
    """Return the first cause in this order: the spec, refusals of the cluster, reports of the pods.

    Args:
        observation: What a pass has seen of the server.
        now: The time as RFC 3339.
    """
    if reason := _why_unchanged(observation):
        return reason
    replica_failure = observation.deployment_condition("ReplicaFailure")
    if replica_failure.get("status") == "True":
        reason = Reason("PodCreationFailed", replica_failure.get("message", ""))
        return _old_pod_reason(observation, reason.name, now) or reason
    reason = worst_reason(observation.pods, now, SGLANG) or _rollout_reason(observation)
    if reason.name == "ReadinessGateClosed" and GATE in reason.message and observation.verification:
        return observation.verification.reason
    if old_pod_reason := _old_pod_reason(observation, reason.name, now):
        return old_pod_reason
    if observation.server and reason.name == "Unschedulable":
        return Reason(reason.name, f"{reason.message} ({needed_node(observation.server.spec, reason.message)})")
    return _with_phase(observation, reason, now)


def _why_unchanged(observation: ServerObservation) -> Reason | None:
    """Return why no pod is created or replaced, None if the Deployment's controller does it."""
    if observation.deployment and observation.holds_deployment:
        return why_blocked([observation.deployment])
    if observation.server and observation.server.spec.suspend:
        return Reason("Suspended", "spec.suspend is true: no replica runs")
    if observation.wanted == 0:
        return _why_without_replicas(observation)
    if observation.is_paused:
        resume = f"kubectl rollout resume deployment/{observation.manifest['metadata']['name']}"
        return Reason("RolloutPaused", f"somebody has paused the Deployment, so its pods are not replaced: `{resume}`")
    return None


def _why_without_replicas(observation: ServerObservation) -> Reason:
    if observation.server and is_asleep(observation.server.spec):
        return Reason("ScaledToZero", "no request has needed a replica lately; KEDA starts one when a request arrives")
    return Reason("NoReplicas", "spec.replicas is 0")


def _with_phase(observation: ServerObservation, reason: Reason, now: str) -> Reason:
    """Return the reason of a starting pod, with the current phase."""
    startup = observation.startup
    if not startup or f"pod {startup['pod']}" not in reason.message:
        return reason
    # `waits` gives better reasons for the phases before and after the image.
    is_image = reason.name == "Starting" and startup["phase"] == "image"
    if reason.name == "ModelLoading" or is_image:
        phase = describe(startup, observation.startup_seconds, now)
        return Reason(reason.name, f"{reason.message}; {phase}")
    if reason.name == "StartupTimedOut":
        return Reason(reason.name, f"{reason.message}; this happened in the phase {startup['phase']}")
    return reason


def _old_pod_reason(observation: ServerObservation, name: ReasonName, now: str) -> Reason | None:
    """Return a reason if a new pod waits because an old pod still terminates, None otherwise.

    Args:
        observation: What the status is derived from.
        name: The reason before old pods are considered.
        now: The time as RFC 3339.
    """
    ending = quota.terminating(observation.pods)
    is_refused = name == "PodCreationFailed" and quota.is_refused_by_quota(observation.deployment)
    if not ending or not (is_refused or name == "Unschedulable"):
        return None
    if stuck := next((reason for pod in observation.pods if (reason := waits.stuck_termination(pod, now))), None):
        return stuck
    pods = (
        f"pod {ending[0]} finishes its requests"
        if len(ending) == 1
        else f"pods {', '.join(ending)} finish their requests"
    )
    limit = observation.server.spec.drain.timeout_seconds if observation.server else 0
    return Reason("OldPodTerminating", f"{pods}, within drain.timeoutSeconds ({limit} s); the next pod gets its GPUs")


def _rollout_reason(observation: ServerObservation) -> Reason:
    if observation.contested:
        return Reason("ChangedByOthers", "; ".join(observation.contested))
    if observation.router_problem and observation.has_all_replicas:
        return observation.router_problem
    if observation.count("availableReplicas"):
        updated = observation.count("updatedReplicas")
        return Reason("RollingOut", f"{updated} of {observation.wanted} replicas have the current spec")
    return Reason("Starting", "waiting for pods")
