"""Checks of a resource. Models check its shape, and rules check its content."""

import difflib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Self, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from kimi_linear_operator.kubernetes.bounds import declared, excess
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.models import Resource
from kimi_linear_operator.kubernetes.problem import Problem
from kimi_linear_operator.kubernetes.rule import Rule, RuleTable
from kimi_linear_operator.kubernetes.stored import FieldPath, parts, readable, without_unknown_fields

R = TypeVar("R", bound=Resource)

LONGEST_VALUE = 100

_MESSAGES = {
    "missing": "is required",
    "string_type": "must be a string; put it in quotes if it looks like a number",
    "int_type": "must be a whole number, without quotes",
    "float_type": "must be a number, without quotes",
    "bool_type": "must be true or false, without quotes",
    "list_type": "must be a list",
    "dict_type": "must be an object",
    "model_type": "must be an object",
}


@dataclass(frozen=True)
class Checked(Generic[R]):
    """The result of a check.

    Attributes:
        resource: The resource, or None if its shape is wrong.
        problems: Errors and warnings, errors first.
        left_out: Fields of the stored spec, with their values, that were removed from the resource. Nobody asked for
            them, and a rule would refuse them.
    """

    resource: R | None
    problems: tuple[Problem, ...]
    left_out: Mapping[FieldPath, Any] = field(default_factory=dict)

    @property
    def errors(self) -> list[Problem]:
        """Return the problems that are errors. A resource with errors is not applied."""
        return [problem for problem in self.problems if problem.severity == "error"]

    @property
    def message(self) -> str:
        """Return the errors on one line."""
        return "; ".join(str(problem) for problem in self.errors)

    @property
    def is_valid(self) -> bool:
        """Return whether the resource may be applied."""
        return not self.errors

    def beside(self, problems: Sequence[Problem]) -> Self:
        """Return this result with additional problems."""
        return replace(self, problems=(*problems, *self.problems))


class Checker(Generic[R]):
    """Checks resources of one kind. It never raises, whatever a resource contains."""

    def __init__(self, model: type[R], rules: Sequence[Rule]) -> None:
        """Compile the rules of a model."""
        self.model = model
        self._rules = RuleTable(rules)

    def check(self, manifest: Mapping[str, Any]) -> Checked[R]:
        """Check a resource as a user wrote it."""
        return self._check(manifest, lambda written, _: written)

    def check_stored(self, manifest: Mapping[str, Any]) -> Checked[R]:
        """Check a resource as the API server stores it.

        A field that this version does not know comes from a newer definition and is ignored.
        """
        return self._check(manifest, without_unknown_fields)

    def read_stored(self, manifest: Manifest, needed: Collection[str] = ()) -> R | None:
        """Return the readable part of a resource, even if it breaks rules; None if a needed part cannot be read.

        Args:
            manifest: The resource as the API server stores it.
            needed: The fields of its spec that must be readable.
        """
        return None if excess(manifest) else readable(manifest, self.model, needed)

    def _check(
        self, manifest: Mapping[str, Any], read: Callable[[Mapping[str, Any], type[Resource]], Mapping[str, Any]]
    ) -> Checked[R]:
        if problem := excess(manifest):
            return Checked(None, (problem,))
        try:
            resource = self.model.model_validate(read(manifest, self.model))
        except ValidationError as error:
            details = error.errors(include_url=False)
            return Checked(None, tuple(_shape_problem(detail, self.model) for detail in details))
        return Checked(resource, tuple(self._rules.problems(declared(resource))))


def check_any(manifest: Mapping[str, Any], checkers: Sequence[Checker[Any]]) -> Checked[Any]:
    """Check a resource as a user wrote it, with the checker of its kind.

    If the resource names no kind, use the first checker.
    """
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
    """Return our message for an error of pydantic, given the type and the message of the error."""
    words = _MESSAGES.get(error) or message.removeprefix("Value error, ").replace("Input", "must", 1)
    return words.replace("must should", "must")


def _shown(path: str, value: object) -> str | int | float | None:
    """Return a value to show, None to hide it. A user may have written a secret instead of a Secret's name."""
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
    """Return the field that the user probably meant, as a question.

    If no field is similar, return all fields of the object.
    """
    names = _fields_at(location[:-1], root)
    close = difflib.get_close_matches(str(location[-1]), names, n=1)
    if close:
        return f": did you mean {close[0]}?"
    return f": the known fields are {', '.join(sorted(names))}" if names else ""


def _fields_at(location: Sequence[str | int], root: type[BaseModel]) -> list[str]:
    model: type[BaseModel] | None = root
    for part in (part for part in location if isinstance(part, str)):
        model = parts(model).get(part) if model else None
    return [field.alias for field in model.model_fields.values() if field.alias] if model else []
