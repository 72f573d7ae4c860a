"""KimiLinearServer: one Kimi-Linear deployment on AMD Instinct GPUs.

Field names and values are the option ids of the recipe, SGLang's cookbook page for Kimi-Linear, so that
a selection made there maps one to one. The descriptions are what `kubectl explain` shows.
"""

from typing import Literal

from pydantic import Field

from kimi_linear_operator.kubernetes.kinds import GROUP, VERSION, Kind
from kimi_linear_operator.kubernetes.models import INHERITED_METADATA, InheritedMetadata, Model, Resource, Whole
from kimi_linear_operator.kubernetes.pod_template import PodTemplate
from kimi_linear_operator.kubernetes.queueing import QueueName
from kimi_linear_operator.server.spec.autoscaling import Autoscaling
from kimi_linear_operator.server.spec.engine import (
    Engine,
    Hardware,
    KernelCache,
    ModelSource,
    Security,
    Switch,
    TensorParallelism,
)
from kimi_linear_operator.server.spec.monitoring import Monitoring
from kimi_linear_operator.server.spec.rollout import Drain, Rollout, Startup, Verification
from kimi_linear_operator.server.spec.traffic import Auth, HttpRoute, Ingress, NetworkPolicy, Router, ServicePort

SERVER = Kind(GROUP, VERSION, "KimiLinearServer", "kimilinearservers")


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
