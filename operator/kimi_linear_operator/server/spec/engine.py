"""The contents of a replica: the hardware, the model, SGLang and its container."""

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
    """The model, and the source of its weights."""

    variant: Literal["instruct"] = Field(
        default="instruct",
        description="The model: instruct is moonshotai/Kimi-Linear-48B-A3B-Instruct.",
    )
    revision: ModelName | None = Field(
        default=None,
        description="Branch, tag or commit on the Hugging Face hub. SGLang runs code that comes with the model "
        "(--trust-remote-code), so name a commit if you do not trust later versions.",
    )
    path: AbsolutePath | None = Field(
        default=None,
        description="Directory in the container with the weights. SGLang then does not use the hub. Mount the "
        "directory with podTemplate. Cannot be combined with revision.",
    )
    weights: ObjectName | None = Field(
        default=None,
        description="Name of a KimiLinearWeights of this namespace. The model then comes from its volume, not from the "
        "hub. The server has no pods before these weights are complete for the first time. Running pods keep their "
        "commit. The operator offers a newer commit to the server in the same way as a newer pod template.",
    )
    image: ImageReference | None = Field(
        default=None,
        description="OCI image whose root is the model's folder. SGLang then does not use the hub. The kubelet pulls "
        "the image once for each node and mounts it as an image volume. This needs Kubernetes 1.33 or newer with "
        "the feature ImageVolume.",
    )
    served_name: ModelName | None = Field(
        default=None, description="Name of the model in the OpenAI API. If unset, it is the model path."
    )
    token_secret_ref: SecretKeyRef | None = Field(
        default=None, description="Hugging Face token (HF_TOKEN). Not needed for the public weights."
    )


class Engine(Model):
    """The SGLang release and its options."""

    version: Annotated[str, Field(max_length=64, pattern=r"^v[0-9]+\.[0-9]+\.[0-9]+[A-Za-z0-9.]*$")] = Field(
        default="v0.5.7",
        description="SGLang release. Together with the hardware, it selects the image "
        "lmsysorg/sglang:VERSION-ROCM-ARCH.",
    )
    image: ImageReference | None = Field(
        default=None, description="Reference of the image. If unset, version and hardware select the image."
    )
    extra_args: Annotated[list[Annotated[str, Field(min_length=1, max_length=1024)]], Field(max_length=64)] = Field(
        default=[],
        description="More arguments for sglang.launch_server, each as one list item. Write --flag=value, or make flag "
        "and value two items. Flags that have their own field in the spec are refused.",
    )
    extra_pip_packages: Annotated[list[PipPackage], Field(max_length=16)] = Field(
        default=["sentencepiece", "tiktoken"],
        description="Python packages that the model needs. When a pod starts, it installs the packages only if it "
        "cannot import all of them. So if the image contains the packages, in any version, the pod needs no package "
        "index.",
    )
    context_length: Annotated[int, Field(ge=1, le=1_048_576), BeforeValidator(whole_number)] | None = Field(
        default=None, description="Longest context in tokens. If unset, the model's own limit of 1048576."
    )
    memory_fraction_static: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        default=None,
        description="Share of GPU memory for weights and caches, between 0 and 1. Lower it if the server runs out of "
        "GPU memory.",
    )
    attention_backend: Annotated[str, Field(max_length=64, pattern=r"^[a-z0-9_]+$")] | None = Field(
        default=None, description="SGLang attention backend, for example triton. If unset, SGLang chooses."
    )


class Security(Model):
    """Permissions of SGLang's container. It is never privileged, because AMD's device plugin mounts the GPU devices."""

    host_ipc: bool = Field(
        default=False,
        alias="hostIPC",
        description="Share the node's IPC namespace, as in AMD's examples. The replica has its own /dev/shm, so this "
        "should not be necessary. Refused unless the operator runs with --allow-node-access.",
    )
    seccomp_profile: Literal["Unconfined", "RuntimeDefault"] = Field(
        default="Unconfined", description="Seccomp profile. AMD documents Unconfined for ROCm."
    )
    capabilities: Annotated[
        list[Annotated[str, Field(max_length=64, pattern=r"^[A-Z][A-Z_]*$")]], Field(max_length=16)
    ] = Field(
        default=["SYS_PTRACE"],
        description="Linux capabilities to add. All others are dropped. AMD documents SYS_PTRACE for ROCm. The "
        "operator accepts SYS_PTRACE and the capabilities that the Pod Security level baseline allows. It accepts "
        "others only if it runs with --allow-node-access.",
    )


class KernelCache(Model):
    """Where Triton's compiled kernels are kept."""

    existing_claim: ObjectName | None = Field(
        default=None,
        description="PersistentVolumeClaim that keeps the kernels when the pod is gone. It contains a folder for each "
        "image and node. Use local storage or a block device, because Triton can fail on network file systems.",
    )
    host_path: AbsolutePath | None = Field(
        default=None,
        description="Folder on the node that keeps the kernels when the pod is gone. It contains a subfolder for each "
        "image. Refused unless the operator runs with --allow-node-access. Cannot be combined with existingClaim.",
    )
    size_limit: Annotated[str, Field(max_length=32, pattern=r"^[1-9][0-9]*(Mi|Gi|Ti)$")] | None = Field(
        default=None,
        description="Size limit of a pod's own folder for kernels on the node's disk. Kubernetes evicts a pod that "
        "exceeds the limit. If unset, there is no limit.",
    )
