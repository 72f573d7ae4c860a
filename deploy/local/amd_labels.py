"""The labels that AMD's node labeller gives a node, computed as in its source. We have never run the labeller itself.

Source: ROCm/k8s-device-plugin, commit ed76468, cmd/k8s-node-labeller/main.go and internal/pkg/amdgpu/amdgpu.go.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

# The flags decide which labels the labeller writes. k8s-ds-amdgpu-labeller.yaml starts it with these:
DAEMONSET = ("vram", "cu-count", "simd-count", "device-id", "family", "product-name")
# helm/amd-gpu/templates/labeller.yaml starts it with the same flags except one:
CHART = tuple(flag for flag in DAEMONSET if flag != "product-name")
# Neither of them asks for this label:
PARTITION = "compute-memory-partition"

_SIMDS_PER_COMPUTE_UNIT = 4


@dataclass(frozen=True)
class Gpu:
    """The properties that the labeller reads from a GPU without partitions.

    Attributes:
        device_id: The PCI device id, as the kernel prints it but without 0x.
        product_name: The product name in the firmware or in libdrm's table.
        vram: Memory in GiB.
        compute_units: Number of compute units.
    """

    device_id: str
    product_name: str
    vram: int
    compute_units: int


# Device ids: cmd/k8s-node-labeller/amdgpu.ids. Compute units and memory: AMD's data sheets. Product names: AMD's
# installation guide for MI300X; descriptions of real clusters for MI325X, MI355X and MI300X's virtual function; for
# MI350X and MI355X's virtual function, guesses from these names.
MI300X = Gpu("74a1", "AMD Instinct MI300X OAM", 192, 304)
MI300X_VF = Gpu("74b5", "AMD Instinct MI300X VF", 192, 304)
MI325X = Gpu("74a5", "AMD Instinct MI325 OAM", 256, 304)
MI350X = Gpu("75a0", "AMD Instinct MI350 OAM", 288, 256)
MI355X = Gpu("75a3", "AMD Instinct MI355 OAM", 288, 256)
MI355X_VF = Gpu("75b3", "AMD Instinct MI355X VF", 288, 256)


@dataclass(frozen=True)
class Partitioning:
    """How all GPUs of a node are partitioned.

    Attributes:
        name: The compute mode and the memory mode.
        number: Number of partitions of a GPU.
    """

    name: str
    number: int


WHOLE = Partitioning("spx_nps1", 1)
CPX = Partitioning("cpx_nps4", 8)


def labels(gpus: Sequence[Gpu], flags: Iterable[str] = DAEMONSET, partitioning: Partitioning = WHOLE) -> dict[str, str]:
    """Return the labels of a node.

    Args:
        gpus: Its GPUs.
        flags: The labeller's flags.
        partitioning: How the GPUs are partitioned.
    """
    written: dict[str, str] = {}
    for flag in flags:
        if flag == PARTITION:
            written[f"amd.com/gpu.{flag}"] = partitioning.name
        else:
            written |= _counted(flag, gpus, partitioning.number)
    return written


def _counted(flag: str, gpus: Sequence[Gpu], partitions: int) -> dict[str, str]:
    """Return the labels of one property (createLabels in main.go): its value, and how many GPUs have it.

    If the GPUs have several values, there are only counts, under both prefixes. The label with the value itself is
    missing.
    """
    counts = Counter(value for gpu in gpus for value in _values(flag, gpu, partitions))
    written = {f"beta.amd.com/gpu.{flag}.{value}": str(count) for value, count in counts.items()}
    for value, count in counts.items():
        if len(counts) == 1:
            written |= {f"{prefix}/gpu.{flag}": value for prefix in ("amd.com", "beta.amd.com")}
        else:
            written[f"amd.com/gpu.{flag}.{value}"] = str(count)
    return written


def _values(flag: str, gpu: Gpu, partitions: int) -> list[str]:
    """Return one value for each device in which the labeller finds this property.

    Every partition is a separate device. The files of a PCI device exist only once for each GPU, so there is one id,
    one name and one family. We infer this; no source says it. Linux divides compute units and memory among the
    partitions (kfd_crat.c, amdgpu_amdkfd.h).
    """
    compute_units = gpu.compute_units // partitions
    of_partitions = {
        "vram": f"{gpu.vram // partitions}G",
        "cu-count": str(compute_units),
        "simd-count": str(compute_units * _SIMDS_PER_COMPUTE_UNIT),
    }
    if flag in of_partitions:
        return [of_partitions[flag]] * partitions
    return [{"device-id": gpu.device_id, "family": "AI", "product-name": gpu.product_name.replace(" ", "_")}[flag]]
