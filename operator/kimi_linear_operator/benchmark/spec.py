"""The model of KimiLinearBenchmark: suites of SGLang's own clients against a server, and a verdict on the numbers.

A user chooses the recipe's suites by name. The fields of custom suites are parameters of sglang.bench_serving and
sglang.test.few_shot_gsm8k in SGLang 0.5.7. Metrics have the names that these clients use. `kubectl explain` shows the
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

# In `Annotated`, this must come after the limits: otherwise the schema lacks the limits.
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
    ] = Field(description="Address of the server, without a path. Example: http://kimi.other.svc:30000.")
    model: ModelName = Field(
        default="moonshotai/Kimi-Linear-48B-A3B-Instruct",
        description="Name of the model on the Hugging Face hub. The client takes the tokenizer from there.",
    )
    api_key_secret_ref: SecretKeyRef | None = Field(
        default=None,
        description="API key that the endpoint asks for. For a KimiLinearServer of this namespace, use "
        "serverRef: then the operator finds the key itself.",
    )


class Client(Model):
    """The environment in which SGLang's client runs."""

    image: ImageReference | None = Field(
        default=None,
        description="Image that contains SGLang. If unset, it is the server's image, or for an endpoint the recipe's "
        "image. The client needs no GPU.",
    )
    tokenizer: Annotated[str, Field(min_length=1, max_length=1024, pattern=r"^[A-Za-z0-9/][!-~]*$")] | None = Field(
        default=None,
        description="Name of the tokenizer on the hub, or its directory in the pod. If unset, the client uses the "
        "model's tokenizer.",
    )
    extra_pip_packages: Annotated[list[PipPackage], Field(max_length=16)] | None = Field(
        default=None,
        description="Python packages that the tokenizer needs. The pod installs each one that it cannot import. If "
        "unset, these are the packages of the server, or for an endpoint sentencepiece and tiktoken.",
    )


class Speed(Model):
    """A load for sglang.bench_serving. The defaults are the recipe's values."""

    num_prompts: Whole = Field(ge=1, le=1_000_000, description="Number of requests (--num-prompts).")
    max_concurrency: Annotated[int, Field(ge=1, le=100_000), _WHOLE] | None = Field(
        default=None,
        description="Maximum number of requests at the same time (--max-concurrency). If unset, there is no limit.",
    )
    request_rate: Annotated[float, Field(gt=0, le=1_000_000)] | None = Field(
        default=None,
        description="Requests per second (--request-rate). If unset, the client does not wait between requests (inf).",
    )
    dataset_name: Literal["random", "random-ids", "sharegpt"] = Field(
        default="random",
        description="Where prompts come from (--dataset-name). With random, the client cuts ShareGPT conversations to "
        "random lengths. With random-ids, it makes up tokens and needs no data. With sharegpt, it uses the "
        "conversations as they are.",
    )
    random_input_len: Whole = Field(
        default=1000, ge=1, le=1_048_576, description="Longest prompt in tokens, for random and random-ids."
    )
    random_output_len: Whole = Field(
        default=1000, ge=1, le=1_048_576, description="Longest answer in tokens, for random and random-ids."
    )
    random_range_ratio: Annotated[float, Field(ge=0, le=1)] | None = Field(
        default=None,
        description="Shortest length as a share of the longest (--random-range-ratio). If unset, the share is 0, as in "
        "the recipe: lengths are then between 1 token and the longest length. The average is about half of the longest "
        "length.",
    )
    sharegpt_output_len: Annotated[int, Field(ge=1, le=1_048_576), _WHOLE] | None = Field(
        default=None,
        description="Number of tokens of every answer, instead of the lengths in the conversations. Only for sharegpt.",
    )
    sharegpt_context_len: Annotated[int, Field(ge=1, le=1_048_576), _WHOLE] | None = Field(
        default=None,
        description="Longest conversation in tokens. The client leaves out longer conversations. Only for sharegpt.",
    )
    seed: Annotated[int, Field(ge=0, le=4_294_967_295), _WHOLE] | None = Field(
        default=None,
        description="Seed of the random numbers (--seed). If unset, it is 1. The same seed gives the same prompts. A "
        "server with a prefix cache can answer the same prompts faster the second time.",
    )
    warmup_requests: Annotated[int, Field(ge=0, le=10_000), _WHOLE] | None = Field(
        default=None,
        description="Number of requests before the measurement (--warmup-requests). If unset, the client sends 1.",
    )
    flush_cache: bool = Field(default=False, description="Empty the server's prefix cache first (--flush-cache).")
    apply_chat_template: bool = Field(
        default=False, description="Apply the model's chat template to the prompts (--apply-chat-template)."
    )
    disable_ignore_eos: bool = Field(
        default=False,
        description="Let the model end an answer early (--disable-ignore-eos). If false, every answer has its full "
        "length.",
    )
    disable_stream: bool = Field(default=False, description="Do not stream answers (--disable-stream).")
    tokenize_prompt: bool = Field(
        default=False, description="Send tokens instead of text (--tokenize-prompt), so that the lengths are exact."
    )
    extra_args: Annotated[list[Annotated[str, Field(min_length=1, max_length=256)]], Field(max_length=16)] = Field(
        default=[],
        description="More arguments for sglang.bench_serving, each as one list item. Flags that have a field here "
        "are refused.",
    )


