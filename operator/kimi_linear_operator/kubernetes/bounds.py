"""Bounds on the size and depth of a resource. They are checked before models and CEL read the resource.

The API server stores objects of 1.5 MB and JSON that is nested 10,000 levels deep. Parsers, models and CEL are
recursive, and need more time for larger objects. So the checks here use loops instead of recursion.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate, chain, islice
from typing import Any, NamedTuple

from pydantic import BaseModel

from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.problem import Problem

# The deepest field of Kubernetes' PodTemplateSpec, in a pod's affinity, is at level 15 of our resources.
DEEPEST_LEVEL = 64
# Real specs have a few kilobytes. kubectl cannot keep more than 256 KiB in its last-applied annotation.
LARGEST_SPEC = 256 * 1024
# Limits of bytes and weight (`jsontext.weight`) of an object that is not a resource. The operator's own children of the
# largest spec stay below them: a revision contains the spec's fields twice, and annotations.
LARGEST_CHILD = 4 * LARGEST_SPEC
HEAVIEST_CHILD = 60_000
# Limits of bytes and weight of an object that the operator decodes, with its managed fields. The operator's own objects
# stay below them: the longest has the length of LARGEST_CHILD, and as much in its managed fields. The API server stores
# 1.5 MB, and sends up to six times as much. An object of this weight takes 0.1 to 0.2 s.
LONGEST_OBJECT = 2 * LARGEST_CHILD
HEAVIEST_OBJECT = 200_000
# Number of keys and values. A spec that sets every field contains about 300; 500 environment variables add 2,500. A
# pass over a spec of this size takes about 40 ms of processor time.
MOST_VALUES = 5_000

# The bounds are in `reconcile/cached_object.py` and `reconcile/room.py`.
_ROOM = (
    "for the resources of one kind in a namespace, the sum of all specs of more than 16 KiB and all statuses of more "
    "than 32 KiB can be at most 32 MiB. All objects of all namespaces that the operator reads share 192 MiB. Put files "
    "into a ConfigMap or a volume, delete resources, or make their specs smaller."
)
_ALL_SMALL = "No resource is large, so very many objects fill the room: delete objects that nobody needs"

_TOO_LONG = (
    f"too large: as JSON, a resource with all of its metadata can have at most {LONGEST_OBJECT // 2**20} MiB and about "
    f"{HEAVIEST_OBJECT // 2:,} values, and at most 256 KiB if it is nested deeply or contains invalid characters. "
    "Remove such values, or put files into a ConfigMap or a volume"
)

# A field of the spec lies within the spec, which lies within the resource.
_LEVELS_ABOVE_FIELDS = 2
# The API server limits the size of the metadata. The operator reads only its own fields of the status.
_NOT_MEASURED = ("metadata", "status")


class _Extent(NamedTuple):
    """The size of a value. Measuring stops at the first bound that it exceeds.

    Attributes:
        levels: Levels of nesting.
        values: Number of keys and values.
        size: Bytes as JSON.
    """

    levels: int
    values: int
    size: int

    @property
    def is_too_deep(self) -> bool:
        return self.levels + _LEVELS_ABOVE_FIELDS > DEEPEST_LEVEL

    @property
    def is_too_large(self) -> bool:
        return self.values > MOST_VALUES or self.size > LARGEST_SPEC

    @property
    def share(self) -> float:
        """Return the size as a fraction of the bounds. It is more than 1 if a bound is exceeded."""
        return max(self.values / MOST_VALUES, self.size / LARGEST_SPEC)


class _ExcessiveField(NamedTuple):
    """A field that exceeds a bound."""

    path: str
    is_too_deep: bool


def excess(manifest: Mapping[str, Any]) -> Problem | None:
    """Return the problem of a resource that is nested too deeply or too large, None if it is within bounds."""
    if is_without_room(manifest):
        largest = manifest["spec"][_NO_ROOM]
        who = f"The largest resources are {largest}" if largest else _ALL_SMALL
        return Problem("error", "spec", f"too large for this namespace: {_ROOM} {who}")
    if manifest.get("spec") == _UNREAD:
        return Problem("error", "spec", _TOO_LONG)
    field = _excessive_field(manifest)
    if field is None:
        return None
    if field.is_too_deep:
        return Problem("error", field.path, f"nested deeper than {DEEPEST_LEVEL} levels: remove the nested values")
    most = f"{LARGEST_SPEC // 1024} KiB of JSON and {MOST_VALUES} keys and values"
    return Problem(
        "error", field.path, f"too large: a spec can contain at most {most}; put files into a ConfigMap or a volume"
    )


def within_bounds(manifest: Manifest) -> Manifest:
    """Replace a spec that exceeds a bound by a small spec that exceeds the same bound in the same field.

    `excess` refuses the small spec with the same problem, and the small spec needs little memory and time. Any other
    resource stays unchanged.
    """
    excessive = _excessive_field(manifest)
    if excessive is None:
        return manifest
    stand_in = _TOO_DEEP if excessive.is_too_deep else _TOO_LARGE
    part, _, field = excessive.path.partition(".")
    return {**manifest, part: {field: stand_in} if field else stand_in}


def without_room(manifest: Manifest, others: str) -> Manifest:
    """Replace a spec for which there is no room by a small spec. `excess` refuses the small spec.

    Args:
        manifest: The resource.
        others: The names of the resources that take most of the room, as text for people.
    """
    return {**manifest, "spec": {_NO_ROOM: others}}


def unread(manifest: Manifest) -> Manifest:
    """Give a resource of which only the metadata was read a small spec. `excess` refuses the small spec."""
    return {**manifest, "spec": _UNREAD}


def is_without_room(manifest: Mapping[str, Any]) -> bool:
    """Return whether the spec of a resource was replaced because there is no room for it."""
    spec = manifest.get("spec")
    return isinstance(spec, dict) and spec.keys() == {_NO_ROOM}


def count_values(value: Any) -> int:
    """Return the number of keys and values in a value, at least 1. Counting stops when it exceeds MOST_VALUES."""
    total = 0
    for level in _levels(value, MOST_VALUES):
        total += len(level)
        if total > MOST_VALUES:
            break
    return total


def has_at_most(value: Any, most: int) -> bool:
    """Return whether a value consists of at most this number of keys and values."""
    return all(total <= most for total in accumulate(map(len, _levels(value, most))))


def _nested(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels - 1):
        value = [value]
    return value


# No field of a spec has this name.
_NO_ROOM = ""
_UNREAD = {" ": True}
_TOO_DEEP = _nested(DEEPEST_LEVEL)
_TOO_LARGE = [0] * (MOST_VALUES + 1)


def _excessive_field(manifest: Mapping[str, Any]) -> _ExcessiveField | None:
    """Return a field that is nested too deeply. If only the sum is too large, return the largest field so far."""
    total, largest = _Extent(0, 0, 0), ("spec", 0.0)
    for path, value in _fields(manifest):
        extent = _extent(value)
        if extent.is_too_deep:
            return _ExcessiveField(path, is_too_deep=True)
        largest = max(largest, (path, extent.share), key=lambda item: item[1])
        total = _Extent(0, total.values + extent.values, total.size + extent.size)
        if total.is_too_large:
            return _ExcessiveField(largest[0], is_too_deep=False)
    return None


def _fields(manifest: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield path and value of each field of the spec, and of any unknown part of the resource."""
    for name, part in manifest.items():
        if name in _NOT_MEASURED:
            continue
        if isinstance(part, dict):
            yield from ((f"{name}.{field}", value) for field, value in part.items())
        else:
            yield name, part


