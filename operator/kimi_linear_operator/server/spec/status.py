"""The fields of a server's status."""

from typing import Annotated

from pydantic import Field

from kimi_linear_operator.kubernetes.models import Conditions, Failure, Model, Status, Whole

MOST_ADDRESSES = 64
"""Addresses in a status. A load balancer may report any number."""


class StartupPhase(Model):
    """One phase of a start."""

    name: str = Field(description="scheduled, image, preflight, weights, loading, compiling, warm-up or serving.")
    time: str = Field(description="When the phase began.", json_schema_extra={"format": "date-time"})


class StartupStatus(Model):
    """The last start of a replica."""

    pod: str = Field(description="Name of the pod: the one that was created last.")
    phase: str = Field(description="The current phase. After a complete start, it is serving.")
    phases: Annotated[list[StartupPhase], Field(min_length=1, max_length=16)] = Field(
        description="The phases that have begun, in their order. Phases that neither the kubelet nor SGLang's log "
        "reports are left out.",
    )


class ServerStatus(Status):
    """The observed state."""

    conditions: Conditions = Field(
        default_factory=list,
        description="Accepted, Available, Ready, Reconciling, Stalled, TemplateCurrent and Synced; with autoscaling "
        "also Autoscaling, with verification also Verified, with a way into the cluster also Exposed.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
    url: str | None = Field(default=None, description="Address of the server inside the cluster.")
    addresses: Annotated[list[str], Field(max_length=MOST_ADDRESSES)] | None = Field(
        default=None, description="Addresses of the server outside the cluster that work as far as Kubernetes knows."
    )
    command: str | None = Field(
        default=None, description="The recipe's shell command for this spec, to run the same server by hand."
    )
    image: str | None = Field(default=None, description="Image of the engine.")
    replicas: Whole | None = Field(default=None, description="Pods of this server.")
    ready_replicas: Whole | None = Field(default=None, description="Pods that serve.")
    updated_replicas: Whole | None = Field(default=None, description="Pods of the current generation.")
    selector: str | None = Field(default=None, description="Label selector of the pods, for /scale.")
    startup: StartupStatus | None = Field(
        default=None, description="The last start of a replica in phases, each with its time."
    )
    last_failure: Failure | None = Field(default=None, description="How a container last ended.")
