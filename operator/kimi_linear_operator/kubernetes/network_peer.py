"""Model of a NetworkPolicyPeer: whom a NetworkPolicy lets in, or where it lets pods go.

The fields are Kubernetes' own: https://kubernetes.io/docs/concepts/services-networking/network-policies/
"""

from typing import Annotated, Literal

from pydantic import Field

from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.models import Model, WithoutNulls

_Key = Annotated[str, Field(min_length=1, max_length=317)]
_Value = Annotated[str, Field(max_length=63)]
_AddressBlock = Annotated[str, Field(max_length=64, pattern=r"^[0-9a-fA-F.:]+/[0-9]{1,3}$")]


class LabelSelectorRequirement(Model):
    """A requirement on one label."""

    key: _Key = Field(description="Key of the label.")
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"] = Field(description="How the label is compared.")
    values: Annotated[list[_Value], Field(max_length=32)] | None = Field(
        default=None, description="Values for In and NotIn."
    )


class LabelSelector(Model):
    """Requirements that labels must all meet; {} is met by everything."""

    match_labels: Annotated[dict[str, _Value], Field(max_length=32), WithoutNulls] | None = Field(
        default=None, description="Labels and their values."
    )
    match_expressions: Annotated[list[LabelSelectorRequirement], Field(max_length=16)] | None = Field(
        default=None, description="Other requirements on labels."
    )


class IPBlock(Model):
    """A block of addresses."""

    cidr: _AddressBlock = Field(description="The block, for example 10.1.0.0/16 or 2001:db8::/64.")
    # The name is Python's own word, too.
    except_: Annotated[list[_AddressBlock], Field(max_length=32)] | None = Field(
        default=None, alias="except", description="Blocks within it that do not count."
    )


class NetworkPeer(Model):
    """Pods or addresses: either ipBlock, or at least one of podSelector and namespaceSelector."""

    pod_selector: LabelSelector | None = Field(
        default=None,
        description="Pods with these labels: in the namespaces that namespaceSelector selects, or in the server's own "
        "if there is none.",
    )
    namespace_selector: LabelSelector | None = Field(
        default=None,
        description="Namespaces with these labels. Without podSelector, all of their pods. Each namespace has the "
        "label kubernetes.io/metadata.name with its name.",
    )
    ip_block: IPBlock | None = Field(
        default=None, description="Addresses outside the cluster. Do not list addresses of pods: they change."
    )

    def manifest(self) -> Manifest:
        """Return the peer as Kubernetes has it."""
        return self.model_dump(by_alias=True, exclude_none=True)


NetworkPeers = Annotated[list[NetworkPeer], Field(max_length=32)]
