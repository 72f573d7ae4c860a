"""The spec of a benchmark as it was when the first suite started. All suites must measure the same.

After the first suite has started, nobody can change the fields that say what is measured. So a field that appears later
is a default from the CRD of another version. The ConfigMap with the runner names the fields that were there.
"""

import json
from collections.abc import Collection, Iterator
from typing import Any

from pydantic import ValidationError

from kimi_linear_operator.benchmark.labels import FIELDS_ANNOTATION
from kimi_linear_operator.benchmark.rules import CHANGEABLE
from kimi_linear_operator.benchmark.spec import BenchmarkSpec, KimiLinearBenchmark
from kimi_linear_operator.kubernetes import metadata, record_text, stored
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.stored import FieldPath

# Characters of the annotation. A benchmark with sixteen suites has about ten thousand. All annotations of an object
# together can have 256 KiB. A longer text is not written: the suites then use the spec as it is.
_LONGEST_FIELDS = 32_768
# A CRD has about thirty defaults. A field in the items of a list counts once. If the spec has got more fields than
# this, somebody has edited the annotation.
_MOST_ADDED = 100


def note_fields(runner: Manifest, benchmark: KimiLinearBenchmark) -> None:
    """Note the fields of a benchmark's spec in an annotation of its runner that is being built."""
    text = json.dumps(sorted(_fields(_spec_of(benchmark)), key=str))
    if record_text.fits(text, _LONGEST_FIELDS):
        metadata.annotate(runner, FIELDS_ANNOTATION, text)


def as_started(benchmark: KimiLinearBenchmark, runner: Manifest | None) -> KimiLinearBenchmark:
    """Return a benchmark without the fields that its spec got after the first suite had started.

    Args:
        benchmark: The benchmark.
        runner: The ConfigMap with its runner, None if there is none.
    """
    known = _known_fields(runner, benchmark)
    if known is None or not benchmark.status.get("startTime"):
        return benchmark
    spec = _spec_of(benchmark)
    added = [path for path in _fields(spec) if path not in known and path[0] not in CHANGEABLE]
    if len({tuple(name for name in path if isinstance(name, str)) for path in added}) > _MOST_ADDED:
        return benchmark
    existing = {path[:length] for path in known for length in range(1, len(path) + 1)}
    for path in dict.fromkeys(_outermost(path, existing) for path in added):
        spec = stored.as_in(spec, path, {})
    try:
        return benchmark.model_copy(update={"spec": BenchmarkSpec.model_validate(spec)}) if added else benchmark
    except ValidationError:
        return benchmark  # Somebody has edited the annotation.


def _outermost(path: FieldPath, existing: Collection[FieldPath]) -> FieldPath:
    """Return the outermost field around an added field that was not there either, for example a whole list."""
    around = (path[:length] for length in range(1, len(path)))
    return next((part for part in around if part not in existing), path)


def _known_fields(runner: Manifest | None, benchmark: KimiLinearBenchmark) -> set[FieldPath] | None:
    """Return the fields that were in the spec, None if this is unknown."""
    if runner is None or not metadata.is_owned_by(runner, benchmark.metadata.uid):
        return None
    value = record_text.decode(metadata.annotations(runner).get(FIELDS_ANNOTATION, ""), _LONGEST_FIELDS)
    # Each path has more than one character, so the length of the text limits their number.
    paths = record_text.paths(value, _LONGEST_FIELDS)
    return None if paths is None else set(paths)


def _spec_of(benchmark: KimiLinearBenchmark) -> Manifest:
    return benchmark.spec.model_dump(by_alias=True, exclude_unset=True)


def _fields(value: Any, path: FieldPath = ()) -> Iterator[FieldPath]:
    """Yield the innermost fields of a spec, also those in the items of lists."""
    below = enumerate(value) if isinstance(value, list) else value.items() if isinstance(value, dict) else ()
    parts = list(below)
    if not parts:
        yield path
    for name, part in parts:
        yield from _fields(part, (*path, name))
