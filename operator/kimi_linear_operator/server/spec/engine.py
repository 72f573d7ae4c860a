"""What runs in a replica: the hardware, the model, SGLang and its container."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from kimi_linear_operator.kubernetes.models import (
    AbsolutePath,
    ImageReference,
    Model,
    ModelName,
    ObjectName,
    PipPackage,
    SecretKeyRef,
    whole_number,
)

Hardware = Literal["mi300x", "mi325x", "mi355x"]
TensorParallelism = Annotated[Literal[1, 2, 4, 8], BeforeValidator(whole_number)]
Switch = Literal["disabled", "enabled"]


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
    path: AbsolutePath | None = Field(
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
    image: ImageReference | None = Field(
        default=None,
        description="OCI image whose root is the model's folder, instead of the hub. The kubelet pulls it once for "
        "each node and mounts it as an image volume, which needs Kubernetes 1.33 or newer with the feature "
        "ImageVolume.",
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
    image: ImageReference | None = Field(
        default=None, description="Whole image reference, instead of the one that version and hardware select."
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


class KernelCache(Model):
    """Where the kernels that Triton compiles are kept."""

    existing_claim: ObjectName | None = Field(
        default=None,
        description="Claim that keeps the kernels when the pod is gone, with a folder for each image and node. Its "
        "storage should be local or a block device: on network file systems Triton can fail.",
    )
    host_path: AbsolutePath | None = Field(
        default=None,
        description="Folder of the node that keeps the kernels when the pod is gone, with a subfolder for each image. "
        "Refused unless the operator runs with --allow-node-access. Cannot be combined with existingClaim.",
    )
    size_limit: Annotated[str, Field(max_length=32, pattern=r"^[1-9][0-9]*(Mi|Gi|Ti)$")] | None = Field(
        default=None,
        description="The most that a pod's own folder for kernels may take on the node's disk; a pod that takes more "
        "is evicted. If unset, it has no limit.",
    )
