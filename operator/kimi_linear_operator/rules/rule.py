"""A rule: one CEL expression, evaluated by the API server and by us."""

from dataclasses import dataclass
from functools import cached_property

import cel

from kimi_linear_operator.api import Manifest
from kimi_linear_operator.rules.problem import Problem, Severity, one_line


@dataclass(frozen=True)
class Rule:
    """A condition that a resource must meet.

    The expression is kept to what every CEL implementation has: no Kubernetes extension functions, no optional
    syntax. It sees the object with its defaults set.

    Attributes:
        severity: Whether breaking it is an error or a warning.
        path: The field to blame. The schema must know it: the API server refuses a rule that names another.
        expression: CEL over `self`, the whole object; true when the rule is met.
        message: What is wrong and the remedy.
    """

    severity: Severity
    path: str
    expression: str
    message: str

    def problem(self, manifest: Manifest) -> Problem | None:
        """Return the problem if this object breaks the rule."""
        if self._program.execute({"self": manifest}):
            return None
        return Problem(self.severity, self.path, self.message, _scalar_at(manifest, self.path))

    def crd_validation(self) -> Manifest:
        """Return the rule as an entry of `x-kubernetes-validations` at the schema's root."""
        message = one_line(self.message)
        if self.path.startswith("metadata."):  # fields that no schema of ours describes can't be named
            return {"rule": self.expression, "message": f"{self.path}: {message}"}
        return {"rule": self.expression, "fieldPath": f".{self.path}", "message": message}

    def policy_validation(self) -> Manifest:
        """Return the rule as an entry of a ValidatingAdmissionPolicy, which calls the object `object`."""
        message = f"{self.path}: {one_line(self.message)}"
        return {"expression": self.expression.replace("self.", "object."), "message": message}

    @cached_property
    def _program(self) -> cel.Program:
        return cel.compile(self.expression)


def _scalar_at(manifest: Manifest, path: str) -> str | int | float | bool | None:
    value: object = manifest
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value if isinstance(value, str | int | float) else None
