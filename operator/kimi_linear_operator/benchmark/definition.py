"""The CustomResourceDefinition of KimiLinearBenchmark, and the checker of its rules."""

from kimi_linear_operator.benchmark import rules
from kimi_linear_operator.benchmark.spec import BenchmarkStatus, KimiLinearBenchmark
from kimi_linear_operator.kubernetes.check import Checker
from kimi_linear_operator.kubernetes.crd import Definition, column

_SUCCEEDED = '.status.conditions[?(@.type=="Succeeded")]'

DEFINITION = Definition(
    model=KimiLinearBenchmark,
    status=BenchmarkStatus,
    short_name="klb",
    columns=(
        column("Server", "string", ".spec.serverRef.name"),
        column("Suite", "string", ".status.currentSuite"),
        column("Progress", "string", ".status.progress"),
        column("Verdict", "string", ".status.verdict"),
        column("Reason", "string", f"{_SUCCEEDED}.reason"),
        column("Endpoint", "string", ".spec.endpoint.url", priority=1),
        column("Image", "string", ".status.environment.image", priority=1),
        column("Message", "string", f"{_SUCCEEDED}.message", priority=1),
        column("Age", "date", ".metadata.creationTimestamp"),
    ),
    pending=(("Succeeded", "Unknown"), ("Reconciling", "True")),
    errors=(*rules.ERRORS, *rules.TRANSITIONS),
    warnings=rules.WARNINGS,
    warnings_name="benchmark-warnings.kimi-linear.io",
)

CHECKER = Checker(KimiLinearBenchmark, rules.RULES)
