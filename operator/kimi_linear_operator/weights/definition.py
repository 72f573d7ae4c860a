"""The CustomResourceDefinition of KimiLinearWeights, and the checker of its manifests."""

from kimi_linear_operator.kubernetes.check import Checker
from kimi_linear_operator.kubernetes.crd import Definition, column
from kimi_linear_operator.weights import rules
from kimi_linear_operator.weights.spec import KimiLinearWeights, WeightsStatus

_READY = '.status.conditions[?(@.type=="Ready")]'

DEFINITION = Definition(
    model=KimiLinearWeights,
    status=WeightsStatus,
    short_name="klw",
    columns=(
        column("Ready", "string", f"{_READY}.status"),
        column("Reason", "string", f"{_READY}.reason"),
        column("Revision", "string", ".spec.source.revision"),
        column("Percent", "integer", ".status.percent"),
        column("Seconds Left", "integer", ".status.secondsLeft"),
        column("Claim", "string", ".status.claim"),
        column("Commit", "string", ".status.commit", priority=1),
        column("Bytes Per Second", "integer", ".status.bytesPerSecond", priority=1),
        column("Message", "string", f"{_READY}.message", priority=1),
        column("Age", "date", ".metadata.creationTimestamp"),
    ),
    pending=(("Ready", "Unknown"),),
    errors=rules.ERRORS,
    warnings=rules.WARNINGS,
    warnings_name="weights-warnings.kimi-linear.io",
)

CHECKER = Checker(KimiLinearWeights, rules.RULES)
