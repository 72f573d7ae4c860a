"""The nodes on which a server's pods may run, by the labels that AMD's node labeller writes."""

from kimi_linear_operator.kubernetes.kinds import GPU_RESOURCE, Manifest
from kimi_linear_operator.server.sglang.images import IMAGE_ARCHITECTURE
from kimi_linear_operator.server.spec import ServerSpec
from kimi_linear_operator.server.spec.engine import Hardware

# PCI device ids of physical and virtual functions. AMD's node labeller writes the id to DEVICE_ID_LABEL if all GPUs of
# a node have the same id. Source: the tables of AMD's k8s-device-plugin (cmd/k8s-node-labeller/amdgpu.ids) and of its
# AIM Engine (internal/utils/resources.go).
DEVICE_ID_LABEL = "amd.com/gpu.device-id"
DEVICE_IDS: dict[Hardware, tuple[str, ...]] = {
    "mi300x": ("74a1", "74a9", "74b5", "74bd"),
    "mi325x": ("74a5", "74b9"),
    "mi355x": ("75a3", "75b3"),
}

# The label that says how a node's GPUs are partitioned. Its value is COMPUTE_MEMORY in lower case. The compute mode SPX
# means no partitions, so it is not in this list. AMD's node labeller writes this label only with the flag
# compute-memory-partition (amdgpu.go, UniquePartitionConfigCount).
PARTITION_LABEL = "amd.com/gpu.compute-memory-partition"
PARTITIONED = tuple(
    f"{compute}_{memory}" for compute in ("cpx", "dpx", "qpx", "tpx") for memory in ("nps1", "nps2", "nps4", "nps8")
)

# The label with the number of compute units of one GPU. A partition counts as a GPU, as it does for the device plugin.
# AMD's daemonset, Helm chart and GPU operator all start the labeller with the flag for this label, and without the flag
# for PARTITION_LABEL. A whole GPU has the units of AMD's data sheets, and Linux gives each partition an equal part
# (kfd_crat.c): half in DPX mode, a quarter in QPX, an eighth in CPX.
COMPUTE_UNITS_LABEL = "amd.com/gpu.cu-count"
_COMPUTE_UNITS: dict[Hardware, int] = {"mi300x": 304, "mi325x": 304, "mi355x": 256}
PARTITION_COMPUTE_UNITS: dict[Hardware, tuple[str, ...]] = {
    hardware: tuple(str(units // partitions) for partitions in (2, 4, 8)) for hardware, units in _COMPUTE_UNITS.items()
}

# The scheduler's messages for nodes that the affinity excludes, and for suitable nodes without free GPUs.
_NO_MATCH = "didn't match Pod's node affinity"
_NO_GPUS = f"Insufficient {GPU_RESOURCE}"


def needed_node(spec: ServerSpec, message: str) -> str:
    """Return what a replica needs from a node.

    If the scheduler has found no such node, the text also says how to recognise one.

    Args:
        spec: The server's spec.
        message: The scheduler's message.
    """
    gpus = f"{spec.tensor_parallelism} free {GPU_RESOURCE}"
    needs = f"a replica needs {gpus} on one node whose GPUs are all {spec.hardware} and not partitioned"
    if _NO_MATCH not in message or _NO_GPUS in message:
        return needs
    ids = " or ".join(DEVICE_IDS[spec.hardware])
    return (
        f"{needs}. Such a node has the label {DEVICE_ID_LABEL}={ids}. AMD's node labeller sets it, but not on a node "
        "with several GPU models: put GPUs of one model into each node. To see the labels: "
        f"`kubectl get nodes -L {DEVICE_ID_LABEL},{COMPUTE_UNITS_LABEL}`"
    )


def restrict_to_hardware(pod: Manifest, spec: ServerSpec) -> Manifest:
    """Return the pod's spec with the hardware added to its required node affinity.

    The terms are alternatives (OR), and all expressions of a term are required (AND). So the hardware is added to every
    term.
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

    A node without labels about partitions matches, because AMD's node labeller writes only the labels that its flags
    ask for, and because people label nodes by hand.
    """
    expressions: list[Manifest] = [
        {"key": DEVICE_ID_LABEL, "operator": "In", "values": list(DEVICE_IDS[spec.hardware])},
        {"key": COMPUTE_UNITS_LABEL, "operator": "NotIn", "values": list(PARTITION_COMPUTE_UNITS[spec.hardware])},
        {"key": PARTITION_LABEL, "operator": "NotIn", "values": list(PARTITIONED)},
    ]
    if spec.engine.image is None:
        architecture = [IMAGE_ARCHITECTURE]
        expressions.append({"key": "kubernetes.io/arch", "operator": "In", "values": architecture})
    return expressions
