"""KimiLinearServer: one Kimi-Linear deployment on AMD Instinct GPUs.

Field names and values are the option ids of the recipe, SGLang's cookbook page for Kimi-Linear, so that
a selection made there maps one to one. The descriptions are what `kubectl explain` shows.
"""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from kimi_linear_operator.kubernetes.kinds import GROUP, VERSION, Kind
from kimi_linear_operator.kubernetes.models import (
    INHERITED_METADATA,
    Conditions,
    DatasetFile,
    Failure,
    InheritedMetadata,
    IntOrString,
    Labels,
    Model,
    ModelName,
    ObjectName,
    PipPackage,
    Resource,
    SecretKeyRef,
    Status,
    Whole,
    WithoutNulls,
    whole_number,
)
from kimi_linear_operator.kubernetes.network_peer import NetworkPeers
from kimi_linear_operator.kubernetes.pod_template import PodTemplate
from kimi_linear_operator.kubernetes.queueing import QueueName

Hardware = Literal["mi300x", "mi325x", "mi355x"]
TensorParallelism = Annotated[Literal[1, 2, 4, 8], BeforeValidator(whole_number)]
Switch = Literal["disabled", "enabled"]


MOST_ADDRESSES = 64
"""Addresses in a status. A load balancer may report any number."""


class ModelSource(Model):
    """Which weights, and where they come from."""

    variant: Literal["instruct"] = Field(
        default="instruct",
        description="The model: instruct is moonshotai/Kimi-Linear-48B-A3B-Instruct.",
    )
    revision: ModelName | None = Field(
        default=None,
        description="Branch, tag or commit on the Hugging Face hub. The model brings code of its own that SGLang runs "
        "(--trust-remote-code): pin a commit if you do not trust later versions.",
    )
    path: Annotated[str, Field(min_length=2, max_length=1024, pattern=r"^/[!-~]*$")] | None = Field(
        default=None,
        description="Directory in the container that holds the weights, instead of the hub; mount it with "
        "podTemplate. Cannot be combined with revision.",
    )
    weights: ObjectName | None = Field(
        default=None,
        description="Name of a KimiLinearWeights of this namespace. The model then comes from its volume, not from "
        "the hub. The server has no pods before these weights are complete for the first time. Pods keep their "
        "commit; a newer commit is offered to the server like a newer pod template.",
    )
    image: Annotated[str, Field(min_length=1, max_length=512, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@-]*$")] | None = (
        Field(
            default=None,
            description="OCI image whose root is the model's folder, instead of the hub. The kubelet pulls it once for "
            "each node and mounts it as an image volume, which needs Kubernetes 1.33 or newer with the feature "
            "ImageVolume.",
        )
    )
    served_name: ModelName | None = Field(
        default=None, description="Model name that the OpenAI API answers to. If unset, it is the model path."
    )
    token_secret_ref: SecretKeyRef | None = Field(
        default=None, description="Hugging Face token (HF_TOKEN). Not needed for the public weights."
    )


class Engine(Model):
    """The SGLang release and its options."""

    version: Annotated[str, Field(max_length=64, pattern=r"^v[0-9]+\.[0-9]+\.[0-9]+[A-Za-z0-9.]*$")] = Field(
        default="v0.5.7",
        description="SGLang release. With the hardware it selects the image lmsysorg/sglang:VERSION-ROCM-ARCH.",
    )
    image: Annotated[str, Field(min_length=1, max_length=512, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@-]*$")] | None = (
        Field(default=None, description="Whole image reference, instead of the one that version and hardware select.")
    )
    extra_args: Annotated[list[Annotated[str, Field(min_length=1, max_length=1024)]], Field(max_length=64)] = Field(
        default=[],
        description="More arguments for sglang.launch_server, one list item each: --flag=value, or flag and value as "
        "two items. Flags that have a field here are refused.",
    )
    extra_pip_packages: Annotated[list[PipPackage], Field(max_length=16)] = Field(
        default=["sentencepiece", "tiktoken"],
        description="Python packages that the model needs. A pod installs them at start only if they can't be "
        "imported. So an image that has them, in any version, needs no package index.",
    )
    context_length: Annotated[int, Field(ge=1, le=1_048_576), BeforeValidator(whole_number)] | None = Field(
        default=None, description="Longest context in tokens. If unset, it is the model's own, 1048576."
    )
    memory_fraction_static: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        default=None,
        description="Share of GPU memory for weights and caches, between 0 and 1. "
        "Lower it when a server runs out of GPU memory.",
    )
    attention_backend: Annotated[str, Field(max_length=64, pattern=r"^[a-z0-9_]+$")] | None = Field(
        default=None, description="SGLang attention backend, for example triton. If unset, SGLang chooses."
    )


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


