"""The ConfigMap with the results of a benchmark, for users who have no permission to read benchmarks.

If a benchmark is created again with the same spec but without its status, for example from a backup, it takes its
results from this ConfigMap and does not run again.
"""

import hashlib
import json
from typing import Any

from kimi_linear_operator import jsontext
from kimi_linear_operator.benchmark.claims import MOST_SUITES
from kimi_linear_operator.benchmark.spec import BenchmarkStatus, KimiLinearBenchmark
from kimi_linear_operator.benchmark.storable import UNKNOWN_KIND, readable_result
from kimi_linear_operator.kubernetes import metadata
from kimi_linear_operator.kubernetes.kinds import CONFIG_MAP, GROUP, Manifest
from kimi_linear_operator.kubernetes.plan import Relation, relation_of
from kimi_linear_operator.kubernetes.stored import is_readable, without_unknown_fields

SPEC_ANNOTATION = f"{GROUP}/spec"
"""The annotation with a digest of the spec that was measured."""

_STATUS_FIELDS = ("verdict", "startTime", "completionTime", "environment", "results")
_FILE = "results.json"
# A limit on the text, because decoding takes time and anybody may have written it. Results of 16 suites with all
# findings weigh less.
_HEAVIEST = 60_000
# Fields of the spec that do not change what is measured.
_NOT_MEASURED = {"inherited_metadata", "suspend", "ttl_seconds_after_finished"}


def name(benchmark: KimiLinearBenchmark) -> str:
    """Return the name of the ConfigMap."""
    return f"{benchmark.metadata.name}-results"


def fields(status: Manifest) -> Manifest:
    """Return the fields of a status that the ConfigMap holds."""
    return {name: status[name] for name in _STATUS_FIELDS if name in status}


def build(benchmark: KimiLinearBenchmark, status: Manifest) -> Manifest:
    """Return the ConfigMap for the status of a complete benchmark, whether or not that status was written yet."""
    content = {"benchmark": benchmark.metadata.name, **fields(status)}
    text = json.dumps(_as_stored(content), indent=2, sort_keys=True) + "\n"
    manifest = metadata.build_manifest(benchmark, CONFIG_MAP, name(benchmark), data={_FILE: text})
    metadata.annotate(manifest, SPEC_ANNOTATION, _digest(benchmark))
    return manifest


def is_whole(status: Manifest) -> bool:
    """Return whether a status still contains all results of the ConfigMap.

    No result was left out or shortened to text.
    """
    is_text = any(result.get("kind") == UNKNOWN_KIND for result in status.get("results", ()))
    return not is_text and all(status[name] for name in _STATUS_FIELDS if name in status)


def is_left_by(config_map: Manifest, benchmark: KimiLinearBenchmark) -> bool:
    """Return whether a ConfigMap of the operator has no owner any more and holds results of this spec.

    A ConfigMap that a deleted benchmark still owns does not count: it is about to be deleted, as the user wanted.
    """
    is_same_spec = metadata.annotations(config_map).get(SPEC_ANNOTATION) == _digest(benchmark)
    return is_same_spec and relation_of(config_map, benchmark) == Relation.ORPHANED


def read(config_map: Manifest, now: str) -> Manifest:
    """Return the fields of a status in a ConfigMap that this version can read; empty if there are none.

    Anybody may have written the ConfigMap, so only these fields get into a status. A result that cannot be read becomes
    text, because its suite has ended.

    Args:
        config_map: The ConfigMap.
        now: The time as RFC 3339, for results whose times are unknown.
    """
    text = config_map.get("data", {}).get(_FILE, "").encode(errors="replace")
    if jsontext.weight(text) > _HEAVIEST:
        return {}
    try:
        content = jsontext.decode(text)
    except ValueError:
        return {}
    found = content if isinstance(content, dict) else {}
    kept = {name: value for name, value in fields(found).items() if value is not None}
    if "results" in kept:
        kept["results"] = _results(kept["results"], now)
    readable = {name: value for name, value in kept.items() if is_readable(BenchmarkStatus, {name: value})}
    return dict(_without_nulls(without_unknown_fields(readable, BenchmarkStatus)))


def _results(value: Any, now: str) -> Any:
    """Return the results that have a name.

    A result that cannot be read becomes text. If the value is not a list, it stays.

    The maximum number of results is the maximum number of suites in a spec.
    """
    if not isinstance(value, list):
        return value
    named = [item for item in value[:MOST_SUITES] if isinstance(item, dict) and isinstance(item.get("name"), str)]
    return [readable_result(result, now) for result in named]


def _without_nulls(value: Any) -> Any:
    """Return a value as the API server stores it: without fields that are null."""
    if isinstance(value, dict):
        return {name: _without_nulls(item) for name, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def _digest(benchmark: KimiLinearBenchmark) -> str:
    """Return a digest of the fields that decide what a spec measures. A new field with a default does not change it."""
    spec = benchmark.spec.model_dump(by_alias=True, exclude_defaults=True, exclude=_NOT_MEASURED)
    return hashlib.sha256(json.dumps(_as_stored(spec), sort_keys=True).encode()).hexdigest()[:16]


def _as_stored(value: Any) -> Any:
    """Return a value as the API server returns it: whole numbers without a fraction."""
    if isinstance(value, dict):
        return {name: _as_stored(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_as_stored(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
