"""Where a server's compiled kernels are kept: in a volume of each pod, and those of Triton perhaps beyond it.

Only Triton's kernels are worth keeping, and several pods may share them: Triton publishes each file at once under a
name of its own (triton/runtime/cache.py, put), and its names depend on the source, the compiler and the GPU's
architecture.
"""

import hashlib

from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.server.sglang import environment
from kimi_linear_operator.server.sglang.images import image_of
from kimi_linear_operator.server.spec import ServerSpec

_VOLUME = "kernel-cache"
_NODE_VARIABLE = "KIMI_LINEAR_NODE"
_LENGTH_OF_DIGEST = 12


def own_folder(spec: ServerSpec) -> Manifest:
    """Return the `emptyDir` of the volume that a pod has of its own."""
    limit = spec.kernel_cache.size_limit
    return {"sizeLimit": limit} if limit else {}


def volumes(spec: ServerSpec) -> list[Manifest]:
    """Return the volume that keeps kernels beyond the pod, if the spec names one."""
    if claim := spec.kernel_cache.existing_claim:
        return [{"name": _VOLUME, "persistentVolumeClaim": {"claimName": claim}}]
    if path := spec.kernel_cache.host_path:
        return [{"name": _VOLUME, "hostPath": {"path": path, "type": "DirectoryOrCreate"}}]
    return []


def mounts(spec: ServerSpec) -> list[Manifest]:
    """Return the mount of that volume. Each image has a folder, and in a claim each node has one of its own below it.

    If pods of several nodes compile into one folder, they can find files that do not belong together (triton pull
    request 11319).
    """
    image = hashlib.sha256(image_of(spec).encode()).hexdigest()[:_LENGTH_OF_DIGEST]
    mount = {"name": _VOLUME, "mountPath": environment.TRITON_PATH}
    if spec.kernel_cache.existing_claim:
        return [{**mount, "subPathExpr": f"{image}/$({_NODE_VARIABLE})"}]
    return [{**mount, "subPath": image}] if spec.kernel_cache.host_path else []


def variables(spec: ServerSpec) -> list[Manifest]:
    """Return the variable with the node's name, for the folder of that node."""
    if not spec.kernel_cache.existing_claim:
        return []
    return [{"name": _NODE_VARIABLE, "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}]
