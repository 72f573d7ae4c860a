"""A rule at its node of the schema.

The tests are about the fields that it reads, its form in the CRD, and its evaluation.
"""

import pytest

from kimi_linear_operator import foreigntext
from kimi_linear_operator.benchmark import rules as benchmark
from kimi_linear_operator.kubernetes.problem import one_line
from kimi_linear_operator.kubernetes.rule import Rule, RuleTable, unchanged
from kimi_linear_operator.server import rules as server

IS_SMALL = Rule("error", "spec.size", "self < 10", "is too large: use less than 10")
PAIR = Rule("error", "spec", "self.a.b != 'self.x' || self.c == 1", "needs c to be 1", blames="a.b")


@pytest.mark.parametrize(
    ("expression", "reads"),
    [
        ("self == 4", []),
        ("self.all(c, c.name != 'self.x')", []),
        ("!self", []),
        ("self.matches('^a')", []),
        ("self.a == 'x' || self.b.c.matches('y')", ["a", "b.c"]),
        ("has(self.a) != has(self.b)", ["a", "b"]),
        ("!has(self.a) || !has(self.a.b) || self.a.b.all(x, x.name in self.names)", ["a.b", "names"]),
        ("size(self.metadata.name) <= 9", ["metadata.name"]),
    ],
)
def test_the_fields_that_a_rule_reads_follow_from_its_expression(expression: str, reads: list[str]) -> None:
    assert Rule("error", "spec", expression, "").reads == reads


def test_a_rule_about_a_whole_value_goes_into_the_crd_unchanged() -> None:
    assert IS_SMALL.crd_validation() == {"rule": "self < 10", "message": "is too large: use less than 10"}


def test_a_rule_about_some_fields_accepts_updates_that_leave_them_alone() -> None:
    assert PAIR.crd_validation() == {
        "rule": f"oldSelf.hasValue() && {unchanged(['a.b', 'c'])} || ({PAIR.expression})",
        "optionalOldSelf": True,
        "message": "needs c to be 1",
        "fieldPath": ".a.b",
    }


def test_a_warning_applies_to_the_whole_object_and_accepts_a_missing_node() -> None:
    assert IS_SMALL.policy_validation() == {
        "expression": "!has(object.spec) || !has(object.spec.size) || [object.spec.size].all(self, self < 10)",
        "message": "spec.size: is too large: use less than 10",
    }


@pytest.mark.parametrize(
    ("declared", "broken"),
    [
        ({}, []),
        ({"spec": {"size": 9, "a": {"b": "x"}, "c": 1}}, []),
        ({"spec": {"size": 10, "a": {"b": "self.x"}, "c": 2}}, ["spec.a.b", "spec.size"]),
        ({"spec": {"size": 10, "a": {"b": "x"}, "c": 2}}, ["spec.size"]),
    ],
    ids=str,
)
def test_problems_of_broken_rules_come_in_the_order_of_the_table(
    declared: dict[str, object], broken: list[str]
) -> None:
    assert [problem.path for problem in RuleTable([PAIR, IS_SMALL]).problems(declared)] == broken


@pytest.mark.parametrize(
    ("expression", "spec", "is_met"),
    [
        ("!has(self.client) || !has(self.client.x)", {"client": {}}, True),
        ("!has(self.client.x)", {"client": {}}, True),
        ("has(self.client)", {"client": {}}, True),
        ("has(self.client) && !has(self.client.retry.x)", {"client": {"retry": {}}}, True),
        ("has(self.client) && !has(self.client.retry.x)", {"client": {"retry": {"x": 1}}}, False),
        ("!has(self.client) || !has(self.client.x)", {}, True),
    ],
)
def test_an_empty_object_counts_as_present(expression: str, spec: dict[str, object], is_met: bool) -> None:
    problems = RuleTable([Rule("error", "spec", expression, "")]).problems({"spec": spec})
    assert not problems if is_met else problems


@pytest.mark.parametrize("rule", [*server.RULES, *benchmark.RULES], ids=lambda rule: f"{rule.path}-{rule.message[:24]}")
def test_the_message_of_a_rule_is_not_mistaken_for_a_secret(rule: Rule) -> None:
    told = f"{rule.path}: {one_line(rule.message)}"
    assert foreigntext.redacted(told) == told