class ServicePort(Model):
    """How clients reach the server."""

    type: Literal["ClusterIP", "NodePort", "LoadBalancer"] = Field(
        default="ClusterIP", description="Type of the Service that is named like the server."
    )
    port: Whole = Field(default=30000, ge=1, le=65_535, description="Port of the Service.")
    annotations: Annotated[dict[str, Annotated[str, Field(max_length=4096)]], Field(max_length=32), WithoutNulls] = (
        Field(default={}, description="Annotations of the Service, for example for a load balancer.")
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

    limits: Annotated[dict[str, IntOrString], Field(max_length=32), WithoutNulls] | None = Field(
        default=None, description="The most that the container may use."
    )
    requests: Annotated[dict[str, IntOrString], Field(max_length=32), WithoutNulls] | None = Field(
        default=None, description="What the scheduler reserves for the container."
    )


class Router(Model):
    """SGLang's own router, which chooses a replica for each request."""

    replicas: Whole = Field(default=2, ge=1, le=100, description="Number of the router's pods.")
    policy: RoutingPolicy = Field(
        default="LeastLoad",
        description="How it chooses a replica. LeastLoad takes the one with the fewest open requests. CacheAware takes "
        "the one that had a prompt with the same beginning, unless it has many more requests than another; it helps "
        "only if SGLang keeps a prefix cache, which v0.5.7 does not for this model. RoundRobin takes them in turn.",
    )
    image: Annotated[str, Field(min_length=1, max_length=512, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@-]*$")] | None = (
        Field(
            default=None,
            description="Image with Python and the package sglang-router. If unset, it is the engine's image, which is "
            "tens of gigabytes large.",
        )
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
    annotations: Annotated[dict[str, Annotated[str, Field(max_length=4096)]], Field(max_length=32), WithoutNulls] = (
        Field(
            default={},
            description="Annotations of the Ingress. Streams take minutes, and most controllers end a response after "
            "a time that only their own annotations can raise.",
        )
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


class Security(Model):
    """What the container may do. Never privileged: AMD's device plugin mounts the GPU devices."""

    host_ipc: bool = Field(
        default=False,
        alias="hostIPC",
        description="Share the node's IPC namespace, as AMD's examples do. The replica has a /dev/shm of its own, so "
        "this should not be needed. Refused unless the operator runs with --allow-node-access.",
    )
    seccomp_profile: Literal["Unconfined", "RuntimeDefault"] = Field(
        default="Unconfined", description="Seccomp profile. AMD documents Unconfined for ROCm."
    )
    capabilities: Annotated[
        list[Annotated[str, Field(max_length=64, pattern=r"^[A-Z][A-Z_]*$")]], Field(max_length=16)
    ] = Field(
        default=["SYS_PTRACE"],
        description="Linux capabilities to add; all others are dropped. AMD documents SYS_PTRACE for ROCm. "
        "Capabilities other than SYS_PTRACE and those of the Pod Security level baseline are refused unless the "
        "operator runs with --allow-node-access.",
    )


class Auth(Model):
    """Who may use the server."""

    api_key_secret_ref: SecretKeyRef | None = Field(
        default=None,
        description="API key that SGLang requires from its clients, except for /health and /metrics. Benchmarks of "
        "the server use it, too. A new key in the Secret takes effect after a restart of the pods.",
    )


class KernelCache(Model):
    """Where the kernels that Triton compiles are kept."""

    existing_claim: ObjectName | None = Field(
        default=None,
        description="Claim that keeps the kernels when the pod is gone, with a folder for each image and node. Its "
        "storage should be local or a block device: on network file systems Triton can fail.",
    )
    host_path: Annotated[str, Field(min_length=2, max_length=1024, pattern=r"^/[!-~]*$")] | None = Field(
        default=None,
        description="Folder of the node that keeps the kernels when the pod is gone, with a subfolder for each image. "
        "Refused unless the operator runs with --allow-node-access. Cannot be combined with existingClaim.",
    )
    size_limit: Annotated[str, Field(max_length=32, pattern=r"^[1-9][0-9]*(Mi|Gi|Ti)$")] | None = Field(
        default=None,
        description="The most that a pod's own folder for kernels may take on the node's disk; a pod that takes more "
        "is evicted. If unset, it has no limit.",
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


class Monitoring(Model):
    """How Prometheus watches the server."""

    labels: Labels = Field(
        default={},
        description="Labels of the PodMonitor and the PrometheusRule, by which a Prometheus selects them. A Prometheus "
        "that the chart kube-prometheus-stack has installed selects the label release: NAME, where NAME is its Helm "
        "release.",
    )
    slow_first_token_seconds: Annotated[float, Field(gt=0, le=400)] = Field(
        default=5,
        description="If one request in ten waits longer for its first token, an alert fires. With 100 requests at a "
        "time, the recipe measured 2.7 s for the slowest in a hundred.",
    )


class ServerSpec(Model):
    """The wanted state. An empty spec is a complete server: the recipe's defaults."""

    hardware: Hardware = Field(
        default="mi300x",
        description="GPU model. Selects the image (MI300X and MI325X: mi30x, MI355X: mi35x) and the nodes, by the "
        "label amd.com/gpu.device-id.",
    )
    model: ModelSource = Field(default_factory=ModelSource, description="Which weights, and where they come from.")
    tensor_parallelism: TensorParallelism = Field(
        default=4,
        description="GPUs of one replica (--tp and amd.com/gpu, always equal). Only 4 has published results.",
    )
    reasoning_parser: Switch = Field(
        default="disabled", description="The instruct model does not support a reasoning parser."
    )
    tool_call_parser: Switch = Field(
        default="disabled", description="enabled turns the model's tool calls into OpenAI's format (kimi_k2)."
    )
    replicas: Whole = Field(default=1, ge=0, le=1000, description="Number of replicas.")
    suspend: bool = Field(
        default=False,
        description="Run no pods, but keep the value of replicas and all other objects that are of use without pods.",
    )
    autoscaling: Autoscaling | None = Field(
        default=None,
        description="A HorizontalPodAutoscaler sets replicas according to SGLang's own metrics. Leave replicas out of "
        "the file. It needs a metrics adapter in the cluster.",
    )
    engine: Engine = Field(default_factory=Engine, description="The SGLang release and its options.")
    startup: Startup = Field(default_factory=Startup, description="How long a replica may take to load.")
    drain: Drain = Field(default_factory=Drain, description="How a replica stops.")
    rollout: Rollout = Field(default_factory=Rollout, description="How pods of a new spec replace the old ones.")
    service: ServicePort = Field(default_factory=ServicePort, description="How clients reach the server.")
    ingress: Ingress | None = Field(default=None, description="An Ingress to the Service. If unset, there is none.")
    http_route: HttpRoute | None = Field(
        default=None,
        description="An HTTPRoute of the Gateway API to the Service, without time limits. If unset, there is none.",
    )
    router: Router | None = Field(
        default=None,
        description="If set, even to {}, SGLang's own router stands in front of the replicas: the Service leads to it, "
        "and it chooses a replica for each request.",
    )
    auth: Auth = Field(default_factory=Auth, description="Who may use the server: everyone who reaches it, by default.")
    network_policy: NetworkPolicy | None = Field(
        default=None,
        description="Isolates the pods by a NetworkPolicy; {} lets only benchmarks of the namespace in. If unset, the "
        "operator makes none. The cluster's network must enforce such policies.",
    )
    queue_name: QueueName | None = Field(
        default=None,
        description="LocalQueue of Kueue that admits the pods. If unset, Kueue treats the server as its administrator "
        "has configured. Kueue refuses another queue while pods are ready.",
    )
    monitoring: Monitoring | None = Field(
        default=None,
        description="Makes a PodMonitor and a PrometheusRule with alerts, for the Prometheus operator. If unset, the "
        "operator makes none.",
    )
    security: Security = Field(
        default_factory=Security,
        description="What the container may do. Never privileged, and without the host's network: AMD's device plugin "
        "mounts the GPU devices.",
    )
    kernel_cache: KernelCache = Field(
        default_factory=KernelCache,
        description="Where compiled kernels are kept. By default each pod has a folder of its own, which is deleted "
        "with it.",
    )
    preflight: Switch = Field(
        default="enabled",
        description="enabled checks each pod before SGLang loads: whether it has its GPUs, whether the image fits "
        "them, and whether shared memory and disk suffice. It takes less than a second.",
    )
    verification: Verification = Field(
        default_factory=Verification, description="Whether a new pod template is verified, and what follows."
    )
    inherited_metadata: InheritedMetadata = Field(default_factory=InheritedMetadata, description=INHERITED_METADATA)
    pod_template: PodTemplate | None = Field(
        default=None,
        description="Strategic-merge patch on the pod template, without directives: tolerations, affinity, volumes, "
        "environment, sidecars and so on. Parts of the pod that the operator needs itself can't be changed here.",
    )


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


SERVER = Kind(GROUP, VERSION, "KimiLinearServer", "kimilinearservers")


class KimiLinearServer(Resource):
    """A server of Kimi-Linear: SGLang on AMD Instinct GPUs, behind a Service."""

    KIND = SERVER
    COMPONENT = "server"

    kind: Literal["KimiLinearServer"]
    spec: ServerSpec = Field(default_factory=ServerSpec, description="The wanted state; {} is a complete server.")

    @property
    def inherited_metadata(self) -> InheritedMetadata:
        """Return the labels and annotations of every object that belongs to the server."""
        return self.spec.inherited_metadata
