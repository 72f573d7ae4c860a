"""The NetworkPolicies of a server.

They say who may reach the replicas and the router's pods, and what these pods may reach.

Policies are additive: a pod may do everything that any policy allows. The kubelet's probes and a pod's traffic with
itself are always allowed: https://kubernetes.io/docs/concepts/services-networking/network-policies/
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

# Selects the pods that the operator runs for a KimiLinearBenchmark. No spec can give these labels to other pods of the
# operator.
_BENCHMARKS = {metadata.MANAGED_BY: metadata.MANAGER, "app.kubernetes.io/component": "benchmark"}

# Addresses outside the public internet: RFC 1918, RFC 6598, RFC 3927 (cloud providers serve credentials there), RFC
# 4193 and RFC 4291. Pods, Services, nodes and the API server have such addresses in most clusters.
_PRIVATE_IPV4 = ("10.0.0.0/8", "100.64.0.0/10", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16")
_PRIVATE_IPV6 = ("fc00::/7", "fe80::/10")
_PUBLIC = (
    {"ipBlock": {"cidr": "0.0.0.0/0", "except": list(_PRIVATE_IPV4)}},
    {"ipBlock": {"cidr": "::/0", "except": list(_PRIVATE_IPV6)}},
)
_INTERNET: Manifest = {"to": list(_PUBLIC), "ports": [{"port": 443, "protocol": "TCP"}]}
_HTTP = {"port": command_line.PORT, "protocol": "TCP"}
# In some clusters DNS runs in pods, in others on each node.
_DNS: Manifest = {"ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]}

# Values that huggingface_hub reads as true (constants.py, ENV_VARS_TRUE_VALUES).
_TRUE = ("1", "ON", "YES", "TRUE")


@dataclass(frozen=True)
class Needs:
    """What a NetworkPolicy must allow for pods, in addition to the peers in the spec.

    Attributes:
        internet: Whether the pods could need public addresses at their start.
        ports: Ports of containers other than the engine's, and their protocols.
    """

    internet: bool = False
    ports: tuple[tuple[int, str], ...] = ()

    def __or__(self, other: "Needs") -> "Needs":
        """Return the needs of both objects together."""
        return Needs(self.internet or other.internet, tuple(dict.fromkeys((*self.ports, *other.ports))))


NO_NEEDS = Needs()


def needs_of(spec: ServerSpec) -> Needs:
    """Return the needs of pods with this spec."""
    return Needs(needs_internet(spec), tuple(_ports_of_sidecars(spec)))


def needs_of_others(
    running: Revision | None, wanted: Revision | None, deployment: Manifest | None, policy: Manifest | None
) -> Needs:
    """Return the needs of running pods whose template is not the template of the spec.

    While there are pods with an unknown template or unknown inputs, the result also contains everything that the
    present policy allows them, except its peers.

    Args:
        running: The revision whose template the Deployment has, None if unknown.
        wanted: The revision whose template the Deployment should have, None if unknown.
        deployment: The server's Deployment, None if there is none.
        policy: Its NetworkPolicy, None if there is none.
    """
    if deployment is None:
        return NO_NEEDS
    needs = NO_NEEDS
    for item in filter(None, (running, wanted)):
        spec = spec_of(item.inputs)
        # Pods whose inputs this version cannot read could need to fetch their model.
        needs |= needs_of(spec) if spec else Needs(internet=True)
    is_known = running is not None and bool(running.inputs) and not _has_older_pods(deployment)
    return needs if is_known or policy is None else needs | _needs_of_policy(policy["spec"])


def _has_older_pods(deployment: Manifest) -> bool:
    """Return whether there can be pods with a template other than the Deployment's."""
    status = deployment.get("status", {})
    is_observed = status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 1)
    return not is_observed or status.get("replicas", 0) > status.get("updatedReplicas", 0)


def _needs_of_policy(spec: Manifest) -> Needs:
    ports = [port for rule in spec.get("ingress") or () for port in rule.get("ports") or ()]
    opened = ((port.get("port"), port.get("protocol", "TCP")) for port in ports if port != _HTTP)
    return Needs(_INTERNET in (spec.get("egress") or ()), tuple(port for port in opened if isinstance(port[0], int)))


def build_network_policy(server: KimiLinearServer, policy: NetworkPolicy, others: Needs = NO_NEEDS) -> Manifest:
    """Return the NetworkPolicy of the replicas. It has the name of the server.

    Args:
        server: The server.
        policy: Its spec.networkPolicy.
        others: The needs of its pods with an older template.
    """
    needs = needs_of(server.spec) | others
    egress = list(_egress(needs, policy))
    spec = {
        "podSelector": {"matchLabels": metadata.selector(server)},
        "policyTypes": ["Ingress", "Egress"],
        # After the router was switched off, its pods still finish their requests.
        "ingress": [*_ingress(policy, [_port(*port) for port in needs.ports]), _from_router(server)],
        # The API server drops an empty list. Without the list, the pods may reach nothing.
        **({"egress": egress} if egress else {}),
    }
    return metadata.build_manifest(server, NETWORK_POLICY, server.metadata.name, spec=spec)


def build_router_policy(server: KimiLinearServer, policy: NetworkPolicy) -> Manifest:
    """Return the NetworkPolicy of the router's pods.

    The clients of the replicas may reach these pods, and these pods may reach the replicas.

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
    """Yield the rules for incoming connections. A rule with an empty `from` would allow everyone."""
    if policy.from_:
        yield {"from": [peer.manifest() for peer in policy.from_], "ports": [_HTTP, *more_ports]}
    yield {"from": [{"podSelector": {"matchLabels": _BENCHMARKS}}], "ports": [_HTTP]}


def _egress(needs: Needs, policy: NetworkPolicy) -> Iterator[Manifest]:
    """Yield the rules for outgoing connections, no rule if the pods may reach nothing."""
    if not (policy.to or needs.internet):
        return
    yield _DNS
    if needs.internet:
        yield _INTERNET
    if policy.to:
        yield {"to": [peer.manifest() for peer in policy.to]}


def needs_internet(spec: ServerSpec) -> bool:
    """Return whether pods could need the internet at their start, for the model or for Python packages.

    The addresses of the hub and of the package index change, so a policy cannot name them.
    """
    return bool(spec.engine.extra_pip_packages) or not (_has_model(spec) or _is_offline(spec))


def _has_model(spec: ServerSpec) -> bool:
    """Return whether the pod gets the model without the hub."""
    return bool(spec.model.path or spec.model.weights or spec.model.image)


def _is_offline(spec: ServerSpec) -> bool:
    """Return whether the pod template makes the engine work without the hub."""
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
