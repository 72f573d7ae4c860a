"""The pods of a suite, as the API server has them now.

A decision that cannot be undone is made from these pods. The cache can lack news: each watch has its own connection,
and a minute can pass before the operator notices that the connection is dead.
"""

from kimi_linear_operator.benchmark import job_status
from kimi_linear_operator.benchmark.labels import SUITE_LABEL
from kimi_linear_operator.benchmark.spec import KimiLinearBenchmark, Suite
from kimi_linear_operator.cluster.client import Cluster
from kimi_linear_operator.kubernetes import metadata
from kimi_linear_operator.kubernetes.kinds import POD, Manifest


async def read_pods(cluster: Cluster, benchmark: KimiLinearBenchmark, suite: Suite, job: Manifest) -> list[Manifest]:
    """Read the pods of a suite's Job.

    Raises:
        ApiError: They could not be read.
    """
    selector = f"{metadata.selector_text(benchmark)},{SUITE_LABEL}={suite.name}"
    return job_status.pods_of(job, await cluster.essences(POD, benchmark.metadata.namespace, selector))
