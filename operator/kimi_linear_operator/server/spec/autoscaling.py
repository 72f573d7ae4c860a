"""Fields of the autoscaler: the number of replicas follows the load."""

from typing import Annotated, Literal

from pydantic import Field

from kimi_linear_operator.kubernetes.models import Model, ObjectName, Whole


class ScalingTarget(Model):
    """The average load that a replica should have."""

    queued_requests: Whole = Field(
        default=4,
        ge=1,
        le=10_000,
        description="Number of requests that wait in a replica (sglang:num_queue_reqs). Google's guide to "
        "autoscaling inference servers recommends to start with 3 to 5.",
    )
    running_requests: Whole = Field(
        default=100,
        ge=1,
        le=10_000,
        description="Number of requests that a replica answers at the same time (sglang:num_running_reqs). 100 is the "
        "highest load in the recipe's results. If a replica cannot answer so many at the same time, set a smaller "
        "number. Otherwise a replica that is full counts as idle.",
    )


class ScaleUp(Model):
    """How replicas are added."""

    replicas: Whole = Field(
        default=1,
        ge=1,
        le=100,
        description="Maximum number of replicas to add at the same time. No more replicas are added until all "
        "replicas serve.",
    )
    stabilization_seconds: Whole = Field(
        default=60,
        ge=0,
        le=3600,
        description="Seconds for which the load must be high before replicas are added, because replicas start too "
        "slowly for short peaks. When a new replica begins to serve, the same time passes before another one is added. "
        "In this time, the new replica takes its part of the load.",
    )


class ScaleDown(Model):
    """How replicas are removed. They are removed one at a time, and each has its time to drain."""

    stabilization_seconds: Whole = Field(
        default=3600,
        ge=0,
        le=3600,
        description="Seconds for which the load must be low before a replica is removed. The default is the time limit "
        "for the start of a replica.",
    )


class PrometheusAuthentication(Model):
    """How KEDA authenticates to Prometheus."""

    trigger_authentication: ObjectName = Field(
        description="Name of a TriggerAuthentication of KEDA, in the namespace of the server."
    )
    modes: Annotated[list[Literal["basic", "bearer", "custom", "tls"]], Field(min_length=1, max_length=4)] = Field(
        default=["bearer"], description="What the TriggerAuthentication contains."
    )


class Keda(Model):
    """KEDA scales the server."""

    prometheus_address: Annotated[
        str, Field(max_length=512, pattern=r"^https?://[A-Za-z0-9.:\[\]-]+(/[A-Za-z0-9._~/-]*)?$")
    ] = Field(
        description="Address of the Prometheus that scrapes the server's pods. KEDA must reach it. Example: "
        "http://prometheus-operated.monitoring.svc:9090."
    )
    authentication: PrometheusAuthentication | None = Field(
        default=None, description="How KEDA authenticates to Prometheus. If unset, it does not."
    )
    wake_query: Annotated[str, Field(min_length=1, max_length=2048)] | None = Field(
        default=None,
        description="Query in PromQL for requests that arrive, from a proxy in front of the server. Used only if "
        "minReplicas is 0: a result above 0 starts the first replica. The last replica is removed when the result has "
        "been 0 or empty for idleSeconds, and no request has waited or run in this time. If unset, the router "
        "(spec.router) counts the requests, and its count is used instead.",
    )
    idle_seconds: Whole = Field(
        default=3600,
        ge=1,
        le=604_800,
        description="Seconds without a request after which the last replica is removed, if minReplicas is 0. The "
        "default is the time limit for the start of a replica.",
    )


class Autoscaling(Model):
    """The number of replicas follows the load."""

    min_replicas: Whole = Field(
        default=1, ge=0, le=1000, description="Minimum number of replicas. 0 needs keda, and a way to notice requests."
    )
    max_replicas: Whole = Field(ge=1, le=1000, description="Maximum number of replicas.")
    target: ScalingTarget = Field(
        default_factory=ScalingTarget, description="The average load that a replica should have."
    )
    scale_up: ScaleUp = Field(default_factory=ScaleUp, description="How replicas are added.")
    scale_down: ScaleDown = Field(
        default_factory=ScaleDown,
        description="How replicas are removed. They are removed one at a time, and each has its time to drain.",
    )
    keda: Keda | None = Field(
        default=None,
        description="If set, KEDA's ScaledObject takes the place of the HorizontalPodAutoscaler. KEDA asks Prometheus "
        "itself, so the cluster needs no metrics adapter. The cluster needs KEDA.",
    )
