"""The model of KimiLinearBenchmark: suites of SGLang's own clients against a server, and a verdict on their numbers.

The recipe's suites are chosen by name. The fields of custom suites are parameters of sglang.bench_serving and
sglang.test.few_shot_gsm8k in SGLang 0.5.7; metrics have the names that these clients use. `kubectl explain` shows the
descriptions.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from kimi_linear_operator.kubernetes import kinds
from kimi_linear_operator.kubernetes.models import (
    INHERITED_METADATA,
    Conditions,
    DatasetFile,
    ImageReference,
    InheritedMetadata,
    Model,
    ModelName,
    ObjectName,
    PipPackage,
    Resource,
    SecretKeyRef,
    Status,
    Time,
    Whole,
    whole_number,
)
from kimi_linear_operator.kubernetes.pod_template import PodTemplate
from kimi_linear_operator.kubernetes.queueing import QueueName

SuiteKind = Literal["speed", "accuracy", "tool-calls"]

# Must come after the limits in `Annotated`: otherwise these are missing in the schema.
_WHOLE = BeforeValidator(whole_number)
_SuiteName = Annotated[str, Field(min_length=1, max_length=22, pattern=r"^[a-z]([-a-z0-9]*[a-z0-9])?$")]
_Metric = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[a-z0-9_]+$")]
_Number = Annotated[float, Field(ge=0, le=1_000_000_000_000)]


class ServerRef(Model):
    """A KimiLinearServer in the benchmark's namespace."""

    name: ObjectName = Field(description="Name of the server.")


class Endpoint(Model):
    """A server that is not a KimiLinearServer of this namespace."""

    url: Annotated[
        str,
        Field(
            max_length=512,
            pattern=r"^https?://([A-Za-z0-9][A-Za-z0-9.:_-]*|\[[0-9A-Fa-f:.]+\](:[0-9]+)?)$",
        ),
    ] = Field(description="Address of the server, without a path: http://kimi.other.svc:30000.")
    model: ModelName = Field(
        default="moonshotai/Kimi-Linear-48B-A3B-Instruct",
        description="Name of the model on the Hugging Face hub, which also has its tokenizer.",
    )
    api_key_secret_ref: SecretKeyRef | None = Field(
        default=None, description="API key that the server asks for. The operator finds the key of a KimiLinearServer."
    )


class Client(Model):
    """What SGLang's client runs in."""

    image: ImageReference | None = Field(
        default=None,
        description="Image with SGLang. If unset, it is the server's image or, for an endpoint, the recipe's. No "
        "GPU is needed.",
    )
    tokenizer: Annotated[str, Field(min_length=1, max_length=1024, pattern=r"^[A-Za-z0-9/][!-~]*$")] | None = Field(
        default=None,
        description="Name of the tokenizer on the hub, or its directory in the pod. If unset, the model's.",
    )
    extra_pip_packages: Annotated[list[PipPackage], Field(max_length=16)] | None = Field(
        default=None,
        description="Python packages that the tokenizer needs, installed if they can't be imported. If unset, those "
        "of the server, or for an endpoint sentencepiece and tiktoken.",
    )


