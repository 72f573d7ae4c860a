"""KimiLinearServer: one Kimi-Linear deployment on AMD Instinct GPUs.

Field names and values are the option ids of the recipe, SGLang's cookbook page for Kimi-Linear, so that
a selection made there maps one to one. The descriptions are what `kubectl explain` shows.
"""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from kimi_linear_operator.api.base import (
    Condition,
    IntOrString,
    Manifest,
    Model,
    ObjectMeta,
    OpenModel,
    Whole,
    WithoutNulls,
    whole_number,
)

Hardware = Literal["mi300x", "mi325x", "mi355x"]
TensorParallelism = Annotated[Literal[1, 2, 4, 8], BeforeValidator(whole_number)]
Switch = Literal["disabled", "enabled"]

_ObjectName = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")]
_SecretKey = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[-._a-zA-Z0-9]+$")]
_ModelName = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$")]
_PipPackage = Annotated[
    str,
    Field(
        max_length=128,
        pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?(\[[A-Za-z0-9,._-]+\])?"
        r"((==|>=|<=|~=|!=|<|>)[A-Za-z0-9.*+!_-]+(,(==|>=|<=|~=|!=|<|>)[A-Za-z0-9.*+!_-]+)*)?$",
    ),
]


class SecretKeyRef(Model):
    """One key of a Secret in the server's namespace."""

    name: _ObjectName = Field(description="Name of the Secret, in the namespace of the server.")
    key: _SecretKey = Field(default="token", description="Key in the Secret.")


class ModelSource(Model):
    """Which weights, and where they come from."""

    variant: Literal["instruct"] = Field(
        default="instruct",
        description="The model: instruct is moonshotai/Kimi-Linear-48B-A3B-Instruct.",
    )
    revision: _ModelName | None = Field(
        default=None,
        description="Branch, tag or commit on the Hugging Face hub. The model brings code of its own that SGLang runs "
        "(--trust-remote-code): pin a commit where that matters.",
    )
    path: Annotated[str, Field(min_length=2, max_length=1024, pattern=r"^/[!-~]*$")] | None = Field(
        default=None,
        description="Directory in the container that holds the weights, instead of the hub; mount it with "
        "podTemplate. Excludes revision.",
    )
    served_name: _ModelName | None = Field(
        default=None, description="Model name that the OpenAI API answers to; without it, the model path."
    )
    token_secret_ref: SecretKeyRef | None = Field(
        default=None, description="Hugging Face token (HF_TOKEN). Not needed for the public weights."
    )


class Engine(Model):
    """The SGLang release and what it is started with."""

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
    extra_pip_packages: Annotated[list[_PipPackage], Field(max_length=16)] = Field(
        default=["sentencepiece", "tiktoken"],
        description="Python packages that the model needs. Installed at start only if they can't be imported, "
        "whatever version is there, so an image that has them starts without a package index.",
    )
    context_length: Annotated[int, Field(ge=1, le=1_048_576), BeforeValidator(whole_number)] | None = Field(
        default=None, description="Longest context in tokens; without it the model's own, 1048576."
    )
    memory_fraction_static: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        default=None,
        description="Share of GPU memory for weights and caches, between 0 and 1. "
        "Lower it when a server runs out of GPU memory.",
    )
    attention_backend: Annotated[str, Field(max_length=64, pattern=r"^[a-z0-9_]+$")] | None = Field(
        default=None, description="SGLang attention backend, for example triton; without it SGLang chooses."
    )


class Startup(Model):
    """How long a server may take to load."""

    timeout_seconds: Whole = Field(
        default=3600,
        ge=60,
        le=86_400,
        description="Seconds from container start to serving. Covers the download of 98 GB of weights and the "
        "compilation of kernels; a container that takes longer is restarted.",
    )


class Drain(Model):
    """How a replica stops."""

    timeout_seconds: Whole = Field(
        default=300,
        ge=0,
        le=3600,
        description="Seconds that running requests get to finish after the replica has left its Service. A hard kill "
        "can leave GPU memory occupied until the node restarts, so be generous.",
    )


