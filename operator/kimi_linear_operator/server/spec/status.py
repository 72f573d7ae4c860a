"""The fields of a server's status."""

from typing import Annotated

from pydantic import Field

from kimi_linear_operator.kubernetes.models import Conditions, Failure, Model, Status, Whole

MOST_ADDRESSES = 64
"""Maximum number of addresses in a status. A load balancer can report any number."""


class StartupPhase(Model):
    """One phase of a start."""

    name: str = Field(description="scheduled, image, preflight, weights, loading, compiling, warm-up or serving.")
    time: str = Field(description="When the phase began.", json_schema_extra={"format": "date-time"})


class StartupStatus(Model):
    """The last start of a replica."""

    pod: str = Field(description="Name of the pod that was created last.")
    phase: str = Field(description="The current phase. After a complete start, the phase is serving.")
    phases: Annotated[list[StartupPhase], Field(min_length=1, max_length=16)] = Field(
        description="The phases that have begun, in order. A phase is left out if neither the kubelet nor SGLang's "
        "log reports it.",
    )


class ServerStatus(Status):
    """The observed state."""

    conditions: Conditions = Field(
        default_factory=list,
        description="Accepted, Available, Ready, Reconciling, Stalled, TemplateCurrent and Synced; in addition, "
        "Autoscaling, Verified and Exposed if the spec asks for autoscaling, verification or a way from outside the "
        "cluster.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
    url: str | None = Field(default=None, description="Address of the server inside the cluster.")
    addresses: Annotated[list[str], Field(max_length=MOST_ADDRESSES)] | None = Field(
        default=None,
        description="Addresses at which clients outside the cluster reach the server, according to the "
        "controllers of load balancers, Ingresses and Gateways.",
    )
    command: str | None = Field(default=None, description="The recipe's shell command that starts this server by hand.")
    image: str | None = Field(default=None, description="Image of the engine.")
    replicas: Whole | None = Field(default=None, description="Number of pods of this server.")
    ready_replicas: Whole | None = Field(default=None, description="Pods that serve.")
    updated_replicas: Whole | None = Field(default=None, description="Number of pods with the current pod template.")
    selector: str | None = Field(default=None, description="Label selector of the pods, for /scale.")
    startup: StartupStatus | None = Field(
        default=None, description="The last start of a replica, with the time of each phase."
    )
    last_failure: Failure | None = Field(default=None, description="How a container last ended.")
