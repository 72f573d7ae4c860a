"""The configuration of a real node: names, addresses and configuration files."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import device_plugin
from control_plane import LocalCluster

NODE_NAME = "mi300x-real"
PAUSE_IMAGE = "kimi-linear.local/pause:1"
# Our programs that run in containers of the node itself, and the images that contain them.
IMAGES = {"pause": PAUSE_IMAGE, "device-plugin": device_plugin.IMAGE}
# The node's only link, seen from inside.
UPLINK = "uplink"
CONTAINERD_SOCKET = "/run/containerd/containerd.sock"
# kubelet, containerd and its network plugins use these folders, whatever their configuration says. In the node's
# namespace, each of these folders is empty at first.
PRIVATE_FOLDERS = tuple(
    map(Path, ("/run", "/var/lib/cni", "/var/lib/kubelet", "/var/log/containers", "/usr/libexec/kubernetes"))
)
# Debian's package containernetworking-plugins.
_NETWORK_PLUGINS = "/usr/lib/cni"
_SECONDS_OF_DNS = 2
# A container that failed starts again after 5 seconds, because tests wait for it. By default, a kubelet waits 10
# seconds, then 20, and at last 5 minutes. Kubernetes 1.35 and newer know this field of the kubelet's configuration.
QUICK_RESTARTS = {"crashLoopBackOff": {"maxContainerRestartPeriod": "5s"}}


@dataclass(frozen=True)
class Node:
    """One real node and the control plane beside it, in a separate network.

    Several can run on a machine: their links, addresses and control groups have the node's number.
    """

    state: Path
    number: int

    @property
    def link(self) -> str:
        """The machine's end of the node's link."""
        return f"kimi-linear-{self.number}"

    @property
    def cgroup(self) -> str:
        """The control group of all pods, below the root of each hierarchy."""
        return f"kimi-linear-{self.number}"

    @property
    def host_address(self) -> str:
        """The machine's address on the link."""
        return f"10.213.{self.number}.1"

    @property
    def address(self) -> str:
        """The node's address on the link: of the kubelet, the API server and the cluster's DNS."""
        return f"10.213.{self.number}.2"

    @property
    def pod_addresses(self) -> str:
        """The addresses of its pods."""
        return f"10.214.{self.number}.0/24"

    @property
    def control_plane(self) -> LocalCluster:
        """The control plane beside it."""
        return control_plane(self.state, self.address)

    @property
    def logs(self) -> Path:
        """Where kubelet, containerd, kube-proxy and CoreDNS write their logs."""
        return self.state / "logs"

    @property
    def containerd(self) -> Path:
        """The folder for containerd's images, and for files that containers write."""
        return self.state / "containerd"

    def file(self, name: str) -> Path:
        """A configuration file."""
        return self.state / "config" / name


def control_plane(state: Path, address: str | None = None) -> LocalCluster:
    """The control plane beside a real node with that state folder. Only its start uses the address."""
    return LocalCluster(state / "control-plane", "real", address=address)


def write_configuration(node: Node) -> None:
    """Write all configuration files."""
    texts = {
        "containerd.toml": _containerd(node),
        "cni/pods.conflist": json.dumps(_pod_network(node)),
        "kubelet.json": json.dumps(_kubelet(node)),
        "kube-proxy.json": json.dumps(_kube_proxy(node)),
        "Corefile": _corefile(node),
        "resolv.conf": resolv_conf(node.address),
    }
    for name, text in texts.items():
        file = node.file(name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


def resolv_conf(address: str) -> str:
    """The /etc/resolv.conf of a pod in the namespace default, with the DNS server at that address."""
    search = "default.svc.cluster.local svc.cluster.local cluster.local"
    return f"nameserver {address}\nsearch {search}\noptions ndots:5\n"


def _containerd(node: Node) -> str:
    """https://github.com/containerd/containerd/blob/release/1.6/docs/cri/config.md.

    restrict_oom_score_adj: in a container or a virtual machine, root may lack the right to protect a process from the
        out-of-memory killer.
    """
    return f"""\
version = 2
root = "{node.containerd}"
state = "/run/containerd"

[grpc]
address = "{CONTAINERD_SOCKET}"

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE_IMAGE}"
restrict_oom_score_adj = true

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{_NETWORK_PLUGINS}"
conf_dir = "{node.file("cni")}"

[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "overlayfs"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = false
"""


def _pod_network(node: Node) -> dict[str, Any]:
    """A bridge for the pods. With hairpinMode, a pod also reaches itself through its own Service."""
    addresses = {
        "type": "host-local",
        "ranges": [[{"subnet": node.pod_addresses}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    bridge = {"type": "bridge", "bridge": "cni0", "isGateway": True, "hairpinMode": True, "ipam": addresses}
    ports = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"cniVersion": "1.0.0", "name": "pods", "plugins": [bridge, ports]}


def _kubelet(node: Node) -> dict[str, Any]:
    """https://kubernetes.io/docs/reference/config-api/kubelet-config.v1beta1/."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(node.control_plane.pki / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{node.cgroup}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "clusterDomain": "cluster.local",
        "clusterDNS": [node.address],
        # Names outside the cluster get no answer, because pods cannot connect to the outside.
        "resolvConf": "",
        "podLogsDir": str(node.state / "pod-logs"),
        "volumePluginDir": str(node.state / "volume-plugins"),
        # The node's status contains the number of GPUs. Tests wait for it, so the kubelet reports the status often.
        "nodeStatusUpdateFrequency": "1s",
        "nodeStatusReportFrequency": "5m",
        **QUICK_RESTARTS,
        # The node shares the machine with other programs. So it limits only the pods, and evicts no pods because of
        # disk and memory.
        "enforceNodeAllocatable": [],
        "evictionHard": {"memory.available": "1Mi"},
        "imageGCHighThresholdPercent": 100,
    }


def _kube_proxy(node: Node) -> dict[str, Any]:
    """https://kubernetes.io/docs/reference/config-api/kube-proxy-config.v1alpha1/."""
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": str(node.control_plane.kubeconfig)},
        "mode": "iptables",
        # This limit applies to the whole machine, and can be set only from the machine's own network.
        "conntrack": {"maxPerCore": 0},
    }


def _corefile(node: Node) -> str:
    return f"""\
. {{
    bind {node.address}
    errors
    cache {_SECONDS_OF_DNS}
    kubernetes cluster.local in-addr.arpa {{
        kubeconfig {node.control_plane.kubeconfig}
        ttl {_SECONDS_OF_DNS}
    }}
}}
"""
