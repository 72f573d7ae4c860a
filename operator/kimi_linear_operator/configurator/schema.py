"""The schema of a resource for the configurator's page. Each bound contains the message for a value beyond it."""

from collections.abc import Collection, Mapping, Sequence
from functools import reduce
from typing import Any, cast

from pydantic_core import PydanticKnownError

from kimi_linear_operator.kubernetes.check import shape_message
from kimi_linear_operator.kubernetes.crd import structural
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.models import Resource

WORDS = {name: shape_message(error) for name, error in (("required", "missing"), ("integer", "int_type"))} | {
    "number": shape_message("float_type")
}
"""The messages for a missing field, and for a value that is not a number."""

# The placeholder in a message for the actual number of items.
_ACTUAL = 987_654_321
_KEPT = ("default", "description", "enum", "required", "type")

# The bounds of each type in the order in which pydantic checks them, with pydantic's error for each.
_TEXT = {"maxLength": "string_too_long", "minLength": "string_too_short", "pattern": "string_pattern_mismatch"}
_LIST = {"minItems": "too_short", "maxItems": "too_long"}
_MAP = {"minProperties": "too_short", "maxProperties": "too_long"}
_NUMBER = {
    "maximum": "less_than_equal",
    "exclusiveMaximum": "less_than",
    "minimum": "greater_than_equal",
    "exclusiveMinimum": "greater_than",
}
_BOUNDS: Mapping[str, Mapping[str, str]] = {
    "string": _TEXT,
    "array": _LIST,
    "object": _MAP,
    "integer": _NUMBER,
    "number": _NUMBER,
}
# The name of each bound in the context of a pydantic error.
_CONTEXT = {
    "maxLength": "max_length",
    "minLength": "min_length",
    "maxItems": "max_length",
    "minItems": "min_length",
    "maxProperties": "max_length",
    "minProperties": "min_length",
    "pattern": "pattern",
    "maximum": "le",
    "exclusiveMaximum": "lt",
    "minimum": "ge",
    "exclusiveMinimum": "gt",
}


def page_schema(model: type[Resource], left_out: Collection[str]) -> Manifest:
    """Return the schema of a resource without its status.

    Args:
        model: The resource.
        left_out: Paths of fields in the spec that the page does not show. Fields without a default are left out of the
            schema, too.
    """
    schema = structural(model)
    schema["properties"].pop("status", None)
    spec = schema["properties"]["spec"]["properties"]
    for path in left_out:
        *above, name = path.split(".")
        fields = reduce(lambda node, part: node[part]["properties"], above, spec)
        if "default" not in fields[name]:
            del fields[name]
    return _node(schema)


def _node(schema: Mapping[str, Any]) -> Manifest:
    node: Manifest = {key: schema[key] for key in _KEPT if key in schema}
    if checks := _checks(schema):
        node["checks"] = checks
    if "properties" in schema:
        node["properties"] = {name: _node(field) for name, field in schema["properties"].items()}
    if "items" in schema:
        node["items"] = _node(schema["items"])
    if "additionalProperties" in schema:
        node["values"] = _node(schema["additionalProperties"])
    return node


def _checks(schema: Mapping[str, Any]) -> list[Manifest]:
    if "enum" in schema:
        return [{"bound": "enum", "limit": schema["enum"], "message": _one_of(schema["enum"])}]
    return [
        {"bound": bound, "limit": limit, "message": _message(error, bound, limit)}
        for bound, error in _BOUNDS.get(schema.get("type", ""), {}).items()
        if (limit := _limit(schema, bound)) is not None
    ]


def _one_of(values: Sequence[Any]) -> str:
    *others, last = map(repr, values)
    expected = f"{', '.join(others)} or {last}" if others else last
    return shape_message("literal_error", PydanticKnownError("literal_error", {"expected": expected}).message())


def _limit(schema: Mapping[str, Any], bound: str) -> Any:
    """Return a bound of a schema. As in a CRD, an exclusive bound is `maximum` or `minimum` with a switch."""
    inclusive = {"exclusiveMaximum": "maximum", "exclusiveMinimum": "minimum"}
    if bound in inclusive:
        return schema[inclusive[bound]] if schema.get(bound) else None
    is_exclusive = any(schema.get(key) for key, other in inclusive.items() if other == bound)
    return None if is_exclusive else schema.get(bound)


def _message(error: str, bound: str, limit: Any) -> str:
    """Return the message for a value beyond a bound, with {} for the number of items."""
    context = {_CONTEXT[bound]: limit}
    if bound in _LIST:
        context |= {"field_type": "List", "actual_length": _ACTUAL}
    elif bound in _MAP:  # pydantic does not report the length of a map that is too long
        context |= {"field_type": "Dictionary", "actual_length": None if bound == "maxProperties" else _ACTUAL}
    message = PydanticKnownError(cast("Any", error), context).message()
    return shape_message(error, message).replace(str(_ACTUAL), "{}")
