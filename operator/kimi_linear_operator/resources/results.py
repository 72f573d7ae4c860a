"""The results of a benchmark as a ConfigMap, for those who have no permission to read benchmarks."""

import json

from kimi_linear_operator.api import KimiLinearBenchmark, Manifest
from kimi_linear_operator.resources import metadata
from kimi_linear_operator.resources.kinds import CONFIG_MAP

_TOLD = ("verdict", "startTime", "completionTime", "environment", "results")


def build_results(benchmark: KimiLinearBenchmark, status: Manifest) -> Manifest:
    """Return the ConfigMap; the status must be that of a complete benchmark."""
    content = {"benchmark": benchmark.metadata.name, **{name: status[name] for name in _TOLD if name in status}}
    text = json.dumps(content, indent=2, sort_keys=True) + "\n"
    name = f"{benchmark.metadata.name}-results"
    return metadata.build_manifest(benchmark, CONFIG_MAP, name, data={"results.json": text})
