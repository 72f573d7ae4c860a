"""Field ownership: which manager set which field of an object, as `metadata.managedFields` records it.

https://kubernetes.io/docs/reference/using-api/server-side-apply/#field-management
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any

from kimi_linear_operator import jsontext
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.metadata import MANAGER
from kimi_linear_operator.kubernetes.stored import FieldPath, has_part
from kimi_linear_operator.kubernetes.times import seconds_between

Fields = Mapping[str, Any]
"""A set of fields in the format FieldsV1: nested objects with the keys `f:NAME` for a field, `k:KEYS` for the item of a
list with these key fields, `v:VALUE` for an item with this value, and `.` for the object itself."""

# A user who can write an object can add thousands of managers, each with thousands of fields. So the search for an
# owner makes at most this many steps: it reads an entry, or compares its name with a path. This is a hundred times as
# much as usual, and takes a few hundredths of a second.
MOST_STEPS = 40_000
# In units of `jsontext.weight`. The fields of the largest pod template have at most this weight.
_HEAVIEST_APPLIED = 25_000
# The key fields of an item are for example a name, a path, or a port and its protocol.
_LONGEST_KEY = 1024
_MOST_KEY_FIELDS = 4
# An item of a list without key fields is named by its whole value.
_LONGEST_VALUE = 4096
# All items of a list have the same key fields. Another version of the kind may have had other key fields.
_MOST_KEY_FIELD_SETS = 4
# A spec has about forty fields, and an object about five managers. Each observed resource is searched for fields
# without an owner. At these limits, a search takes a hundredth of a second.
_MOST_FIELDS = 512
_MOST_SETS = 16


def _is_patched(entry: Manifest, manager: str) -> bool:
    """Return whether an entry contains the fields that a manager patched.

    Fields that the manager applied are in another entry.
    """
    return entry.get("manager") == manager and entry.get("operation") == "Update" and not entry.get("subresource")


def has_second_manager(manifest: Manifest, manager: str) -> bool:
    """Return whether a manager has patched fields of an object, not only applied them."""
    return any(_is_patched(entry, manager) for entry in manifest["metadata"].get("managedFields") or ())


def mark_of_second_manager(manifest: Manifest) -> Manifest:
    """Return metadata that say only whether the operator has patched fields of an object, empty if it has not."""
    mark = {"manager": MANAGER, "operation": "Update"}
    return {"managedFields": [mark]} if has_second_manager(manifest, MANAGER) else {}


def reduced(managed_fields: Sequence[Manifest], manager: str) -> list[Manifest]:
    """Return a small part of heavy managed fields: what a manager applied, and that it has patched the object.

    Empty if the manager has patched nothing. The result of `unified` for this part replaces the heavy managed fields.
    Nobody then owns the fields that are left out, and they keep their values. After its next apply, the manager owns
    the applied fields again.
    """
    patched = [{**entry, "fieldsV1": {}} for entry in managed_fields if _is_patched(entry, manager)]
    applied = [entry for entry in managed_fields if _is_applied(entry, manager)]
    light = [entry for entry in applied if jsontext.weight(jsontext.encode(entry)) <= _HEAVIEST_APPLIED]
    return [*light[:1], patched[0]] if patched else []


def unified(managed_fields: Sequence[Manifest], manager: str) -> list[Manifest] | None:
    """Return managed fields in which all patched fields of a manager count as applied.

    None if the manager has patched no fields. With the result, the manager's next apply removes the patched fields that
    are not in the applied object.
    """
    patched = [entry for entry in managed_fields if _is_patched(entry, manager)]
    if not patched:
        return None
    own = [*(entry for entry in managed_fields if _is_applied(entry, manager)), *patched]
    others = [entry for entry in managed_fields if not (_is_patched(entry, manager) or _is_applied(entry, manager))]
    fields = union(entry.get("fieldsV1", {}) for entry in own)
    return [*others, {**own[0], "operation": "Apply", "fieldsV1": fields}]


def applied_fields(managed_fields: Sequence[Manifest], manager: str) -> Fields:
    """Return the fields that a manager applied."""
    return next((entry.get("fieldsV1", {}) for entry in managed_fields if _is_applied(entry, manager)), {})


def fields_of(manifest: Manifest, manager: str) -> Fields:
    """Return the fields of an object that a manager applied or patched."""
    entries = manifest["metadata"].get("managedFields") or ()
    own = (entry for entry in entries if _is_applied(entry, manager) or _is_patched(entry, manager))
    return union(entry.get("fieldsV1", {}) for entry in own)


def other_fields(managed_fields: Sequence[Manifest], manager: str) -> Iterator[tuple[str, Fields]]:
    """Yield each entry of another manager: its name and its fields. Entries of the status subresource are left out."""
    for entry in managed_fields:
        if entry.get("manager") != manager and entry.get("subresource") != "status":
            yield str(entry.get("manager", "")), entry.get("fieldsV1", {})


def owners_of(managed_fields: Sequence[Manifest], paths: Iterable[str], manager: str) -> Iterator[str]:
    """Yield the other managers that own one of these fields, or a part of one. Stop after MOST_STEPS steps.

    Args:
        managed_fields: The managed fields of the object.
        paths: The fields, in the format of `drift.differences`.
        manager: The manager to leave out.
    """
    wanted, steps = [path for path in paths if len(path) <= _LONGEST_VALUE], iter(range(MOST_STEPS))
    for (name, fields), _ in zip(other_fields(managed_fields, manager), steps, strict=False):
        if _owns(fields, wanted, steps):
            yield name


def _owns(fields: Fields, paths: Sequence[str], steps: Iterator[int]) -> bool:
    """Return whether a set contains the field at one of these paths.

    In a path, the value of any key field can stand for an item. Each entry of the set is read once for all paths,
    because it takes long to read the key fields of an item.
    """
    entries = zip(fields.items(), steps, strict=False)
    return "" in paths or any(_leads(key, below, paths, steps) for (key, below), _ in entries)


def _leads(key: str, below: Fields, paths: Sequence[str], steps: Iterator[int]) -> bool:
    """Return whether an entry of a set contains the field at one of these paths."""
    names = map(str, _keys(key).values()) if key.startswith("k:") else [key.removeprefix("f:")]
    for name in names:
        rest = [_below(path, name) for path, _ in zip(paths, steps, strict=False) if _begins_with(path, name)]
        if rest and (not below or _owns(below, rest, steps)):
            return True
    return False


def _begins_with(path: str, name: str) -> bool:
    """Return whether the first name in a path is this name.

    The name can contain the characters that separate names in a path.
    """
    return path.startswith(name) and path[len(name) : len(name) + 1] in ("", ".", "[", "]")


def _below(path: str, name: str) -> str:
    return path[len(name) :].lstrip(".[]")


def _keys(key: str) -> Manifest:
    """Return the key fields of an item of a list with their values, empty if they cannot be read."""
    keys = _decoded(key, _LONGEST_KEY)
    return keys if isinstance(keys, dict) and len(keys) <= _MOST_KEY_FIELDS else {}


def _decoded(key: str, longest: int) -> Any:
    try:
        return jsontext.decode(key[2:]) if len(key) <= longest else None
    except ValueError:
        return None


def owned_fields(managed_fields: Sequence[Manifest]) -> Fields:
    """Return the fields that have an owner. Fields that were set through the status subresource are left out."""
    return union(fields for _, fields in other_fields(managed_fields, ""))


def unowned(value: Manifest, fields: Fields, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the innermost fields of an object that are not in a set. A list counts as one field.

    A set can name an object without naming the fields in it. Then the set does not contain these fields: the owner has
    perhaps written an empty object, and the API server has added defaults.
    """
    for name, item in value.items():
        below = fields.get(f"f:{name}")
        if isinstance(item, dict) and item:
            yield from unowned(item, below or {}, (*path, name))
        elif below is None:
            yield (*path, name)


