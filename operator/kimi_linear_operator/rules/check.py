"""Checking a resource: its shape by the models, its sense by the rules."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from kimi_linear_operator.api import KimiLinearServer
from kimi_linear_operator.rules import server
from kimi_linear_operator.rules.problem import Problem
from kimi_linear_operator.rules.rule import broken

LONGEST_VALUE = 100

_MESSAGES = {
    "missing": "is required",
    "string_type": "must be a string; quote it if it looks like a number",
    "int_type": "must be a whole number, without quotes",
    "float_type": "must be a number, without quotes",
    "bool_type": "must be true or false, without quotes",
    "list_type": "must be a list",
    "dict_type": "must be an object",
    "model_type": "must be an object",
}


@dataclass(frozen=True)
class Checked:
    """What a check found.

    Attributes:
        server: The resource, or None when its shape is wrong.
        problems: Errors and warnings, errors first.
    """

    server: KimiLinearServer | None
    problems: tuple[Problem, ...]

    @property
    def errors(self) -> list[Problem]:
        """Return the problems that stop the resource from being applied."""
        return [problem for problem in self.problems if problem.severity == "error"]

    @property
    def is_valid(self) -> bool:
        """Return whether the resource may be applied."""
        return not self.errors


def check(manifest: Mapping[str, Any]) -> Checked:
    """Check a KimiLinearServer as it was written or stored; never raises for what it holds."""
    try:
        resource = KimiLinearServer.model_validate(manifest)
    except ValidationError as error:
        details = error.errors(include_url=False)
        return Checked(None, tuple(_shape_problem(detail) for detail in details))
    return Checked(resource, tuple(broken(server.RULES, resource.manifest())))


def _shape_problem(detail: ErrorDetails) -> Problem:
    path = field_path(detail["loc"])
    value = detail["input"]
    if detail["type"] == "extra_forbidden":
        return Problem("error", path, f"unknown field{_suggestion(detail['loc'])}")
    message = _MESSAGES.get(detail["type"]) or detail["msg"].removeprefix("Value error, ").replace("Input", "must", 1)
    return Problem("error", path, message.replace("must should", "must"), _shown(path, value))


def _shown(path: str, value: object) -> str | int | float | None:
    """Return a value that may be shown: short, and not what somebody put where a Secret's name belongs."""
    if "secret" in path.lower() or not isinstance(value, str | int | float):
        return None
    return value[:LONGEST_VALUE] if isinstance(value, str) else value


def field_path(location: Sequence[str | int]) -> str:
    """Return a location as `kubectl` writes it: `spec.engine.extraArgs[0]`."""
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}"
    return path.removeprefix(".")


def _suggestion(location: Sequence[str | int]) -> str:
    """Return the known field that was probably meant, as a question."""
    known = _fields_at(location[:-1])
    close = difflib.get_close_matches(str(location[-1]), known, n=1)
    if close:
        return f": did you mean {close[0]}?"
    return f": known here are {', '.join(sorted(known))}" if known else ""


def _fields_at(location: Sequence[str | int]) -> list[str]:
    model: type[BaseModel] | None = KimiLinearServer
    for part in location:
        fields = {field.alias: field.annotation for field in model.model_fields.values()} if model else {}
        model = _model_in(fields.get(str(part)))
    return [field.alias for field in model.model_fields.values() if field.alias] if model else []


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """Return the model in an annotation such as `Engine` or `SecretKeyRef | None`."""
    candidates = getattr(annotation, "__args__", (annotation,))
    return next((item for item in candidates if isinstance(item, type) and issubclass(item, BaseModel)), None)