class Speed(Model):
    """A load for sglang.bench_serving; the defaults are the recipe's."""

    num_prompts: Whole = Field(ge=1, le=1_000_000, description="Number of requests (--num-prompts).")
    max_concurrency: Annotated[int, Field(ge=1, le=100_000), _WHOLE] | None = Field(
        default=None, description="Most requests at a time (--max-concurrency). If unset, there is no limit."
    )
    request_rate: Annotated[float, Field(gt=0, le=1_000_000)] | None = Field(
        default=None, description="Requests a second (--request-rate). If unset, all come at once (inf)."
    )
    dataset_name: Literal["random", "random-ids", "sharegpt"] = Field(
        default="random",
        description="Where prompts come from (--dataset-name): random cuts ShareGPT conversations to random lengths, "
        "random-ids makes up tokens and needs no data, sharegpt takes the conversations as they are.",
    )
    random_input_len: Whole = Field(
        default=1000, ge=1, le=1_048_576, description="Longest prompt in tokens, for random and random-ids."
    )
    random_output_len: Whole = Field(
        default=1000, ge=1, le=1_048_576, description="Longest answer in tokens, for random and random-ids."
    )
    random_range_ratio: Annotated[float, Field(ge=0, le=1)] | None = Field(
        default=None,
        description="Shortest length as a share of the longest (--random-range-ratio). If unset, 0, as in the recipe: "
        "then lengths are between 1 token and the longest, on average about half of it.",
    )
    sharegpt_output_len: Annotated[int, Field(ge=1, le=1_048_576), _WHOLE] | None = Field(
        default=None, description="Tokens of every answer, instead of the lengths in the conversations. For sharegpt."
    )
    sharegpt_context_len: Annotated[int, Field(ge=1, le=1_048_576), _WHOLE] | None = Field(
        default=None, description="Longest conversation in tokens: longer ones are left out. For sharegpt."
    )
    seed: Annotated[int, Field(ge=0, le=4_294_967_295), _WHOLE] | None = Field(
        default=None,
        description="Seed of the random numbers (--seed). If unset, 1. The same seed gives the same prompts, which a "
        "server with a prefix cache may answer faster the second time.",
    )
    warmup_requests: Annotated[int, Field(ge=0, le=10_000), _WHOLE] | None = Field(
        default=None, description="Requests before the measurement (--warmup-requests). If unset, the client sends 1."
    )
    flush_cache: bool = Field(default=False, description="Empty the server's prefix cache first (--flush-cache).")
    apply_chat_template: bool = Field(
        default=False, description="Put prompts into the model's chat template (--apply-chat-template)."
    )
    disable_ignore_eos: bool = Field(
        default=False,
        description="Let the model end its answers (--disable-ignore-eos). If false, every answer has its full length.",
    )
    disable_stream: bool = Field(default=False, description="Ask for answers in one piece (--disable-stream).")
    tokenize_prompt: bool = Field(
        default=False, description="Send tokens instead of text (--tokenize-prompt), which keeps lengths exact."
    )
    extra_args: Annotated[list[Annotated[str, Field(min_length=1, max_length=256)]], Field(max_length=16)] = Field(
        default=[],
        description="More arguments for sglang.bench_serving, one list item each. Flags that have a field here are "
        "refused.",
    )


class Accuracy(Model):
    """Questions for sglang.test.few_shot_gsm8k."""

    num_questions: Whole = Field(
        default=200, ge=1, le=1319, description="Number of GSM8K questions (--num-questions); there are 1319."
    )
    num_shots: Annotated[int, Field(ge=0, le=100), _WHOLE] | None = Field(
        default=None, description="Examples before each question (--num-shots). If unset, the client uses 5."
    )
    max_new_tokens: Annotated[int, Field(ge=1, le=1_048_576), _WHOLE] | None = Field(
        default=None, description="Longest answer in tokens (--max-new-tokens). If unset, the client uses 512."
    )
    parallel: Annotated[int, Field(ge=1, le=10_000), _WHOLE] | None = Field(
        default=None, description="Questions at a time (--parallel). If unset, the client uses 128."
    )
    temperature: Annotated[float, Field(ge=0, le=10)] | None = Field(
        default=None, description="Sampling temperature (--temperature). If unset, the client uses 0."
    )


class ToolCalls(Model):
    """Chats that ask for calls of tools. The client is the operator's own."""

    num_requests: Whole = Field(
        default=20,
        ge=2,
        le=1000,
        description="Number of chats. Every second one is streamed. A call is valid if its arguments are JSON that the "
        "tool's schema allows.",
    )


class Suite(Model):
    """One run of one client: a suite of the recipe by its name, or one of your own."""

    name: _SuiteName = Field(
        description="speed-low, speed-medium, speed-high and gsm8k are the recipe's; any other needs speed, accuracy "
        "or toolCalls."
    )
    speed: Speed | None = Field(default=None, description="Measure throughput and latency with this load.")
    accuracy: Accuracy | None = Field(default=None, description="Measure the share of right answers.")
    tool_calls: ToolCalls | None = Field(
        default=None,
        description="Measure the share of valid tool calls. The server needs its tool-call parser.",
    )


RECIPE_SUITES: Mapping[str, Speed | Accuracy] = {
    # Recipe 5.1.1 to 5.1.3 and 5.2.1.
    "speed-low": Speed.model_validate({"numPrompts": 10, "maxConcurrency": 1}),
    "speed-medium": Speed.model_validate({"numPrompts": 80, "maxConcurrency": 16}),
    "speed-high": Speed.model_validate({"numPrompts": 500, "maxConcurrency": 100}),
    "gsm8k": Accuracy.model_validate({"numQuestions": 200}),
}


