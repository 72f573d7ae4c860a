"""The NetworkPolicies of a server: who may reach its pods and those of its router, and what they may reach.

Policies add up: a pod may do what any policy allows. The kubelet's probes always pass, and so does a pod's traffic with
itself: https://kubernetes.io/docs/concepts/services-networking/network-policies/
"""

from collections.abc import Iterator
from dataclasses import dataclass

from kimi_linear_operator.kubernetes import metadata
from kimi_linear_operator.kubernetes.kinds import NETWORK_POLICY, Manifest
from kimi_linear_operator.kubernetes.pod_template import ContainerOverlay
from kimi_linear_operator.server import router
from kimi_linear_operator.server.revision import Revision
from kimi_linear_operator.server.sglang import command_line, router_flags
from kimi_linear_operator.server.spec import KimiLinearServer, ServerSpec
from kimi_linear_operator.server.spec.traffic import NetworkPolicy
from kimi_linear_operator.server.template_inputs import spec_of

# What the operator runs for a KimiLinearBenchmark. Only the operator can give these labels to a pod of its own.
_BENCHMARKS = {metadata.MANAGED_BY: metadata.MANAGER, "app.kubernetes.io/component": "benchmark"}

# Addresses that are in no public network: RFC 1918, RFC 6598, RFC 3927 (cloud providers serve credentials there), RFC
# 4193 and RFC 4291. Pods, Services, nodes and the API server have such addresses in most clusters.
_PRIVATE_IPV4 = ("10.0.0.0/8", "100.64.0.0/10", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16")
_PRIVATE_IPV6 = ("fc00::/7", "fe80::/10")
_PUBLIC = (
    {"ipBlock": {"cidr": "0.0.0.0/0", "except": list(_PRIVATE_IPV4)}},
    {"ipBlock": {"cidr": "::/0", "except": list(_PRIVATE_IPV6)}},
)
_INTERNET: Manifest = {"to": list(_PUBLIC), "ports": [{"port": 443, "protocol": "TCP"}]}
_HTTP = {"port": command_line.PORT, "protocol": "TCP"}
# Where a cluster's DNS runs differs: in pods, or on each node.
_DNS: Manifest = {"ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]}

# What huggingface_hub takes as true (constants.py, ENV_VARS_TRUE_VALUES).
_TRUE = ("1", "ON", "YES", "TRUE")


@dataclass(frozen=True)
class Needs:
    """What pods need open, besides the peers that a spec names.

    Attributes:
        internet: Whether they may fetch something from public addresses at start.
        ports: Ports of containers other than the engine's, and their protocols.
    """

    internet: bool = False
    ports: tuple[tuple[int, str], ...] = ()

    def __or__(self, other: "Needs") -> "Needs":
        """Return what the pods of both need."""
        return Needs(self.internet or other.internet, tuple(dict.fromkeys((*self.ports, *other.ports))))


NO_NEEDS = Needs()


def needs_of(spec: ServerSpec) -> Needs:
    """Return what the pods of a spec need."""
    return Needs(needs_internet(spec), tuple(_ports_of_sidecars(spec)))


def needs_of_others(
    running: Revision | None, wanted: Revision | None, deployment: Manifest | None, policy: Manifest | None
) -> Needs:
    """Return what pods need that run with other templates than that of the spec.

    While there are pods whose template is not known any more, what the policy leaves open stays open, except for peers.

    Args:
        running: The revision whose template the Deployment has, None if unknown.
        wanted: The revision whose template it should have, None if unknown.
        deployment: The server's Deployment, None if there is none.
        policy: Its NetworkPolicy, None if there is none.
    """
    if deployment is None:
        return NO_NEEDS
    needs = NO_NEEDS
    for item in filter(None, (running, wanted)):
        spec = spec_of(item.inputs)
        # Pods whose inputs this version cannot read may fetch their model.
        needs |= needs_of(spec) if spec else Needs(internet=True)
    is_known = running is not None and not _has_older_pods(deployment)
    return needs if is_known or policy is None else needs | _needs_of_policy(policy["spec"])


def _has_older_pods(deployment: Manifest) -> bool:
    """Return whether there may be pods with another template than that of the Deployment."""
    status = deployment.get("status", {})
    is_observed = status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 1)
    return not is_observed or status.get("replicas", 0) > status.get("updatedReplicas", 0)


def _needs_of_policy(spec: Manifest) -> Needs:
    ports = [port for rule in spec.get("ingress") or () for port in rule.get("ports") or ()]
    opened = ((port.get("port"), port.get("protocol", "TCP")) for port in ports if port != _HTTP)
    return Needs(_INTERNET in (spec.get("egress") or ()), tuple(port for port in opened if isinstance(port[0], int)))


def build_network_policy(server: KimiLinearServer, policy: NetworkPolicy, others: Needs = NO_NEEDS) -> Manifest:
    """Return the NetworkPolicy of the replicas, named like the server.

    Args:
        server: The server.
        policy: Its spec.networkPolicy.
        others: What its pods with an older template need.
    """
    needs = needs_of(server.spec) | others
    egress = list(_egress(needs, policy))
    spec = {
        "podSelector": {"matchLabels": metadata.selector(server)},
        "policyTypes": ["Ingress", "Egress"],
        # The router's pods may also finish their requests after the router was switched off.
        "ingress": [*_ingress(policy, [_port(*port) for port in needs.ports]), _from_router(server)],
        # The API server drops an empty list. Without it, the pods may reach nothing.
        **({"egress": egress} if egress else {}),
    }
    return metadata.build_manifest(server, NETWORK_POLICY, server.metadata.name, spec=spec)


def build_router_policy(server: KimiLinearServer, policy: NetworkPolicy) -> Manifest:
    """Return the NetworkPolicy of the router's pods: who reaches the replicas reaches them, and they the replicas.

    Args:
        server: A server with a router.
        policy: Its spec.networkPolicy.
    """
    metrics = {"port": router_flags.METRICS_PORT, "protocol": "TCP"}
    spec = {
        "podSelector": {"matchLabels": router.selector(server)},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": list(_ingress(policy, [metrics])),
        "egress": [_DNS, {"to": [{"podSelector": {"matchLabels": metadata.selector(server)}}], "ports": [_HTTP]}],
    }
    return metadata.build_manifest(server, NETWORK_POLICY, router.name_of(server), spec=spec)


def _from_router(server: KimiLinearServer) -> Manifest:
    return {"from": [{"podSelector": {"matchLabels": router.selector(server)}}], "ports": [_HTTP]}


def _ingress(policy: NetworkPolicy, more_ports: list[Manifest]) -> Iterator[Manifest]:
    """Yield the rules for who may reach the pods. A rule with an empty `from` would let everyone in."""
    if policy.from_:
        yield {"from": [peer.manifest() for peer in policy.from_], "ports": [_HTTP, *more_ports]}
    yield {"from": [{"podSelector": {"matchLabels": _BENCHMARKS}}], "ports": [_HTTP]}


def _egress(needs: Needs, policy: NetworkPolicy) -> Iterator[Manifest]:
    """Yield the rules for what the pods may reach, none if that is nothing."""
    if not (policy.to or needs.internet):
        return
    yield _DNS
    if needs.internet:
        yield _INTERNET
    if policy.to:
        yield {"to": [peer.manifest() for peer in policy.to]}


def needs_internet(spec: ServerSpec) -> bool:
    """Return whether pods may fetch something from the internet at start: the model, or Python packages.

    The addresses of the hub and of the package index change, so a policy cannot name them.
    """
    return bool(spec.engine.extra_pip_packages) or not (_has_model(spec) or _is_offline(spec))


def _has_model(spec: ServerSpec) -> bool:
    """Return whether the model is in the pod without the hub."""
    return bool(spec.model.path or spec.model.weights or spec.model.image)


def _is_offline(spec: ServerSpec) -> bool:
    """Return whether the pod template keeps the engine from asking the hub."""
    variables = [variable for container in _containers(spec) for variable in container.env or ()]
    return any(item.name == "HF_HUB_OFFLINE" and (item.value or "").upper() in _TRUE for item in variables)


def _ports_of_sidecars(spec: ServerSpec) -> Iterator[tuple[int, str]]:
    """Yield the ports that other containers of the pod declare, such as that of a proxy."""
    for container in _containers(spec):
        yield from ((port.container_port, port.protocol or "TCP") for port in container.ports or ())


def _port(port: int, protocol: str) -> Manifest:
    return {"port": port, "protocol": protocol}


def _containers(spec: ServerSpec) -> list[ContainerOverlay]:
    pod = spec.pod_template and spec.pod_template.spec
    return [*(pod.containers or ()), *(pod.init_containers or ())] if pod else []
