"""The status of a KimiLinearServer."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from kimi_linear_operator.kubernetes import quota, waits
from kimi_linear_operator.kubernetes.check import field_path
from kimi_linear_operator.kubernetes.conditions import (
    Reason,
    condition,
    find_condition,
    ready_condition,
    stamped,
)
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.metadata import selector_text
from kimi_linear_operator.kubernetes.models import Condition
from kimi_linear_operator.kubernetes.pod_reasons import last_failure, worst_reason
from kimi_linear_operator.kubernetes.queueing import is_held
from kimi_linear_operator.reasons import REASONS, ReasonName
from kimi_linear_operator.server import verification
from kimi_linear_operator.server.deployment import wanted_replicas
from kimi_linear_operator.server.exposure import LiveRoutes, exposure, is_exposed
from kimi_linear_operator.server.gate import GATE, has_gate
from kimi_linear_operator.server.gpu_nodes import needed_node
from kimi_linear_operator.server.labels import ROLLOUT_ANNOTATION
from kimi_linear_operator.server.router import why_unavailable
from kimi_linear_operator.server.scaling import autoscaling_condition
from kimi_linear_operator.server.service import url
from kimi_linear_operator.server.sglang.by_hand import recipe_command
from kimi_linear_operator.server.sglang.images import image_of
from kimi_linear_operator.server.sglang.program import SGLANG
from kimi_linear_operator.server.sglang.running import image_in
from kimi_linear_operator.server.spec import KimiLinearServer
from kimi_linear_operator.server.spec.rollout import Startup
from kimi_linear_operator.server.startup import LoggedPhases, describe, startup_status
from kimi_linear_operator.server.template_choice import TemplateChoice
from kimi_linear_operator.server.verification import Verified


@dataclass(frozen=True)
class ServerObservation:
    """Everything that a status is derived from.

    Attributes:
        manifest: The stored server, with its previous status.
        server: The server, None if it cannot be read.
        not_applied: Why the spec was not applied, None if it was.
        deployment: The live Deployment, None if there is none.
        pods: The server's pods.
        choice: The pod template that the server should have, None if the pass did not choose one.
        autoscaler: The live HorizontalPodAutoscaler, None if there is none.
        may_grow: Whether the autoscaler may add replicas now.
        contested: Sentences about fields of its children that others keep changing.
        router: The live Deployment of its router, None if there is none.
        logged: What the log of the newest pod says about its start, None if it was not read.
        withheld: Why some optional children are not there, or not as the spec asks.
        routes: What leads to the server from outside the cluster.
    """

    manifest: Manifest
    server: KimiLinearServer | None
    not_applied: Reason | None = None
    deployment: Manifest | None = None
    pods: list[Manifest] = field(default_factory=list)
    choice: TemplateChoice | None = None
    autoscaler: Manifest | None = None
    may_grow: bool = True
    contested: tuple[str, ...] = ()
    router: Manifest | None = None
    logged: LoggedPhases | None = None
    withheld: tuple[Reason, ...] = ()
    routes: LiveRoutes = field(default_factory=dict)

    @property
    def wanted(self) -> int:
        """Return how many replicas should run: those of the spec, or those of the Deployment if it was not applied."""
        if self.server and not self.not_applied:
            return wanted_replicas(self.server.spec)
        return int((self.deployment or {}).get("spec", {}).get("replicas", 0))

    @property
    def startup(self) -> Manifest | None:
        """Return `status.startup`, None if no replica has started."""
        return startup_status(self.pods, self.logged, self.manifest.get("status", {}).get("startup"))

    @property
    def startup_seconds(self) -> int:
        """Return how long a replica may take to start, in seconds."""
        return (self.server.spec.startup if self.server else Startup()).timeout_seconds

    @property
    def verification(self) -> Verified | None:
        """Return what is known about the answers of the current pod template, None if it is not verified."""
        return self.choice.verification if self.choice else None

    def count(self, name: str) -> int:
        """Return a counter of the Deployment's status, 0 if it is missing."""
        return int((self.deployment or {}).get("status", {}).get(name, 0))

    @property
    def is_complete(self) -> bool:
        """Return whether all replicas serve with the current pod template, and no others run."""
        return self._is_observed and self.has_all_replicas

    @property
    def is_ready(self) -> bool:
        """Return whether the condition Ready is True.

        After the operator writes a Deployment, its counters are old until its controller has observed the write. Until
        then, a server stays ready if it was ready with this generation, unless the write replaces its pods.
        """
        ready = ready_condition(self.manifest.get("status", {}))
        was_ready = (ready.get("status"), ready.get("observedGeneration")) == ("True", self.generation)
        stays_ready = was_ready and self.has_all_replicas and not self._replaces_pods
        return not self.not_applied and not self.router_problem and (self.is_complete or stays_ready)

    @property
    def router_problem(self) -> Reason | None:
        """Return why the router is not as the spec asks, None if it is or there is none."""
        return why_unavailable(self.server.spec, self.router) if self.server else None

    @property
    def generation(self) -> int:
        """Return the generation of the server's spec."""
        return int(self.manifest["metadata"]["generation"])

    @property
    def _replaces_pods(self) -> bool:
        """Return whether this pass changes the Deployment's pod template."""
        running = self.choice.running if self.choice else None
        return bool(self.choice and running and running.template != self.choice.deployed.template)

    @property
    def has_all_replicas(self) -> bool:
        """Return whether all replicas serve and have the current pod template, as far as the counters tell."""
        counters = ("replicas", "updatedReplicas", "availableReplicas")
        return self.wanted > 0 and all(self.count(name) == self.wanted for name in counters)

    @property
    def is_rolled_out(self) -> bool:
        """Return whether the server is complete, or wants no replicas and has none."""
        is_empty = self.wanted == 0 and self.count("replicas") == 0
        return self.is_complete or (is_empty and self._is_observed)

    @property
    def _is_observed(self) -> bool:
        """Return whether the Deployment's controller has observed its current generation."""
        deployment = self.deployment or {"metadata": {"generation": 1}}
        return self.count("observedGeneration") >= int(deployment["metadata"]["generation"])

    @property
    def is_paused(self) -> bool:
        """Return whether pods have to be replaced, but somebody has paused the Deployment."""
        is_paused = bool((self.deployment or {}).get("spec", {}).get("paused"))
        return is_paused and self.count("updatedReplicas") < self.wanted

    def deployment_condition(self, kind: str) -> Manifest:
        """Return the Deployment's condition of this type, empty if it is missing."""
        conditions = (self.deployment or {}).get("status", {}).get("conditions", ())
        return next((dict(entry) for entry in conditions if entry["type"] == kind), {})


