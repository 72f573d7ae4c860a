"""The condition TemplateCurrent: whether the pods are as this version of the operator builds them."""

from collections.abc import Sequence

from kimi_linear_operator.kubernetes.check import field_path
from kimi_linear_operator.kubernetes.conditions import Reason, condition, find_condition
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.models import Condition
from kimi_linear_operator.server.labels import ROLLOUT_ANNOTATION
from kimi_linear_operator.server.observation import ServerObservation
from kimi_linear_operator.server.previous_status import APPLIED_BEFORE, was_applied, was_rolled_back
from kimi_linear_operator.server.template_choice import TemplateChoice


def template_current(observation: ServerObservation) -> Condition:
    """Return whether the pods have the template that this version of the operator builds.

    If the spec was applied earlier, the reason says so even if a write has failed since then. Otherwise the next pass
    would mistake defaults in the spec for requests of its owner. If the pods went back to an older template, the reason
    also stays. Otherwise the next pass could give them the template that failed.

    Args:
        observation: What a pass has seen of the server.
    """
    found = _template_current(observation)
    previous: Manifest = observation.manifest.get("status", {})
    is_known = not observation.not_applied or found.reason in APPLIED_BEFORE
    if is_known or not was_applied(previous, observation.generation):
        return found
    if was_rolled_back(previous, observation.generation):
        name = find_condition(previous, "TemplateCurrent")["reason"]
        message = "A newer template failed its verification, so the pods have an older one again. They stay as they are"
        return condition("TemplateCurrent", False, Reason(name, message))
    message = "The spec was applied earlier, but now there is a problem. The pods stay as they are"
    return condition("TemplateCurrent", None, Reason("AppliedBefore", message))


def _template_current(observation: ServerObservation) -> Condition:
    choice = observation.choice
    is_decided = choice is not None and (observation.deployment is not None or not choice.offers)
    lacks_record = observation.not_applied is not None and not observation.is_recorded
    if choice is None or not is_decided or lacks_record:
        message = "The spec was not applied, so the operator does not know which pods it needs"
        return condition("TemplateCurrent", None, Reason("SpecNotApplied", message))
    if choice.unready:
        message = f"The pods stay as they are: {choice.unready.message}"
        return condition("TemplateCurrent", None, Reason(choice.unready.name, message))
    by_itself = choice.current.is_automatic
    # Perhaps another version of the operator builds a template of the replicas that passes the verification.
    if choice.is_rolled_back and not (choice.offer and by_itself):
        message = (
            f"The pods have template {choice.deployed.number} again, because template {choice.current.number} failed "
            "its verification. Change the spec to try another one"
        )
        return condition("TemplateCurrent", False, Reason("TemplateRejected" if by_itself else "RolledBack", message))
    if choice.unknown_inputs:
        message = f"{_unknown_message(choice)} {_TAKE}{_left_out_message(choice)}"
        return condition("TemplateCurrent", False, Reason("InputsUnknown", message))
    if choice.offers:
        message = _offer_message(choice, has_weights=_has_weights(observation))
        return condition("TemplateCurrent", False, Reason("NewTemplateAvailable", message))
    if choice.current.is_automatic:
        message = "The operator is giving the server the newest pod template (--rollout-pause)"
        return condition("TemplateCurrent", True, Reason("RollingOutByItself", message))
    message = f"This version of the operator builds the same pods{_left_out_message(choice)}"
    return condition("TemplateCurrent", True, Reason("Newest", message))


def _has_weights(observation: ServerObservation) -> bool:
    return bool(observation.server and observation.server.spec.model.weights)


# How many fields the message about a new template names.
_NAMED_FIELDS = 5


def _offer_message(choice: TemplateChoice, *, has_weights: bool) -> str:
    cause = "This version of the operator builds a different pod template"
    if has_weights:
        cause = "The weights have a new commit, or this version of the operator builds a different pod template"
    return f"{cause} ({_named(choice.offers)}). The pods stay as they are. {_TAKE}{_left_out_message(choice)}"


_TAKE = f"To take the new template, give the server's annotation {ROLLOUT_ANNOTATION} a new value, or change its spec"


def _unknown_message(choice: TemplateChoice) -> str:
    names = _named([".".join(map(str, path)) for path in choice.unknown_inputs])
    return (
        f"Another version of the operator has built the pods from fields that this version does not know or refuses "
        f"({names}). The pod template of this version lacks them, so no automatic rollout uses it."
    )


def _left_out_message(choice: TemplateChoice) -> str:
    """Return a sentence about fields that are perhaps only defaults, empty if there are none."""
    if not choice.left_out:
        return ""
    fields = _named([field_path(("spec", *path)) for path in choice.left_out])
    return (
        f". The pods ignore the values of {fields}, which are perhaps only defaults of the CRD. If you want these "
        f"values, give the annotation {ROLLOUT_ANNOTATION} a new value"
    )


def _named(fields: Sequence[str]) -> str:
    more = len(fields) - _NAMED_FIELDS
    return ", ".join(fields[:_NAMED_FIELDS]) + (f" and {more} more" if more > 0 else "")
