"""Models that all resources share, for strictness, metadata and conditions."""

import re
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator
from pydantic.alias_generators import to_camel

from kimi_linear_operator.kubernetes.kinds import GROUP, Kind, Manifest
from kimi_linear_operator.kubernetes.times import moment


class Model(BaseModel):
    """A part of a resource, as strict as the API server with strict field validation."""

    model_config = ConfigDict(alias_generator=to_camel, allow_inf_nan=False, extra="forbid", frozen=True, strict=True)

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, value: Any) -> Any:
        """Treat `field: null` as absent, as the API server does before it sets defaults."""
        declared = _aliases(cls)
        if isinstance(value, Mapping):
            return {key: item for key, item in value.items() if item is not None or key not in declared}
        return value


class OpenModel(Model):
    """A part of a resource. The operator knows some of its fields, and does not change the others."""

    model_config = ConfigDict(extra="allow")


@cache
def _aliases(model: type[BaseModel]) -> frozenset[str]:
    return frozenset(field.alias or name for name, field in model.model_fields.items())


def whole_number(value: Any) -> Any:
    """Accept the integers that the API server accepts: 4 and 4.0, but neither true nor "4".

    Raises:
        ValueError: The value is not such an integer, or needs more than 64 bits.
    """
    is_whole = type(value) is int or (type(value) is float and value.is_integer())
    if not is_whole or not -(2**63) <= value < 2**63:
        raise ValueError("must be a whole number, without quotes")
    return int(value)


_LONGEST_QUANTITY = 32


def _whole_or_text(value: Any) -> Any:
    if isinstance(value, str) and len(value) > _LONGEST_QUANTITY:
        raise ValueError(f"must be a quantity of at most {_LONGEST_QUANTITY} characters")
    return value if isinstance(value, str) else whole_number(value)


def _without_nulls(value: Any) -> Any:
    return {key: item for key, item in value.items() if item is not None} if isinstance(value, dict) else value


Whole = Annotated[int, BeforeValidator(whole_number)]
"""An integer."""

IntOrString = Annotated[
    Any,
    BeforeValidator(_whole_or_text),
    WithJsonSchema({"x-kubernetes-int-or-string": True, "maxLength": _LONGEST_QUANTITY}),
]
"""A quantity of Kubernetes: both 4 and "4" are valid."""

_RFC_3339 = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})")


def _time(value: str) -> str:
    """Accept a time that the API server accepts for the format `date-time`.

    Raises:
        ValueError: The value is not such a time.
    """
    if not _RFC_3339.fullmatch(value) or moment(value) is None:
        raise ValueError("must be a time in the format of RFC 3339, for example 2026-11-24T10:00:00Z")
    return value


Time = Annotated[str, AfterValidator(_time), Field(json_schema_extra={"format": "date-time"})]
"""A time as RFC 3339."""

WithoutNulls = BeforeValidator(_without_nulls)
"""Makes a map treat `key: null` as absent, as the API server does."""


