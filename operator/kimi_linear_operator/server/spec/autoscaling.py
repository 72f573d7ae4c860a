"""How the number of replicas follows the load."""

from pydantic import Field

from kimi_linear_operator.kubernetes.models import Model, Whole


class ScalingTarget(Model):
    """How much load a replica should have, on average."""

    queued_requests: Whole = Field(
        default=4,
        ge=1,
        le=10_000,
        description="Requests that wait in a replica (sglang:num_queue_reqs). Google's guide to autoscaling inference "
        "servers begins with 3 to 5.",
    )
    running_requests: Whole = Field(
        default=100,
        ge=1,
        le=10_000,
        description="Requests that a replica answers at a time (sglang:num_running_reqs). 100 is the highest load for "
        "which the recipe has results. If a replica takes fewer at a time, set fewer: otherwise full replicas count as "
        "idle.",
    )


class ScaleUp(Model):
    """How replicas are added."""

    replicas: Whole = Field(
        default=1,
        ge=1,
        le=100,
        description="The most replicas that are added at a time. Until all replicas serve, no more are added.",
    )
    stabilization_seconds: Whole = Field(
        default=60,
        ge=0,
        le=3600,
        description="Seconds that the load must last before replicas are added: they start too slowly for short peaks. "
        "After a new replica begins to serve, the same time passes before another is added, so that it can take its "
        "part of the load.",
    )


class ScaleDown(Model):
    """How replicas are removed: one at a time, and each has its time to drain."""

    stabilization_seconds: Whole = Field(
        default=3600,
        ge=0,
        le=3600,
        description="How many seconds a replica must be unneeded before it is removed. The default is as long as a "
        "new replica may take to start.",
    )


class Autoscaling(Model):
    """The number of replicas follows the load."""

    min_replicas: Whole = Field(default=1, ge=1, le=1000, description="The fewest replicas.")
    max_replicas: Whole = Field(ge=1, le=1000, description="The most replicas.")
    target: ScalingTarget = Field(
        default_factory=ScalingTarget, description="How much load a replica should have, on average."
    )
    scale_up: ScaleUp = Field(default_factory=ScaleUp, description="How replicas are added.")
    scale_down: ScaleDown = Field(
        default_factory=ScaleDown,
        description="How replicas are removed: one at a time, and each has its time to drain.",
    )
