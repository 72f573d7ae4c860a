"""The status of a KimiLinearServer."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from kimi_linear_operator.kubernetes import quota, waits
from kimi_linear_operator.kubernetes.conditions import (
    Reason,
    condition,
    find_condition,
    ready_condition,
    stamped,
)
from kimi_linear_operator.kubernetes.kinds import GPU_RESOURCE, Manifest
from kimi_linear_operator.kubernetes.metadata import selector_text
from kimi_linear_operator.kubernetes.models import Condition
from kimi_linear_operator.kubernetes.pod_reasons import last_failure, worst_reason
from kimi_linear_operator.reasons import ReasonName
from kimi_linear_operator.server import sglang
from kimi_linear_operator.server.deployment import wanted_replicas
from kimi_linear_operator.server.labels import ROLLOUT_ANNOTATION
from kimi_linear_operator.server.revision import Kept
from kimi_linear_operator.server.service import url
from kimi_linear_operator.server.spec import KimiLinearServer


@dataclass(frozen=True)
class ServerObservation:
    """All that a status is made of.

    Attributes:
        manifest: The resource as the API server keeps it, with its previous status.
        server: The resource, or None if what is stored can't be read as one.
        obstacle: Why the spec was not applied, if it was not.
        deployment: The Deployment as it is now, if there is one.
        pods: The server's pods.
        kept: The pod template that the server is to have, if the spec was looked at.
        contested: What others keep changing in its objects, as sentences.
    """

    manifest: Manifest
    server: KimiLinearServer | None
    not_applied: Reason | None = None
    deployment: Manifest | None = None
    pods: list[Manifest] = field(default_factory=list)
    kept: Kept | None = None
    contested: tuple[str, ...] = ()

    @property
    def wanted(self) -> int:
        """Return how many replicas should run: as the spec says, or as was last applied while the spec is refused."""
        if self.server and not self.not_applied:
            return wanted_replicas(self.server.spec)
        return int((self.deployment or {}).get("spec", {}).get("replicas", 0))

    def count(self, name: str) -> int:
        """Return one of the Deployment's counters, 0 where it has none."""
        return int((self.deployment or {}).get("status", {}).get(name, 0))

    @property
    def is_complete(self) -> bool:
        """Return whether every replica of this generation serves, and no other runs."""
        return self._is_observed and self._has_all_replicas

    @property
    def is_ready(self) -> bool:
        """Return whether a server is to be called ready.

        After a write of ours, the counters are old until the Deployment's controller has seen it. A server that was
        ready with this generation of its spec stays so until then, unless the write concerns its pods.
        """
        ready = ready_condition(self.manifest.get("status", {}))
        was_ready = (ready.get("status"), ready.get("observedGeneration")) == ("True", self.generation)
        stays_ready = was_ready and self._has_all_replicas and not self._replaces_pods
        return not self.not_applied and (self.is_complete or stays_ready)

    @property
    def generation(self) -> int:
        """Return the generation of the server's spec."""
        return int(self.manifest["metadata"]["generation"])

    @property
    def _replaces_pods(self) -> bool:
        """Return whether this pass has given the Deployment another pod template."""
        running = self.kept.running if self.kept else None
        return bool(self.kept and running and running.template != self.kept.current.template)

    @property
    def _has_all_replicas(self) -> bool:
        counters = ("replicas", "updatedReplicas", "availableReplicas")
        return self.wanted > 0 and all(self.count(name) == self.wanted for name in counters)

    @property
    def is_settled(self) -> bool:
        """Return whether every replica of this generation serves, or none is to run and none does."""
        is_empty = self.wanted == 0 and self.count("replicas") == 0
        return self.is_complete or (is_empty and self._is_observed)

    @property
    def _is_observed(self) -> bool:
        """Return whether the Deployment's controller has seen its current spec."""
        deployment = self.deployment or {"metadata": {"generation": 1}}
        return self.count("observedGeneration") >= int(deployment["metadata"]["generation"])

    @property
    def is_paused(self) -> bool:
        """Return whether pods have to be replaced, and somebody has paused that."""
        is_paused = bool((self.deployment or {}).get("spec", {}).get("paused"))
        return is_paused and self.count("updatedReplicas") < self.wanted

    def deployment_condition(self, kind: str) -> Manifest:
        """Return a condition of the Deployment, empty if it has none of this type."""
        conditions = (self.deployment or {}).get("status", {}).get("conditions", ())
        return next((dict(item) for item in conditions if item["type"] == kind), {})


