"""Which connections NetworkPolicies allow, according to Kubernetes' own documentation.

https://kubernetes.io/docs/concepts/services-networking/network-policies/
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any

from kimi_linear_operator.kubernetes.kinds import Manifest


@dataclass(frozen=True)
class End:
    """One end of a flow: a pod, or an address outside the cluster if it has no namespace."""

    address: str = "10.244.0.9"
    namespace: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)


def pod(namespace: str = "default", **labels: str) -> End:
    return End(namespace=namespace, labels={key.replace("__", "/").replace("_", "-"): labels[key] for key in labels})


def reaches(policies: Sequence[Manifest], source: End, target: End, port: int, protocol: str = "TCP") -> bool:
    """Return whether a connection is allowed at both of its ends."""
    leaves = _lets_pass(policies, source, target, "Egress", (port, protocol))
    return leaves and _lets_pass(policies, target, source, "Ingress", (port, protocol))


def _lets_pass(policies: Sequence[Manifest], at: End, peer: End, direction: str, port: tuple[int, str]) -> bool:
    applied = [
        policy
        for policy in policies
        if policy["metadata"]["namespace"] == at.namespace
        and direction in policy["spec"]["policyTypes"]
        and _selects(policy["spec"]["podSelector"], at.labels)
    ]
    side = {"Ingress": "from", "Egress": "to"}[direction]
    rules = [(policy, rule) for policy in applied for rule in policy["spec"].get(direction.lower(), ())]
    return not applied or any(
        _is_port(rule.get("ports"), port) and _is_peer(policy, rule.get(side), peer) for policy, rule in rules
    )


def _is_port(ports: Iterable[Manifest] | None, port: tuple[int, str]) -> bool:
    return not ports or port in [(item["port"], item["protocol"]) for item in ports]


def _is_peer(policy: Manifest, peers: Iterable[Manifest] | None, end: End) -> bool:
    return not peers or any(_matches(policy["metadata"]["namespace"], peer, end) for peer in peers)


def _matches(namespace: str, peer: Manifest, end: End) -> bool:
    if block := peer.get("ipBlock"):
        address = ip_address(end.address)
        return address in ip_network(block["cidr"]) and not any(
            address in ip_network(other) for other in block.get("except", ())
        )
    names = {"kubernetes.io/metadata.name": end.namespace}
    is_there = _selects(peer["namespaceSelector"], names) if "namespaceSelector" in peer else end.namespace == namespace
    return bool(end.namespace) and is_there and _selects(peer.get("podSelector", {}), end.labels)


def _selects(selector: Manifest, labels: Mapping[str, str]) -> bool:
    return dict(selector.get("matchLabels", {})).items() <= labels.items() and all(
        _meets(item, labels) for item in selector.get("matchExpressions", ())
    )


def _meets(requirement: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    value, values = labels.get(requirement["key"]), requirement.get("values", ())
    return {
        "In": value in values,
        "NotIn": value not in values,
        "Exists": value is not None,
        "DoesNotExist": value is None,
    }[requirement["operator"]]
