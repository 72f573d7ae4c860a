"""A rule: one CEL expression about one field, evaluated by the API server and by us."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import cel

from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.problem import Problem, Severity, one_line

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
        blames: Path below the node of the field to name, "" for the node itself. The schema must know it.
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
        """Return the rule as an entry of a ValidatingAdmissionPolicy, which calls the whole object `object`."""
        names = self.at.split(".") if self.at else []
        nodes = [".".join(("object", *names[:count])) for count in range(len(names) + 1)]
        absent = "".join(f"!has({node}) || " for node in nodes[1:])
        # A comprehension over a single value binds `self`.
        expression = f"{absent}[{nodes[-1]}].all(self, {self.expression})"
        return {"expression": expression, "message": f"{self.path}: {one_line(self.message)}"}


class Transition(Rule):
    """A condition on changes: its expression has `oldSelf`, too, so only the API server can evaluate it."""

    def crd_validation(self) -> Manifest:
        """Return the rule as an entry of `x-kubernetes-validations` at its node."""
        return {"rule": self.expression, "message": one_line(self.message), "fieldPath": f".{self.blames}"}


def unchanged(fields: Iterable[str]) -> str:
    """Return an expression for the API server: an update leaves these fields below `self` as they are.

    Written so that one side of the comparison has a size that the API server knows: it refuses rules that might be too
    expensive, and knows nothing of optional values.
    """
    return " && ".join(_is_unchanged(field) for field in fields)


def _is_unchanged(field: str) -> str:
    optional = field.replace(".", ".?")
    is_there = f"self.?{optional}.hasValue()"
    return f"oldSelf.?{optional}.optMap(old, {is_there} && self.{field} == old).orValue(!{is_there})"


class _Node:
    """The rules of one node, evaluated at once: handing a value to CEL takes longer than most rules."""

    def __init__(self, at: str, rules: Sequence[Rule]) -> None:
        self.at = at
        self.rules = rules
        self._program = cel.compile(f"[{', '.join(f'({rule.expression})' for rule in rules)}]")
        reads = [rule.reads for rule in rules]
        self._reads = sorted(set(chain.from_iterable(reads))) if all(reads) else None

    def broken(self, declared: Manifest) -> list[Rule]:
        """Return the rules that the node's value breaks; those of an absent node are met."""
        value = _value_at(declared, self.at)
        if value is None:
            return []
        context = cel.Context()
        context.add_variable("self", value if self._reads is None else _only(value, self._reads))
        verdicts = self._program.execute(context)
        return [rule for rule, is_met in zip(self.rules, verdicts, strict=True) if not is_met]


class RuleTable:
    """Rules in the order in which their problems are listed, ready to be evaluated."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        """Compile the rules, node by node."""
        self._rules = rules
        nodes = dict.fromkeys(rule.at for rule in rules)
        self._nodes = [_Node(at, [rule for rule in rules if rule.at == at]) for at in nodes]

    def problems(self, declared: Manifest) -> list[Problem]:
        """Return the problems of an object.

        Args:
            declared: Its fields that the schema declares, with their defaults.
        """
        broken = [rule for node in self._nodes for rule in node.broken(declared)]
        return [
            Problem(rule.severity, rule.path, rule.message, _scalar_at(declared, rule.path))
            for rule in sorted(broken, key=self._rules.index)
        ]


def _value_at(manifest: Manifest, path: str) -> Any:
    """Return what an object holds at a path, None if nothing."""
    value: Any = manifest
    for name in path.split(".") if path else ():
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _only(value: Manifest, fields: Iterable[str]) -> Manifest:
    """Return an object with these fields alone."""
    result: Manifest = {}
    for field in fields:
        *names, last = field.split(".")
        source, copy = value, result
        for name in names:
            source = source.get(name, {})
            if source:
                copy = copy.setdefault(name, {})
        if last in source:
            copy[last] = source[last]
    return result


def _scalar_at(manifest: Manifest, path: str) -> str | int | float | bool | None:
    value = _value_at(manifest, path)
    return value if isinstance(value, str | int | float) else None
