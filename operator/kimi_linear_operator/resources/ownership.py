"""Field ownership: who set which field of an object, as its managed fields record it.

https://kubernetes.io/docs/reference/using-api/server-side-apply/#field-management
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from kimi_linear_operator.api import Manifest

Fields = Mapping[str, Any]
"""A set of fields as FieldsV1: nested, `f:NAME` for a field, `k:KEYS` for an item of a list, `.` for itself."""


def is_second_manager(entry: Manifest, manager: str) -> bool:
    """Return whether an entry records what a manager patched, beside what it applied."""
    return entry.get("manager") == manager and entry.get("operation") == "Update" and not entry.get("subresource")


def has_second_manager(manifest: Manifest, manager: str) -> bool:
    """Return whether a manager owns fields of an object twice: what it applied, and what it patched."""
    return any(is_second_manager(entry, manager) for entry in manifest["metadata"].get("managedFields", ()))


def unified(managed_fields: Sequence[Manifest], manager: str) -> list[Manifest] | None:
    """Return the managed fields with what a manager patched as if it had applied it; None if that is so already.

    What it patched and does not apply any more, its next apply then removes.
    """
    patched = [entry for entry in managed_fields if is_second_manager(entry, manager)]
    if not patched:
        return None
    applied = [entry for entry in managed_fields if _is_applied(entry, manager)]
    rest = [entry for entry in managed_fields if entry not in patched and entry not in applied]
    entries = [*applied, *patched]
    fields: Fields = {}
    for entry in entries:
        fields = _union(fields, entry.get("fieldsV1", {}))
    return [*rest, {**entries[0], "operation": "Apply", "fieldsV1": fields}]


def applied_fields(managed_fields: Sequence[Manifest], manager: str) -> Fields:
    """Return what a manager applied, empty if that is not recorded."""
    return next((entry.get("fieldsV1", {}) for entry in managed_fields if _is_applied(entry, manager)), {})


def other_fields(managed_fields: Sequence[Manifest], manager: str) -> Iterator[tuple[str, Fields]]:
    """Yield every other manager with its fields; what controllers report in a status is left out."""
    for entry in managed_fields:
        if entry.get("manager") != manager and entry.get("subresource") != "status":
            yield str(entry.get("manager", "")), entry.get("fieldsV1", {})


def owners_of(managed_fields: Sequence[Manifest], paths: Iterable[str], manager: str) -> Iterator[str]:
    """Yield the other managers that own fields, or something in them.

    Args:
        managed_fields: Who owns what.
        paths: The fields, as `drift.differences` names them.
        manager: Whom to leave out.
    """
    wanted = list(paths)
    for name, fields in other_fields(managed_fields, manager):
        if any(_owns(fields, path) for path in wanted):
            yield name


def _owns(fields: Fields, path: str) -> bool:
    """Return whether a set has the field at a path; an item of a list is found by any of its keys."""
    return not path or any(_leads(key, below, path) for key, below in fields.items())


def _leads(key: str, below: Fields, path: str) -> bool:
    """Return whether an entry of a set leads to the field at a path, and the set has it."""
    named = map(str, json.loads(key[2:]).values()) if key.startswith("k:") else [key.removeprefix("f:")]
    return any(
        f"{path}.".startswith((f"{name}.", f"{name}[", f"{name}]"))
        and (not below or _owns(below, path[len(name) :].lstrip(".[]")))
        for name in named
    )


def is_owned(managed_fields: Sequence[Manifest], names: Sequence[str]) -> bool:
    """Return whether anybody set the field that these names lead to; who owns what is around it set only that."""
    return any(_has(fields, names) for _, fields in other_fields(managed_fields, ""))


def _has(fields: Fields, names: Sequence[str]) -> bool:
    for name in names:
        if f"f:{name}" not in fields:
            return False
        fields = fields[f"f:{name}"]
    return True


def extract(value: Any, fields: Fields) -> Any:
    """Return the part of an object, or of a part of it, that a set of fields names."""
    if isinstance(value, list) and fields:
        return [_extract_item(item, key, fields[key]) for item in value for key in fields if selects(key, item)]
    if isinstance(value, dict) and fields:
        named = {key[2:]: below for key, below in fields.items() if key.startswith("f:")}
        return {name: extract(value[name], below) for name, below in named.items() if name in value}
    return value


def selects(key: str, item: Any) -> bool:
    """Return whether a key of a set names this item of a list: by its value, or by the fields that tell items apart."""
    if key.startswith("v:"):
        return bool(json.loads(key[2:]) == item)
    return isinstance(item, dict) and key.startswith("k:") and json.loads(key[2:]).items() <= item.items()


def _extract_item(item: Any, key: str, fields: Fields) -> Any:
    part = extract(item, fields)
    return {**json.loads(key[2:]), **part} if key.startswith("k:") else part


def _union(one: Fields, other: Fields) -> Fields:
    return {
        key: _union(one[key], other[key]) if key in one and key in other else one.get(key, other.get(key))
        for key in [*one, *(key for key in other if key not in one)]
    }


def _is_applied(entry: Manifest, manager: str) -> bool:
    return entry.get("manager") == manager and entry.get("operation") == "Apply" and not entry.get("subresource")