class Accuracy(Model):
    """Questions for sglang.test.few_shot_gsm8k."""

    num_questions: Whole = Field(
        default=200, ge=1, le=1319, description="Number of GSM8K questions (--num-questions). GSM8K has 1319."
    )
    num_shots: Annotated[int, Field(ge=0, le=100), _WHOLE] | None = Field(
        default=None, description="Number of examples before each question (--num-shots). If unset, the client uses 5."
    )
    max_new_tokens: Annotated[int, Field(ge=1, le=1_048_576), _WHOLE] | None = Field(
        default=None, description="Longest answer in tokens (--max-new-tokens). If unset, the client uses 512."
    )
    parallel: Annotated[int, Field(ge=1, le=10_000), _WHOLE] | None = Field(
        default=None, description="Number of questions at the same time (--parallel). If unset, the client uses 128."
    )
    temperature: Annotated[float, Field(ge=0, le=10)] | None = Field(
        default=None, description="Sampling temperature (--temperature). If unset, the client uses 0."
    )


class ToolCalls(Model):
    """Chats in which the model must call tools. The client is part of the operator."""

    num_requests: Whole = Field(
        default=20,
        ge=2,
        le=1000,
        description="Number of chats. Every second one is streamed. A call is valid if its arguments are JSON that the "
        "tool's schema allows.",
    )


class Suite(Model):
    """One run of one client: a suite of the recipe, or your own suite."""

    name: _SuiteName = Field(
        description="Name of the suite. speed-low, speed-medium, speed-high and gsm8k are the recipe's suites. A "
        "suite with any other name needs speed, accuracy or toolCalls."
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
    """Data in the cluster, so that the clients do not fetch it from the internet."""

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
        description="With recipe, the recipe's suites are compared with the recipe's published numbers. These were "
        "measured on MI300X with four GPUs and SGLang 0.5.7, so other hardware can give other numbers.",
    )
    benchmark: ObjectName | None = Field(
        default=None, description="Name of a complete KimiLinearBenchmark. Only with source benchmark."
    )
    max_regression_percent: Annotated[float, Field(ge=0, le=1000)] | None = Field(
        default=None,
        description="By how many percent a metric may be worse than the baseline. If unset, the comparison has no "
        "effect on the verdict.",
    )
    metrics: Annotated[list[_Metric], Field(min_length=1, max_length=32)] = Field(
        default=["output_throughput", "median_ttft_ms", "median_itl_ms", "accuracy"],
        description="Metrics to compare with the baseline. The comparison of a suite leaves out metrics that the suite "
        "does not measure. Higher throughput and accuracy are better. For all other metrics, lower values are better.",
    )


