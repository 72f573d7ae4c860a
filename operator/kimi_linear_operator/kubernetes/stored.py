"""What is stored: by us, by another version of the operator, under another version's definitions, or by anybody."""

from collections.abc import Collection, Mapping, Sequence
from functools import cache
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.models import Resource

FieldPath = tuple[str | int, ...]
"""What leads to a field of an object: names, and the numbers of items of lists."""

R = TypeVar("R", bound=Resource)


def readable_status(model: type[BaseModel], status: Any) -> Manifest:
    """Return a stored status with something empty for every field that cannot be read.

    Then nobody who reads a status meets anything that the schema does not allow, and the next one that is written
    replaces what is empty here. What the schema does not know is left alone.
    """
    if not isinstance(status, dict):
        return {}
    fields = {field.alias: field for field in model.model_fields.values()}
    unreadable = _unreadable(status, model) | {key for key in status if status[key] is None and key in fields}
    if not unreadable:
        return status
    return {key: _empty(fields[key]) if key in unreadable else value for key, value in status.items()}


def readable(manifest: Manifest, model: type[R], needed: Collection[str] = ()) -> R | None:
    """Return a stored resource without what cannot be read in its spec; None if something needed is among that.

    What lacks something that it must have cannot be read either.
    """
    while True:
        try:
            return model.model_validate(known(manifest, model))
        except ValidationError as error:
            places = [detail["loc"] for detail in error.errors(include_url=False, include_input=False)]
        for path in {_held(manifest, place) for place in places}:
            if len(path) < 2 or path[0] != "spec" or path[1] in needed:
                return None
            manifest = without(manifest, path) if holds(manifest, path) else manifest


def _held(value: Any, place: Sequence[str | int]) -> FieldPath:
    """Return the part of a place that leads to a field that is there, and not into a list."""
    path: FieldPath = ()
    for name in place:
        if not isinstance(value, dict) or name not in value:
            break
        path, value = (*path, str(name)), value[name]
    return path


def without(value: Manifest, path: FieldPath) -> Manifest:
    """Return an object without a field, and without what holds nothing else; items of lists stay, if only empty."""
    found: Manifest = _without(value, path)
    return found


def _without(value: Any, path: FieldPath) -> Any:
    name, below = path[0], path[1:]
    remaining = _without(value[name], below) if below else {}
    if isinstance(name, int):
        return [*value[:name], remaining, *value[name + 1 :]]
    rest = {key: item for key, item in value.items() if key != name}
    return {**rest, name: remaining} if remaining else rest


def with_null(value: Any, path: FieldPath) -> Any:
    """Return an object with null in a field; what is around that field must be there."""
    if not path:
        return None
    name, inside = path[0], with_null(value.get(path[0]) if isinstance(value, dict) else value[path[0]], path[1:])
    if isinstance(name, int):
        return [*value[:name], inside, *value[name + 1 :]]
    return {**value, name: inside}


def holds(value: Any, path: FieldPath) -> bool:
    """Return whether an object has a field, whatever that is."""
    for name in path:
        if not has_part(value, name):
            return False
        value = value[name]
    return True


def has_part(value: Any, name: str | int) -> bool:
    """Return whether an object has a field of this name, or a list so many items."""
    if isinstance(name, int):
        return isinstance(value, list) and name < len(value)
    return isinstance(value, dict) and name in value


def _unreadable(value: Manifest, model: type[BaseModel]) -> set[str]:
    """Return the fields that do not have the shape that the model gives them. Those that it lacks are no matter."""
    try:
        model.model_validate(value, extra="ignore")
    except ValidationError as error:
        places = [detail["loc"] for detail in error.errors(include_url=False, include_input=False)]
        return {str(place[0]) for place in places if place}
    return set()


def _empty(field: FieldInfo) -> Any:
    """Return what a field holds that nothing is known of."""
    default = field.get_default(call_default_factory=True)
    candidates = (field.annotation, *get_args(field.annotation))
    is_object = any(isinstance(item, type) and issubclass(item, BaseModel) for item in candidates)
    return {} if default is None and is_object else default


def known(value: Mapping[str, Any], model: type[BaseModel]) -> Manifest:
    """Return the fields that a model has, at every level; parts that take any field are left as they are.

    The API server keeps no field that its definition lacks. So what is stored and not known here is of a newer one.
    """
    if model.model_config.get("extra") == "allow":
        return dict(value)
    fields = parts(model)
    return {name: _known_part(item, fields[name]) for name, item in value.items() if name in fields}


def _known_part(value: Any, model: type[BaseModel] | None) -> Any:
    if model is None:
        return value
    if isinstance(value, list):
        return [_known_part(item, model) for item in value]
    return known(value, model) if isinstance(value, dict) else value


@cache
def parts(model: type[BaseModel]) -> Mapping[str, type[BaseModel] | None]:
    """Return the fields of a model, and the models of those that are objects or lists of objects."""
    return {field.alias or name: _model_in(field.annotation) for name, field in model.model_fields.items()}


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for item in get_args(annotation) if (found := _model_in(item))), None)
