"""A cluster in which pods run: what tests in real pods ask of it, whatever its node is made of."""

import json
from abc import abstractmethod
from pathlib import Path
from typing import Any

import images
from kubectl import Kubectl
from lifecycle import Lifecycle
from nodes import gpu_labels

_HARDWARE = "MI300X"
_GPUS = {"amd.com/gpu": "8"}
# The node pretends to have GPUs, and so also the processors, memory and disk of machines that have them: servers ask
# for those. Only their pods are changed, so Deployments stay as the operator wants them.
_SERVERS = {"app.kubernetes.io/name": "kimi-linear", "app.kubernetes.io/component": "server"}
_ONLY_GPUS = """
[JSONPatch{
  op: "replace", path: "/spec/containers/0/resources/requests",
  value: {"amd.com/gpu": object.spec.containers[0].resources.limits["amd.com/gpu"]}
}]
"""


def small_node() -> list[dict[str, Any]]:
    """A policy that lets pods of servers request GPUs only, and its binding."""
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
    spec = {
        "matchConstraints": {"objectSelector": {"matchLabels": _SERVERS}, "resourceRules": [rule]},
        "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": _ONLY_GPUS}}],
        "reinvocationPolicy": "Never",
    }
    kind, metadata = "MutatingAdmissionPolicy", {"name": "small-node.tests"}
    api_version = "admissionregistration.k8s.io/v1"
    return [
        {"apiVersion": api_version, "kind": kind, "metadata": metadata, "spec": spec},
        {
            "apiVersion": api_version,
            "kind": f"{kind}Binding",
            "metadata": metadata,
            "spec": {"policyName": metadata["name"]},
        },
    ]


class PodCluster(Lifecycle):
    """A control plane and one node with eight AMD GPUs (a number that the scheduler counts; no device is there)."""

    kubeconfig: Path
    kubectl: Kubectl
    bin: list[Path]
    """The folders to be put on PATH, with kubectl in one of them."""
    node_name: str

    @abstractmethod
    def enter(self, *command: str) -> list[str]:
        """A command that runs another one of this machine in the node's network, with the cluster's DNS."""

    @abstractmethod
    def containerd(self, *arguments: str, timeout: float = 60) -> str:
        """The output of containerd's own command line, `ctr`."""

    def load_images(self) -> None:
        """Give the node the operator's image and a stand-in for SGLang's; the first time, they are built."""
        for image in (images.OPERATOR, images.STAND_IN):
            self._load(image)

    def tag_image(self, name: str, other: str) -> None:
        """Give an image that the node has another name as well."""
        self.containerd("images", "tag", "--force", name, other)

    @abstractmethod
    def _load(self, image: images.Image) -> None:
        """Build an image, unless it is there, and give it to the node."""

    def _add_gpus(self) -> None:
        """What AMD's device plugin and node labeller would say. The kubelet keeps what it does not know."""
        labels = (f"{key}={value}" for key, value in gpu_labels(_HARDWARE).items())
        self.kubectl("label", "node", self.node_name, "--overwrite", *labels)
        status = {"status": {"capacity": _GPUS, "allocatable": _GPUS}}
        self.kubectl("patch", "node", self.node_name, "--subresource=status", f"--patch={json.dumps(status)}")
        self.kubectl.apply(small_node())
