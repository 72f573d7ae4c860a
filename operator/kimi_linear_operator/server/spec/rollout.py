"""How replicas start, stop and are replaced, and whether a new pod template is verified."""

from typing import Annotated, Literal

from pydantic import Field

from kimi_linear_operator.kubernetes.models import DatasetFile, Model, Whole


class Startup(Model):
    """How long a server may take to load."""

    timeout_seconds: Whole = Field(
        default=3600,
        ge=60,
        le=86_400,
        description="Seconds from the start of the container until it serves. This includes the download of 98 GB of "
        "weights and the compilation of kernels. A container that takes longer is restarted.",
    )


class Drain(Model):
    """How a replica stops."""

    timeout_seconds: Whole = Field(
        default=300,
        ge=0,
        le=3600,
        description="Seconds that running requests get to finish after the replica has left its Service. After a hard "
        "kill, GPU memory can stay occupied until the node restarts, so do not choose a small number.",
    )


class Rollout(Model):
    """How pods of a new spec replace the old ones."""

    strategy: Literal["InPlace", "Surge", "Recreate"] = Field(
        default="InPlace",
        description="InPlace stops one replica, then starts its successor on the same GPUs: it needs no spare GPU. "
        "Surge starts the successor first: it needs the GPUs of one more replica. Recreate stops all replicas first.",
    )


class Verification(Model):
    """Whether a server's answers are right: a check of each new pod template."""

    mode: Literal["Off", "Warn", "Block"] = Field(
        default="Off",
        description="Off: nothing is verified. Warn: when all replicas serve with a new pod template, the condition "
        "Verified says whether their answers are right. Block: the first replica with a new pod template is verified "
        "before it serves, and the others wait for its result. Switching Block on or off replaces the pods.",
    )
    on_failure: Literal["Hold", "Rollback"] = Field(
        default="Hold",
        description="What Block does if the answers are wrong. Hold: the rollout stops there. Rollback: the server "
        "goes back to the last pod template that was verified, and does not try the failed one again.",
    )
    num_questions: Whole = Field(
        default=200,
        ge=50,
        le=1319,
        description="Number of GSM8K questions. The recipe asks 200, which took 12 s on four MI300X.",
    )
    min_accuracy: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.6,
        description="Least share of right answers. The recipe's is 0.705. With 200 questions, a server with that "
        "accuracy falls below 0.6 by chance in one of 1,700 runs, and a server with 0.5 reaches 0.6 in one of 350.",
    )
    min_valid_tool_calls: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.8,
        description="Least share of valid tool calls, streamed or not. They are verified if toolCallParser is enabled.",
    )
    dataset: DatasetFile | None = Field(
        default=None, description="GSM8K's test.jsonl. If unset, the client downloads it."
    )
    timeout_seconds: Whole = Field(
        default=1800, ge=60, le=86_400, description="Seconds that each check may take, with pulling its image."
    )