class Threshold(Model):
    """A limit for a metric."""

    suite: _SuiteName = Field(description="Name of the suite.")
    metric: _Metric = Field(
        description="The client's name for the metric, for example output_throughput, p99_ttft_ms or accuracy."
    )
    min: _Number | None = Field(default=None, description="Least value.")
    max: _Number | None = Field(default=None, description="Greatest value.")


class BenchmarkSpec(Model):
    """What to measure and what to expect.

    After the first suite has started, only suspend and ttlSecondsAfterFinished can change.
    """

    server_ref: ServerRef | None = Field(
        default=None,
        description="The server to measure. Set either this or endpoint. Suites wait until the server is Ready.",
    )
    endpoint: Endpoint | None = Field(default=None, description="The address to measure. Set either this or serverRef.")
    suites: Annotated[list[Suite], Field(min_length=1, max_length=16)] = Field(
        default=[{"name": name} for name in RECIPE_SUITES],
        validate_default=True,
        description="Suites to run, one after the other. If unset, the operator runs the recipe's four suites.",
    )
    client: Client = Field(default_factory=Client, description="The environment of SGLang's client.")
    datasets: Datasets = Field(
        default_factory=Datasets, description="Datasets for clusters without access to the internet."
    )
    baseline: Baseline = Field(default_factory=Baseline, description="Numbers to compare with.")
    thresholds: Annotated[list[Threshold], Field(max_length=64)] = Field(
        default=[], description="Limits that decide the verdict."
    )
    max_error_rate: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0,
        description="Share of a suite's requests that may fail. If more requests fail, the numbers of the suite are "
        "Invalid.",
    )
    timeout_seconds: Whole = Field(
        default=7200,
        ge=10,
        le=604_800,
        description="Time limit of a suite in seconds. It includes all attempts and the pull of the image.",
    )
    backoff_limit: Whole = Field(
        default=1, ge=0, le=10, description="How many times a failed suite is tried again. Evictions do not count."
    )
    suspend: bool = Field(
        default=False,
        description="If true, the running suite stops. When you set it to false again, this suite starts from its "
        "beginning. The operator keeps the results of suites that have ended.",
    )
    queue_name: QueueName | None = Field(
        default=None,
        description="Kueue's LocalQueue for the Jobs of the suites. If unset, Kueue's configuration decides what "
        "happens to Jobs without a queue.",
    )
    inherited_metadata: InheritedMetadata = Field(default_factory=InheritedMetadata, description=INHERITED_METADATA)
    ttl_seconds_after_finished: Annotated[int, Field(ge=0, le=2_147_483_647), _WHOLE] | None = Field(
        default=None,
        description="Seconds from the end of the last suite until the operator deletes the benchmark with its "
        "results. If unset, the operator keeps the benchmark.",
    )
    pod_template: PodTemplate | None = Field(
        default=None,
        description="Strategic-merge patch on the pods that run the client, for example with tolerations, resources, "
        "volumes or a security context. Directives such as $patch are refused.",
    )


class Environment(Model):
    """What was measured."""

    server: str | None = Field(default=None, description="Name of the server, or address of the endpoint.")
    server_generation: Whole | None = Field(default=None, description="Generation of the server's spec.")
    image: str | None = Field(default=None, description="Image of the server.")
    pod_template_hash: str | None = Field(
        default=None,
        description="Hash of the pod spec in the server's pod template. After a change of the pod spec, the hash is "
        "different.",
    )
    command: str | None = Field(
        default=None, description="The shell command with which the recipe starts such a server."
    )
    hardware: str | None = Field(default=None, description="GPU model of the server.")
    tensor_parallelism: Whole | None = Field(default=None, description="GPUs of one replica.")
    version: str | None = Field(default=None, description="SGLang release of the server.")


