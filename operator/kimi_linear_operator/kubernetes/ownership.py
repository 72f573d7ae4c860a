"""Field ownership: who set which field of an object, as its managed fields record it.

https://kubernetes.io/docs/reference/using-api/server-side-apply/#field-management
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from kimi_linear_operator import jsontext
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.stored import FieldPath, has_part
from kimi_linear_operator.kubernetes.times import seconds_between

Fields = Mapping[str, Any]
"""A set of fields as FieldsV1: nested, `f:NAME` for a field, `k:KEYS` for an item of a list, `.` for itself."""

# Whoever may write an object may name thousands of managers, and thousands of fields for each. To find an owner, so
# many entries of their sets are looked at: a hundred times what it usually takes, and some hundredths of a second.
MOST_STEPS = 20_000
# What tells items of a list apart is a name, a port or a path.
_LONGEST_KEY = 4096
# All items of a list are told apart by the same fields. Another version of a kind may have had others.
_MOST_SHAPES = 4


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
    rest = [
        entry for entry in managed_fields if not is_second_manager(entry, manager) and not _is_applied(entry, manager)
    ]
    entries = [*applied, *patched]
    fields = _union(entry.get("fieldsV1", {}) for entry in entries)
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
    """Yield the other managers that own fields, or something in them, as far as MOST_STEPS lead.

    Args:
        managed_fields: Who owns what.
        paths: The fields, as `drift.differences` names them.
        manager: Whom to leave out.
    """
    wanted, steps = [path for path in paths if len(path) <= _LONGEST_KEY], iter(range(MOST_STEPS))
    for (name, fields), _ in zip(other_fields(managed_fields, manager), steps, strict=False):
        if any(_owns(fields, path, steps) for path in wanted):
            yield name


def _owns(fields: Fields, path: str, steps: Iterator[int]) -> bool:
    """Return whether a set has the field at a path; an item of a list is found by any of its keys."""
    looked_at = zip(fields.items(), steps, strict=False)
    return not path or any(_leads(key, below, path, steps) for (key, below), _ in looked_at)


def _leads(key: str, below: Fields, path: str, steps: Iterator[int]) -> bool:
    """Return whether an entry of a set leads to the field at a path, and the set has it."""
    named = map(str, _keys(key).values()) if key.startswith("k:") else [key.removeprefix("f:")]
    return any(
        f"{path}.".startswith((f"{name}.", f"{name}[", f"{name}]"))
        and (not below or _owns(below, path[len(name) :].lstrip(".[]"), steps))
        for name in named
    )


def _keys(key: str) -> Manifest:
    """Return the fields that tell an item of a list from others, none if that cannot be read."""
    found = _decoded(key)
    return found if isinstance(found, dict) else {}


def _decoded(key: str) -> Any:
    try:
        return jsontext.decode(key[2:]) if len(key) <= _LONGEST_KEY else None
    except ValueError:
        return None


def owned_fields(managed_fields: Sequence[Manifest]) -> Fields:
    """Return what anybody owns; what controllers report in a status is left out."""
    return _union(fields for _, fields in other_fields(managed_fields, ""))


def unowned(value: Manifest, fields: Fields, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the fields of an object that a set does not have, the innermost ones; a list is one field.

    Who owns an object owns nothing in it: a set names what is in it one by one.
    """
    for name, item in value.items():
        below = fields.get(f"f:{name}")
        if isinstance(item, dict) and item:
            yield from unowned(item, below or {}, (*path, name))
        elif below is None:
            yield (*path, name)


def written_after(managed_fields: Sequence[Manifest], time: str) -> list[Manifest]:
    """Return the entries of those who wrote after a time, and of those of whom that is not known."""
    written = ((entry, seconds_between(time, entry.get("time"))) for entry in managed_fields)
    return [entry for entry, seconds in written if seconds is None or seconds > 0]


def beyond(fields: Fields, path: FieldPath, value: Any) -> FieldPath | None:
    """Return what a set leaves of a path: nothing if it has the field, None if it does not lead there.

    Who owns an object around the field set only that. Who owns a list as a whole owns what is in it: then what is left
    begins with the number of an item.

    Args:
        fields: The set.
        path: Leads to a field.
        value: The object, whose items tell which of the set's they are.
    """
    for number, name in enumerate(path):
        if isinstance(name, int) and not fields:
            return path[number:]
        value = value[name] if has_part(value, name) else None
        key = _key_of(fields, value) if isinstance(name, int) else f"f:{name}"
        if key not in fields:
            return None
        fields = fields[key]
    return ()


def _key_of(fields: Fields, item: Any) -> str:
    """Return what a set of fields of a list calls an item; all are called by the same fields of theirs."""
    called = (keys for key in islice(fields, _MOST_SHAPES) if key.startswith("k:") and (keys := _keys(key)))
    names = next(called, {}) if isinstance(item, dict) else {}
    return "k:" + jsontext.encode({name: item.get(name) for name in names}).decode()


def extract(value: Any, fields: Fields) -> Any:
    """Return the part of an object, or of a part of it, that a set of fields names."""
    if isinstance(value, list) and fields:
        found = selected(value, fields)
        return [{**keys, **extract(item, below)} if keys else extract(item, below) for item, keys, below in found]
    if isinstance(value, dict) and fields:
        named = {key[2:]: below for key, below in fields.items() if key.startswith("f:")}
        return {name: extract(value[name], below) for name, below in named.items() if name in value}
    return value


def selected(items: Iterable[Any], fields: Fields) -> Iterator[tuple[Any, Manifest, Fields]]:
    """Yield the items of a list that a set names: by their value, or by the fields that tell items apart.

    With each come these fields, none if it is named by its value, and what the set has of it. There may be thousands of
    items and of names: comparing each with each would take seconds.
    """
    named: dict[tuple[tuple[str, ...], bytes | None], tuple[Manifest, Fields]] = {}
    for key, below in fields.items():
        if key.startswith("v:"):
            named[(), jsontext.encode(_decoded(key))] = {}, below
        elif key.startswith("k:") and (keys := _keys(key)):
            shape = tuple(sorted(keys))
            named[shape, _mark(keys, shape)] = keys, below
    shapes = list(islice(dict.fromkeys(shape for shape, _ in named), _MOST_SHAPES))
    for item in items:
        for shape in shapes:
            if found := named.get((shape, _mark(item, shape))):
                yield item, *found


def _mark(item: Any, shape: tuple[str, ...]) -> bytes | None:
    """Return what an item has in these fields, its value if they are none, as text; None if it lacks one of them."""
    if not shape:
        return jsontext.encode(item)
    has_all = isinstance(item, dict) and all(name in item for name in shape)
    return jsontext.encode([item[name] for name in shape]) if has_all else None


def _union(sets: Iterable[Fields]) -> dict[str, Any]:
    union: dict[str, Any] = {}
    for fields in sets:
        _add(union, fields)
    return union


def _add(union: dict[str, Any], fields: Fields) -> None:
    for key, below in fields.items():
        # The deepest level that is read is null.
        _add(union.setdefault(key, {}), below or {})


def _is_applied(entry: Manifest, manager: str) -> bool:
    return entry.get("manager") == manager and entry.get("operation") == "Apply" and not entry.get("subresource")