# Reasons of Ready if the spec was not applied.
AWAITED_WEIGHTS: tuple[ReasonName, ...] = ("WeightsDownloading", "WeightsMissing", "WeightsUnready")
NOT_APPLIED = ("ApplyFailed", "InvalidSpec", "NameConflict", "Replacing", *AWAITED_WEIGHTS)
# Reasons of TemplateCurrent that a server has only if this generation of its spec was applied before.
_APPLIED_BEFORE = ("AppliedBefore", "InputsUnknown", "NewTemplateAvailable", "RolledBack", "TemplateRejected")


def was_applied(previous: Manifest, generation: int) -> bool:
    """Return whether a status says that this generation of the spec was applied, even if a later pass failed."""
    ready, template = ready_condition(previous), find_condition(previous, "TemplateCurrent")
    # Another version may have had a reason of its own not to apply the spec.
    is_known = ready.get("reason") in REASONS or template.get("reason") != "SpecNotApplied"
    is_applied = "reason" in ready and is_known and ready["reason"] not in NOT_APPLIED
    is_applied_before = template.get("reason") in _APPLIED_BEFORE
    return previous.get("observedGeneration") == generation and (is_applied or is_applied_before)


def was_ever_applied(previous: Manifest) -> bool:
    """Return whether a status says that any generation was applied: it has an image from then on."""
    return "image" in previous


