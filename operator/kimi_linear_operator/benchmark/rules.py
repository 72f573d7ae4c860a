"""The rules of KimiLinearBenchmark. They are written only here."""

from collections.abc import Iterable

from kimi_linear_operator.benchmark import commands, metric
from kimi_linear_operator.benchmark.metric import Metric
from kimi_linear_operator.benchmark.spec import RECIPE_SUITES, BenchmarkSpec
from kimi_linear_operator.kubernetes import expressions
from kimi_linear_operator.kubernetes.rule import Rule, Transition, unchanged

# The name of each Job begins with the benchmark's name. Kubernetes puts the Job's name into a label of the pods, whose
# value can have 63 characters.
LONGEST_NAME = 40

_RECIPE = str(list(RECIPE_SUITES))
# With fewer questions, a single answer changes the accuracy by more than one percentage point.
_FEW_QUESTIONS = 100


def _is_one_of(variable: str, metrics: Iterable[Metric]) -> str:
    """Return a CEL expression that is true if a variable is the name of one of these metrics."""
    return f"{variable} in {list(dict.fromkeys(item.name for item in metrics))}"


CHANGEABLE = ("suspend", "ttlSecondsAfterFinished")
_FIXED = [field.alias for field in BenchmarkSpec.model_fields.values() if field.alias and field.alias not in CHANGEABLE]
_DIRECTED = [item for metrics in metric.METRICS.values() for item in metrics if item.better]
_IS_ACCURACY = "(s.name == 'gsm8k' || has(s.accuracy))"
_LOADS = "[has(s.speed), has(s.accuracy), has(s.toolCalls)]"

