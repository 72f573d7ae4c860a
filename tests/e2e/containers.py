"""What runs in the container of a server's engine."""

from kimi_linear_operator.kubernetes.kinds import Manifest
from pod_cluster import PodCluster


def python(cluster: PodCluster, pod: Manifest, program: str) -> str:
    """Return what a program prints that runs in the engine's container."""
    name = pod["metadata"]["name"]
    return cluster.kubectl("exec", name, "--container=sglang", "--", "python3", "-c", program).strip()


def restarts(pod: Manifest) -> int:
    """Return how many times it was started again."""
    return int(pod["status"]["containerStatuses"][0]["restartCount"])