ObjectName = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")]
_SecretKey = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[-._a-zA-Z0-9]+$")]
ModelName = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$")]
ImageReference = Annotated[str, Field(min_length=1, max_length=512, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@-]*$")]
AbsolutePath = Annotated[str, Field(min_length=2, max_length=1024, pattern=r"^/[!-~]*$")]
PipPackage = Annotated[
    str,
    Field(
        max_length=128,
        pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?(\[[A-Za-z0-9,._-]+\])?"
        r"((==|>=|<=|~=|!=|<|>)[A-Za-z0-9.*+!_-]+(,(==|>=|<=|~=|!=|<|>)[A-Za-z0-9.*+!_-]+)*)?$",
    ),
]


def _texts(value: Any) -> Any:
    """Keep only text values. The API server itself refuses all other values."""
    items = value.items() if isinstance(value, Mapping) else ()
    return {key: item for key, item in items if isinstance(item, str)}


class ObjectMeta(BaseModel):
    """The fields of `metadata` that we read. The API server checks the rest."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    name: str = Field(min_length=1)
    namespace: str = "default"
    uid: str = ""
    generation: int = 0
    annotations: Annotated[dict[str, str], BeforeValidator(_texts)] = {}

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, value: Any) -> Any:
        return _without_nulls(value)


class SecretKeyRef(Model):
    """One key of a Secret in the namespace of the resource."""

    name: ObjectName = Field(description="Name of the Secret, in the namespace of the resource.")
    key: _SecretKey = Field(default="token", description="Key in the Secret.")


_FilePath = Annotated[str, Field(min_length=1, max_length=512, pattern=r"^[A-Za-z0-9_][A-Za-z0-9._/-]*$")]


class DatasetFile(Model):
    """A file of a volume."""

    persistent_volume_claim: ObjectName | None = Field(
        default=None, description="Name of the PersistentVolumeClaim of the volume that contains the file."
    )
    config_map: ObjectName | None = Field(
        default=None, description="Name of the ConfigMap that contains the file. A ConfigMap can hold up to 1 MiB."
    )
    path: _FilePath = Field(description="Path of the file in the volume, or its key in the ConfigMap.")


# https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set
_LabelValue = Annotated[str, Field(max_length=63, pattern=r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$")]


Labels = Annotated[dict[str, _LabelValue], Field(max_length=32), WithoutNulls]
"""Labels of an object."""

Annotations = Annotated[dict[str, Annotated[str, Field(max_length=4096)]], Field(max_length=32), WithoutNulls]
"""Annotations of an object."""

Quantities = Annotated[dict[str, IntOrString], Field(max_length=32), WithoutNulls]
"""Requests or limits of a container."""


class InheritedMetadata(Model):
    """Labels and annotations for every object of a resource, for example because a company's policies require them."""

    labels: Labels = Field(
        default={}, description="Labels of every object, including pods. Labels that the operator sets are refused."
    )
    annotations: Annotations = Field(default={}, description="Annotations of every object, including pods.")


INHERITED_METADATA = (
    "Labels and annotations for every object that the operator creates for this resource, including pods. On pods, "
    "podTemplate takes precedence."
)
"""The description of the field `inheritedMetadata` of each resource."""


class Condition(Model):
    """One aspect of the state, as `metav1.Condition` has it."""

    type: str = Field(description="Name of the condition, in CamelCase.", max_length=316)
    status: Literal["True", "False", "Unknown"] = Field(description="True, False or Unknown.")
    observed_generation: Whole = Field(
        default=0, ge=0, description="The generation of the spec that this condition describes."
    )
    last_transition_time: Time = Field(description="When the status last changed.")
    reason: str = Field(description="The reason for the status, as one CamelCase word.", max_length=1024)
    message: str = Field(description="What happened, and what to do.", max_length=32768)


# Our resources have at most six conditions. Each can become a time series, so the number is limited.
Conditions = Annotated[list[Condition], Field(max_length=32)]


class Status(Model):
    """Base of the status of our custom resources.

    Words such as an outcome are strings without an enum. Another version of the operator may have written other words,
    and a definition that refuses these would refuse every later write of the object.

    Attributes:
        RECORDS: Fields that no later pass can compute again. They are objects or lists of objects. Parts of them that
            this version cannot read stay as they are.
    """

    RECORDS: ClassVar[frozenset[str]] = frozenset()

    observed_generation: Whole | None = Field(
        default=None, description="The generation of the spec that this status describes."
    )


class Failure(Model):
    """How a container last ended. It stays in the status when the pod is gone."""

    pod: str = Field(description="Name of the pod.")
    container: str = Field(description="Name of the container.")
    reason: str = Field(description="The kubelet's reason, for example Error or OOMKilled.")
    exit_code: Whole = Field(description="Exit code of the container.")
    message: str = Field(
        description="Exception in the container's log, or the last lines of the log. Secrets are removed."
    )
    time: Time = Field(description="When the container ended.")


class Resource(Model):
    """Base of our custom resources.

    Attributes:
        KIND: Its kind.
        COMPONENT: Its name in the labels of its children.
    """

    KIND: ClassVar[Kind]
    COMPONENT: ClassVar[str]

    api_version: Literal["kimi-linear.io/v1alpha1"] = Field(alias="apiVersion")
    kind: str
    metadata: ObjectMeta
    # The status is not validated. A status of an older or newer operator must not make a stored resource unreadable.
    status: Manifest = Field(default_factory=dict, exclude=True)

    @classmethod
    def label(cls) -> str:
        """Return the label of all children, whose value is the name of the resource."""
        return f"{GROUP}/{cls.COMPONENT}"

    @property
    def inherited_metadata(self) -> InheritedMetadata:
        """Return the labels and annotations that the spec sets for all children."""
        raise NotImplementedError

    def manifest(self) -> Manifest:
        """Return the object with all defaults, as the API server would store it."""
        return self.model_dump(by_alias=True, exclude_none=True)
