"""The state of a benchmark's server, which must not change while a suite runs.

It is read from the API server before and after a suite. In the cache, the watch of the server's pods can be later than
that of the suite's Job.
"""

from collections.abc import Sequence

from kimi_linear_operator.benchmark import target
from kimi_linear_operator.benchmark.spec import KimiLinearBenchmark
from kimi_linear_operator.benchmark.target_state import ServerState
from kimi_linear_operator.cluster.client import Cluster
from kimi_linear_operator.kubernetes import metadata
from kimi_linear_operator.kubernetes.kinds import DEPLOYMENT, POD, Manifest
from kimi_linear_operator.kubernetes.stored import with_readable_status
from kimi_linear_operator.server.labels import SERVER_LABEL
from kimi_linear_operator.server.owned import controlled_pods
from kimi_linear_operator.server.spec import SERVER
from kimi_linear_operator.server.spec.status import ServerStatus


async def read_state(cluster: Cluster, benchmark: KimiLinearBenchmark) -> ServerState:
    """Read the state of the server that a benchmark measures.

    Raises:
        ApiError: It could not be read.
    """
    reference, namespace = benchmark.spec.server_ref, benchmark.metadata.namespace
    if reference is None:
        return ServerState(target.snapshot(None, {}))
    found = await cluster.get(SERVER, namespace, reference.name)
    server = with_readable_status(found, ServerStatus) if found else None
    deployment = await cluster.get(DEPLOYMENT, namespace, reference.name)
    selector = f"{metadata.MANAGED_BY}={metadata.MANAGER},{SERVER_LABEL}={reference.name}"
    restarts = await cluster.summarize(POD, namespace, selector, dict[str, int](), _with_restarts)
    is_own = server and deployment and metadata.is_owned_by(deployment, server["metadata"]["uid"])
    template = deployment["spec"].get("template") if deployment and is_own else None
    return ServerState(target.snapshot(server, restarts, template), server)


def _with_restarts(restarts: dict[str, int], pods: Sequence[Manifest]) -> dict[str, int]:
    # Users can create other pods with this label.
    return restarts | target.restarts(controlled_pods(pods))
