"""Reads from the status of a previous pass whether the spec was applied."""

from kimi_linear_operator.kubernetes.conditions import find_condition, ready_condition
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.reasons import REASONS, ReasonName

# Ready has one of these reasons if the spec was not applied.
AWAITED_WEIGHTS: tuple[ReasonName, ...] = ("WeightsDownloading", "WeightsMissing", "WeightsUnready")
NOT_APPLIED = ("ApplyFailed", "InvalidSpec", "NameConflict", "Replacing", *AWAITED_WEIGHTS)
_ROLLED_BACK = ("RolledBack", "TemplateRejected")
_ROLLING_OUT = ("RollingOutByItself", "TemplateRejected")
APPLIED_BEFORE = ("AppliedBefore", "InputsUnknown", "NewTemplateAvailable", "RolledBack", "TemplateRejected")
"""TemplateCurrent has one of these reasons only if the spec was applied before in this generation."""


def was_applied(previous: Manifest, generation: int) -> bool:
    """Return whether a status says that this generation of the spec was applied, even if a later pass failed."""
    ready, template = ready_condition(previous), find_condition(previous, "TemplateCurrent")
    # Perhaps another version has refused the spec for a reason that this version does not know.
    is_known = ready.get("reason") in REASONS or template.get("reason") != "SpecNotApplied"
    is_applied = "reason" in ready and is_known and ready["reason"] not in NOT_APPLIED
    is_applied_before = template.get("reason") in APPLIED_BEFORE
    return previous.get("observedGeneration") == generation and (is_applied or is_applied_before)


def was_recorded(previous: Manifest, generation: int) -> bool:
    """Return whether a status says that the pod template of this generation was recorded, even if other writes failed.

    The record shows what the owner of the spec asked for until then.
    """
    template = find_condition(previous, "TemplateCurrent")
    is_recorded = template.get("status") == "True" and template.get("observedGeneration") == generation
    return was_applied(previous, generation) or (previous.get("observedGeneration") == generation and is_recorded)


def was_rolled_back(previous: Manifest, generation: int) -> bool:
    """Return whether a status says that the pods went back to an older template, because the answers were wrong."""
    template = find_condition(previous, "TemplateCurrent")
    return previous.get("observedGeneration") == generation and template.get("reason") in _ROLLED_BACK


def was_ever_applied(previous: Manifest) -> bool:
    """Return whether any generation was applied, according to a status.

    After the first applied generation, the status contains an image.
    """
    return "image" in previous


def is_rolling_out(previous: Manifest, generation: int) -> bool:
    """Return whether a status says that this generation is in an automatic rollout, or that the rollout failed here."""
    template = find_condition(previous, "TemplateCurrent")
    return was_applied(previous, generation) and template.get("reason") in _ROLLING_OUT