class Finding(Model):
    """One finding about a suite."""

    rule: str = Field(description="What was checked: Threshold, Regression or Validity.")
    metric: str | None = Field(default=None, description="Metric that was checked.")
    value: float | None = Field(default=None, description="What was measured.")
    limit: float | None = Field(default=None, description="What was allowed.")
    passed: bool = Field(description="Whether the suite passed this check.")
    message: str = Field(description="The finding in words.")


# SGLang's clients have 43 metrics.
Metrics = Annotated[dict[str, float], Field(max_length=64)]


class SuiteResult(Model):
    """How a suite ended."""

    name: str = Field(description="Name of the suite.")
    kind: str = Field(description="What was measured: speed, accuracy or tool-calls.")
    outcome: str = Field(description="Succeeded if the client ran to its end, else Failed.")
    reason: str | None = Field(
        default=None, description="Reason why the client did not run to its end: ClientFailed, NoResult or TimedOut."
    )
    message: str = Field(
        default="", description="Why the client did not run to its end, or a remark about the numbers."
    )
    requested: Whole = Field(default=0, description="Requests that the suite asks for.")
    completed: Whole = Field(default=0, description="Requests that succeeded.")
    start_time: Time = Field(description="When the first attempt of the suite started.")
    completion_time: Time = Field(description="When the suite ended.")
    metrics: Metrics = Field(default={}, description="Metrics by the client's names.")
    baseline: Metrics = Field(default={}, description="The baseline's values of the same metrics.")
    ratios: Metrics = Field(default={}, description="Measured value divided by the baseline, rounded.")
    findings: Annotated[list[Finding], Field(max_length=256)] = Field(
        default=[], description="All findings about the suite."
    )


class Attempt(Model):
    """A suite that could not start. It gave its turn back, so that other benchmarks of the server could run."""

    suite: str = Field(description="The suite.")
    time: Time = Field(description="When the suite gave its turn back.")
    reason: str = Field(description="Why the suite could not start, in one CamelCase word.", max_length=1024)
    message: str = Field(description="Why the suite could not start.", max_length=32768)


class BenchmarkStatus(Status):
    """The observed state."""

    RECORDS = frozenset({"environment", "results"})

    conditions: Conditions = Field(
        default_factory=list,
        description="Accepted, TargetReady, Complete, Succeeded, Reconciling and Stalled. Synced is added while an "
        "object that the operator created for the benchmark is being deleted, and finalizers hold this object.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
    verdict: str | None = Field(
        default=None,
        description="Passed, Failed or Invalid. Invalid means that the numbers do not count, for example because "
        "requests failed or the server changed during the run.",
    )
    current_suite: str | None = Field(default=None, description="Name of the suite that runs now.")
    progress: str | None = Field(default=None, description="How many suites have ended, for example 2/4.")
    start_time: Time | None = Field(default=None, description="When the first suite started.")
    completion_time: Time | None = Field(default=None, description="When the last suite ended.")
    failed_start: Attempt | None = Field(
        default=None,
        description="The last failed attempt to start the next suite. After it, other benchmarks went first.",
    )
    environment: Environment | None = Field(default=None, description="What was measured.")
    results: Annotated[list[SuiteResult], Field(max_length=16)] = Field(
        default_factory=list, description="How each suite ended, in order."
    )


BENCHMARK = kinds.BENCHMARK


class KimiLinearBenchmark(Resource):
    """A measurement of a server. Its suites run one after the other; then it gets a verdict."""

    KIND = BENCHMARK
    COMPONENT = "benchmark"

    kind: Literal["KimiLinearBenchmark"]
    spec: BenchmarkSpec = Field(description="What to measure and what to expect.")

    @property
    def inherited_metadata(self) -> InheritedMetadata:
        """Return the labels and annotations of every object that belongs to the benchmark."""
        return self.spec.inherited_metadata
