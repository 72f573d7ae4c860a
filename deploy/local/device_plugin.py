"""A device plugin in place of AMD's, for a real node: its image, and the DaemonSet that runs it.

The DaemonSet is AMD's (k8s-ds-amdgpu-dp.yaml in ROCm/k8s-device-plugin) without /sys, because /sys contains no GPUs on
this node.
"""

from typing import Any

NAME = "amdgpu-device-plugin-daemonset"
NAMESPACE = "kube-system"
IMAGE = "kimi-linear.local/device-plugin:1"
# The kubelet serves its API in this folder and looks for sockets of plugins there, whatever its root folder is.
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
