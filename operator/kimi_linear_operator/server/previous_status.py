"""What the status that a previous pass wrote says: whether the spec was applied."""

from kimi_linear_operator.kubernetes.conditions import find_condition, ready_condition
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.reasons import REASONS, ReasonName

# Reasons of Ready if the spec was not applied.
AWAITED_WEIGHTS: tuple[ReasonName, ...] = ("WeightsDownloading", "WeightsMissing", "WeightsUnready")
NOT_APPLIED = ("ApplyFailed", "InvalidSpec", "NameConflict", "Replacing", *AWAITED_WEIGHTS)
APPLIED_BEFORE = ("AppliedBefore", "InputsUnknown", "NewTemplateAvailable", "RolledBack", "TemplateRejected")
"""A server has these reasons of TemplateCurrent only if this generation of its spec was applied before."""


def was_applied(previous: Manifest, generation: int) -> bool:
    """Return whether a status says that this generation of the spec was applied, even if a later pass failed."""
    ready, template = ready_condition(previous), find_condition(previous, "TemplateCurrent")
    # Another version may have refused the spec for a reason that this version does not know.
    is_known = ready.get("reason") in REASONS or template.get("reason") != "SpecNotApplied"
    is_applied = "reason" in ready and is_known and ready["reason"] not in NOT_APPLIED
    is_applied_before = template.get("reason") in APPLIED_BEFORE
    return previous.get("observedGeneration") == generation and (is_applied or is_applied_before)


def was_ever_applied(previous: Manifest) -> bool:
    """Return whether a status shows that any generation was applied. After the first one, it contains an image."""
    return "image" in previous


def is_rolling_out(previous: Manifest, generation: int) -> bool:
    """Return whether a status says that this generation is in an automatic rollout."""
    template = find_condition(previous, "TemplateCurrent")
    return was_applied(previous, generation) and template.get("reason") == "RollingOutByItself"