# Why a spec that was looked at was not applied.
_OBSTACLES = ("ApplyFailed", "InvalidSpec", "NameConflict", "Replacing")
# What is told of the pod template only if this spec was applied once. An offer beside an obstacle is that of what runs.
_APPLIED_BEFORE = ("AppliedBefore", "NewTemplateAvailable")


def was_applied(previous: Manifest, generation: int) -> bool:
    """Return whether a status says that this generation of the spec was applied, whatever came in the way since."""
    ready, template = ready_condition(previous), find_condition(previous, "TemplateCurrent")
    was_free = ready.get("reason", _OBSTACLES[0]) not in _OBSTACLES
    return previous.get("observedGeneration") == generation and (was_free or template.get("reason") in _APPLIED_BEFORE)


def was_ever_applied(previous: Manifest) -> bool:
    """Return whether a status says that any spec was applied: the image is told from then on."""
    return "image" in previous


def is_rolling_out(previous: Manifest, generation: int) -> bool:
    """Return whether a status says that the operator rolls a pod template out by itself, for this spec."""
    template = find_condition(previous, "TemplateCurrent")
    return was_applied(previous, generation) and template.get("reason") == "RollingOutByItself"


def server_status(observation: ServerObservation, now: str) -> Manifest:
    """Return the status of a server.

    Args:
        observation: What was observed.
        now: The time as RFC 3339, for conditions that change.
    """
    previous: Manifest = observation.manifest.get("status", {})
    status = {
        "observedGeneration": observation.generation,
        "conditions": stamped(_conditions(observation, now), previous, observation.generation, now),
        **_identity(observation, previous),
        "replicas": observation.count("replicas"),
        "readyReplicas": observation.count("readyReplicas"),
        "updatedReplicas": observation.count("updatedReplicas"),
        "lastFailure": last_failure(observation.pods, previous.get("lastFailure")),
    }
    return {key: value for key, value in status.items() if value is not None}


def _identity(observation: ServerObservation, previous: Manifest) -> Manifest:
    """Return what follows from the spec alone. While the spec is refused, this is still that of the running server."""
    names = ("url", "command", "image", "selector")
    if observation.server is None or observation.not_applied:
        return {name: previous.get(name) for name in names}
    spec = observation.server.spec
    command, image = sglang.recipe_command(spec), sglang.image(spec)
    if observation.kept and observation.kept.offer:
        # What runs was built by another version, which may have chosen another image.
        command, image = previous.get("command", command), sglang.image_in(observation.kept.current.template) or image
    values = (url(observation.server), command, image, selector_text(observation.server))
    return dict(zip(names, values, strict=True))


def _conditions(observation: ServerObservation, now: str) -> list[Condition]:
    is_ready = observation.is_ready
    reason = observation.not_applied or _why_not_ready(observation, now)
    serving = observation.count("availableReplicas")
    progress = f"{serving} of {observation.wanted} replicas serve"
    told = Reason(reason.name, f"{progress}; {reason.message}" if observation.wanted else reason.message)
    stalled = _why_stalled(observation, told)
    is_busy = observation.wanted > 0 or observation.count("replicas") > 0 or observation.not_applied is not None
    reconciling = not is_ready and not stalled and is_busy
    return [
        _accepted(observation),
        condition("Available", serving > 0, Reason("Serving", progress) if serving else told),
        condition("Ready", is_ready, Reason("AllReplicasServe", progress) if is_ready else told),
        condition("Reconciling", reconciling, told if reconciling else Reason("Settled", "Nothing is in progress")),
        condition("Stalled", stalled is not None, stalled or Reason("NotStalled", "Nothing is in the way")),
        _template_current(observation),
        _synced(observation),
    ]


def _template_current(observation: ServerObservation) -> Condition:
    """Return whether the pods are as this version of the operator would build them. It changes nothing that runs."""
    kept = observation.kept
    is_told = kept is not None and (observation.deployment is not None or not kept.offer)
    previous: Manifest = observation.manifest.get("status", {})
    if not is_told and observation.not_applied and was_applied(previous, observation.generation):
        told = "The spec was applied before, and is not now: the pods keep what they are made of"
        return condition("TemplateCurrent", None, Reason("AppliedBefore", told))
    if kept is None or not is_told:
        told = "The spec was not applied, so nothing says which pods it would have"
        return condition("TemplateCurrent", None, Reason("SpecNotApplied", told))
    if kept.offer:
        return condition("TemplateCurrent", False, Reason("NewTemplateAvailable", _offer(kept.offer)))
    if kept.current.is_automatic:
        told = "The operator rolls the newest pod template out by itself (--rollout-pause)"
        return condition("TemplateCurrent", True, Reason("RollingOutByItself", told))
    return condition("TemplateCurrent", True, Reason("Newest", "This version of the operator builds the same pods"))