def without_owner(spec: Manifest, managed_fields: Sequence[Manifest]) -> tuple[FieldPath, ...] | None:
    """Return the innermost fields of a spec that nobody owns. A list counts as one field.

    If somebody owns an object as a whole, nobody owns the fields in it: the owner has written an empty object, and the
    fields in it are defaults. A definition can also make an object atomic, but ours do not.

    Args:
        spec: The spec.
        managed_fields: The managed fields of its object.

    Returns:
        None if the owners are unknown, or if it would take long to find them.
    """
    sets = [(fields or {}).get("f:spec") or {} for _, fields in other_fields(managed_fields, "")]
    if not sets or len(sets) > _MOST_SETS:
        return None
    found = tuple(islice(_without_owner(spec, sets), _MOST_FIELDS + 1))
    return found if len(found) <= _MOST_FIELDS else None


def _without_owner(value: Manifest, sets: Sequence[Fields], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the innermost fields of an object that are in no set."""
    for name, item in value.items():
        below = [fields[key] or {} for fields in sets if (key := f"f:{name}") in fields]
        if isinstance(item, dict) and item:
            yield from _without_owner(item, below, (*path, name))
        elif not below:
            yield (*path, name)


def written_after(managed_fields: Sequence[Manifest], time: str) -> list[Manifest]:
    """Return the entries that were written after a time (RFC 3339), and the entries without a readable time."""
    written = ((entry, seconds_between(time, entry.get("time"))) for entry in managed_fields)
    return [entry for entry, seconds in written if seconds is None or seconds > 0]


def remaining_path(fields: Fields, path: FieldPath, value: Any) -> FieldPath | None:
    """Return the part of a path that a set does not name.

    Args:
        fields: The set.
        path: The path of a field.
        value: The object. The key fields of its list items say which entries of the set belong to the items.

    Returns:
        Empty if the set contains the field. The rest of the path if the set contains a whole list or object around the
        field. None otherwise.
    """
    for position, name in enumerate(path):
        if position and not fields:
            return path[position:]
        value = value[name] if has_part(value, name) else None
        key = _item_key(fields, value) if isinstance(name, int) else f"f:{name}"
        if key not in fields:
            return None
        fields = fields[key]
    return ()


def _item_key(fields: Fields, item: Any) -> str:
    """Return the key that an item of a list has in a set, empty if it can have none.

    All items of a list have the same key fields.
    """
    readable = (names for key in islice(fields, _MOST_KEY_FIELD_SETS) if (names := _key_fields(key)))
    values = {name: item.get(name) for name in next(readable, ())} if isinstance(item, dict) else {}
    # An item can have anything in place of a name, and it would take long to encode that for each field of the item.
    is_possible = not any(isinstance(value, dict | list) or len(str(value)) > _LONGEST_KEY for value in values.values())
    return "k:" + jsontext.encode(values).decode() if is_possible else ""


# The fields of a spec are looked up one after the other, each along its own path. Fields of the same item follow each
# other, so the entries of the lists around the last field are enough. A spec has at most 64 levels, and up to four
# entries of each list are read.
@lru_cache(maxsize=256)
def _key_fields(key: str) -> tuple[str, ...]:
    """Return the names of the key fields in an entry of a set, none if the entry names no item by its key fields."""
    return tuple(_keys(key)) if key.startswith("k:") else ()


def extract(value: Any, fields: Fields) -> Any:
    """Return the part of a value that is in a set of fields."""
    if isinstance(value, list) and fields:
        items = selected_items(value, fields)
        return [_extract_item(item) for item in items]
    if isinstance(value, dict) and fields:
        entries = {key[2:]: below for key, below in fields.items() if key.startswith("f:")}
        return {name: extract(value[name], below) for name, below in entries.items() if name in value}
    return value


@dataclass(frozen=True)
class SelectedItem:
    """An item of a list that is in a set of fields.

    Attributes:
        value: The item.
        keys: Its key fields, empty if the set names the item by its whole value.
        fields: The entry for the item in the set.
    """

    value: Any
    keys: Manifest
    fields: Fields


def _extract_item(item: SelectedItem) -> Any:
    part = extract(item.value, item.fields)
    return {**item.keys, **part} if item.keys else part


def selected_items(items: Iterable[Any], fields: Fields) -> Iterator[SelectedItem]:
    """Yield the items of a list that are in a set, by their key fields or by their value.

    Both the list and the set may have thousands of items, so they are matched with a dictionary.
    """
    entries: dict[tuple[tuple[str, ...], bytes | None], tuple[Manifest, Fields]] = {}
    for key, below in fields.items():
        if key.startswith("v:"):
            entries[(), jsontext.encode(_decoded(key, _LONGEST_VALUE))] = {}, below
        elif key.startswith("k:") and (keys := _keys(key)):
            names = tuple(sorted(keys))
            entries[names, _identity(keys, names)] = keys, below
    key_field_sets = list(islice(dict.fromkeys(names for names, _ in entries), _MOST_KEY_FIELD_SETS))
    for item in items:
        for names in key_field_sets:
            if entry := entries.get((names, _identity(item, names))):
                yield SelectedItem(item, *entry)


def _identity(item: Any, key_fields: tuple[str, ...]) -> bytes | None:
    """Return the values of an item's key fields as JSON, None if one is missing.

    Without key fields, return the whole item.
    """
    if not key_fields:
        return jsontext.encode(item)
    has_all = isinstance(item, dict) and all(name in item for name in key_fields)
    return jsontext.encode([item[name] for name in key_fields]) if has_all else None


def union(sets: Iterable[Fields]) -> dict[str, Any]:
    """Return the union of sets of fields."""
    found: dict[str, Any] = {}
    for fields in sets:
        _add(found, fields)
    return found


def _add(found: dict[str, Any], fields: Fields) -> None:
    for key, below in fields.items():
        # jsontext decodes everything below its deepest level as null.
        _add(found.setdefault(key, {}), below or {})


def _is_applied(entry: Manifest, manager: str) -> bool:
    return entry.get("manager") == manager and entry.get("operation") == "Apply" and not entry.get("subresource")
