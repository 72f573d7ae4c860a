"""Where a server's compiled kernels are kept.

Each pod has a volume for its kernels. For Triton's kernels, another volume that outlives the pod can take its place.

Only Triton's kernels are worth keeping. Several pods can share them, because Triton writes each file atomically under a
unique name (triton/runtime/cache.py, put). The name depends on the source, the compiler and the GPU's architecture.
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
    """Return the `emptyDir` of the pod's own volume."""
    limit = spec.kernel_cache.size_limit
    return {"sizeLimit": limit} if limit else {}


def volumes(spec: ServerSpec) -> list[Manifest]:
    """Return the volume that keeps kernels after the end of the pod, an empty list if the spec names none."""
    if claim := spec.kernel_cache.existing_claim:
        return [{"name": _VOLUME, "persistentVolumeClaim": {"claimName": claim}}]
    if path := spec.kernel_cache.host_path:
        return [{"name": _VOLUME, "hostPath": {"path": path, "type": "DirectoryOrCreate"}}]
    return []


def mounts(spec: ServerSpec) -> list[Manifest]:
    """Return the mount of the volume that keeps kernels.

    Each image has a folder. In a claim, this folder contains a folder for each node.

    If pods on several nodes compile into the same folder, they can find files that do not belong together (triton pull
    request 11319).
    """
    image = hashlib.sha256(image_of(spec).encode()).hexdigest()[:_LENGTH_OF_DIGEST]
    mount = {"name": _VOLUME, "mountPath": environment.TRITON_PATH}
    if spec.kernel_cache.existing_claim:
        return [{**mount, "subPathExpr": f"{image}/$({_NODE_VARIABLE})"}]
    return [{**mount, "subPath": image}] if spec.kernel_cache.host_path else []


def variables(spec: ServerSpec) -> list[Manifest]:
    """Return the environment variable with the node's name, for the folder of the node."""
    if not spec.kernel_cache.existing_claim:
        return []
    return [{"name": _NODE_VARIABLE, "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}]
