"""The results of a benchmark as a ConfigMap, for those who have no permission to read benchmarks.

It also outlives a benchmark that was deleted without it, or restored without its status: the same benchmark then takes
its results back and does not run again.
"""

import hashlib
import json
from typing import Any

from kimi_linear_operator import jsontext
from kimi_linear_operator.benchmark.spec import KimiLinearBenchmark
from kimi_linear_operator.kubernetes import metadata
from kimi_linear_operator.kubernetes.kinds import CONFIG_MAP, GROUP, Manifest
from kimi_linear_operator.kubernetes.plan import Relation, relation_of

SPEC_ANNOTATION = f"{GROUP}/spec"
"""Names the annotation with a digest of the spec that was measured."""

_TOLD = ("verdict", "startTime", "completionTime", "environment", "results")
_FILE = "results.json"
# They say nothing about what was measured.
_NOT_MEASURED = {"inherited_metadata", "suspend", "ttl_seconds_after_finished"}


def name(benchmark: KimiLinearBenchmark) -> str:
    """Return the name of the ConfigMap."""
    return f"{benchmark.metadata.name}-results"


def build(benchmark: KimiLinearBenchmark, status: Manifest) -> Manifest:
    """Return the ConfigMap; the status must be that of a complete benchmark.

    It is the same before and after the status was written.
    """
    content = {"benchmark": benchmark.metadata.name, **{name: status[name] for name in _TOLD if name in status}}
    text = json.dumps(_as_stored(content), indent=2, sort_keys=True) + "\n"
    manifest = metadata.build_manifest(benchmark, CONFIG_MAP, name(benchmark), data={_FILE: text})
    metadata.annotate(manifest, SPEC_ANNOTATION, _digest(benchmark))
    return manifest


def is_left_by(found: Manifest, benchmark: KimiLinearBenchmark) -> bool:
    """Return whether a ConfigMap is ours, belongs to nobody any more, and holds results of just this spec.

    What belongs to a deleted benchmark is about to be deleted, too: such a benchmark was not meant to be kept.
    """
    is_same_spec = metadata.annotations(found).get(SPEC_ANNOTATION) == _digest(benchmark)
    return is_same_spec and relation_of(found, benchmark) == Relation.ORPHANED


def read(found: Manifest) -> Manifest:
    """Return what a ConfigMap holds of a status, empty if it cannot be read."""
    try:
        content = jsontext.decode(found.get("data", {}).get(_FILE, ""))
    except ValueError:
        return {}
    return {name: content[name] for name in _TOLD if name in content} if isinstance(content, dict) else {}


def _digest(benchmark: KimiLinearBenchmark) -> str:
    """Return a digest of what a spec measures; fields that are added later leave it as it is."""
    spec = benchmark.spec.model_dump(by_alias=True, exclude_defaults=True, exclude=_NOT_MEASURED)
    return hashlib.sha256(json.dumps(_as_stored(spec), sort_keys=True).encode()).hexdigest()[:16]


def _as_stored(value: Any) -> Any:
    """Return a value as the API server gives it back: whole numbers without a fraction."""
    if isinstance(value, dict):
        return {name: _as_stored(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_as_stored(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
