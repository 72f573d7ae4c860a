"""Model of `spec.podTemplate`: a user's changes to the pod template that the operator builds.

It declares the fields that rules read. It also declares fields whose values users often write with a wrong type, so
that the API server refuses such values. All other fields of a pod template are kept as they are.

The operator's own container is called sglang in a server's pods and client in a benchmark's.
"""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.models import OpenModel, Quantities, Whole, WithoutNulls, whole_number

ENGINE_CONTAINER = "sglang"
"""The name of the container that runs SGLang's server, in every pod."""

# Kubernetes allows 256 KiB for all annotations of an object together.
Texts = Annotated[dict[str, Annotated[str, Field(max_length=262_144)]], Field(max_length=256), WithoutNulls]
"""A map with text values. A value that looks like a number or a boolean needs quotes."""

Seconds = Annotated[int, Field(ge=-(2**31), le=2**31 - 1), BeforeValidator(whole_number)]


class ContainerResources(OpenModel):
    """Requests and limits of a container."""

    limits: Quantities | None = Field(default=None, description="The most that the container may use.")
    requests: Quantities | None = Field(default=None, description="What the scheduler reserves for the container.")


class EnvVarSource(OpenModel):
    """Where the value of an environment variable comes from."""

    secret_key_ref: OpenModel | None = Field(default=None, description="A key of a Secret.")


class EnvVar(OpenModel):
    """An environment variable."""

    name: Annotated[str, Field(min_length=1, max_length=256)] = Field(description="Name of the variable.")
    value: Annotated[str, Field(max_length=32_768)] | None = Field(
        default=None, description="Value of the variable, in quotes if it looks like a number or a boolean."
    )
    value_from: EnvVarSource | None = Field(default=None, description="Where the value comes from instead.")


class EnvFromSource(OpenModel):
    """An object whose keys become environment variables."""

    secret_ref: OpenModel | None = Field(default=None, description="A Secret.")


class ContainerPort(OpenModel):
    """A port of a container."""

    container_port: Whole = Field(ge=1, le=65_535, description="Number of the port.")
    name: Annotated[str, Field(max_length=15)] | None = Field(default=None, description="Name of the port.")
    protocol: Literal["TCP", "UDP", "SCTP"] | None = Field(default=None, description="Protocol of the port.")


class VolumeMount(OpenModel):
    """A volume's place in a container."""

    mount_path: Annotated[str, Field(min_length=1, max_length=1024)] = Field(description="Path in the container.")
    name: Annotated[str, Field(max_length=63)] | None = Field(default=None, description="Name of the volume.")
    read_only: bool | None = Field(default=None, description="Whether the container may only read it.")
    sub_path: Annotated[str, Field(max_length=1024)] | None = Field(
        default=None, description="Path in the volume that is mounted, instead of the whole volume."
    )


class Volume(OpenModel):
    """A volume of the pod."""

    name: Annotated[str, Field(min_length=1, max_length=63)] = Field(
        description="Name of the volume. The volume cache holds what comes from the Hugging Face hub; it is an "
        "emptyDir unless it is set here."
    )


class NodeSelectorTerm(OpenModel):
    """Requirements that a node must all meet."""

    match_expressions: Annotated[list[OpenModel], Field(max_length=64)] | None = Field(
        default=None, description="Requirements by label; the operator adds that of a server's hardware."
    )


class NodeSelector(OpenModel):
    """Alternative terms: a node must meet one of them."""

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

    privileged: bool | None = Field(default=None, description="Refused for the operator's container.")


class Toleration(OpenModel):
    """A taint that the pods tolerate."""

    key: Annotated[str, Field(max_length=317)] | None = Field(default=None, description="Key of the taint.")
    operator: Annotated[str, Field(max_length=16)] | None = Field(default=None, description="Equal, or Exists.")
    value: Annotated[str, Field(max_length=63)] | None = Field(default=None, description="Value of the taint.")
    effect: Annotated[str, Field(max_length=32)] | None = Field(default=None, description="Effect of the taint.")
    toleration_seconds: Seconds | None = Field(default=None, description="How long NoExecute is tolerated.")


class PullSecret(OpenModel):
    """A Secret with the password of a registry."""

    name: Annotated[str, Field(max_length=253)] | None = Field(default=None, description="Name of the Secret.")


class ContainerOverlay(OpenModel):
    """Changes to one container, or one more container."""

    name: Annotated[str, Field(min_length=1, max_length=63)] = Field(
        description="Name of the container; sglang is a server's engine, client is what runs in a benchmark."
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
    env_from: Annotated[list[EnvFromSource], Field(max_length=32)] | None = Field(
        default=None, description="Secrets and ConfigMaps whose keys are environment variables of the container."
    )
    ports: Annotated[list[ContainerPort], Field(max_length=32)] | None = Field(
        default=None, description="Ports of the container."
    )
    security_context: ContainerSecurity | None = Field(default=None, description="What the container may do.")
    volume_mounts: Annotated[list[VolumeMount], Field(max_length=64)] | None = Field(
        default=None, description="Volumes in the container."
    )
    resources: ContainerResources | None = Field(
        default=None, description="Requests and limits of the container. A server's GPUs follow tensorParallelism."
    )


class PodOverlay(OpenModel):
    """Changes to the pod's spec, for example tolerations, affinity, volumes or sidecars."""

    containers: Annotated[list[ContainerOverlay], Field(max_length=16)] | None = Field(
        default=None, description="Changes to the operator's container (sglang, client), and sidecars."
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
        default=None, description="More volumes, or others in place of the operator's."
    )
    host_network: bool | None = Field(default=None, description="Refused: nothing here needs the node's network.")
    affinity: Affinity | None = Field(
        default=None,
        description="Where the pods run. A server's pods run only on nodes with its hardware, whatever is set here.",
    )


class PodMetadata(OpenModel):
    """Labels and annotations of the pods."""

    labels: Annotated[dict[str, Annotated[str, Field(max_length=63)]], Field(max_length=64), WithoutNulls] | None = (
        Field(default=None, description="More labels of the pods.")
    )
    annotations: Texts | None = Field(default=None, description="More annotations of the pods.")


class PodTemplate(OpenModel):
    """Changes to the pod template that the operator builds, merged as `kubectl patch` merges them.

    A null removes the field, but only if the field is not in this schema. The API server drops the null of a field
    that is in it. Directives such as `$patch: delete` do not work.
    """

    metadata: PodMetadata | None = Field(default=None, description="Labels and annotations of the pods.")
    spec: PodOverlay | None = Field(default=None, description="Changes to the pod's spec.")

    def changes(self) -> Manifest:
        """Return the changes as the user wrote them, including nulls that remove a field."""
        return self.model_dump(by_alias=True, exclude_unset=True)
