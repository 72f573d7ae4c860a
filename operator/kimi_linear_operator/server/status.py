"""The status of a KimiLinearServer."""

from kimi_linear_operator.kubernetes.conditions import Reason, condition, find_condition, reconciling, stalled, stamped
from kimi_linear_operator.kubernetes.deletion import why_blocked, why_blocked_long
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.metadata import selector_text
from kimi_linear_operator.kubernetes.models import Condition
from kimi_linear_operator.kubernetes.pod_reasons import last_failure
from kimi_linear_operator.kubernetes.queueing import is_held
from kimi_linear_operator.server import scaling, verification
from kimi_linear_operator.server.exposure import exposure, is_exposed
from kimi_linear_operator.server.gate import has_gate
from kimi_linear_operator.server.observation import ServerObservation
from kimi_linear_operator.server.service import url
from kimi_linear_operator.server.sglang.by_hand import recipe_command
from kimi_linear_operator.server.sglang.images import image_of
from kimi_linear_operator.server.sglang.program import SGLANG
from kimi_linear_operator.server.sglang.running import image_in
from kimi_linear_operator.server.template_current import template_current
from kimi_linear_operator.server.unready import why_not_ready


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
    """Return the fields that follow from the spec alone.

    If the spec was not applied, the fields keep their previous values. There is one exception: if only the pods wait
    (for their weights), the Service already follows the spec, so the URL does, too.
    """
    names = ("url", "command", "image", "selector")
    if observation.server is None or observation.not_applied:
        kept = {name: previous.get(name) for name in names}
        return kept | ({"url": url(observation.server)} if observation.server and observation.awaits_weights else {})
    spec = observation.server.spec
    command, image = recipe_command(spec), image_of(spec)
    if observation.choice and observation.choice.offer:
        # Another version has built the current template, perhaps with another image.
        command, image = previous.get("command", command), image_in(observation.choice.current.template) or image
    values = (url(observation.server), command, image, selector_text(observation.server))
    return dict(zip(names, values, strict=True))


def _addresses(observation: ServerObservation, previous: Manifest) -> list[str] | None:
    """Return the addresses outside the cluster, None if there are none."""
    server = observation.server
    if server is None or _is_refused(observation):
        return previous.get("addresses")
    return [*exposure(server, observation.routes).addresses] or None if is_exposed(server) else None


def _exposed(observation: ServerObservation) -> list[Condition]:
    """Return a list with the condition Exposed, empty if the spec asks for no way from outside the cluster."""
    server = observation.server
    if server is None or _is_refused(observation):
        return _as_before(observation, "Exposed")
    if not is_exposed(server):
        return []
    found = exposure(server, observation.routes)
    return [condition("Exposed", not found.problems, found.reason)]


def _is_refused(observation: ServerObservation) -> bool:
    """Return whether the spec is refused. Only then, the children other than the pods do not follow the spec.

    There is one exception: a suspended server has no autoscaler.
    """
    return observation.not_applied is not None and observation.not_applied.name == "InvalidSpec"


def _blames_spec(observation: ServerObservation) -> bool:
    return observation.not_applied is not None and observation.not_applied.blames_spec


def _conditions(observation: ServerObservation, now: str) -> list[Condition]:
    is_ready = observation.is_ready
    reason = observation.not_applied or why_not_ready(observation, now)
    serving = observation.count("availableReplicas")
    progress = f"{serving} of {observation.wanted} replicas serve"
    problem = Reason(reason.name, f"{progress}; {reason.message}" if observation.wanted else reason.message)
    why_stalled = _why_stalled(observation, problem)
    return [
        _accepted(observation),
        condition("Available", serving > 0, Reason("Serving", progress) if serving else problem),
        condition("Ready", is_ready, Reason("AllReplicasServe", progress) if is_ready else problem),
        reconciling(None if why_stalled else _why_reconciling(observation, problem)),
        stalled(why_stalled),
        template_current(observation),
        _synced(observation, now),
        *_exposed(observation),
        *_autoscaling(observation),
        *_verified(observation),
    ]


def _why_reconciling(observation: ServerObservation, problem: Reason) -> Reason | None:
    """Return what has to change until the server is as its spec asks, None if nothing has to.

    Args:
        observation: What the status is derived from.
        problem: Why the server is not Ready, if it is not.
    """
    is_busy = observation.wanted > 0 or observation.count("replicas") > 0 or observation.not_applied is not None
    if is_busy and not observation.is_ready:
        return problem
    return why_blocked(observation.held) if observation.held else None


def _verified(observation: ServerObservation) -> list[Condition]:
    """Return a list with the condition Verified, empty if the server is not verified."""
    if not (observation.server and verification.is_on(observation.server.spec)):
        return []
    if known := observation.verification:
        return [condition("Verified", known.holds, known.reason)]
    return _as_before(observation, "Verified")


def _as_before(observation: ServerObservation, name: str) -> list[Condition]:
    """Return a list with a condition as the previous pass wrote it, empty if it did not write the condition."""
    before = find_condition(observation.manifest.get("status", {}), name)
    return [Condition.model_validate(before)] if before else []


def _synced(observation: ServerObservation, now: str) -> Condition:
    """Return the condition Synced: whether all children are as the spec asks, and nobody else changes them."""
    blocked = why_blocked_long(observation.held, now)
    if reasons := [*observation.withheld, *([blocked] if blocked else [])]:
        return condition("Synced", False, Reason(reasons[0].name, "; ".join(reason.message for reason in reasons)))
    if observation.contested:
        fields = "; ".join(observation.contested)
        message = f"{fields}. The operator restores it only every few minutes until the other writer stops"
        return condition("Synced", False, Reason("ChangedByOthers", message))
    return condition("Synced", True, Reason("Undisputed", "Nobody keeps changing the fields that the operator writes"))


def _autoscaling(observation: ServerObservation) -> list[Condition]:
    """Return the condition Autoscaling, if the server asks for autoscaling."""
    server = observation.server
    if server is None or (_is_refused(observation) and not server.spec.suspend):
        return _as_before(observation, scaling.CONDITION)
    if not server.spec.autoscaling:
        return []
    seen = scaling.Autoscalers(observation.autoscaler, observation.scaled_object, observation.awaited)
    growth = scaling.Growth(is_allowed=observation.may_grow, awaits_weights=observation.awaits_weights)
    return [scaling.autoscaling_condition(server.spec, observation.deployment, seen, growth)]


def _accepted(observation: ServerObservation) -> Condition:
    if observation.not_applied and _blames_spec(observation):
        return condition("Accepted", False, observation.not_applied)
    return condition("Accepted", True, Reason("SpecValid", "The spec passes all rules"))


def _why_stalled(observation: ServerObservation, problem: Reason) -> Reason | None:
    """Return a reason that does not end by itself: a refused spec, or a rollout past its deadline."""
    if _blames_spec(observation):
        return observation.not_applied
    if (known := observation.verification) and known.holds is False and _waits_at_gate(observation):
        return known.reason
    progressing = observation.deployment_condition("Progressing").get("reason")
    # A wait in a queue ends by itself, even if it takes long.
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
