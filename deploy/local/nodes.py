"""Simulated nodes with AMD Instinct GPUs: the scheduler sees them, but nothing runs there."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from kubectl import Kubectl

# kwok simulates the kubelet of the nodes with this annotation, and of no others.
SIMULATED = {"kwok.x-k8s.io/node": "fake"}
LOCAL_NODES = {"mi300x-0": "MI300X", "mi325x-0": "MI325X", "mi355x-0": "MI355X"}
STAGES_FILE = Path(__file__).parent / "stages.yaml"


@dataclass(frozen=True)
class _Gpu:
    device_id: str
    vram: str


_GPUS = {
    "MI300X": _Gpu("74a1", "192G"),
    "MI325X": _Gpu("74a5", "256G"),
    "MI355X": _Gpu("75a3", "288G"),
}


def gpu_node(name: str, hardware: str, gpus: int = 8) -> dict[str, Any]:
    """A simulated node with GPUs of that model (MI300X, MI325X or MI355X)."""
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
        "metadata": {"name": name, "annotations": SIMULATED, "labels": _kubelet_labels(name) | gpu_labels(hardware)},
        "status": {"capacity": resources, "allocatable": resources},
    }


def stages() -> list[dict[str, Any]]:
    """The kwok Stages that make simulated nodes Ready, and pods on them Ready or gone, at once."""
    return list(yaml.safe_load_all(STAGES_FILE.read_text()))


def add_local_nodes(kubectl: Kubectl) -> None:
    """Add one simulated node of each GPU model, and wait until pods can be scheduled there."""
    add_nodes(kubectl, [gpu_node(name, hardware) for name, hardware in LOCAL_NODES.items()])


def add_nodes(kubectl: Kubectl, nodes: Sequence[dict[str, Any]]) -> None:
    """Add simulated nodes, and wait until pods can be scheduled there."""
    kubectl.apply(nodes)
    kubectl("wait", "--for=condition=Ready", "--timeout=50s", *(f"node/{node['metadata']['name']}" for node in nodes))


def gpu_labels(hardware: str) -> dict[str, str]:
    """The labels of node feature discovery and of AMD's node labeller."""
    gpu = _GPUS[hardware]
    return {
        "feature.node.kubernetes.io/amd-gpu": "true",
        "amd.com/gpu.device-id": gpu.device_id,
        "amd.com/gpu.product-name": f"AMD_Instinct_{hardware}_OAM",
        "amd.com/gpu.family": "AI",
        "amd.com/gpu.vram": gpu.vram,
    }


def _kubelet_labels(name: str) -> dict[str, str]:
    return {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}
