"""How requests reach the replicas, and who may send them."""

from typing import Annotated, Literal

from pydantic import Field

from kimi_linear_operator.kubernetes.models import (
    Annotations,
    ImageReference,
    Model,
    ObjectName,
    Quantities,
    SecretKeyRef,
    Whole,
)
from kimi_linear_operator.kubernetes.network_peer import NetworkPeers


class ServicePort(Model):
    """How clients reach the server."""

    type: Literal["ClusterIP", "NodePort", "LoadBalancer"] = Field(
        default="ClusterIP", description="Type of the Service that is named like the server."
    )
    port: Whole = Field(default=30000, ge=1, le=65_535, description="Port of the Service.")
    annotations: Annotations = Field(
        default={}, description="Annotations of the Service, for example for a load balancer."
    )
    load_balancer_class: (
        Annotated[
            str,
            Field(min_length=1, max_length=316, pattern=r"^([a-z0-9.-]+/)?[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?$"),
        ]
        | None
    ) = Field(
        default=None,
        description="Which controller makes the load balancer, if the cluster has several. Only with type "
        "LoadBalancer. Kubernetes does not let it change: to change it, delete the Service.",
    )
    external_traffic_policy: Literal["Cluster", "Local"] | None = Field(
        default=None,
        description="Local sends traffic from outside only to nodes with a replica, and keeps the client's address. "
        "Not with type ClusterIP. If unset, it is Cluster.",
    )
    headless: bool = Field(
        default=False,
        description="Also create a headless Service NAME-headless, for routers that pick a replica. "
        "spec.router creates it, too.",
    )


RoutingPolicy = Literal["LeastLoad", "CacheAware", "RoundRobin"]


class RouterResources(Model):
    """Requests and limits of the router's container."""

    limits: Quantities | None = Field(default=None, description="The most that the container may use.")
    requests: Quantities | None = Field(default=None, description="What the scheduler reserves for the container.")


class Router(Model):
    """SGLang's own router, which chooses a replica for each request."""

    replicas: Whole = Field(default=2, ge=1, le=100, description="Number of the router's pods.")
    policy: RoutingPolicy = Field(
        default="LeastLoad",
        description="How it chooses a replica. LeastLoad takes the one with the fewest open requests. CacheAware takes "
        "the one that had a prompt with the same beginning, unless it has many more requests than another; it helps "
        "only if SGLang keeps a prefix cache, which v0.5.7 does not for this model. RoundRobin takes them in turn.",
    )
    image: ImageReference | None = Field(
        default=None,
        description="Image with Python and the package sglang-router. If unset, it is the engine's image, which is "
        "tens of gigabytes large.",
    )
    resources: RouterResources | None = Field(
        default=None, description="Requests and limits of the router's container. It needs no GPU."
    )


HostName = Annotated[
    str,
    Field(
        min_length=1,
        max_length=253,
        pattern=r"^(\*\.)?[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$",
    ),
]


class Ingress(Model):
    """An Ingress to the Service."""

    class_name: ObjectName | None = Field(
        default=None, description="Name of the IngressClass. If unset, it is the cluster's default class."
    )
    hosts: Annotated[list[HostName], Field(max_length=16)] = Field(
        default=[],
        description="Names under which clients reach the server; every path belongs to it. If empty, every name does.",
    )
    tls_secret_name: ObjectName | None = Field(
        default=None, description="Name of the Secret with the certificate for the hosts. If unset, there is no TLS."
    )
    annotations: Annotations = Field(
        default={},
        description="Annotations of the Ingress. Streams take minutes, and most controllers end a response after "
        "a time that only their own annotations can raise.",
    )


class ParentRef(Model):
    """A Gateway."""

    name: ObjectName = Field(description="Name of the Gateway.")
    namespace: ObjectName | None = Field(
        default=None, description="Its namespace, which the Gateway must allow. If unset, it is the server's."
    )
    section_name: ObjectName | None = Field(
        default=None, description="Name of one listener of the Gateway. If unset, it is every listener that fits."
    )


class HttpRoute(Model):
    """An HTTPRoute of the Gateway API to the Service."""

    parent_refs: Annotated[list[ParentRef], Field(min_length=1, max_length=8)] = Field(
        description="The Gateways through which clients reach the server."
    )
    hostnames: Annotated[list[HostName], Field(max_length=16)] = Field(
        default=[], description="Names under which clients reach the server. If empty, those of the Gateway's listener."
    )
    path: Annotated[str, Field(max_length=256, pattern=r"^/([A-Za-z0-9._~-]+(/[A-Za-z0-9._~-]+)*)?$")] = Field(
        default="/", description="Prefix of the paths that belong to the server. SGLang sees them without the prefix."
    )
    scheme: Literal["http", "https"] = Field(
        default="https",
        description="Protocol of the Gateway's listener, for status.addresses only: the operator reads no Gateways.",
    )


class Auth(Model):
    """Who may use the server."""

    api_key_secret_ref: SecretKeyRef | None = Field(
        default=None,
        description="API key that SGLang requires from its clients, except for /health and /metrics. Benchmarks of "
        "the server use it, too. A new key in the Secret takes effect after a restart of the pods.",
    )


class NetworkPolicy(Model):
    """Who may reach the pods, and what they may reach."""

    from_: NetworkPeers = Field(
        default=[],
        alias="from",
        description="Who may reach SGLang, besides the benchmarks of the server's namespace: clients, Prometheus, an "
        "ingress controller. Peers as in a NetworkPolicy.",
    )
    to: NetworkPeers = Field(
        default=[],
        description="What the pods may reach on any port, besides what they need to start: a proxy, a mirror, the "
        "target of a sidecar. Peers as in a NetworkPolicy.",
    )
