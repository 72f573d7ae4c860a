"""The status of a KimiLinearServer."""

from dataclasses import dataclass, field

from kimi_linear_operator import engine
from kimi_linear_operator.api import Condition, KimiLinearServer, Manifest
from kimi_linear_operator.reasons import Reason
from kimi_linear_operator.resources.deployment import wanted_replicas
from kimi_linear_operator.resources.metadata import selector_text
from kimi_linear_operator.resources.service import url
from kimi_linear_operator.status import refusals, waits
from kimi_linear_operator.status.conditions import Cause, Obstacle, condition, stamped
from kimi_linear_operator.status.pods import last_failure, worst_cause


@dataclass(frozen=True)
class View:
    """All that a status is made of.

    Attributes:
        manifest: The resource as the API server keeps it, with its previous status.
        server: The resource, or None if what is stored can't be read as one.
        obstacle: Why the spec was not applied, if it was not.
        deployment: The Deployment as it is now, if there is one.
        pods: The server's pods.
    """

    manifest: Manifest
    server: KimiLinearServer | None
    obstacle: Obstacle | None = None
    deployment: Manifest | None = None
    pods: list[Manifest] = field(default_factory=list)

    @property
    def wanted(self) -> int:
        """Return how many replicas should run: as the spec says, or as was last applied while the spec is refused."""
        if self.server and not self.obstacle:
            return wanted_replicas(self.server.spec)
        return int((self.deployment or {}).get("spec", {}).get("replicas", 0))

    def count(self, name: str) -> int:
        """Return one of the Deployment's counters, 0 where it has none."""
        return int((self.deployment or {}).get("status", {}).get(name, 0))

    @property
    def is_complete(self) -> bool:
        """Return whether every replica of this generation serves, and no other runs."""
        counters = ("replicas", "updatedReplicas", "availableReplicas")
        return self._is_observed and self.wanted > 0 and all(self.count(name) == self.wanted for name in counters)

    @property
    def _is_observed(self) -> bool:
        """Return whether the Deployment's controller has seen its current spec."""
        deployment = self.deployment or {"metadata": {"generation": 1}}
        return self.count("observedGeneration") >= int(deployment["metadata"]["generation"])

    def deployment_condition(self, kind: str) -> Manifest:
        """Return a condition of the Deployment, empty if it has none of this type."""
        conditions = (self.deployment or {}).get("status", {}).get("conditions", ())
        return next((dict(item) for item in conditions if item["type"] == kind), {})


def summarise(view: View, now: str) -> Manifest:
    """Return the status of a server.

    Args:
        view: What was observed.
        now: The time as RFC 3339, for conditions that change.
    """
    previous: Manifest = view.manifest.get("status", {})
    generation: int = view.manifest["metadata"]["generation"]
    status = {
        "observedGeneration": generation,
        "conditions": stamped(_conditions(view, now), previous, generation, now),
        **_identity(view, previous),
        "replicas": view.count("replicas"),
        "readyReplicas": view.count("readyReplicas"),
        "updatedReplicas": view.count("updatedReplicas"),
        "lastFailure": last_failure(view.pods, previous.get("lastFailure")),
    }
    return {key: value for key, value in status.items() if value is not None}


def _identity(view: View, previous: Manifest) -> Manifest:
    """Return what follows from the spec alone. While the spec is refused, this is still that of the running server."""
    names = ("url", "command", "image", "selector")
    if view.server is None or view.obstacle:
        return {name: previous.get(name) for name in names}
    spec = view.server.spec
    values = (url(view.server), engine.recipe_command(spec), engine.image(spec), selector_text(view.server))
    return dict(zip(names, values, strict=True))


def _conditions(view: View, now: str) -> list[Condition]:
    is_ready = view.is_complete and not view.obstacle
    cause = view.obstacle or _why_not_ready(view, now)
    serving = view.count("availableReplicas")
    progress = f"{serving} of {view.wanted} replicas serve"
    told = Cause(cause.reason, f"{progress}; {cause.message}" if view.wanted else cause.message)
    stalled = _why_stalled(view, told)
    is_busy = view.wanted > 0 or view.count("replicas") > 0 or view.obstacle is not None
    reconciling = not is_ready and not stalled and is_busy
    return [
        _accepted(view),
        condition("Available", serving > 0, Cause("Serving", progress) if serving else told),
        condition("Ready", is_ready, Cause("AllReplicasServe", progress) if is_ready else told),
        condition("Reconciling", reconciling, told if reconciling else Cause("Settled", "Nothing is in progress")),
        condition("Stalled", stalled is not None, stalled or Cause("NotStalled", "Nothing is in the way")),
    ]


def _accepted(view: View) -> Condition:
    if view.obstacle and view.obstacle.blames_spec:
        return condition("Accepted", False, view.obstacle)
    return condition("Accepted", True, Cause("SpecValid", "The spec passes all rules"))


def _why_stalled(view: View, told: Cause) -> Cause | None:
    """Return what will not pass by itself: a refused spec, or a rollout past its deadline."""
    if view.obstacle and view.obstacle.blames_spec:
        return view.obstacle
    if view.deployment_condition("Progressing").get("reason") == "ProgressDeadlineExceeded" and not view.is_complete:
        seconds = (view.deployment or {}).get("spec", {}).get("progressDeadlineSeconds")
        return Cause("ProgressDeadlineExceeded", f"not complete after {seconds} s: {told.message}")
    return None


def _why_not_ready(view: View, now: str) -> Cause:
    """Return the cause nearest to the root: what was asked for, then what the cluster refuses, then the pods."""
    if view.server and view.server.spec.suspend:
        return Cause("Suspended", "spec.suspend is true: no replica runs")
    if view.wanted == 0:
        return Cause("NoReplicas", "spec.replicas is 0")
    refused = view.deployment_condition("ReplicaFailure")
    if refused.get("status") == "True":
        return _old_pod_cause(view, "PodCreationFailed", now) or Cause("PodCreationFailed", refused.get("message", ""))
    cause = worst_cause(view.pods, now) or _rollout_cause(view)
    if waits := _old_pod_cause(view, cause.reason, now):
        return waits
    if view.server and cause.reason == "Unschedulable":
        spec = view.server.spec
        needs = f"a replica needs {spec.tensor_parallelism} free {engine.GPU_RESOURCE} on one {spec.hardware} node"
        return Cause(cause.reason, f"{cause.message} ({needs})")
    return cause


def _old_pod_cause(view: View, reason: Reason, now: str) -> Cause | None:
    """Return that a new pod waits for an old one, if that is why it cannot be created or placed."""
    ending = refusals.terminating(view.pods)
    is_refused = reason == "PodCreationFailed" and refusals.is_refused_by_quota(view.deployment)
    if not ending or not (is_refused or reason == "Unschedulable"):
        return None
    if stuck := next((cause for pod in view.pods if (cause := waits.stuck_termination(pod, now))), None):
        return stuck
    which = f"pod {ending[0]} finishes its requests" if len(ending) == 1 else f"pods {', '.join(ending)} finish theirs"
    limit = view.server.spec.drain.timeout_seconds if view.server else 0
    return Cause("OldPodTerminating", f"{which}, within drain.timeoutSeconds ({limit} s); the next one gets its GPUs")


def _rollout_cause(view: View) -> Cause:
    if view.count("availableReplicas"):
        return Cause("RollingOut", f"{view.count('updatedReplicas')} of {view.wanted} replicas have the current spec")
    return Cause("Starting", "waiting for pods")
