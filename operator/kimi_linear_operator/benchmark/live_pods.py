"""The pods of a suite, as the API server has them now."""

from kimi_linear_operator.benchmark.labels import SUITE_LABEL
from kimi_linear_operator.benchmark.spec import KimiLinearBenchmark, Suite
from kimi_linear_operator.cluster.client import Cluster
from kimi_linear_operator.kubernetes import metadata
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.reconcile.live import newest_pods


async def read_pods(cluster: Cluster, benchmark: KimiLinearBenchmark, suite: Suite, job: Manifest) -> list[Manifest]:
    """Read the newest pods of a suite's Job.

    Raises:
        ApiError: They could not be read.
    """
    selector = f"{metadata.selector_text(benchmark)},{SUITE_LABEL}={suite.name}"
    return await newest_pods(cluster, job, selector)
