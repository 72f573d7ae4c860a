"""The results of a benchmark as a ConfigMap, for those who have no permission to read benchmarks."""

import json
from typing import Any

from kimi_linear_operator.api import KimiLinearBenchmark, Manifest
from kimi_linear_operator.resources import metadata
from kimi_linear_operator.resources.kinds import CONFIG_MAP

_TOLD = ("verdict", "startTime", "completionTime", "environment", "results")


def build_results(benchmark: KimiLinearBenchmark, status: Manifest) -> Manifest:
    """Return the ConfigMap; the status must be that of a complete benchmark.

    It is the same before and after the status was written.
    """
    content = {"benchmark": benchmark.metadata.name, **{name: status[name] for name in _TOLD if name in status}}
    text = json.dumps(_as_stored(content), indent=2, sort_keys=True) + "\n"
    name = f"{benchmark.metadata.name}-results"
    return metadata.build_manifest(benchmark, CONFIG_MAP, name, data={"results.json": text})


def _as_stored(value: Any) -> Any:
    """Return a value as the API server gives it back: whole numbers without a fraction."""
    if isinstance(value, dict):
        return {name: _as_stored(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_as_stored(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
