"""KimiLinearServer: one Kimi-Linear deployment on AMD Instinct GPUs.

Field names and values are the option ids of the recipe, SGLang's cookbook page for Kimi-Linear. So each choice on that
page has one field and value here. `kubectl explain` shows the descriptions.
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
    """The wanted state. An empty spec gives a complete server with the recipe's defaults."""

    hardware: Hardware = Field(
        default="mi300x",
        description="GPU model. It selects the image (mi30x for MI300X and MI325X, mi35x for MI355X), and the nodes "
        "by their label amd.com/gpu.device-id.",
    )
    model: ModelSource = Field(default_factory=ModelSource, description="The model, and the source of its weights.")
    tensor_parallelism: TensorParallelism = Field(
        default=4,
        description="Number of GPUs of one replica. This number sets --tp and the request for amd.com/gpu. Published "
        "results exist only for 4.",
    )
    reasoning_parser: Switch = Field(
        default="disabled", description="The instruct model does not support a reasoning parser."
    )
    tool_call_parser: Switch = Field(
        default="disabled", description="enabled converts the model's tool calls to OpenAI's format (kimi_k2)."
    )
    replicas: Whole = Field(default=1, ge=0, le=1000, description="Number of replicas.")
    suspend: bool = Field(
        default=False,
        description="If true, no pods run. The value of replicas stays. All objects that are useful without pods stay, "
        "too.",
    )
    autoscaling: Autoscaling | None = Field(
        default=None,
        description="Creates a HorizontalPodAutoscaler that sets replicas according to SGLang's own metrics. Do not "
        "set replicas in your file. The cluster needs a metrics adapter, or KEDA (autoscaling.keda).",
    )
    engine: Engine = Field(default_factory=Engine, description="The SGLang release and its options.")
    startup: Startup = Field(default_factory=Startup, description="The time limit for the start of a replica.")
    drain: Drain = Field(default_factory=Drain, description="How a replica stops.")
    rollout: Rollout = Field(
        default_factory=Rollout, description="How new pods replace old pods after a change of the spec."
    )
    service: ServicePort = Field(default_factory=ServicePort, description="How clients reach the server.")
    ingress: Ingress | None = Field(
        default=None, description="Creates an Ingress to the Service. If unset, there is no Ingress."
    )
    http_route: HttpRoute | None = Field(
        default=None,
        description="Creates an HTTPRoute (Gateway API) to the Service, without time limits. If unset, there is no "
        "HTTPRoute.",
    )
    router: Router | None = Field(
        default=None,
        description="If set, even to {}, SGLang's own router runs in front of the replicas. The Service leads to the "
        "router, and the router chooses a replica for each request.",
    )
    auth: Auth = Field(
        default_factory=Auth, description="Who may use the server. By default, this is everyone who can reach it."
    )
    network_policy: NetworkPolicy | None = Field(
        default=None,
        description="Isolates the pods with a NetworkPolicy. With {}, only benchmarks of the namespace can connect. "
        "If unset, there is no NetworkPolicy. The cluster's network must enforce such policies.",
    )
    queue_name: QueueName | None = Field(
        default=None,
        description="Kueue's LocalQueue for the pods. If unset, Kueue's configuration decides what happens to pods "
        "without a queue. Kueue refuses a change of the queue while pods are ready.",
    )
    monitoring: Monitoring | None = Field(
        default=None,
        description="Creates a PodMonitor and a PrometheusRule with alerts, for the Prometheus operator. If unset, "
        "there are none.",
    )
    security: Security = Field(
        default_factory=Security,
        description="Permissions of SGLang's container. It is never privileged and never uses the node's network, "
        "because AMD's device plugin mounts the GPU devices.",
    )
    kernel_cache: KernelCache = Field(
        default_factory=KernelCache,
        description="Where compiled kernels are kept. By default, each pod has its own folder, which is deleted with "
        "the pod.",
    )
    preflight: Switch = Field(
        default="enabled",
        description="enabled checks each pod before SGLang loads. The check finds missing GPUs, an image for other "
        "GPUs, and too little shared memory or disk space. It takes less than a second.",
    )
    verification: Verification = Field(
        default_factory=Verification, description="Checks the answers of each new pod template."
    )
    inherited_metadata: InheritedMetadata = Field(default_factory=InheritedMetadata, description=INHERITED_METADATA)
    pod_template: PodTemplate | None = Field(
        default=None,
        description="Strategic-merge patch on the pod template, for example with tolerations, affinity, volumes, "
        "environment or sidecars. Directives such as $patch are refused. Parts of the pod that the operator itself "
        "needs cannot be changed.",
    )


class KimiLinearServer(Resource):
    """A server of Kimi-Linear. SGLang runs on AMD Instinct GPUs behind a Service."""

    KIND = SERVER
    COMPONENT = "server"

    kind: Literal["KimiLinearServer"]
    spec: ServerSpec = Field(default_factory=ServerSpec, description="The wanted state. {} gives a complete server.")

    @property
    def inherited_metadata(self) -> InheritedMetadata:
        """Return the labels and annotations of every object that belongs to the server."""
        return self.spec.inherited_metadata
