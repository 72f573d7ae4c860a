"""The objects of a benchmark, each a pure function of its spec and of what it measures."""

from kimi_linear_operator.benchmark import job
from kimi_linear_operator.benchmark.spec import KimiLinearBenchmark
from kimi_linear_operator.benchmark.target import Target
from kimi_linear_operator.kubernetes import metadata
from kimi_linear_operator.kubernetes.kinds import CONFIG_MAP, JOB, Manifest

CHILDREN = (CONFIG_MAP, JOB)
"""The kinds of what is built for a benchmark."""


def build(benchmark: KimiLinearBenchmark, target: Target) -> list[Manifest]:
    """Return every object that a benchmark gets until its suites have ended."""
    jobs = [job.build_job(benchmark, suite, target) for suite in benchmark.spec.suites]
    return [metadata.with_fingerprint(manifest) for manifest in (job.build_runner(benchmark), *jobs)]