class Datasets(Model):
    """Where to find data that the clients would otherwise fetch from the internet."""

    share_gpt: DatasetFile | None = Field(
        default=None,
        alias="shareGPT",
        description="ShareGPT_V3_unfiltered_cleaned_split.json, for the datasets random and sharegpt.",
    )
    gsm8k: DatasetFile | None = Field(default=None, alias="gsm8k", description="GSM8K's test.jsonl, for accuracy.")


class Baseline(Model):
    """Numbers to compare with."""

    source: Literal["recipe", "benchmark", "none"] = Field(
        default="recipe",
        description="recipe: the published numbers, for the recipe's suites. They were measured on MI300X with four "
        "GPUs and SGLang 0.5.7: a reference, not a promise for other setups.",
    )
    benchmark: ObjectName | None = Field(
        default=None, description="Name of a complete KimiLinearBenchmark, if the source is benchmark."
    )
    max_regression_percent: Annotated[float, Field(ge=0, le=1000)] | None = Field(
        default=None,
        description="How much worse than the baseline a metric may be. If unset, the numbers are only shown.",
    )
    metrics: Annotated[list[_Metric], Field(min_length=1, max_length=32)] = Field(
        default=["output_throughput", "median_ttft_ms", "median_itl_ms", "accuracy"],
        description="Which metrics are compared with the baseline, if a suite has them. For throughput "
        "and accuracy, higher is better; for all else, lower.",
    )


class Threshold(Model):
    """A bound that a metric must keep."""

    suite: _SuiteName = Field(description="Name of the suite.")
    metric: _Metric = Field(
        description="Metric by the name that the client gives it, for example output_throughput, p99_ttft_ms, accuracy."
    )
    min: _Number | None = Field(default=None, description="Least value.")
    max: _Number | None = Field(default=None, description="Greatest value.")


class BenchmarkSpec(Model):
    """What to measure and what to expect.

    Fixed once the first suite has started, except for suspend and ttlSecondsAfterFinished.
    """

    server_ref: ServerRef | None = Field(
        default=None, description="The server to measure: either this or endpoint. Suites wait until it is Ready."
    )
    endpoint: Endpoint | None = Field(default=None, description="Another server to measure.")
    suites: Annotated[list[Suite], Field(min_length=1, max_length=16)] = Field(
        default=[{"name": name} for name in RECIPE_SUITES],
        validate_default=True,
        description="Suites to run, one after the other. If unset, the recipe's four suites.",
    )
    client: Client = Field(default_factory=Client, description="The environment of SGLang's client.")
    datasets: Datasets = Field(
        default_factory=Datasets, description="Data for clusters without access to the internet."
    )
    baseline: Baseline = Field(default_factory=Baseline, description="Numbers to compare with.")
    thresholds: Annotated[list[Threshold], Field(max_length=64)] = Field(
        default=[], description="Bounds that decide the verdict."
    )
    max_error_rate: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0,
        description="Share of a suite's requests that may fail; if more do, its numbers are Invalid.",
    )
    timeout_seconds: Whole = Field(
        default=7200,
        ge=10,
        le=604_800,
        description="Seconds that a suite may take with all its attempts, and with pulling its image.",
    )
    backoff_limit: Whole = Field(
        default=1, ge=0, le=10, description="How often a suite that failed is tried again. Evictions do not count."
    )
    suspend: bool = Field(
        default=False,
        description="Stop the running suite; it starts again from its beginning later. The results of suites that have "
        "ended are kept.",
    )
    queue_name: QueueName | None = Field(
        default=None,
        description="LocalQueue of Kueue that admits the Jobs of the suites. If unset, Kueue treats them as its "
        "administrator has configured.",
    )
    inherited_metadata: InheritedMetadata = Field(default_factory=InheritedMetadata, description=INHERITED_METADATA)
    ttl_seconds_after_finished: Annotated[int, Field(ge=0, le=2_147_483_647), _WHOLE] | None = Field(
        default=None,
        description="Seconds between Complete and the deletion of the benchmark with its results. If not set, the "
        "operator keeps the benchmark.",
    )
    pod_template: PodTemplate | None = Field(
        default=None,
        description="Strategic-merge patch on the pods that run the client, without directives: tolerations, "
        "resources, volumes, a security context and so on.",
    )


