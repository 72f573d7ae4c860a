"""KimiLinearWeights: the model on a volume, fetched once for all servers that use it.

The descriptions are what `kubectl explain` shows.
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
    """What is fetched, and from where."""

    variant: Variant = Field(
        default="instruct", description="The model: instruct is moonshotai/Kimi-Linear-48B-A3B-Instruct."
    )
    revision: ModelName = Field(
        default="main",
        description="Branch, tag or commit on the Hugging Face hub. The hub is asked only once which commit a branch "
        "points to; with a new value of the annotation kimi-linear.io/fetch, it is asked again. The model brings code "
        "of its own that SGLang runs (--trust-remote-code): pin a commit if you do not trust later versions.",
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
        description="Address of a mirror of the hub (HF_ENDPOINT), without credentials. If unset, it is the hub.",
    )
    token_secret_ref: SecretKeyRef | None = Field(
        default=None, description="Hugging Face token (HF_TOKEN). Not needed for the public weights."
    )


class WeightsVolume(Model):
    """The volume that holds the weights."""

    existing_claim: ObjectName | None = Field(
        default=None,
        description="A PersistentVolumeClaim of this namespace, instead of one that the operator makes. Several "
        "KimiLinearWeights may share it.",
    )
    storage_class_name: ObjectName | None = Field(
        default=None, description="Storage class of the claim. If unset, it is the cluster's default."
    )
    size: Annotated[str, Field(max_length=32, pattern=r"^[1-9][0-9]*([GTP]i?)$")] = Field(
        default="200Gi",
        description="Size of the claim. The weights are 98 GB. A later commit needs room for the files that differ, "
        "98 GB at most. The size can only grow, and only if the storage class allows it.",
    )
    access_modes: Annotated[list[_AccessMode], Field(min_length=1, max_length=4)] = Field(
        default=["ReadWriteMany"],
        description="How nodes mount the volume. ReadWriteOnce is enough if all pods that use it run on one node.",
    )
    deletion_policy: Literal["Keep", "Delete"] = Field(
        default="Keep",
        description="What happens to the claim when this resource is deleted. With Keep it stays, and a new resource "
        "of this name uses it again. With Delete it is deleted, even if other resources use it. A claim that "
        "existingClaim names stays in both cases.",
    )


class WeightsSpec(Model):
    """The wanted state. An empty spec fetches the model to a volume of the default storage class."""

    source: WeightsSource = Field(default_factory=WeightsSource, description="What is fetched, and from where.")
    volume: WeightsVolume = Field(default_factory=WeightsVolume, description="The volume that holds the weights.")
    image: ImageReference = Field(
        default="lmsysorg/sglang:v0.5.7-rocm700-mi30x",
        description="Image of the pod that fetches: any that has python3 and its package huggingface_hub. The default "
        "is the engine's image, which nodes with servers already have. Changing the image does not fetch complete "
        "weights again.",
    )
    inherited_metadata: InheritedMetadata = Field(default_factory=InheritedMetadata, description=INHERITED_METADATA)
    pod_template: PodTemplate | None = Field(
        default=None,
        description="Strategic-merge patch on the template of the pod that fetches, without directives. Its container "
        "is called fetch.",
    )


class WeightsStatus(Status):
    """The observed state."""

    conditions: Conditions = Field(
        default_factory=list,
        description="Accepted, Ready, Reconciling and Stalled.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
    claim: str | None = Field(default=None, description="The PersistentVolumeClaim that holds the weights.")
    claim_uid: str | None = Field(
        default=None,
        description="UID of the claim if the operator has made it: on another claim of this name, nothing is complete.",
    )
    commit: str | None = Field(
        default=None,
        description="The newest commit that is complete on the volume: the one that servers get. It stays while "
        "another one is fetched.",
    )
    bytes: int | None = Field(default=None, description="Bytes of the wanted commit that are on the volume.")
    total_bytes: int | None = Field(default=None, description="Bytes of the wanted commit.")
    percent: int | None = Field(default=None, description="Share of these bytes that is on the volume.")
    bytes_per_second: int | None = Field(default=None, description="Speed of the download now.")
    seconds_left: int | None = Field(default=None, description="Seconds until the end at this speed.")


WEIGHTS = Kind(GROUP, VERSION, "KimiLinearWeights", "kimilinearweights")


class KimiLinearWeights(Resource):
    """The model on a volume, for servers that name it."""

    KIND = WEIGHTS
    COMPONENT = "weights"

    kind: Literal["KimiLinearWeights"]
    spec: WeightsSpec = Field(
        default_factory=WeightsSpec, description="The wanted state; {} fetches the model to the default storage class."
    )

    @property
    def inherited_metadata(self) -> InheritedMetadata:
        """Return the labels and annotations of every object that belongs to the weights."""
        return self.spec.inherited_metadata
