"""A cluster in which pods run. These are the methods that tests in real pods use, for any kind of node."""

import json
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import images
from amd_labels import MI300X, labels
from kubectl import Kubectl
from lifecycle import Lifecycle

GPUS = [MI300X] * 8
# Servers request GPUs, and also processors, memory and disk as on machines with GPUs. This node has less. The policy
# changes only pods, so Deployments stay as the operator wants them.
_SERVERS = {"app.kubernetes.io/name": "kimi-linear", "app.kubernetes.io/component": "server"}
_ONLY_GPUS = """
[JSONPatch{
  op: "replace", path: "/spec/containers/0/resources/requests",
  value: {"amd.com/gpu": object.spec.containers[0].resources.limits["amd.com/gpu"]}
}] + (has(object.spec.initContainers) && object.spec.initContainers[0].name == "preflight" ? [JSONPatch{%s}] : [])
"""
_CHECK = "/spec/initContainers/0"
_CHECK_OF_DEVICES = f"""
  op: "replace", path: "{_CHECK}/resources/requests",
  value: {{"amd.com/gpu": object.spec.containers[0].resources.limits["amd.com/gpu"]}}
"""
# If a node offers GPUs without devices, the check of a server's pod would find no GPUs.
_NO_CHECK = f'op: "remove", path: "{_CHECK}"'


def small_node(*, has_devices: bool) -> list[dict[str, Any]]:
    """A policy that makes pods of servers request only GPUs, and its binding."""
    expression = _ONLY_GPUS % (_CHECK_OF_DEVICES if has_devices else _NO_CHECK)
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
    spec = {
        "matchConstraints": {"objectSelector": {"matchLabels": _SERVERS}, "resourceRules": [rule]},
        "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": expression}}],
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
    """A control plane and nodes. Each node offers eight AMD GPUs that do not exist."""

    state: Path
    """The folder of its files."""
    kubeconfig: Path
    kubectl: Kubectl
    bin: list[Path]
    """The folders for PATH. One of them contains kubectl."""
    node_names: Sequence[str]
    """The nodes with GPUs. Our pods run only on these nodes."""
    has_devices = False
    """Whether pods get devices for their GPUs."""

    @property
    def node_name(self) -> str:
        """The first node with GPUs."""
        return self.node_names[0]

    @property
    @abstractmethod
    def machine_address(self) -> str:
        """This machine's address for pods."""

    @abstractmethod
    def on_node(self, *command: str) -> str:
        """The output of a command of the node, with its mounts and processes."""

    @abstractmethod
    def enter(self, *command: str) -> list[str]:
        """Return a command that runs this machine's command in the node's network, with the cluster's DNS."""

    @abstractmethod
    def containerd(self, *arguments: str, timeout: float = 60) -> str:
        """The output of containerd's own command line, `ctr`."""

    @abstractmethod
    def signal_kubelet(self, signal: str) -> None:
        """Send the node's kubelet a signal. After STOP, it does not answer until CONT."""

    def load_images(self, sglang: images.Image | None = None) -> None:
        """Load the operator's image and a replacement for SGLang's into the nodes; build them if they do not exist.

        Args:
            sglang: The replacement for SGLang's image. If unset, it is the stand-in.
        """
        for image in (images.OPERATOR, sglang or images.STAND_IN):
            self.load(image)

    def tag_image(self, name: str, other: str) -> None:
        """Give an image on the node a second name."""
        self.containerd("images", "tag", "--force", name, other)

    @abstractmethod
    def load(self, image: images.Image) -> None:
        """Build an image, unless it exists, and load it into the node."""

    def _add_gpus(self) -> None:
        """Label the node and offer GPUs, in place of AMD's node labeller and device plugin."""
        written = [f"{key}={value}" for key, value in labels(GPUS).items()]
        for name in self.node_names:
            self.kubectl("label", "node", name, "--overwrite", *written)
        self._offer_gpus()
        self.kubectl.apply(small_node(has_devices=self.has_devices))

    def _offer_gpus(self) -> None:
        """Offer a number of GPUs without devices. The kubelet keeps resources that it does not know."""
        offered = {"amd.com/gpu": str(len(GPUS))}
        status = {"status": {"capacity": offered, "allocatable": offered}}
        for name in self.node_names:
            self.kubectl("patch", "node", name, "--subresource=status", f"--patch={json.dumps(status)}")