# How many fields an offer names.
_NAMED_FIELDS = 5


def _offer(fields: Sequence[str]) -> str:
    more = len(fields) - _NAMED_FIELDS
    named = ", ".join(fields[:_NAMED_FIELDS]) + (f" and {more} more" if more > 0 else "")
    return (
        f"This version of the operator builds another pod template ({named}), and the pods keep theirs. To roll it "
        f"out, give the server's annotation {ROLLOUT_ANNOTATION} a new value, or change its spec"
    )


def _synced(observation: ServerObservation) -> Condition:
    """Return whether what the operator writes stays as it is written."""
    if observation.contested:
        told = f"{'; '.join(observation.contested)}. The operator restores it after minutes only, until both agree"
        return condition("Synced", False, Reason("ChangedByOthers", told))
    return condition("Synced", True, Reason("Undisputed", "Nobody else keeps changing what the operator writes"))


def _accepted(observation: ServerObservation) -> Condition:
    if observation.not_applied and observation.not_applied.blames_spec:
        return condition("Accepted", False, observation.not_applied)
    return condition("Accepted", True, Reason("SpecValid", "The spec passes all rules"))


def _why_stalled(observation: ServerObservation, told: Reason) -> Reason | None:
    """Return what will not pass by itself: a refused spec, or a rollout past its deadline."""
    if observation.not_applied and observation.not_applied.blames_spec:
        return observation.not_applied
    progressing = observation.deployment_condition("Progressing").get("reason")
    if progressing == "ProgressDeadlineExceeded" and not observation.is_complete:
        seconds = (observation.deployment or {}).get("spec", {}).get("progressDeadlineSeconds")
        return Reason("ProgressDeadlineExceeded", f"not complete after {seconds} s: {told.message}")
    return None


def _why_not_ready(observation: ServerObservation, now: str) -> Reason:
    """Return the cause nearest to the root: what was asked for, then what the cluster refuses, then the pods."""
    if observation.server and observation.server.spec.suspend:
        return Reason("Suspended", "spec.suspend is true: no replica runs")
    if observation.wanted == 0:
        return Reason("NoReplicas", "spec.replicas is 0")
    if observation.is_paused:
        resume = f"kubectl rollout resume deployment/{observation.manifest['metadata']['name']}"
        return Reason("RolloutPaused", f"somebody has paused the Deployment, so its pods are not replaced: `{resume}`")
    refused = observation.deployment_condition("ReplicaFailure")
    if refused.get("status") == "True":
        reason = Reason("PodCreationFailed", refused.get("message", ""))
        return _old_pod_reason(observation, reason.name, now) or reason
    reason = worst_reason(observation.pods, now) or _rollout_reason(observation)
    if older := _old_pod_reason(observation, reason.name, now):
        return older
    if observation.server and reason.name == "Unschedulable":
        spec = observation.server.spec
        needs = f"a replica needs {spec.tensor_parallelism} free {GPU_RESOURCE} on one {spec.hardware} node"
        return Reason(reason.name, f"{reason.message} ({needs})")
    return reason


def _old_pod_reason(observation: ServerObservation, name: ReasonName, now: str) -> Reason | None:
    """Return that a new pod waits for an old one, if that is why it cannot be created or placed."""
    ending = quota.terminating(observation.pods)
    is_refused = name == "PodCreationFailed" and quota.is_refused_by_quota(observation.deployment)
    if not ending or not (is_refused or name == "Unschedulable"):
        return None
    if stuck := next((reason for pod in observation.pods if (reason := waits.stuck_termination(pod, now))), None):
        return stuck
    which = f"pod {ending[0]} finishes its requests" if len(ending) == 1 else f"pods {', '.join(ending)} finish theirs"
    limit = observation.server.spec.drain.timeout_seconds if observation.server else 0
    return Reason("OldPodTerminating", f"{which}, within drain.timeoutSeconds ({limit} s); the next one gets its GPUs")


def _rollout_reason(observation: ServerObservation) -> Reason:
    if observation.contested:
        return Reason("ChangedByOthers", "; ".join(observation.contested))
    if observation.count("availableReplicas"):
        updated = observation.count("updatedReplicas")
        return Reason("RollingOut", f"{updated} of {observation.wanted} replicas have the current spec")
    return Reason("Starting", "waiting for pods")
