"""Checking a resource: its shape by the models, its sense by the rules."""

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from kimi_linear_operator.kubernetes.bounds import declared, excess
from kimi_linear_operator.kubernetes.models import Resource
from kimi_linear_operator.kubernetes.problem import Problem
from kimi_linear_operator.kubernetes.rule import Rule, RuleTable
from kimi_linear_operator.kubernetes.stored import FieldPath, known, parts

R = TypeVar("R", bound=Resource)

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
class Checked(Generic[R]):
    """What a check found.

    Attributes:
        resource: The resource, or None when its shape is wrong.
        problems: Errors and warnings, errors first.
    """

    resource: R | None
    problems: tuple[Problem, ...]

    @property
    def errors(self) -> list[Problem]:
        """Return the problems that stop the resource from being applied."""
        return [problem for problem in self.problems if problem.severity == "error"]

    @property
    def unreadable(self) -> tuple[FieldPath, ...]:
        """Return the fields whose values this version cannot read, as far as they are not in lists."""
        found = (problem.path for problem in self.errors if self.resource is None)
        return tuple(tuple(path.split(".")) for path in found if path and "[" not in path)

    @property
    def message(self) -> str:
        """Return the errors in one line."""
        return "; ".join(str(problem) for problem in self.errors)

    @property
    def is_valid(self) -> bool:
        """Return whether the resource may be applied."""
        return not self.errors


class Checker(Generic[R]):
    """Checks resources of one kind."""

    def __init__(self, model: type[R], rules: Sequence[Rule]) -> None:
        """Take the model of the resource and its rules."""
        self.model = model
        self._rules = RuleTable(rules)

    def check(self, manifest: Mapping[str, Any]) -> Checked[R]:
        """Check a resource as it was written; never raises for what it holds."""
        return self._check(manifest, lambda written, _: written)

    def check_stored(self, manifest: Mapping[str, Any]) -> Checked[R]:
        """Check a resource as the API server has it; never raises for what it holds.

        A field that this version does not know is of a newer definition, and is left out.
        """
        return self._check(manifest, known)

    def _check(
        self, manifest: Mapping[str, Any], read: Callable[[Mapping[str, Any], type[Resource]], Mapping[str, Any]]
    ) -> Checked[R]:
        if too_much := excess(manifest):
            return Checked(None, (too_much,))
        try:
            resource = self.model.model_validate(read(manifest, self.model))
        except ValidationError as error:
            details = error.errors(include_url=False)
            return Checked(None, tuple(_shape_problem(detail, self.model) for detail in details))
        return Checked(resource, tuple(self._rules.problems(declared(resource))))


def check_any(manifest: Mapping[str, Any], checkers: Sequence[Checker[Any]]) -> Checked[Any]:
    """Check a resource of one of several kinds as it was written. One that names no kind is taken for the first."""
    kind = manifest.get("kind")
    kinds = [checker.model.KIND.kind for checker in checkers]
    if isinstance(kind, str) and kind not in kinds:
        return Checked(None, (Problem("error", "kind", f"must be {' or '.join(kinds)}", kind[:LONGEST_VALUE]),))
    return checkers[kinds.index(kind) if isinstance(kind, str) else 0].check(manifest)


def _shape_problem(detail: ErrorDetails, model: type[BaseModel]) -> Problem:
    path = field_path(detail["loc"])
    value = detail["input"]
    if detail["type"] == "extra_forbidden":
        return Problem("error", path, f"unknown field{_suggestion(detail['loc'], model)}")
    return Problem("error", path, shape_message(detail["type"], detail["msg"]), _shown(path, value))


def shape_message(error: str, message: str = "") -> str:
    """Return our words for one of pydantic's errors, given its type and its own message."""
    words = _MESSAGES.get(error) or message.removeprefix("Value error, ").replace("Input", "must", 1)
    return words.replace("must should", "must")


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


def _suggestion(location: Sequence[str | int], root: type[BaseModel]) -> str:
    """Return the known field that was probably meant, as a question."""
    known = _fields_at(location[:-1], root)
    close = difflib.get_close_matches(str(location[-1]), known, n=1)
    if close:
        return f": did you mean {close[0]}?"
    return f": known here are {', '.join(sorted(known))}" if known else ""


def _fields_at(location: Sequence[str | int], root: type[BaseModel]) -> list[str]:
    model: type[BaseModel] | None = root
    for part in (part for part in location if isinstance(part, str)):
        model = parts(model).get(part) if model else None
    return [field.alias for field in model.model_fields.values() if field.alias] if model else []
