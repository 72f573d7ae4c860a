"""Model of a NetworkPolicyPeer: pods or addresses from which or to which a NetworkPolicy allows connections.

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
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"] = Field(description="How to compare the label.")
    values: Annotated[list[_Value], Field(max_length=32)] | None = Field(
        default=None, description="Values for In and NotIn."
    )


class LabelSelector(Model):
    """Requirements on labels. All of them must be met. {} selects everything."""

    match_labels: Annotated[dict[str, _Value], Field(max_length=32), WithoutNulls] | None = Field(
        default=None, description="Required labels, each with its value."
    )
    match_expressions: Annotated[list[LabelSelectorRequirement], Field(max_length=16)] | None = Field(
        default=None, description="Other requirements on labels."
    )


class IPBlock(Model):
    """A block of addresses."""

    cidr: _AddressBlock = Field(description="The block, for example 10.1.0.0/16 or 2001:db8::/64.")
    # `except` is a keyword of Python, so the attribute needs another name.
    except_: Annotated[list[_AddressBlock], Field(max_length=32)] | None = Field(
        default=None, alias="except", description="Address blocks within cidr that are excluded."
    )


class NetworkPeer(Model):
    """Pods or addresses. Set either ipBlock, or at least one of podSelector and namespaceSelector."""

    pod_selector: LabelSelector | None = Field(
        default=None,
        description="Pods with these labels, in the namespaces that namespaceSelector selects. Without "
        "namespaceSelector, in the server's namespace.",
    )
    namespace_selector: LabelSelector | None = Field(
        default=None,
        description="Namespaces with these labels. Without podSelector, all pods of these namespaces are selected. "
        "Each namespace has the label kubernetes.io/metadata.name with its name.",
    )
    ip_block: IPBlock | None = Field(
        default=None, description="Addresses outside the cluster. Do not list addresses of pods: they change."
    )

    def manifest(self) -> Manifest:
        """Return the peer in Kubernetes' format."""
        return self.model_dump(by_alias=True, exclude_none=True)


NetworkPeers = Annotated[list[NetworkPeer], Field(max_length=32)]