def is_rolling_out(previous: Manifest, generation: int) -> bool:
    """Return whether a status says that the operator rolls out a pod template by itself, for this generation."""
    template = find_condition(previous, "TemplateCurrent")
    return was_applied(previous, generation) and template.get("reason") == "RollingOutByItself"


def server_status(observation: ServerObservation, now: str) -> Manifest:
    """Return the status of a server.

    Args:
        observation: What the status is derived from.
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
        "addresses": _addresses(observation, previous),
        "startup": observation.startup,
        "lastFailure": last_failure(observation.pods, previous.get("lastFailure"), SGLANG),
    }
    return {key: value for key, value in status.items() if value is not None}


def _identity(observation: ServerObservation, previous: Manifest) -> Manifest:
    """Return the fields that follow from the spec alone. If it was not applied, they keep the previous values."""
    names = ("url", "command", "image", "selector")
    if observation.server is None or observation.not_applied:
        return {name: previous.get(name) for name in names}
    spec = observation.server.spec
    command, image = recipe_command(spec), image_of(spec)
    if observation.choice and observation.choice.offer:
        # Another version has built the current template, maybe with another image.
        command, image = previous.get("command", command), image_in(observation.choice.current.template) or image
    values = (url(observation.server), command, image, selector_text(observation.server))
    return dict(zip(names, values, strict=True))


def _addresses(observation: ServerObservation, previous: Manifest) -> list[str] | None:
    """Return the addresses outside the cluster, None if there are none."""
    server = observation.server
    if server is None or _blames_spec(observation):
        return previous.get("addresses")
    return [*exposure(server, observation.routes).addresses] or None if is_exposed(server) else None


def _exposed(observation: ServerObservation) -> list[Condition]:
    """Return whether the server is reached from outside the cluster as the spec asks; empty if it does not ask."""
    server = observation.server
    if server is None or _blames_spec(observation):
        before = find_condition(observation.manifest.get("status", {}), "Exposed")
        return [Condition.model_validate(before)] if before else []
    if not is_exposed(server):
        return []
    found = exposure(server, observation.routes)
    return [condition("Exposed", not found.problems, found.reason)]


def _blames_spec(observation: ServerObservation) -> bool:
    return observation.not_applied is not None and observation.not_applied.blames_spec


def _conditions(observation: ServerObservation, now: str) -> list[Condition]:
    is_ready = observation.is_ready
    reason = observation.not_applied or _why_not_ready(observation, now)
    serving = observation.count("availableReplicas")
    progress = f"{serving} of {observation.wanted} replicas serve"
    problem = Reason(reason.name, f"{progress}; {reason.message}" if observation.wanted else reason.message)
    stalled = _why_stalled(observation, problem)
    is_busy = observation.wanted > 0 or observation.count("replicas") > 0 or observation.not_applied is not None
    reconciling = not is_ready and not stalled and is_busy
    return [
        _accepted(observation),
        condition("Available", serving > 0, Reason("Serving", progress) if serving else problem),
        condition("Ready", is_ready, Reason("AllReplicasServe", progress) if is_ready else problem),
        condition("Reconciling", reconciling, problem if reconciling else Reason("Settled", "Nothing is in progress")),
        condition("Stalled", stalled is not None, stalled or Reason("NotStalled", "Nothing is in the way")),
        _template_current(observation),
        _synced(observation),
        *_exposed(observation),
        *_autoscaling(observation),
        *_verified(observation),
    ]


def _template_current(observation: ServerObservation) -> Condition:
    """Return whether the pods are as this version of the operator would build them."""
    choice = observation.choice
    is_decided = choice is not None and (observation.deployment is not None or not choice.offer)
    previous: Manifest = observation.manifest.get("status", {})
    if not is_decided and observation.not_applied and was_applied(previous, observation.generation):
        message = "The spec was applied, but something is wrong now: the pods stay as they are"
        return condition("TemplateCurrent", None, Reason("AppliedBefore", message))
    if choice is None or not is_decided:
        message = "The spec was not applied, so it is unknown which pods it needs"
        return condition("TemplateCurrent", None, Reason("SpecNotApplied", message))
    if choice.unready:
        message = f"The pods stay as they are: {choice.unready.message}"
        return condition("TemplateCurrent", None, Reason(choice.unready.name, message))
    by_itself = choice.current.is_automatic
    # Another version of the operator may build a template that this one need not reject.
    if choice.is_rolled_back and not (choice.offer and by_itself):
        message = (
            f"The pods have template {choice.deployed.number} again, because template {choice.current.number} failed "
            "its verification. Change the spec to try another one"
        )
        return condition("TemplateCurrent", False, Reason("TemplateRejected" if by_itself else "RolledBack", message))
    if choice.unknown:
        message = f"{_unknown_message(choice)} {_TAKE}{_left_out_message(choice)}"
        return condition("TemplateCurrent", False, Reason("InputsUnknown", message))
    if choice.offer:
        message = _offer_message(choice, has_weights=_has_weights(observation))
        return condition("TemplateCurrent", False, Reason("NewTemplateAvailable", message))
    if choice.current.is_automatic:
        message = "The operator is giving the server the newest pod template (--rollout-pause)"
        return condition("TemplateCurrent", True, Reason("RollingOutByItself", message))
    message = f"This version of the operator builds the same pods{_left_out_message(choice)}"
    return condition("TemplateCurrent", True, Reason("Newest", message))


def _verified(observation: ServerObservation) -> list[Condition]:
    """Return the condition Verified: of a server that is not verified, none."""
    if not (observation.server and verification.is_on(observation.server.spec)):
        return []
    if known := observation.verification:
        return [condition("Verified", known.holds, known.reason)]
    # The spec was not applied.
    previous = find_condition(observation.manifest.get("status", {}), "Verified")
    return [Condition.model_validate(previous)] if previous else []


def _has_weights(observation: ServerObservation) -> bool:
    return bool(observation.server and observation.server.spec.model.weights)


# How many fields the message about a new template names.
_NAMED_FIELDS = 5


def _offer_message(choice: TemplateChoice, *, has_weights: bool) -> str:
    cause = "This version of the operator builds another pod template"
    if has_weights:
        cause = "The weights have another commit, or this version of the operator builds another pod template"
    return f"{cause} ({_named(choice.offer)}). The pods stay as they are. {_TAKE}{_left_out_message(choice)}"


_TAKE = f"To take the new template, give the server's annotation {ROLLOUT_ANNOTATION} a new value, or change its spec"


def _unknown_message(choice: TemplateChoice) -> str:
    names = _named([".".join(map(str, path)) for path in choice.unknown])
    return (
        f"Another version of the operator has built the pods, from fields that this version does not know ({names}). "
        "Its own pod template lacks them, so no automatic rollout takes it."
    )


def _left_out_message(choice: TemplateChoice) -> str:
    """Return a sentence about fields that may be only defaults, empty if there are none."""
    if not choice.left_out:
        return ""
    fields = _named([field_path(("spec", *path)) for path in choice.left_out])
    return (
        f". The pods do not follow {fields}, which may be only a default of the definitions. If you want it, give the "
        f"annotation {ROLLOUT_ANNOTATION} a new value"
    )


def _named(fields: Sequence[str]) -> str:
    more = len(fields) - _NAMED_FIELDS
    return ", ".join(fields[:_NAMED_FIELDS]) + (f" and {more} more" if more > 0 else "")


def _synced(observation: ServerObservation) -> Condition:
    """Return whether all children are there, and stay as the operator writes them."""
    if observation.withheld:
        message = "; ".join(reason.message for reason in observation.withheld)
        return condition("Synced", False, Reason(observation.withheld[0].name, message))
    if observation.contested:
        fields = "; ".join(observation.contested)
        message = f"{fields}. The operator restores it only every few minutes until the other writer stops"
        return condition("Synced", False, Reason("ChangedByOthers", message))
    return condition("Synced", True, Reason("Undisputed", "Nobody keeps changing what the operator writes"))


def _autoscaling(observation: ServerObservation) -> Iterator[Condition]:
    """Yield the condition of a server that asks for autoscaling."""
    spec = observation.server.spec if observation.server else None
    if spec and spec.autoscaling and not observation.not_applied:
        yield autoscaling_condition(spec, observation.deployment, observation.autoscaler, may_grow=observation.may_grow)


def _accepted(observation: ServerObservation) -> Condition:
    if observation.not_applied and _blames_spec(observation):
        return condition("Accepted", False, observation.not_applied)
    return condition("Accepted", True, Reason("SpecValid", "The spec passes all rules"))


def _why_stalled(observation: ServerObservation, problem: Reason) -> Reason | None:
    """Return a reason that will not pass by itself: a refused spec, or a rollout past its deadline."""
    if _blames_spec(observation):
        return observation.not_applied
    if (known := observation.verification) and known.holds is False and _waits_at_gate(observation):
        return known.reason
    progressing = observation.deployment_condition("Progressing").get("reason")
    # A queue passes by itself, however long it is.
    is_queued = any(map(is_held, observation.pods))
    if progressing == "ProgressDeadlineExceeded" and not (observation.is_complete or is_queued):
        seconds = (observation.deployment or {}).get("spec", {}).get("progressDeadlineSeconds")
        return Reason("ProgressDeadlineExceeded", f"not complete after {seconds} s: {problem.message}")
    return None


def _waits_at_gate(observation: ServerObservation) -> bool:
    """Return whether pods cannot serve because their template failed its verification."""
    choice, server = observation.choice, observation.server
    waits = observation.wanted > 0 and not observation.is_ready
    return bool(waits and server and has_gate(server.spec) and choice and not choice.is_rolled_back)


def _why_not_ready(observation: ServerObservation, now: str) -> Reason:
    """Return the first cause in this order: what the spec asks for, what the cluster refuses, what the pods report."""
    if observation.server and observation.server.spec.suspend:
        return Reason("Suspended", "spec.suspend is true: no replica runs")
    if observation.wanted == 0:
        return Reason("NoReplicas", "spec.replicas is 0")
    if observation.is_paused:
        resume = f"kubectl rollout resume deployment/{observation.manifest['metadata']['name']}"
        return Reason("RolloutPaused", f"somebody has paused the Deployment, so its pods are not replaced: `{resume}`")
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


def _with_phase(observation: ServerObservation, reason: Reason, now: str) -> Reason:
    """Return the reason of a pod that starts, with the phase that it is in."""
    startup = observation.startup
    if not startup or f"pod {startup['pod']}" not in reason.message:
        return reason
    # `waits` knows more about the phases before and after the image.
    is_image = reason.name == "Starting" and startup["phase"] == "image"
    if reason.name == "ModelLoading" or is_image:
        phase = describe(startup, observation.startup_seconds, now)
        return Reason(reason.name, f"{reason.message}; {phase}")
    if reason.name == "StartupTimedOut":
        return Reason(reason.name, f"{reason.message}; it ended in the phase {startup['phase']}")
    return reason


def _old_pod_reason(observation: ServerObservation, name: ReasonName, now: str) -> Reason | None:
    """Return a reason if a new pod cannot be created or scheduled because an old pod still terminates, None otherwise.

    Args:
        observation: What the status is derived from.
        name: The reason without a look at old pods.
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
    return Reason("OldPodTerminating", f"{pods}, within drain.timeoutSeconds ({limit} s); the next one gets its GPUs")


def _rollout_reason(observation: ServerObservation) -> Reason:
    if observation.contested:
        return Reason("ChangedByOthers", "; ".join(observation.contested))
    if observation.router_problem and observation.has_all_replicas:
        return observation.router_problem
    if observation.count("availableReplicas"):
        updated = observation.count("updatedReplicas")
        return Reason("RollingOut", f"{updated} of {observation.wanted} replicas have the current spec")
    return Reason("Starting", "waiting for pods")
