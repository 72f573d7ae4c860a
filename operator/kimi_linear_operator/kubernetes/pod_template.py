"""Model of `spec.podTemplate`: a user's changes to the pod template that the operator builds.

The model declares the fields that rules read. It also declares fields that users often give a wrong type, so that the
API server refuses such values. All other fields of a pod template stay as they are.

The operator's own container is called sglang in the pods of a server, client in those of a benchmark, and fetch in
those of weights.
"""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.models import OpenModel, Quantities, Whole, WithoutNulls, whole_number

ENGINE_CONTAINER = "sglang"
"""The name of the container that runs SGLang's server."""

# Kubernetes allows 256 KiB for all annotations of an object together.
Texts = Annotated[dict[str, Annotated[str, Field(max_length=262_144)]], Field(max_length=256), WithoutNulls]
"""A map with text values. A value that looks like a number or a boolean needs quotes."""

Seconds = Annotated[int, Field(ge=-(2**31), le=2**31 - 1), BeforeValidator(whole_number)]


class ContainerResources(OpenModel):
    """Requests and limits of a container."""

    limits: Quantities | None = Field(default=None, description="The maximum that the container can use.")
    requests: Quantities | None = Field(
        default=None, description="The amount that the scheduler reserves for the container."
    )


class EnvVarSource(OpenModel):
    """Where the value of an environment variable comes from."""

    secret_key_ref: OpenModel | None = Field(default=None, description="A key of a Secret.")


class EnvVar(OpenModel):
    """An environment variable."""

    name: Annotated[str, Field(min_length=1, max_length=256)] = Field(description="Name of the variable.")
    value: Annotated[str, Field(max_length=32_768)] | None = Field(
        default=None, description="Value of the variable. Put it in quotes if it looks like a number or a boolean."
    )
    value_from: EnvVarSource | None = Field(default=None, description="Source of the value, instead of value.")


class EnvFromSource(OpenModel):
    """An object whose keys become environment variables."""

    secret_ref: OpenModel | None = Field(default=None, description="A Secret.")


class ContainerPort(OpenModel):
    """A port of a container."""

    container_port: Whole = Field(ge=1, le=65_535, description="Number of the port.")
    name: Annotated[str, Field(max_length=15)] | None = Field(default=None, description="Name of the port.")
    protocol: Literal["TCP", "UDP", "SCTP"] | None = Field(default=None, description="Protocol of the port.")


class VolumeMount(OpenModel):
    """A mount of a volume in a container."""

    mount_path: Annotated[str, Field(min_length=1, max_length=1024)] = Field(description="Path in the container.")
    name: Annotated[str, Field(max_length=63)] | None = Field(default=None, description="Name of the volume.")
    read_only: bool | None = Field(default=None, description="Whether the container can only read the volume.")
    sub_path: Annotated[str, Field(max_length=1024)] | None = Field(
        default=None, description="Path in the volume. Only this path is mounted, not the whole volume."
    )


class Volume(OpenModel):
    """A volume of the pod."""

    name: Annotated[str, Field(min_length=1, max_length=63)] = Field(
        description="Name of the volume. The volume with the name cache holds the downloads from the Hugging Face "
        "hub. If you do not set it, it is an emptyDir."
    )


class NodeSelectorTerm(OpenModel):
    """Requirements on a node. The node must meet all of them."""

    match_expressions: Annotated[list[OpenModel], Field(max_length=64)] | None = Field(
        default=None, description="Requirements on labels. The operator adds the requirement for a server's hardware."
    )


class NodeSelector(OpenModel):
    """Alternative terms. A node must meet at least one of them."""

    node_selector_terms: Annotated[list[NodeSelectorTerm], Field(max_length=64)] | None = Field(
        default=None, description="Alternatives."
    )


class NodeAffinity(OpenModel):
    """Nodes on which the pods must run, or preferably run."""

    required: NodeSelector | None = Field(
        default=None,
        alias="requiredDuringSchedulingIgnoredDuringExecution",
        description="Nodes on which the pods must run.",
    )


class Affinity(OpenModel):
    """Where the pods run."""

    node_affinity: NodeAffinity | None = Field(
        default=None, description="Nodes on which the pods must run, or preferably run."
    )


class ContainerSecurity(OpenModel):
    """Permissions of a container."""

    privileged: bool | None = Field(default=None, description="Refused for the container that the operator defines.")


