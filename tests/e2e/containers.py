"""Programs in the container of a server's engine."""

from kimi_linear_operator.kubernetes.kinds import Manifest
from pod_cluster import PodCluster


def python(cluster: PodCluster, pod: Manifest, program: str) -> str:
    """Run a program in the engine's container. Return its output."""
    name = pod["metadata"]["name"]
    return cluster.kubectl("exec", name, "--container=sglang", "--", "python3", "-c", program).strip()


def restarts(pod: Manifest) -> int:
    """Return how often the container was restarted."""
    return int(pod["status"]["containerStatuses"][0]["restartCount"])
