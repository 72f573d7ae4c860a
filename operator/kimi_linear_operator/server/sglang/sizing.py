"""How much memory, CPU and disk space a replica needs."""

from kimi_linear_operator.server.spec import ServerSpec

SHARED_MEMORY_PATH = "/dev/shm"  # noqa: S108 - in the container, for NCCL
# 16 GiB for four GPUs, because SGLang's AMD page runs its container with --shm-size 16G.
SHARED_MEMORY_GIB_PER_GPU = 4
# CPUs for tokenizer and detokenizer. In addition, each GPU has a process that polls without a pause (see SGLang's
# --sleep-on-idle).
_PROCESSES_BESIDE_GPUS = 2
# SGLang's Kubernetes example requests 64 GiB for a model of 32B parameters. This is our request for four GPUs,
# including shared memory. Nobody has measured this model on AMD GPUs, so there is no limit.
_MEMORY_GIB_PER_GPU = 16
# The weights are 98 GB (91 GiB). The rest is for kernels, logs and unfinished downloads.
_WEIGHTS_GIB = 120


LEAST_WEIGHTS_GIB = 90
"""The weights are 91 GiB, so they do not fit into less."""
DEFAULT_SHARED_MEMORY_MIB = 64
"""The size of /dev/shm without a mounted volume.

With this size, SGLang reports that it cannot create segments of NCCL (sglang issues 4259 and 5096).
"""


def requests(spec: ServerSpec) -> dict[str, str]:
    """Return the resource requests of a replica, without GPUs and disk space."""
    return {
        "cpu": str(spec.tensor_parallelism + _PROCESSES_BESIDE_GPUS),
        "memory": f"{_MEMORY_GIB_PER_GPU * spec.tensor_parallelism}Gi",
    }


def disk_requests(spec: ServerSpec) -> dict[str, str]:
    """Return the request of disk space for weights that the pod downloads, empty if they are mounted."""
    return {} if spec.model.path else {"ephemeral-storage": f"{_WEIGHTS_GIB}Gi"}
