"""Volumes for the claims of tests. They are folders of the only node, and all its pods can write to them."""

import json

from kimi_linear_operator.kubernetes.kinds import Manifest
from pod_cluster import PodCluster

CLASS = "shared"
_ACCESS = ["ReadWriteMany"]
_SIZE = "1Gi"


def provide(cluster: PodCluster, namespace: str, claim: str, *, mebibytes: int | None = None) -> None:
    """Make a volume for a claim.

    Args:
        cluster: The cluster of the claim.
        namespace: The namespace of the claim.
        claim: The name of the claim.
        mebibytes: The size of the volume's own file system. If unset, the volume is a folder of the node.
    """
    folder = _folder(cluster, namespace, claim)
    if mebibytes:
        cluster.on_node("mkdir", "--parents", folder)
        cluster.on_node("mount", "-t", "tmpfs", "-o", f"size={mebibytes}m,mode=755", "tmpfs", folder)
    spec = {
        "capacity": {"storage": _SIZE},
        "accessModes": _ACCESS,
        "storageClassName": CLASS,
        "persistentVolumeReclaimPolicy": "Retain",
        "hostPath": {"path": folder, "type": "DirectoryOrCreate"},
        "claimRef": {"namespace": namespace, "name": claim},
    }
    metadata = {"name": f"{namespace}-{claim}"}
    cluster.kubectl.apply([{"apiVersion": "v1", "kind": "PersistentVolume", "metadata": metadata, "spec": spec}])


def enlarge(cluster: PodCluster, namespace: str, claim: str, mebibytes: int) -> None:
    """Change the size of a volume with its own file system."""
    cluster.on_node("mount", "-o", f"remount,size={mebibytes}m", _folder(cluster, namespace, claim))


def claim_of(namespace: str, name: str) -> Manifest:
    """Return a claim."""
    spec = {"accessModes": _ACCESS, "storageClassName": CLASS, "resources": {"requests": {"storage": _SIZE}}}
    metadata = {"namespace": namespace, "name": name}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec}


def versions(cluster: PodCluster, namespace: str) -> dict[str, str]:
    """Return the versions of all objects of a namespace."""
    kinds = cluster.kubectl("api-resources", "--verbs=list", "--namespaced", "--output=name").split()
    listed = json.loads(cluster.kubectl("get", ",".join(kinds), f"--namespace={namespace}", "--output=json"))
    found = [(item["kind"], item["metadata"]) for item in listed["items"]]
    return {f"{kind}/{metadata['name']}": metadata["resourceVersion"] for kind, metadata in found}


def _folder(cluster: PodCluster, namespace: str, claim: str) -> str:
    return f"{cluster.state}/volumes/{namespace}-{claim}"