class Environment(Model):
    """What was measured."""

    server: str | None = Field(default=None, description="Name of the server, or address of the endpoint.")
    server_generation: Whole | None = Field(default=None, description="Generation of the server's spec.")
    image: str | None = Field(default=None, description="Image of the server.")
    pod_template_hash: str | None = Field(
        default=None,
        description="Hash of the spec in the server's pod template. A different hash means different pods.",
    )
    command: str | None = Field(default=None, description="The recipe's shell command for the server.")
    hardware: str | None = Field(default=None, description="GPU model of the server.")
    tensor_parallelism: Whole | None = Field(default=None, description="GPUs of one replica.")
    version: str | None = Field(default=None, description="SGLang release of the server.")


class Finding(Model):
    """One judgement on a suite."""

    rule: str = Field(description="What was judged: Threshold, Regression or Validity.")
    metric: str | None = Field(default=None, description="Metric that was judged.")
    value: float | None = Field(default=None, description="What was measured.")
    limit: float | None = Field(default=None, description="What was allowed.")
    passed: bool = Field(description="Whether the value is within the limit.")
    message: str = Field(description="The judgement in words.")


# SGLang's clients have 43 metrics.
Metrics = Annotated[dict[str, float], Field(max_length=64)]


class SuiteResult(Model):
    """How a suite ended."""

    name: str = Field(description="Name of the suite.")
    kind: str = Field(description="What was measured: speed, accuracy or tool-calls.")
    outcome: str = Field(description="Whether the client ran to its end: Succeeded or Failed.")
    reason: str | None = Field(
        default=None, description="Why the client did not run to its end: ClientFailed, NoResult or TimedOut."
    )
    message: str = Field(
        default="", description="Why the client did not run to its end, or a remark about the numbers."
    )
    requested: Whole = Field(default=0, description="Requests that the suite asks for.")
    completed: Whole = Field(default=0, description="Requests that succeeded.")
    start_time: Time = Field(description="When the first attempt of the suite started.")
    completion_time: Time = Field(description="When the suite ended.")
    metrics: Metrics = Field(default={}, description="Metrics by the names that the client gives them.")
    baseline: Metrics = Field(default={}, description="The same metrics of the baseline.")
    ratios: Metrics = Field(default={}, description="Measured value divided by the baseline, rounded.")
    findings: Annotated[list[Finding], Field(max_length=256)] = Field(
        default=[], description="All judgements about the suite."
    )


class Attempt(Model):
    """A suite that could not start and gave its turn back to other benchmarks of the server."""

    suite: str = Field(description="The suite.")
    time: Time = Field(description="When the suite gave its turn back.")
    reason: str = Field(description="Why the suite could not start, in one CamelCase word.", max_length=1024)
    message: str = Field(description="Why the suite could not start.", max_length=32768)


class BenchmarkStatus(Status):
    """The observed state."""

    RECORDS = frozenset({"environment", "results"})

    conditions: Conditions = Field(
        default_factory=list,
        description="Accepted, TargetReady, Complete, Succeeded, Reconciling and Stalled.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
    verdict: str | None = Field(
        default=None,
        description="Passed, Failed or Invalid. Invalid means that the numbers do not count, for example because "
        "requests failed or the server changed during the run.",
    )
    current_suite: str | None = Field(default=None, description="The suite that runs.")
    progress: str | None = Field(default=None, description="Suites that have ended, out of all.")
    start_time: Time | None = Field(default=None, description="When the first suite started.")
    completion_time: Time | None = Field(default=None, description="When the last suite ended.")
    failed_start: Attempt | None = Field(
        default=None,
        description="The last failed attempt to start the next suite, after which other benchmarks went first.",
    )
    environment: Environment | None = Field(default=None, description="What was measured.")
    results: Annotated[list[SuiteResult], Field(max_length=16)] = Field(
        default_factory=list, description="How each suite ended, in order."
    )


BENCHMARK = kinds.BENCHMARK


class KimiLinearBenchmark(Resource):
    """A measurement of a server: suites, one after the other, and a verdict."""

    KIND = BENCHMARK
    COMPONENT = "benchmark"

    kind: Literal["KimiLinearBenchmark"]
    spec: BenchmarkSpec = Field(description="What to measure and what to expect.")

    @property
    def inherited_metadata(self) -> InheritedMetadata:
        """Return the labels and annotations of every object that belongs to the benchmark."""
        return self.spec.inherited_metadata
