"""The nodes on which a server's pods may run, by the labels that AMD's node labeller writes."""

from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.server.sglang.images import IMAGE_ARCHITECTURE
from kimi_linear_operator.server.spec import Hardware, ServerSpec

# PCI device ids of physical and virtual functions, as AMD's node labeller writes them to DEVICE_ID_LABEL.
# Source: the table of AMD's AIM Engine (internal/utils/resources.go).
DEVICE_ID_LABEL = "amd.com/gpu.device-id"
DEVICE_IDS: dict[Hardware, tuple[str, ...]] = {
    "mi300x": ("74a1", "74a9", "74b5", "74bd"),
    "mi325x": ("74a5", "74b9"),
    "mi355x": ("75a3", "75b3"),
}

# How a node's GPUs are partitioned: COMPUTE_MEMORY in lower case, with any compute mode except SPX. AMD's node labeller
# writes it if its flag compute-memory-partition is on (amdgpu.go, UniquePartitionConfigCount).
PARTITION_LABEL = "amd.com/gpu.compute-memory-partition"
PARTITIONED = tuple(
    f"{compute}_{memory}" for compute in ("cpx", "dpx", "qpx", "tpx") for memory in ("nps1", "nps2", "nps4", "nps8")
)


def restrict_to_hardware(pod: Manifest, spec: ServerSpec) -> Manifest:
    """Return the pod's spec with the hardware added to its required node affinity.

    Terms are alternatives (OR), and the expressions of a term are all required (AND). So every term gets the hardware.
    """
    affinity = pod.get("affinity", {})
    node_affinity = affinity.get("nodeAffinity", {})
    required = node_affinity.get("requiredDuringSchedulingIgnoredDuringExecution", {})
    terms: list[Manifest] = [
        {**term, "matchExpressions": [*term.get("matchExpressions", ()), *_hardware(spec)]}
        for term in required.get("nodeSelectorTerms") or [{}]
    ]
    required = {**required, "nodeSelectorTerms": terms}
    node_affinity = {**node_affinity, "requiredDuringSchedulingIgnoredDuringExecution": required}
    return {**pod, "affinity": {**affinity, "nodeAffinity": node_affinity}}


def _hardware(spec: ServerSpec) -> list[Manifest]:
    """Return the node requirements: GPUs of this model, not partitioned, and the CPU architecture of our image.

    Nodes without the partition label match, because AMD's node labeller writes it only if a flag is set.
    """
    expressions: list[Manifest] = [
        {"key": DEVICE_ID_LABEL, "operator": "In", "values": list(DEVICE_IDS[spec.hardware])},
        {"key": PARTITION_LABEL, "operator": "NotIn", "values": list(PARTITIONED)},
    ]
    if spec.engine.image is None:
        architecture = [IMAGE_ARCHITECTURE]
        expressions.append({"key": "kubernetes.io/arch", "operator": "In", "values": architecture})
    return expressions
