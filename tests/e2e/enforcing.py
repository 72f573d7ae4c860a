"""Enforcement of NetworkPolicies on a real node: kube-network-policies, in a pod, decides about each new connection.

Its own rules for the packet filter need the kernel option NFT_QUEUE, which some kernels lack. So packets come to it by
a rule of the older packet filter, which needs less. It sees what is forwarded: between pods, and out of the node. It
does not see what pods send to the node itself, such as questions to the DNS of the cluster.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from archive import write_archive
from binaries import ENFORCING, NETWORK_POLICIES, binary, source_of
from built import skip_unless_built
from integration.waiting import wait_for
from kimi_linear_operator.kubernetes.kinds import Manifest
from real_node import RealCluster

_NAME, _PROGRAM = "kube-network-policies", "network-policies"
_IMAGE = f"kimi-linear.local/{_PROGRAM}:1"
_QUEUES = "/proc/net/netfilter/nfnetlink_queue"
_QUEUE = "98"
"""The number that its manifest has."""
_RULE = f"FORWARD --match conntrack --ctstate NEW --jump NFQUEUE --queue-num {_QUEUE}".split()


@contextmanager
def enforced_policies(cluster: RealCluster, folder: Path) -> Iterator[None]:
    """Enforce NetworkPolicies for as long as a block takes; skip if the kernel has no queue of packets."""
    if not Path(_QUEUES).exists():
        pytest.skip("the kernel has no queue of packets (NETFILTER_NETLINK_QUEUE)")
    skip_unless_built(ENFORCING)
    archive = folder / f"{_PROGRAM}.tar"
    write_archive(archive, _IMAGE, {_PROGRAM: binary(_PROGRAM)}, [f"/{_PROGRAM}"])
    cluster.containerd("images", "import", str(archive))
    manifests = _manifests()
    cluster.kubectl.apply(manifests)
    try:
        wait_for(lambda: _queues(cluster), "the program's packet queue is open", lambda seen: _QUEUE in seen)
        cluster.on_node("iptables", "--table=mangle", "--insert", *_RULE)
        yield
        cluster.on_node("iptables", "--table=mangle", "--delete", *_RULE)
    finally:
        for manifest in manifests:
            namespace = f"--namespace={manifest['metadata'].get('namespace', 'default')}"
            cluster.kubectl("delete", manifest["kind"], manifest["metadata"]["name"], namespace)


def _manifests() -> list[Manifest]:
    """Return its own manifests with the image that we built, and only with the rights and files that it needs here."""
    file = source_of(NETWORK_POLICIES, "sigs.k8s.io/kube-network-policies") / "install.yaml"
    manifests: list[Manifest] = [document for document in yaml.safe_load_all(file.read_text()) if document]
    [daemon_set] = [manifest for manifest in manifests if manifest["kind"] == "DaemonSet"]
    pod = daemon_set["spec"]["template"]["spec"]
    [container] = pod["containers"]
    container |= {"image": _IMAGE, "args": container["args"][1:]}
    container["securityContext"] = {"capabilities": {"add": ["NET_ADMIN"]}}
    # Without its connection to containerd, it learns the addresses of new pods only a moment later.
    del pod["volumes"], container["volumeMounts"]
    assert daemon_set["metadata"]["name"] == _NAME
    assert f"--nfqueue-id={_QUEUE}" in container["args"]
    return manifests


def _queues(cluster: RealCluster) -> set[str]:
    """Return the numbers of the queues that a program on the node reads."""
    return {line.split()[0] for line in cluster.on_node("cat", _QUEUES).splitlines() if line.strip()}
