"""Every reason of a condition is in one table, with its meaning and remedy."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import yaml

from kimi_linear_operator.benchmark.events import UNDER_WAY
from kimi_linear_operator.benchmark.spec import SuiteResult
from kimi_linear_operator.kubernetes import pod_reasons
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.reasons import NOTHING, REASONS, WAIT, ReasonName, UsedBy
from kimi_linear_operator.reasons.benchmarks import BENCHMARKS
from kimi_linear_operator.reasons.pods import PODS
from kimi_linear_operator.reasons.servers import SERVERS
from kimi_linear_operator.reasons.specs import SPECS
from kimi_linear_operator.reasons.weights import WEIGHTS
from kimi_linear_operator.resource_types import DEFINITIONS
from kimi_linear_operator.server.events import NORMAL_REASONS
from kimi_linear_operator.weights import progress
from kimi_linear_operator.weights.events import NORMAL_REASONS as OF_WEIGHTS

ROOT = Path(__file__).parents[3]
PACKAGE = ROOT / "operator/kimi_linear_operator"
SOURCES = {path: path.read_text() for path in PACKAGE.rglob("*.py") if path.parent.name != "reasons"}


def test_every_reason_is_explained() -> None:
    assert set(REASONS) == set(get_args(ReasonName))


def test_no_reason_is_in_two_tables() -> None:
    names = [name for table in (SPECS, PODS, SERVERS, BENCHMARKS, WEIGHTS) for name in table]
    assert len(set(names)) == len(names)


def test_every_reason_has_a_remedy_and_a_meaning() -> None:
    assert [name for name, explanation in REASONS.items() if not explanation.remedy.endswith(".")] == []
    assert [name for name, explanation in REASONS.items() if not explanation.meaning.endswith(".")] == []


def test_every_problem_has_a_remedy_that_does_something() -> None:
    trouble = set(pod_reasons.BY_SEVERITY) - {"ModelLoading", "Starting"}
    assert [name for name in trouble if REASONS[name].remedy in (NOTHING, WAIT)] == []


def test_every_explained_reason_is_used() -> None:
    words = {word for text in SOURCES.values() for word in re.findall(r'"([A-Za-z]+)"', text)}
    assert set(REASONS) - words == set()


def constant_reasons(source: str) -> Iterator[str]:
    """The reasons in the text of a module. mypy checks reasons that come from other places."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func).rpartition(".")[2]
            place = {"Reason": 0, "Verdict": 1, "_failure": 0}.get(name)
            if place is not None and len(node.args) > place:
                given = node.args[place]
                choices = (given.body, given.orelse) if isinstance(given, ast.IfExp) else (given,)
                yield from (str(item.value) for item in choices if isinstance(item, ast.Constant))


def test_every_used_reason_is_explained() -> None:
    used = {reason for text in SOURCES.values() for reason in constant_reasons(text)}
    assert used - set(REASONS) == set()
    assert len(used) > 30


def test_reasons_of_results_and_events_are_also_reasons_of_conditions() -> None:
    of_results = get_args(get_args(SuiteResult.model_fields["reason"].annotation)[0])
    assert {*of_results, *NORMAL_REASONS, *UNDER_WAY, *OF_WEIGHTS, *progress.LASTING} - set(REASONS) == set()


def conditions(value: object) -> Iterator[Manifest]:
    if isinstance(value, dict):
        if isinstance(value.get("reason"), str) and "lastTransitionTime" in value:
            yield value
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from conditions(item)


def test_statuses_recorded_by_tests_have_only_explained_reasons() -> None:
    golden = [yaml.safe_load(path.read_text())["status"] for path in (ROOT / "tests/golden").glob("*/status.yaml")]
    defaults = [definition.manifest() for definition in DEFINITIONS]
    found = {condition["reason"] for condition in conditions([*golden, *defaults])}
    assert "Pending" in found
    assert found - set(REASONS) == set()


def test_the_table_is_in_order() -> None:
    names = get_args(ReasonName)
    assert list(names) == sorted(names), "additions to a sorted table seldom collide"
    assert {explanation.used_by for explanation in REASONS.values()} == set(get_args(UsedBy))


def test_every_reason_of_a_pod_has_a_rank() -> None:
    files = ("pod_reasons", "crashes", "waits")
    found = {name for file in files for name in constant_reasons(SOURCES[PACKAGE / f"kubernetes/{file}.py"])}
    assert len(found) > 10
    assert found - set(pod_reasons.BY_SEVERITY) == set()
