"""KimiLinearWeights: the model on a volume, fetched once for all servers that use it.

`kubectl explain` shows the descriptions.
"""

from typing import Annotated, Literal

from pydantic import Field

from kimi_linear_operator.kubernetes.kinds import GROUP, VERSION, Kind
from kimi_linear_operator.kubernetes.models import (
    INHERITED_METADATA,
    Conditions,
    ImageReference,
    InheritedMetadata,
    Model,
    ModelName,
    ObjectName,
    Resource,
    SecretKeyRef,
    Status,
)
from kimi_linear_operator.kubernetes.pod_template import PodTemplate

Variant = Literal["instruct"]
_AccessMode = Literal["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"]


class WeightsSource(Model):
    """The model that the operator fetches, and the source of its files."""

    variant: Variant = Field(
        default="instruct", description="The model: instruct is moonshotai/Kimi-Linear-48B-A3B-Instruct."
    )
    revision: ModelName = Field(
        default="main",
        description="Branch, tag or commit on the Hugging Face hub. The operator asks the hub only once which commit "
        "a branch points to. To ask again, give the annotation kimi-linear.io/fetch a new value. SGLang runs code "
        "that comes with the model (--trust-remote-code), so name a commit if you do not trust later versions.",
    )
    endpoint: (
        Annotated[
            str,
            Field(
                max_length=512,
                pattern=r"^https?://([A-Za-z0-9][A-Za-z0-9.:_-]*|\[[0-9A-Fa-f:.]+\](:[0-9]+)?)(/[A-Za-z0-9._~/-]*)?$",
            ),
        ]
        | None
    ) = Field(
        default=None,
        description="Address of a mirror of the Hugging Face hub (HF_ENDPOINT), without credentials. If unset, the "
        "operator uses the hub itself.",
    )
    token_secret_ref: SecretKeyRef | None = Field(
        default=None, description="Hugging Face token (HF_TOKEN). Not needed for the public weights."
    )


class WeightsVolume(Model):
    """The volume that holds the weights."""

    existing_claim: ObjectName | None = Field(
        default=None,
        description="An existing PersistentVolumeClaim of this namespace. If unset, the operator creates a claim. "
        "Several KimiLinearWeights can share an existing claim.",
    )
    storage_class_name: ObjectName | None = Field(
        default=None, description="Storage class of the claim. If unset, the cluster's default class."
    )
    size: Annotated[str, Field(max_length=32, pattern=r"^[1-9][0-9]*([GTP]i?)$")] = Field(
        default="200Gi",
        description="Size of the claim. The weights are 98 GB. A later commit needs additional space for the files "
        "that differ, at most 98 GB. You can only increase the size, and only if the storage class allows it.",
    )
    access_modes: Annotated[list[_AccessMode], Field(min_length=1, max_length=4)] = Field(
        default=["ReadWriteMany"],
        description="How nodes mount the volume. ReadWriteOnce is enough if all pods that use it run on one node.",
    )
    deletion_policy: Literal["Keep", "Delete"] = Field(
        default="Keep",
        description="What happens to the claim when you delete this resource. Keep: the claim stays, and a new "
        "resource with this name uses it again. Delete: the claim is deleted, even if other resources use it. The "
        "claim in existingClaim stays in both cases.",
    )


class WeightsSpec(Model):
    """The wanted state. With an empty spec, the operator fetches the model to a volume of the default storage class."""

    source: WeightsSource = Field(
        default_factory=WeightsSource, description="The model that the operator fetches, and the source of its files."
    )
    volume: WeightsVolume = Field(default_factory=WeightsVolume, description="The volume that holds the weights.")
    image: ImageReference = Field(
        default="lmsysorg/sglang:v0.5.7-rocm700-mi30x",
        description="Image of the pod that fetches the model. It must contain python3 and the Python package "
        "huggingface_hub. The default is the image of SGLang, because nodes with servers already have it. After a "
        "change of the image, complete weights are not fetched again.",
    )
    inherited_metadata: InheritedMetadata = Field(default_factory=InheritedMetadata, description=INHERITED_METADATA)
    pod_template: PodTemplate | None = Field(
        default=None,
        description="Strategic-merge patch on the template of the pod that fetches the model. The container is called "
        "fetch. Directives such as $patch are refused.",
    )


class WeightsStatus(Status):
    """The observed state."""

    conditions: Conditions = Field(
        default_factory=list,
        description="Accepted, Ready, Reconciling and Stalled. Synced is added while an object that the operator "
        "created for the weights is being deleted, and finalizers hold this object.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
    claim: str | None = Field(default=None, description="The PersistentVolumeClaim that holds the weights.")
    claim_uid: str | None = Field(
        default=None,
        description="UID of the claim that the operator created. With it, the operator notices a new claim of the same "
        "name, which contains no complete commit yet.",
    )
    commit: str | None = Field(
        default=None,
        description="The newest complete commit on the volume. Servers use this commit, even while the operator "
        "fetches another one.",
    )
    bytes: int | None = Field(default=None, description="Bytes of the wanted commit that are on the volume.")
    total_bytes: int | None = Field(default=None, description="Size of the wanted commit in bytes.")
    percent: int | None = Field(default=None, description="Percentage of the wanted commit that is on the volume.")
    bytes_per_second: int | None = Field(default=None, description="Current speed of the download in bytes per second.")
    seconds_left: int | None = Field(default=None, description="Seconds until the download ends, at the current speed.")


WEIGHTS = Kind(GROUP, VERSION, "KimiLinearWeights", "kimilinearweights")


class KimiLinearWeights(Resource):
    """The model on a volume. Servers can use it by its name."""

    KIND = WEIGHTS
    COMPONENT = "weights"

    kind: Literal["KimiLinearWeights"]
    spec: WeightsSpec = Field(
        default_factory=WeightsSpec,
        description="The wanted state. With {}, the operator fetches the model to a "
        "volume of the default storage class.",
    )

    @property
    def inherited_metadata(self) -> InheritedMetadata:
        """Return the labels and annotations of every object that belongs to the weights."""
        return self.spec.inherited_metadata
