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
        default="ClusterIP", description="Type of the server's Service."
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
        description="Selects the controller for the load balancer, if the cluster has several. Allowed only with type "
        "LoadBalancer. Kubernetes does not allow a change of this field in a Service, so delete the Service after a "
        "change.",
    )
    external_traffic_policy: Literal["Cluster", "Local"] | None = Field(
        default=None,
        description="Local sends traffic from outside only to nodes with a replica, and keeps the client's address. "
        "Not allowed with type ClusterIP. If unset, it is Cluster.",
    )
    headless: bool = Field(
        default=False,
        description="Also create a headless Service NAME-headless, for routers that choose a replica. spec.router "
        "creates it, too.",
    )


RoutingPolicy = Literal["LeastLoad", "CacheAware", "RoundRobin"]


class RouterResources(Model):
    """Requests and limits of the router's container."""

    limits: Quantities | None = Field(default=None, description="The maximum that the container can use.")
    requests: Quantities | None = Field(
        default=None, description="The amount that the scheduler reserves for the container."
    )


class Router(Model):
    """SGLang's own router, which chooses a replica for each request."""

    replicas: Whole = Field(default=2, ge=1, le=100, description="Number of pods of the router.")
    policy: RoutingPolicy = Field(
        default="LeastLoad",
        description="How the router chooses a replica. LeastLoad chooses the replica with the fewest open requests. "
        "CacheAware prefers a replica that got a prompt with the same beginning, unless it has many more requests "
        "than another replica. CacheAware helps only if SGLang keeps a prefix cache; v0.5.7 does not keep one for "
        "this model. RoundRobin takes the replicas in turn.",
    )
    image: ImageReference | None = Field(
        default=None,
        description="Image that contains Python and the package sglang-router. If unset, the router uses SGLang's "
        "image, which has tens of gigabytes.",
    )
    resources: RouterResources | None = Field(
        default=None, description="Requests and limits of the router's container. The router needs no GPU."
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
        default=None, description="Name of the IngressClass. If unset, the cluster's default class."
    )
    hosts: Annotated[list[HostName], Field(max_length=16)] = Field(
        default=[],
        description="Host names of the server. All paths under these names lead to the server. If empty, all host "
        "names lead to the server.",
    )
    tls_secret_name: ObjectName | None = Field(
        default=None, description="Name of the Secret with the certificate for the hosts. If unset, there is no TLS."
    )
    annotations: Annotations = Field(
        default={},
        description="Annotations of the Ingress. Streams take minutes, but most controllers end a response after a "
        "time limit. Only the controller's own annotations can raise this limit.",
    )


class ParentRef(Model):
    """A Gateway."""

    name: ObjectName = Field(description="Name of the Gateway.")
    namespace: ObjectName | None = Field(
        default=None,
        description="Namespace of the Gateway. If unset, it is the server's namespace. The Gateway must allow routes "
        "from the server's namespace.",
    )
    section_name: ObjectName | None = Field(
        default=None, description="Name of one listener of the Gateway. If unset, all listeners that fit."
    )


class HttpRoute(Model):
    """An HTTPRoute of the Gateway API to the Service."""

    parent_refs: Annotated[list[ParentRef], Field(min_length=1, max_length=8)] = Field(
        description="The Gateways through which clients reach the server."
    )
    hostnames: Annotated[list[HostName], Field(max_length=16)] = Field(
        default=[], description="Host names of the server. If empty, the host names of the Gateway's listener."
    )
    path: Annotated[str, Field(max_length=256, pattern=r"^/([A-Za-z0-9._~-]+(/[A-Za-z0-9._~-]+)*)?$")] = Field(
        default="/",
        description="Prefix of the paths that lead to the server. SGLang gets the paths without the prefix.",
    )
    scheme: Literal["http", "https"] = Field(
        default="https",
        description="Protocol of the Gateway's listener. It is used only for status.addresses, because the operator "
        "does not read Gateways.",
    )


class Auth(Model):
    """Who may use the server."""

    api_key_secret_ref: SecretKeyRef | None = Field(
        default=None,
        description="API key that clients of SGLang need, except for /health and /metrics. Benchmarks of the server "
        "use this key, too. After a change of the key in the Secret, restart the pods.",
    )


class NetworkPolicy(Model):
    """Who may connect to the pods, and what the pods may connect to."""

    from_: NetworkPeers = Field(
        default=[],
        alias="from",
        description="Peers that may connect to SGLang, in addition to benchmarks of the server's namespace. Examples "
        "are clients, Prometheus or an ingress controller. Peers are written as in a NetworkPolicy.",
    )
    to: NetworkPeers = Field(
        default=[],
        description="Peers that the pods may connect to on any port, in addition to what the pods need to start. "
        "Examples are a proxy, a mirror or the target of a sidecar. Peers are written as in a NetworkPolicy.",
    )