class Rollout(Model):
    """How a new generation replaces the old one."""

    strategy: Literal["InPlace", "Surge", "Recreate"] = Field(
        default="InPlace",
        description="InPlace stops one replica, then starts its successor on the same GPUs: it needs no spare GPU. "
        "Surge starts the successor first: it needs one replica's GPUs more. Recreate stops all replicas first.",
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
    headless: bool = Field(
        default=False, description="Also create a headless Service NAME-headless, for routers that pick a replica."
    )


class Security(Model):
    """What the container may do. Never privileged: AMD's device plugin mounts the GPU devices."""

    host_ipc: bool = Field(
        default=False,
        alias="hostIPC",
        description="Share the node's IPC namespace, as AMD's examples do. The replica has a /dev/shm of its own, so "
        "this should not be needed.",
    )
    seccomp_profile: Literal["Unconfined", "RuntimeDefault"] = Field(
        default="Unconfined", description="Seccomp profile. AMD documents Unconfined for ROCm."
    )
    capabilities: Annotated[
        list[Annotated[str, Field(max_length=64, pattern=r"^[A-Z][A-Z_]*$")]], Field(max_length=16)
    ] = Field(
        default=["SYS_PTRACE"],
        description="Linux capabilities to add; all others are dropped. AMD documents SYS_PTRACE for ROCm.",
    )


class ContainerResources(OpenModel):
    """Requests and limits of a container."""

    limits: Annotated[dict[str, IntOrString], Field(max_length=32), WithoutNulls] | None = Field(
        default=None, description="Most that the container may use."
    )
    requests: Annotated[dict[str, IntOrString], Field(max_length=32), WithoutNulls] | None = Field(
        default=None, description="What the scheduler reserves for the container."
    )


class EnvVar(OpenModel):
    """An environment variable."""

    name: Annotated[str, Field(min_length=1, max_length=256)] = Field(description="Name of the variable.")


class ContainerPort(OpenModel):
    """A port of a container."""

    container_port: Whole = Field(ge=1, le=65_535, description="Number of the port.")
    name: Annotated[str, Field(max_length=15)] | None = Field(default=None, description="Name of the port.")


class VolumeMount(OpenModel):
    """A volume's place in a container."""

    mount_path: Annotated[str, Field(min_length=1, max_length=1024)] = Field(description="Path in the container.")


class Volume(OpenModel):
    """A volume of the pod."""

    name: Annotated[str, Field(min_length=1, max_length=63)] = Field(
        description="Name of the volume; cache holds the weights, an emptyDir if it is not given here."
    )


class NodeSelectorTerm(OpenModel):
    """Requirements that a node must all meet."""

    match_expressions: Annotated[list[OpenModel], Field(max_length=64)] | None = Field(
        default=None, description="Requirements by label; the operator adds that of the hardware."
    )


class NodeSelector(OpenModel):
    """Terms of which a node must meet one."""

    node_selector_terms: Annotated[list[NodeSelectorTerm], Field(max_length=64)] | None = Field(
        default=None, description="Alternatives."
    )


class NodeAffinity(OpenModel):
    """Nodes that the pods must or should run on."""

    required: NodeSelector | None = Field(
        default=None,
        alias="requiredDuringSchedulingIgnoredDuringExecution",
        description="Nodes that the pods must run on.",
    )


class Affinity(OpenModel):
    """Where the pods run."""

    node_affinity: NodeAffinity | None = Field(default=None, description="Nodes that the pods must or should run on.")


class ContainerSecurity(OpenModel):
    """What a container may do."""

    privileged: bool | None = Field(default=None, description="Refused for the engine.")


class ContainerOverlay(OpenModel):
    """Changes to one container, or one more container."""

    name: Annotated[str, Field(min_length=1, max_length=63)] = Field(
        description="Name of the container; sglang is the engine."
    )
    image: Annotated[str, Field(max_length=512)] | None = Field(default=None, description="Image of the container.")
    command: Annotated[list[Annotated[str, Field(max_length=32_768)]], Field(max_length=256)] | None = Field(
        default=None, description="Entry point of the container."
    )
    args: Annotated[list[Annotated[str, Field(max_length=32_768)]], Field(max_length=256)] | None = Field(
        default=None, description="Arguments of the container."
    )
    env: Annotated[list[EnvVar], Field(max_length=128)] | None = Field(
        default=None, description="Environment variables of the container."
    )
    ports: Annotated[list[ContainerPort], Field(max_length=32)] | None = Field(
        default=None, description="Ports of the container."
    )
    security_context: ContainerSecurity | None = Field(default=None, description="What the container may do.")
    volume_mounts: Annotated[list[VolumeMount], Field(max_length=64)] | None = Field(
        default=None, description="Volumes in the container."
    )
    resources: ContainerResources | None = Field(
        default=None, description="Requests and limits of the container. The GPUs follow tensorParallelism."
    )


class PodOverlay(OpenModel):
    """Changes to the pod's spec, for example tolerations, affinity, volumes or sidecars."""

    containers: Annotated[list[ContainerOverlay], Field(max_length=16)] | None = Field(
        default=None, description="Changes to the engine (name: sglang), and sidecars."
    )
    init_containers: Annotated[list[ContainerOverlay], Field(max_length=16)] | None = Field(
        default=None, description="Containers that run to their end before the engine starts."
    )
    volumes: Annotated[list[Volume], Field(max_length=64)] | None = Field(
        default=None, description="Volumes, more or instead of the operator's."
    )
    host_network: bool | None = Field(default=None, description="Refused: SGLang needs it only for several nodes.")
    affinity: Affinity | None = Field(
        default=None, description="Where the pods run, in addition to nodes with the hardware."
    )


class PodMetadata(OpenModel):
    """Labels and annotations of the pods."""

    labels: Annotated[dict[str, Annotated[str, Field(max_length=63)]], Field(max_length=64), WithoutNulls] | None = (
        Field(default=None, description="More labels of the pods.")
    )


class PodTemplate(OpenModel):
    """Changes to the pod template that the operator builds, merged as `kubectl patch` merges them.

    Directives such as `$patch: delete` are not understood, so nothing that the operator builds can be taken away.
    """

    metadata: PodMetadata | None = Field(default=None, description="Labels and annotations of the pods.")
    spec: PodOverlay | None = Field(default=None, description="Changes to the pod's spec.")


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
        default="disabled", description="enabled turns the model's tool calls into OpenAI ones (kimi_k2)."
    )
    replicas: Whole = Field(default=1, ge=0, le=1000, description="Number of replicas.")
    suspend: bool = Field(default=False, description="Run no pod, but keep everything else; replicas is kept too.")
    engine: Engine = Field(default_factory=Engine, description="The SGLang release and what it is started with.")
    startup: Startup = Field(default_factory=Startup, description="How long a replica may take to load.")
    drain: Drain = Field(default_factory=Drain, description="How a replica stops.")
    rollout: Rollout = Field(default_factory=Rollout, description="How a new generation replaces the old one.")
    service: ServicePort = Field(default_factory=ServicePort, description="How clients reach the server.")
    security: Security = Field(
        default_factory=Security,
        description="What the container may do. Never privileged, and without the host's network: AMD's device plugin "
        "mounts the GPU devices.",
    )
    pod_template: PodTemplate | None = Field(
        default=None,
        description="Strategic-merge patch on the pod template, without directives: tolerations, affinity, volumes, "
        "environment, sidecars and so on. What makes the pod a Kimi-Linear server can't be changed here.",
    )


