"""Simulated nodes with AMD Instinct GPUs. The scheduler sees them, but no pod really runs on them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from amd_labels import MI300X, MI325X, MI355X, Gpu, labels
from kubectl import Kubectl

# kwok simulates only the kubelets of nodes with this annotation.
SIMULATED = {"kwok.x-k8s.io/node": "fake"}
LOCAL_NODES = {"mi300x-0": "MI300X", "mi325x-0": "MI325X", "mi355x-0": "MI355X"}
STAGES_FILE = Path(__file__).parent / "stages.yaml"


_GPUS: dict[str, Gpu] = {"MI300X": MI300X, "MI325X": MI325X, "MI355X": MI355X}


def gpu_node(name: str, hardware: str, gpus: int = 8) -> dict[str, Any]:
    """A simulated node with GPUs of that model (MI300X, MI325X or MI355X), with the labels of AMD's DaemonSet."""
    return simulated_node(name, labels([_GPUS[hardware]] * gpus), gpus)


def simulated_node(name: str, amd_labels: Mapping[str, str], gpus: int = 8) -> dict[str, Any]:
    """A simulated node with GPUs and these labels for the GPUs."""
    resources = {
        "cpu": str(24 * gpus),
        "memory": f"{256 * gpus}Gi",
        "ephemeral-storage": f"{512 * gpus}Gi",
        "pods": "110",
        "amd.com/gpu": str(gpus),
    }
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "annotations": SIMULATED, "labels": {**_kubelet_labels(name), **amd_labels}},
        "status": {"capacity": resources, "allocatable": resources},
    }


def stages() -> list[dict[str, Any]]:
    """The kwok Stages that make simulated nodes and their pods Ready, and remove deleted pods, without a delay."""
    return list(yaml.safe_load_all(STAGES_FILE.read_text()))


def add_local_nodes(kubectl: Kubectl) -> None:
    """Add one simulated node of each GPU model, and wait until pods can be scheduled there."""
    add_nodes(kubectl, [gpu_node(name, hardware) for name, hardware in LOCAL_NODES.items()])


def add_nodes(kubectl: Kubectl, nodes: Sequence[dict[str, Any]]) -> None:
    """Add simulated nodes, and wait until pods can be scheduled there."""
    kubectl.apply(nodes)
    kubectl("wait", "--for=condition=Ready", "--timeout=50s", *(f"node/{node['metadata']['name']}" for node in nodes))


def _kubelet_labels(name: str) -> dict[str, str]:
    return {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}
