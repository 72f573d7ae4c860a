"""Labels and annotations that only the objects of benchmarks have."""

from kimi_linear_operator.benchmark.spec import KimiLinearBenchmark
from kimi_linear_operator.kubernetes.kinds import GROUP

BENCHMARK_LABEL = KimiLinearBenchmark.label()
SUITE_LABEL = f"{GROUP}/suite"

TARGET_LABEL = f"{GROUP}/target"
"""On Jobs and pods: a value for the server to which they send requests."""

FIELDS_ANNOTATION = f"{GROUP}/fields"
"""On the ConfigMap with the runner: the fields of the benchmark's spec when the first suite started."""

TARGET_ANNOTATION = f"{GROUP}/target"
"""On Jobs: the snapshot of the server before the suite."""
