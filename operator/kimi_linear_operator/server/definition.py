"""The CustomResourceDefinition of KimiLinearServer, and the checker of its manifests."""

from kimi_linear_operator.kubernetes.check import Checker
from kimi_linear_operator.kubernetes.crd import Definition, column
from kimi_linear_operator.server import rules
from kimi_linear_operator.server.spec import KimiLinearServer
from kimi_linear_operator.server.spec.status import ServerStatus

_READY = '.status.conditions[?(@.type=="Ready")]'

DEFINITION = Definition(
    model=KimiLinearServer,
    status=ServerStatus,
    short_name="kls",
    columns=(
        column("Ready", "string", f"{_READY}.status"),
        column("Reason", "string", f"{_READY}.reason"),
        column("Hardware", "string", ".spec.hardware"),
        column("TP", "integer", ".spec.tensorParallelism"),
        column("Replicas", "integer", ".spec.replicas"),
        column("URL", "string", ".status.url"),
        column("Image", "string", ".status.image", priority=1),
        column("Message", "string", f"{_READY}.message", priority=1),
        column("Template", "string", '.status.conditions[?(@.type=="TemplateCurrent")].reason', priority=1),
        column("Age", "date", ".metadata.creationTimestamp"),
    ),
    pending=(("Ready", "Unknown"),),
    errors=rules.ERRORS,
    warnings=rules.WARNINGS,
    warnings_name="warnings.kimi-linear.io",
    scale={
        "specReplicasPath": ".spec.replicas",
        "statusReplicasPath": ".status.replicas",
        "labelSelectorPath": ".status.selector",
    },
)

CHECKER = Checker(KimiLinearServer, rules.RULES)
