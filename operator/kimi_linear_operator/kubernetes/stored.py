"""Reads stored objects. Another version of the operator, or anybody else, may have written them.

The definition of another version may have been installed when they were written.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cache
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from kimi_linear_operator.kubernetes.conditions import LONGEST_MESSAGE
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.models import Resource, Status
from kimi_linear_operator.kubernetes.overlay import has_same_items

FieldPath = tuple[str | int, ...]
"""The path to a field of an object: names of fields, and indexes of items of lists."""

# A tree of the fields to remove from a value; None in place of such a field.
_Removed = dict[str | int, "_Removed | None"]

R = TypeVar("R", bound=Resource)

# In characters: one more than the messages that the operator writes. So a longer message never looks like one of them,
# and the next write of the status replaces it.
_LONGEST_MESSAGE = LONGEST_MESSAGE + 1


def readable_status(model: type[Status], status: Any) -> Manifest:
    """Return a stored status without its unreadable parts: fields become empty, and items of lists are left out.

    So code that reads a status can rely on the schema. The next write of the status replaces the unreadable parts.

    A list in `RECORDS` of the model keeps all its objects, even unreadable ones. So code that reads such an object must
    first check that it is readable (`is_readable`). Fields that the schema does not have stay as they are. Long
    messages of conditions are cut.
    """
    if not isinstance(status, dict):
        return {}
    fields = _readable_fields(model, status)
    conditions = fields.get("conditions", ())
    if all(len(condition["message"]) <= _LONGEST_MESSAGE for condition in conditions):
        return fields
    return {**fields, "conditions": [_with_short_message(condition) for condition in conditions]}


def with_readable_status(manifest: Manifest, model: type[Status]) -> Manifest:
    """Return a stored resource with a readable status: see `readable_status`."""
    return {**manifest, "status": readable_status(model, manifest.get("status"))}


def _with_short_message(condition: Manifest) -> Manifest:
    return {**condition, "message": condition["message"][:_LONGEST_MESSAGE]}


def _readable_fields(model: type[Status], status: Manifest) -> Manifest:
    fields = {field.alias: field for field in model.model_fields.values()}
    unreadable = _unreadable(status, model) | {key for key in status if status[key] is None and key in fields}
    if not unreadable:
        return status
    return {
        key: _readable_part(model, fields[key], value) if key in unreadable else value for key, value in status.items()
    }


def is_readable(model: type[BaseModel], value: object) -> bool:
    """Return whether a value fits a model of a part of the status. More fields are allowed, from another version."""
    try:
        model.model_validate(value, extra="ignore")
    except ValidationError:
        return False
    return True


def _readable_part(model: type[Status], field: FieldInfo, value: Any) -> Any:
    """Return the readable part of an unreadable field of a status."""
    item, empty = _model_in(field.annotation), _empty(field)
    if item is None or not isinstance(value, type(empty)):
        return empty
    if field.alias in model.RECORDS:
        return [part for part in value if isinstance(part, dict)] if isinstance(value, list) else value
    readable = [part for part in value if is_readable(item, part)] if isinstance(value, list) else empty
    return empty if _unreadable({str(field.alias): readable}, model) else readable


def readable(manifest: Manifest, model: type[R], needed: Collection[str] = ()) -> R | None:
    """Return a stored resource without the unreadable fields of its spec.

    An object that lacks a required field is unreadable as a whole.

    Args:
        manifest: The stored resource.
        model: Its model.
        needed: Fields of the spec that must be readable.

    Returns:
        None if a needed field or something outside the spec is unreadable.
    """
    while True:
        try:
            return model.model_validate(without_unknown_fields(manifest, model))
        except ValidationError as error:
            locations = _locations(error)
        for path in {_existing_part(manifest, location) for location in locations}:
            if len(path) < 2 or path[0] != "spec" or path[1] in needed:
                return None
            manifest = without(manifest, path) if holds(manifest, path) else manifest


def _locations(error: ValidationError) -> list[FieldPath]:
    return [detail["loc"] for detail in error.errors(include_url=False, include_input=False)]


def _existing_part(value: Any, location: FieldPath) -> FieldPath:
    """Return the longest prefix of a location that names an existing field outside of lists."""
    path: FieldPath = ()
    for name in location:
        if not isinstance(value, dict) or name not in value:
            break
        path, value = (*path, str(name)), value[name]
    return path


def without(value: Manifest, path: FieldPath) -> Manifest:
    """Return an object without a field. The objects around the field stay, even if they become empty."""
    return without_all(value, (path,))


def without_all(value: Manifest, paths: Iterable[FieldPath]) -> Manifest:
    """Return an object without these fields, if it has them. Items of lists and the objects around the fields stay.

    Each object is copied once, however many of its fields are removed.
    """
    removed: _Removed = {}
    for path in paths:
        if holds(value, path):
            _add(removed, path)
    remaining: Manifest = _without(value, removed)
    return remaining


def _add(removed: "_Removed", path: FieldPath) -> None:
    """Add a path to the fields that are removed, unless an object around the field is removed."""
    for name in path[:-1]:
        below = removed.setdefault(name, {})
        if below is None:
            return
        removed = below
    removed[path[-1]] = None


def _without(value: Any, removed: _Removed | None) -> Any:
    if not removed:
        return value
    if isinstance(value, list):
        return [_without(item, removed.get(index)) for index, item in enumerate(value)]
    return {
        name: _without(item, removed.get(name))
        for name, item in value.items()
        if name not in removed or removed[name] is not None
    }


def as_in(value: Manifest, path: FieldPath, other: Manifest) -> Manifest:
    """Return an object with one field copied from another object.

    In the other object, the field may be missing or null.

    If this leaves the object around the field empty, and the other object does not have that object, it is removed,
    too. An item of a list always stays.
    """
    changed: Manifest = _as_in(value, path, other)
    return changed


_MISSING: Any = object()


def _as_in(value: Any, path: FieldPath, other: Any) -> Any:
    if not path:
        return other
    name = path[0]
    below = _as_in(_part(value, name), path[1:], _part(other, name))
    if isinstance(name, int):
        return _with_item(value, name, below) if has_part(value, name) else value
    others = {key: item for key, item in value.items() if key != name} if isinstance(value, dict) else {}
    changed = others if below is _MISSING else {**others, name: below}
    return changed if changed or isinstance(other, dict) else other


def _with_item(value: list[Any], index: int, item: Any) -> list[Any]:
    return [*value[:index], {} if item is _MISSING else item, *value[index + 1 :]]


def _part(value: Any, name: str | int) -> Any:
    return value[name] if has_part(value, name) else _MISSING


def holds(value: Any, path: FieldPath) -> bool:
    """Return whether an object has a field, even if that is null."""
    for name in path:
        if not has_part(value, name):
            return False
        value = value[name]
    return True


def value_at(value: Any, path: FieldPath) -> Any:
    """Return the value of a field, None if it is missing."""
    if not holds(value, path):
        return None
    for name in path:
        value = value[name]
    return value


def unchanged(value: Any, fields: Mapping[FieldPath, Any]) -> dict[FieldPath, Any]:
    """Return those of these fields that still have the same values in an object. A missing field counts as null."""
    return {path: known for path, known in fields.items() if value_at(value, path) == known}


def has_part(value: Any, name: str | int) -> bool:
    """Return whether an object has a field with this name, or whether a list has an item with this index."""
    if isinstance(name, str):
        return isinstance(value, dict) and name in value
    # In Python, True is the number 1, and a negative index counts from the end.
    return isinstance(value, list) and type(name) is int and 0 <= name < len(value)


def _unreadable(value: Manifest, model: type[BaseModel]) -> set[str]:
    """Return the top-level fields whose values the model refuses. Fields that the model does not have are ignored."""
    try:
        model.model_validate(value, extra="ignore")
    except ValidationError as error:
        return {str(location[0]) for location in _locations(error) if location}
    return set()


def _empty(field: FieldInfo) -> Any:
    """Return the value that stands for a field whose value is unknown."""
    default = field.get_default(call_default_factory=True)
    candidates = (field.annotation, *get_args(field.annotation))
    is_object = any(isinstance(item, type) and issubclass(item, BaseModel) for item in candidates)
    return {} if default is None and is_object else default


def without_unknown_fields(value: Mapping[str, Any], model: type[BaseModel]) -> Manifest:
    """Return an object without fields that its model does not have, at every level.

    The API server drops fields that its definition does not have. So a stored field that the model does not have comes
    from a newer definition. Parts whose model allows any field are left as they are.
    """
    if model.model_config.get("extra") == "allow":
        return dict(value)
    fields = parts(model)
    return {name: _without_unknown_fields(item, fields[name]) for name, item in value.items() if name in fields}


def _without_unknown_fields(value: Any, model: type[BaseModel] | None) -> Any:
    if model is None:
        return value
    if isinstance(value, list):
        return [_without_unknown_fields(item, model) for item in value]
    return without_unknown_fields(value, model) if isinstance(value, dict) else value


@cache
def parts(model: type[BaseModel]) -> Mapping[str, type[BaseModel] | None]:
    """Return the fields of a model by name, each with the model of its object or of the items of its list, if any."""
    return {field.alias or name: _model_in(field.annotation) for name, field in model.model_fields.items()}


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((model for argument in get_args(annotation) if (model := _model_in(argument))), None)


_ABSENT = object()


def changed_fields(before: Any, after: Any, path: FieldPath = ()) -> Iterator[FieldPath]:
    """Yield the fields that differ. A list counts as one field, unless its items have the same identities as before."""
    if isinstance(before, dict) and isinstance(after, dict):
        for name in {**before, **after}:
            yield from changed_fields(before.get(name, _ABSENT), after.get(name, _ABSENT), (*path, name))
    elif before is _ABSENT and isinstance(after, dict) and after:
        yield from changed_fields({}, after, path)
    elif has_same_items(str(path[-1]), before, after):
        for number, (old_item, new_item) in enumerate(zip(before, after, strict=True)):
            yield from changed_fields(old_item, new_item, (*path, number))
    elif before != after:
        yield path
