"""How replicas start, stop and are replaced, and whether a new pod template is verified."""

from typing import Annotated, Literal

from pydantic import Field

from kimi_linear_operator.kubernetes.models import DatasetFile, Model, Whole


class Startup(Model):
    """The time limit for the start of a replica."""

    timeout_seconds: Whole = Field(
        default=3600,
        ge=60,
        le=86_400,
        description="Maximum number of seconds from the start of the container until it serves. This includes the "
        "download of 98 GB of weights and the compilation of kernels. The kubelet restarts a container that takes "
        "longer.",
    )


class Drain(Model):
    """How a replica stops."""

    timeout_seconds: Whole = Field(
        default=300,
        ge=0,
        le=3600,
        description="Seconds in which running requests can finish after the replica has left its Service. After this "
        "time, Kubernetes kills SGLang. GPU memory can then stay occupied until the node restarts, so do not choose a "
        "small number.",
    )


class Rollout(Model):
    """How new pods replace old pods after a change of the spec."""

    strategy: Literal["InPlace", "Surge", "Recreate"] = Field(
        default="InPlace",
        description="InPlace stops one replica and then starts its successor on the same GPUs, so it needs no spare "
        "GPU. Surge starts the successor first, so it needs the GPUs of one more replica. Recreate first stops all "
        "replicas.",
    )


class Verification(Model):
    """Checks the answers of each new pod template."""

    mode: Literal["Off", "Warn", "Block"] = Field(
        default="Off",
        description="Off: the answers are not checked. Warn: when all replicas serve with a new pod template, the "
        "operator checks their answers and writes the condition Verified. Block: the operator checks the answers of "
        "the first replica with a new pod template. No replica with this template serves until the answers are right. "
        "A change to or from Block replaces the pods.",
    )
    on_failure: Literal["Hold", "Rollback"] = Field(
        default="Hold",
        description="What Block does if the answers are wrong. Hold: the rollout stops. Rollback: the server goes "
        "back to the last verified pod template, and does not try the failed template again.",
    )
    num_questions: Whole = Field(
        default=200,
        ge=50,
        le=1319,
        description="Number of GSM8K questions. The recipe asks 200, which took 12 s on four MI300X.",
    )
    min_accuracy: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.6,
        description="Minimum share of right answers. The recipe measured 0.705. With 200 questions, a server with "
        "this accuracy falls below 0.6 by chance in one of 1,700 runs. A server with an accuracy of 0.5 reaches 0.6 "
        "in one of 350 runs.",
    )
    min_valid_tool_calls: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.8,
        description="Minimum share of valid tool calls, both streamed and not streamed. Tool calls are checked only "
        "if toolCallParser is enabled.",
    )
    dataset: DatasetFile | None = Field(
        default=None, description="GSM8K's test.jsonl. If unset, the client downloads it."
    )
    timeout_seconds: Whole = Field(
        default=1800,
        ge=60,
        le=86_400,
        description="Time limit of each check in seconds, including the pull of the image.",
    )