class Toleration(OpenModel):
    """A taint that the pods tolerate."""

    key: Annotated[str, Field(max_length=317)] | None = Field(default=None, description="Key of the taint.")
    operator: Annotated[str, Field(max_length=16)] | None = Field(default=None, description="Equal, or Exists.")
    value: Annotated[str, Field(max_length=63)] | None = Field(default=None, description="Value of the taint.")
    effect: Annotated[str, Field(max_length=32)] | None = Field(default=None, description="Effect of the taint.")
    toleration_seconds: Seconds | None = Field(
        default=None, description="For how many seconds the pod tolerates a taint with the effect NoExecute."
    )


class PullSecret(OpenModel):
    """A Secret with the password of a registry."""

    name: Annotated[str, Field(max_length=253)] | None = Field(default=None, description="Name of the Secret.")


class ContainerOverlay(OpenModel):
    """Changes to a container that the operator builds, or an additional container."""

    name: Annotated[str, Field(min_length=1, max_length=63)] = Field(description="Name of the container.")
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
    env_from: Annotated[list[EnvFromSource], Field(max_length=32)] | None = Field(
        default=None, description="Secrets and ConfigMaps whose keys become environment variables of the container."
    )
    ports: Annotated[list[ContainerPort], Field(max_length=32)] | None = Field(
        default=None, description="Ports of the container."
    )
    security_context: ContainerSecurity | None = Field(default=None, description="Permissions of the container.")
    volume_mounts: Annotated[list[VolumeMount], Field(max_length=64)] | None = Field(
        default=None, description="Mounts of volumes in the container."
    )
    resources: ContainerResources | None = Field(
        default=None,
        description="Requests and limits of the container. tensorParallelism sets the number of a server's GPUs.",
    )


class PodOverlay(OpenModel):
    """Changes to the pod's spec, for example tolerations, affinity, volumes or sidecars."""

    containers: Annotated[list[ContainerOverlay], Field(max_length=16)] | None = Field(
        default=None,
        description="Changes to the operator's container (sglang of a server, client of a benchmark, fetch of "
        "weights), and additional containers (sidecars).",
    )
    init_containers: Annotated[list[ContainerOverlay], Field(max_length=16)] | None = Field(
        default=None, description="Containers that run to their end before the others start."
    )
    node_selector: Texts | None = Field(default=None, description="Labels that nodes must have.")
    tolerations: Annotated[list[Toleration], Field(max_length=64)] | None = Field(
        default=None, description="Taints of nodes that the pods tolerate."
    )
    image_pull_secrets: Annotated[list[PullSecret], Field(max_length=16)] | None = Field(
        default=None, description="Secrets with the passwords of registries."
    )
    service_account_name: Annotated[str, Field(max_length=253)] | None = Field(
        default=None, description="Service account of the pods."
    )
    priority_class_name: Annotated[str, Field(max_length=253)] | None = Field(
        default=None, description="Priority class of the pods."
    )
    runtime_class_name: Annotated[str, Field(max_length=253)] | None = Field(
        default=None, description="Runtime class of the pods."
    )
    volumes: Annotated[list[Volume], Field(max_length=64)] | None = Field(
        default=None, description="Additional volumes, or volumes that replace the operator's volumes of the same name."
    )
    host_network: bool | None = Field(default=None, description="Refused: no pod needs the node's network.")
    affinity: Affinity | None = Field(
        default=None,
        description="Where the pods run. A server's pods run only on nodes with its hardware, even if you set "
        "another place.",
    )


class PodMetadata(OpenModel):
    """Labels and annotations of the pods."""

    labels: Annotated[dict[str, Annotated[str, Field(max_length=63)]], Field(max_length=64), WithoutNulls] | None = (
        Field(default=None, description="Additional labels of the pods.")
    )
    annotations: Texts | None = Field(default=None, description="Additional annotations of the pods.")


class PodTemplate(OpenModel):
    """Changes to the pod template that the operator builds. They are merged as by `kubectl patch`.

    A null removes a field, but only if this schema does not declare the field. The API server drops the null of a
    declared field. Directives such as `$patch: delete` do not work.
    """

    metadata: PodMetadata | None = Field(default=None, description="Labels and annotations of the pods.")
    spec: PodOverlay | None = Field(default=None, description="Changes to the pod's spec.")

    def changes(self) -> Manifest:
        """Return the changes as the user wrote them, including nulls that remove a field."""
        return self.model_dump(by_alias=True, exclude_unset=True)