class Failure(Model):
    """How a container last ended. Kept when the pod is gone."""

    pod: str = Field(description="Name of the pod.")
    container: str = Field(description="Name of the container.")
    reason: str = Field(description="Reason that the kubelet gave, for example Error or OOMKilled.")
    exit_code: int = Field(description="Exit code of the container.")
    message: str = Field(description="Last lines that the container wrote.")
    time: str = Field(description="When the container ended.", json_schema_extra={"format": "date-time"})


class ServerStatus(Model):
    """The observed state."""

    observed_generation: int | None = Field(
        default=None, description="The generation of the spec that this status was found for."
    )
    conditions: list[Condition] = Field(
        default_factory=list,
        description="Accepted, Available, Ready, Reconciling and Stalled.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
    url: str | None = Field(default=None, description="Address of the server inside the cluster.")
    command: str | None = Field(
        default=None, description="The recipe's shell command for this spec, to run the same server by hand."
    )
    image: str | None = Field(default=None, description="Image of the engine.")
    replicas: int | None = Field(default=None, description="Pods of this server.")
    ready_replicas: int | None = Field(default=None, description="Pods that serve.")
    updated_replicas: int | None = Field(default=None, description="Pods of the current generation.")
    selector: str | None = Field(default=None, description="Label selector of the pods, for /scale.")
    last_failure: Failure | None = Field(default=None, description="How a container last ended.")


class KimiLinearServer(Model):
    """A server of Kimi-Linear: SGLang on AMD Instinct GPUs, behind a Service."""

    api_version: Literal["kimi-linear.io/v1alpha1"] = Field(alias="apiVersion")
    kind: Literal["KimiLinearServer"]
    metadata: ObjectMeta
    spec: ServerSpec = Field(default_factory=ServerSpec, description="The wanted state; {} is a complete server.")
    # Ours to write: whatever it holds must never make a stored object unreadable.
    status: Manifest = Field(default_factory=dict, exclude=True)

    def manifest(self) -> Manifest:
        """Return the object with all defaults set, as the API server would store it."""
        return self.model_dump(by_alias=True, exclude_none=True)
