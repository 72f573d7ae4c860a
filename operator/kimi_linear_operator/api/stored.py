"""Statuses as they are stored: by us, by another version of the operator, or by whoever may write the subresource."""

from collections.abc import Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from kimi_linear_operator.api.base import Manifest
from kimi_linear_operator.api.benchmark import BenchmarkStatus
from kimi_linear_operator.api.server import ServerStatus

_STATUSES: Mapping[str, type[BaseModel]] = {"KimiLinearServer": ServerStatus, "KimiLinearBenchmark": BenchmarkStatus}


def readable_status(kind: str, status: Any) -> Manifest:
    """Return a stored status with something empty for every field that cannot be read.

    Then nobody who reads a status meets anything that the schema does not allow, and the next one that is written
    replaces what is empty here. What the schema does not know is left alone.
    """
    model = _STATUSES[kind]
    if not isinstance(status, dict):
        return {}
    try:
        model.model_validate(status, extra="ignore")
    except ValidationError as error:
        unreadable = {str(detail["loc"][0]) for detail in error.errors(include_url=False, include_input=False)}
        fields = {field.alias: field for field in model.model_fields.values()}
        return {key: _empty(fields[key]) if key in unreadable else value for key, value in status.items()}
    return status


def _empty(field: FieldInfo) -> Any:
    """Return what a field holds that nothing is known of."""
    default = field.get_default(call_default_factory=True)
    candidates = (field.annotation, *get_args(field.annotation))
    is_object = any(isinstance(item, type) and issubclass(item, BaseModel) for item in candidates)
    return {} if default is None and is_object else default
