"""A rule: one CEL expression, evaluated by the API server and by us."""

from collections.abc import Iterable
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
    def program(self) -> cel.Program:
        """Return the compiled expression."""
        return cel.compile(self.expression)


def broken(rules: Iterable[Rule], manifest: Manifest) -> list[Problem]:
    """Return the problems of an object, in the order of the rules that it breaks."""
    # One context for all: taking over the object costs more than evaluating an expression.
    context = cel.Context()
    context.add_variable("self", manifest)
    return [
        Problem(rule.severity, rule.path, rule.message, _scalar_at(manifest, rule.path))
        for rule in rules
        if not rule.program.execute(context)
    ]


def _scalar_at(manifest: Manifest, path: str) -> str | int | float | bool | None:
    value: object = manifest
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value if isinstance(value, str | int | float) else None
