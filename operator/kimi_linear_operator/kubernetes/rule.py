"""A rule: a CEL expression about a field, which both the API server and the operator evaluate."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import cel

from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.problem import Problem, Severity, one_line

_TEXT = re.compile(r"'(?:[^'\\]|\\.)*'")
# A field of `self`, without a method after it. For example, self.suites.all(...) reads suites.
_FIELD = re.compile(r"\bself((?:\.[A-Za-z]\w*\b(?!\())+)")


@dataclass(frozen=True)
class Rule:
    """A condition that a field must meet. If the field is missing, the rule is met.

    The API server evaluates a rule at its node, which is one place in the schema. It evaluates the rule when an object
    is created, and on an update if the value at the node changes
    (https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#validation-ratcheting).
    So a rule belongs to the innermost node that contains everything that the rule reads. Then users can still label and
    scale an object that is older than the rule, and the operator can write its status.

    The expression uses only features of every CEL implementation: no functions of Kubernetes, no optional syntax. It
    can read the fields that the schema declares, with their defaults.

    Attributes:
        severity: Whether breaking it is an error or a warning.
        at: The node: the path of a field, or "" for the whole object.
        expression: CEL over `self`, the value at the node; true if the rule is met.
        message: What is wrong, and the remedy.
        blames: The field that the error names, as a path below the node; "" for the node itself. The schema must
            declare it.
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
        """Return the fields below the node that the expression reads; empty if it reads the whole value.

        If the expression reads `a.b`, `a` is left out, because the expression only checks that `a` exists.
        """
        fields = {field.removeprefix(".") for field in _FIELD.findall(_TEXT.sub("''", self.expression))}
        return sorted(field for field in fields if not any(other.startswith(f"{field}.") for other in fields))

    def crd_validation(self) -> Manifest:
        """Return the rule as an entry of `x-kubernetes-validations` at its node.

        If the rule reads only some fields of the node, an update that does not change these fields passes.
        """
        message = one_line(self.message)
        if self.blames.startswith(
            "metadata."
        ):  # our schema does not declare the fields of metadata, so fieldPath cannot name them
            message = f"{self.path}: {message}"
        validation: Manifest = {"rule": self.expression, "message": message}
        if self.reads:
            rule = f"oldSelf.hasValue() && {unchanged(self.reads)} || ({self.expression})"
            validation |= {"rule": rule, "optionalOldSelf": True}
        if self.blames and not self.blames.startswith("metadata."):
            validation["fieldPath"] = f".{self.blames}"
        return validation

    def policy_validation(self) -> Manifest:
        """Return the rule as an entry of a ValidatingAdmissionPolicy, where `object` is the whole object."""
        names = self.at.split(".") if self.at else []
        nodes = [".".join(("object", *names[:count])) for count in range(len(names) + 1)]
        absent = "".join(f"!has({node}) || " for node in nodes[1:])
        # A comprehension over a list of one value binds this value to `self`.
        expression = f"{absent}[{nodes[-1]}].all(self, {self.expression})"
        return {"expression": expression, "message": f"{self.path}: {one_line(self.message)}"}


class Transition(Rule):
    """A condition on an update.

    Its expression also reads the old object (`oldSelf`), so only the API server can evaluate it.
    """

    def crd_validation(self) -> Manifest:
        """Return the rule as an entry of `x-kubernetes-validations` at its node."""
        return {"rule": self.expression, "message": one_line(self.message), "fieldPath": f".{self.blames}"}


def unchanged(fields: Iterable[str]) -> str:
    """Return an expression for the API server that is true if an update does not change these fields below `self`.

    One side of each comparison is a plain field. The API server estimates the cost of a rule and refuses expensive
    rules. It knows the size of a field from the schema, but not the size of an optional value.
    """
    return " && ".join(_is_unchanged(field) for field in fields)


def _is_unchanged(field: str) -> str:
    optional = field.replace(".", ".?")
    is_set = f"self.?{optional}.hasValue()"
    return f"oldSelf.?{optional}.optMap(old, {is_set} && self.{field} == old).orValue(!{is_set})"


class _Node:
    """The rules of one node, as one CEL program.

    Passing a value to CEL takes longer than evaluating most rules, so all rules of a node share one evaluation.
    """

    def __init__(self, at: str, rules: Sequence[Rule]) -> None:
        self.at = at
        self.rules = rules
        self._program = cel.compile(f"[{', '.join(f'({rule.expression})' for rule in rules)}]")
        reads = [rule.reads for rule in rules]
        self._reads = sorted(set(chain.from_iterable(reads))) if all(reads) else None

    def broken(self, declared: Manifest) -> list[Rule]:
        """Return the rules that the value at the node breaks, none if it is absent."""
        value = _value_at(declared, self.at)
        if value is None:
            return []
        context = cel.Context()
        context.add_variable("self", value if self._reads is None else _only(value, self._reads))
        verdicts = self._program.execute(context)
        return [rule for rule, is_met in zip(self.rules, verdicts, strict=True) if not is_met]


class RuleTable:
    """Compiled rules."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        """Compile the rules; problems are listed in their order."""
        self._rules = rules
        nodes = dict.fromkeys(rule.at for rule in rules)
        self._nodes = [_Node(at, [rule for rule in rules if rule.at == at]) for at in nodes]

    def problems(self, declared: Manifest) -> list[Problem]:
        """Return the problems of an object.

        Args:
            declared: The fields of the object that the schema declares, with their defaults.
        """
        broken = [rule for node in self._nodes for rule in node.broken(declared)]
        return [
            Problem(rule.severity, rule.path, rule.message, _scalar_at(declared, rule.path))
            for rule in sorted(broken, key=self._rules.index)
        ]


def _value_at(manifest: Manifest, path: str) -> Any:
    """Return the value at a path in an object, None if there is none."""
    value: Any = manifest
    for name in path.split(".") if path else ():
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _only(value: Manifest, fields: Iterable[str]) -> Manifest:
    """Return a copy of an object with only these fields.

    An object around a field stays, even if it is empty, so that `has` works.
    """
    result: Manifest = {}
    for field in fields:
        *parents, last = field.split(".")
        source, copy = value, result
        for name in parents:
            copy = copy.setdefault(name, {}) if name in source else {}
            source = source.get(name, {})
        if last in source:
            copy[last] = source[last]
    return result


def _scalar_at(manifest: Manifest, path: str) -> str | int | float | bool | None:
    value = _value_at(manifest, path)
    return value if isinstance(value, str | int | float) else None
