"""A device plugin that stands in for AMD's on a real node: its image, and the DaemonSet that runs it.

The DaemonSet is AMD's (k8s-ds-amdgpu-dp.yaml in ROCm/k8s-device-plugin), without /sys: there is nothing to find there.
"""

from typing import Any

NAME = "amdgpu-device-plugin-daemonset"
NAMESPACE = "kube-system"
IMAGE = "kimi-linear.local/device-plugin:1"
# The kubelet serves its API there and looks there for that of plugins, whatever its root folder is.
_SOCKETS = "/var/lib/kubelet/device-plugins"


def daemon_set() -> dict[str, Any]:
    """The DaemonSet."""
    labels = {"name": "amdgpu-dp-ds"}
    container = {
        "name": "amdgpu-dp-cntr",
        "image": IMAGE,
        "volumeMounts": [{"name": "dp", "mountPath": _SOCKETS}],
    }
    pod = {
        "priorityClassName": "system-node-critical",
        "tolerations": [{"key": "CriticalAddonsOnly", "operator": "Exists"}],
        "terminationGracePeriodSeconds": 0,
        "containers": [container],
        "volumes": [{"name": "dp", "hostPath": {"path": _SOCKETS}}],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": NAME, "namespace": NAMESPACE},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }
