"""Labels and annotations that only the objects of benchmarks have."""

from kimi_linear_operator.benchmark.spec import KimiLinearBenchmark
from kimi_linear_operator.kubernetes.kinds import GROUP

BENCHMARK_LABEL = KimiLinearBenchmark.label()
SUITE_LABEL = f"{GROUP}/suite"

TARGET_LABEL = f"{GROUP}/target"
"""The same value for all Jobs and pods that send requests to one server."""

TARGET_ANNOTATION = f"{GROUP}/target"
"""On a Job: the state of the server before the suite."""
