"""The children of a benchmark, built from its spec and its target."""

from kimi_linear_operator.benchmark import job
from kimi_linear_operator.benchmark.spec import KimiLinearBenchmark
from kimi_linear_operator.benchmark.target import Target
from kimi_linear_operator.kubernetes import metadata
from kimi_linear_operator.kubernetes.kinds import CONFIG_MAP, JOB, Manifest

CHILDREN = (CONFIG_MAP, JOB)
"""The kinds of a benchmark's children."""


def build(benchmark: KimiLinearBenchmark, target: Target) -> list[Manifest]:
    """Return all children that a benchmark has by the time its last suite runs."""
    jobs = [job.build_job(benchmark, suite, target) for suite in benchmark.spec.suites]
    return [metadata.with_fingerprint(manifest) for manifest in (job.build_runner(benchmark), *jobs)]
