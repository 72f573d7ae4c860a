"""What is stored: by us, by another version of the operator, or by whoever may write the subresource."""

from collections.abc import Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from kimi_linear_operator.api.base import Manifest
from kimi_linear_operator.api.benchmark import BenchmarkStatus
from kimi_linear_operator.api.server import KimiLinearServer, ServerStatus

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


def readable_server(manifest: Manifest) -> KimiLinearServer | None:
    """Return a stored server without the fields of its spec that cannot be read; None if its size is one of these."""
    spec = manifest.get("spec")
    if not isinstance(spec, dict) or "replicas" not in spec:
        return None
    unreadable = _unreadable(manifest)
    if unreadable & {"replicas", "suspend"}:
        return None
    try:
        readable = {name: value for name, value in spec.items() if name not in unreadable}
        return KimiLinearServer.model_validate({**manifest, "spec": readable})
    except ValidationError:
        return None


def _unreadable(manifest: Manifest) -> set[str]:
    """Return the fields of a server's spec that do not have the shape that they should have."""
    try:
        KimiLinearServer.model_validate(manifest)
    except ValidationError as error:
        places = [detail["loc"] for detail in error.errors(include_url=False, include_input=False)]
        return {str(place[1]) for place in places if len(place) > 1 and place[0] == "spec"}
    return set()


def _empty(field: FieldInfo) -> Any:
    """Return what a field holds that nothing is known of."""
    default = field.get_default(call_default_factory=True)
    candidates = (field.annotation, *get_args(field.annotation))
    is_object = any(isinstance(item, type) and issubclass(item, BaseModel) for item in candidates)
    return {} if default is None and is_object else default