ERRORS = (
    expressions.name(LONGEST_NAME, "the names of its Jobs contain this name and the name of a suite"),
    Rule(
        "error",
        "spec",
        "has(self.serverRef) != has(self.endpoint)",
        "set either spec.serverRef (a KimiLinearServer of this namespace) or spec.endpoint",
        blames="serverRef",
    ),
    Rule(
        "error",
        "spec.suites",
        "self.all(s, self.exists_one(t, t.name == s.name))",
        "contains two suites with the same name: give each suite its own name, because the results are stored by name",
    ),
    Rule(
        "error",
        "spec.suites",
        f"self.all(s, s.name in {_RECIPE} || {_LOADS}.exists_one(l, l))",
        "contains a suite that is not in the recipe (speed-low, speed-medium, speed-high, gsm8k): set exactly one "
        "of its fields speed, accuracy and toolCalls",
    ),
    Rule(
        "error",
        "spec.suites",
        f"self.all(s, !(s.name in {_RECIPE}) || !{_LOADS}.exists(l, l))",
        "changes a suite of the recipe: give your own suite another name",
    ),
    Rule(
        "error",
        "spec.suites",
        f"self.all(s, !has(s.speed) || s.speed.extraArgs.all(a, !{expressions.is_flag('a', commands.OWNED_FLAGS)}))",
        "contains a flag in extraArgs that a field replaces or that the operator sets: use the field instead "
        "(numPrompts, datasetName ..., spec.datasets or spec.client)",
    ),
    *(expressions.dataset_file(f"spec.datasets.{dataset}") for dataset in ("shareGPT", "gsm8k")),
    Rule(
        "error",
        "spec.baseline",
        "(self.source == 'benchmark') == has(self.benchmark)",
        "must be set if and only if spec.baseline.source is benchmark",
        blames="benchmark",
    ),
    Rule(
        "error",
        "",
        "!has(self.spec) || !has(self.spec.baseline) || !has(self.spec.baseline.benchmark) || "
        "self.spec.baseline.benchmark != self.metadata.name",
        "is this benchmark itself: name another benchmark",
        blames="spec.baseline.benchmark",
    ),
    Rule(
        "error",
        "spec.baseline",
        "!has(self.maxRegressionPercent) || self.source != 'none'",
        "needs a baseline to compare with: set spec.baseline.source",
        blames="maxRegressionPercent",
    ),
    Rule(
        "error",
        "spec.baseline.metrics",
        f"self.all(m, {_is_one_of('m', _DIRECTED)})",
        "contains a metric that cannot be compared: no client reports it, or neither a higher nor a lower value is "
        "better. Use throughputs, latencies (median_ttft_ms ...), accuracy, invalid or duration",
    ),
    Rule(
        "error",
        "spec",
        "self.thresholds.all(t, self.suites.exists(s, s.name == t.suite))",
        "names a suite that is not in spec.suites",
        blames="thresholds",
    ),
    Rule(
        "error",
        "spec",
        f"self.thresholds.all(t, self.suites.all(s, s.name != t.suite || ({_IS_ACCURACY} ? "
        f"{_is_one_of('t.metric', metric.ACCURACY)} : has(s.toolCalls) ? {_is_one_of('t.metric', metric.TOOL_CALLS)} : "
        f"{_is_one_of('t.metric', metric.SPEED)})))",
        "names a metric that the suite does not measure. Speed suites: the metrics of sglang.bench_serving "
        "(output_throughput, p99_ttft_ms ...); accuracy suites: accuracy, invalid, latency and output_throughput; "
        "suites of tool calls: valid_tool_calls, valid_streamed_tool_calls and latency",
        blames="thresholds",
    ),
    Rule(
        "error",
        "spec.thresholds",
        "self.all(t, has(t.min) || has(t.max))",
        "lacks a limit: set min, max or both",
    ),
    Rule(
        "error",
        "spec.thresholds",
        "self.all(t, !has(t.min) || !has(t.max) || t.min <= t.max)",
        "has a min that is greater than its max: correct one of them",
    ),
    Rule(
        "error",
        expressions.CONTAINERS,
        f"self.all(c, {expressions.NO_GPUS})",
        "requests amd.com/gpu, but clients need no GPUs: remove the request",
    ),
    Rule(
        "error",
        expressions.CONTAINERS,
        expressions.own_container(
            commands.CONTAINER, f"!has(c.env) || c.env.all(e, e.name != '{commands.API_KEY_VARIABLE}')"
        ),
        f"sets the variable {commands.API_KEY_VARIABLE}, but the operator sets it from the server's Secret or from "
        "spec.endpoint.apiKeySecretRef: remove the variable",
    ),
    expressions.own_command(commands.CONTAINER, "use spec.client and spec.suites"),
    expressions.unprivileged(commands.CONTAINER, "it only sends requests"),
    expressions.own_network("puts the client on the node's network, which a measurement does not need"),
    expressions.owned_labels(),
    *expressions.inherited_metadata(),
)

WARNINGS = (
    Rule(
        "warning",
        "spec.suites",
        f"self.all(s, !has(s.accuracy) || s.accuracy.numQuestions >= {_FEW_QUESTIONS})",
        f"asks fewer than {_FEW_QUESTIONS} questions: by chance alone, the accuracy can then be wrong by five "
        "percentage points or more",
    ),
    Rule(
        "warning",
        "spec.suites",
        "self.all(s, !has(s.speed) || s.speed.datasetName != 'random-ids')",
        "uses the dataset random-ids, which makes up tokens: SGLang's source says that such tokens can lead to NaN "
        "in the model",
    ),
)

TRANSITIONS = (
    Transition(
        "error",
        "",
        "!has(oldSelf.status) || !has(oldSelf.status.startTime) || " + unchanged(f"spec.{field}" for field in _FIXED),
        "cannot change after the first suite has started, because it says what was measured; only suspend and "
        "ttlSecondsAfterFinished can change. Create another benchmark, or delete this one first",
        blames="spec",
    ),
)
"""Rules about changes, which only the API server can check."""

RULES = (*ERRORS, *WARNINGS)
