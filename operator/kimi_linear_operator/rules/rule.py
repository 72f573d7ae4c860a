"""A rule: one CEL expression about one field, evaluated by the API server and by us."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import cel

from kimi_linear_operator.api import Manifest
from kimi_linear_operator.rules.problem import Problem, Severity, one_line

_TEXT = re.compile(r"'(?:[^'\\]|\\.)*'")
# A field of `self`; what is called is a method, not a field: self.suites.all(...) reads suites.
_FIELD = re.compile(r"\bself((?:\.[A-Za-z]\w*\b(?!\())+)")


@dataclass(frozen=True)
class Rule:
    """A condition that a field must meet. It is met where the field is absent.

    The API server evaluates a rule at its node of the schema, and not at all while the value there stays as it is. So a
    rule stands at the innermost node that holds all it reads: an object that is older than the rule can then still be
    labelled, scaled and reported on (https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/
    custom-resource-definitions/#validation-ratcheting).

    The expression is kept to what every CEL implementation has: no Kubernetes extension functions, no optional syntax.
    It sees the fields that the schema declares, with their defaults.

    Attributes:
        severity: Whether breaking it is an error or a warning.
        at: The node: the path of a field, or "" for the whole object.
        expression: CEL over `self`, the value at the node; true when the rule is met.
        message: What is wrong and the remedy.
        blames: Path below the node of the field to name in the message, "" for the node itself. The schema must know it.
    """

    severity: Severity
    at: str
    expression: str
    message: str
    blames: str = ""

    @property
    def path(self) -> str:
        """Return the path of the field to blame, from the root."""
        return ".".join(filter(None, (self.at, self.blames)))

    @property
    def reads(self) -> list[str]:
        """Return the fields below the node that decide the outcome; none if the whole value does.

        A field that is only passed on the way to another is left out: where it is absent, so is the other.
        """
        found = {field.removeprefix(".") for field in _FIELD.findall(_TEXT.sub("''", self.expression))}
        return sorted(field for field in found if not any(other.startswith(f"{field}.") for other in found))

    def crd_validation(self) -> Manifest:
        """Return the rule as an entry of `x-kubernetes-validations` at its node.

        Where the node holds more than the rule reads, an update that leaves alone what it reads is let through.
        """
        message = one_line(self.message)
        if self.blames.startswith("metadata."):  # fields that no schema of ours describes can't be named
            message = f"{self.path}: {message}"
        validation: Manifest = {"rule": self.expression, "message": message}
        if self.reads:
            rule = f"oldSelf.hasValue() && {unchanged(self.reads)} || ({self.expression})"
            validation |= {"rule": rule, "optionalOldSelf": True}
        if self.blames and not self.blames.startswith("metadata."):
            validation["fieldPath"] = f".{self.blames}"
        return validation

    def policy_validation(self) -> Manifest:
        """Return the rule as an entry of a ValidatingAdmissionPolicy."""
        return {"expression": self.of_object, "message": f"{self.path}: {one_line(self.message)}"}

    @property
    def of_object(self) -> str:
        """Return the expression over `object`, the whole object. A comprehension over one value binds `self`."""
        names = self.at.split(".") if self.at else []
        nodes = [".".join(("object", *names[:count])) for count in range(1, len(names) + 1)]
        absent = "".join(f"!has({node}) || " for node in nodes)
        return f"{absent}[{(['object', *nodes])[-1]}].all(self, {self.expression})"

    @cached_property
    def program(self) -> cel.Program:
        """Return the compiled expression over `object`."""
        return cel.compile(self.of_object)


class Transition(Rule):
    """A condition on changes: its expression has `oldSelf`, too, so only the API server can evaluate it."""

    def crd_validation(self) -> Manifest:
        """Return the rule as an entry of `x-kubernetes-validations` at its node."""
        return {"rule": self.expression, "message": one_line(self.message), "fieldPath": f".{self.blames}"}


def unchanged(fields: Iterable[str]) -> str:
    """Return an expression for the API server: an update leaves these fields below `self` as they are."""
    optional = (field.replace(".", ".?") for field in fields)
    return " && ".join(f"self.?{field} == oldSelf.?{field}" for field in optional)


def broken(rules: Iterable[Rule], declared: Manifest) -> list[Problem]:
    """Return the problems of an object, in the order of the rules that it breaks.

    Args:
        rules: What it must meet.
        declared: Its fields that the schema declares, with their defaults.
    """
    # One context for all: taking over the object costs more than evaluating an expression.
    context = cel.Context()
    context.add_variable("object", declared)
    return [
        Problem(rule.severity, rule.path, rule.message, _scalar_at(declared, rule.path))
        for rule in rules
        if not rule.program.execute(context)
    ]


def _scalar_at(manifest: Manifest, path: str) -> str | int | float | bool | None:
    value: object = manifest
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value if isinstance(value, str | int | float) else None