def _extent(value: Any) -> _Extent:
    """Measure a value level by level. Its JSON is measured only if depth and number of values are within bounds."""
    levels, values = 0, 0
    for level in _levels(value, MOST_VALUES):
        values += len(level)
        levels += any(isinstance(item, dict | list) for item in level)
        extent = _Extent(levels, values, 0)
        if extent.is_too_deep or extent.is_too_large:
            return extent
    return _Extent(levels, values, len(json.dumps(value, ensure_ascii=False).encode(errors="replace")))


def _levels(value: Any, most: int) -> Iterator[list[Any]]:
    """Yield the keys and values of each level, and at most one more than this number."""
    level = [value]
    while level:
        yield level
        containers = (item for item in level if isinstance(item, dict | list))
        level = list(islice(chain.from_iterable(map(_contents, containers)), most + 1))


def _contents(container: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return chain(container, container.values()) if isinstance(container, dict) else container


def declared(model: BaseModel) -> Manifest:
    """Return the fields that the schema declares, with their defaults. CEL at the API server sees only these fields.

    The recursion is only as deep as the models, whatever the object contains.
    """
    fields = {field.alias or name: name for name, field in type(model).model_fields.items() if not field.exclude}
    values = ((alias, getattr(model, name)) for alias, name in fields.items())
    return {alias: _declared(value) for alias, value in values if value is not None}


def _declared(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return declared(value)
    if isinstance(value, list):
        return [_declared(item) for item in value]
    return {key: _declared(item) for key, item in value.items()} if isinstance(value, dict) else value
