"""The built page of the configurator is up to date with its source, and its CEL gives the operator's results."""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml

import breaking
import configurator_page
from kimi_linear_operator.benchmark import rules as benchmark_rules
from kimi_linear_operator.kubernetes.bounds import declared
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.rule import Rule
from kimi_linear_operator.resource_types import check
from kimi_linear_operator.server import rules as server_rules
from kimi_linear_operator.weights import rules as weights_rules
from make import make_benchmark, make_server, make_weights

TABLES: dict[str, tuple[Rule, ...]] = {
    "KimiLinearServer": server_rules.RULES,
    "KimiLinearBenchmark": benchmark_rules.RULES,
    "KimiLinearWeights": weights_rules.RULES,
}
_MAKERS: dict[str, Callable[..., Manifest]] = {
    "KimiLinearServer": make_server,
    "KimiLinearBenchmark": make_benchmark,
    "KimiLinearWeights": make_weights,
}
GOLDEN = sorted((Path(__file__).parents[1] / "golden").glob("*/cr.yaml"))
# A resource for each rule that only warns, and resources without a problem.
WARNED = [
    make_server(tensorParallelism=2),
    make_server(hardware="mi355x"),
    make_server(hardware="mi355x", engine={"image": "registry.example/sglang:v0.5.7-mi35x"}),
    make_server(engine={"version": "v0.6.0"}),
    make_server(engine={"version": "v0.5.9"}),
    make_server(engine={"image": "registry.example/sglang:latest"}),
    make_server(service={"type": "NodePort"}),
    make_server(ingress={"hosts": ["kimi.example.com"]}),
    make_server(router={}),
    make_server(networkPolicy={}, service={"type": "LoadBalancer"}),
    make_server(networkPolicy={}, monitoring={}),
    make_benchmark(suites=[{"name": "few", "accuracy": {"numQuestions": 20}}]),
    make_weights(volume={"accessModes": ["ReadWriteOnce"]}),
    make_benchmark(suites=[{"name": "made-up", "speed": {"numPrompts": 1, "datasetName": "random-ids"}}]),
]


@pytest.fixture(scope="module", autouse=True)
def _node() -> None:
    if (reason := configurator_page.obstacle()) and not os.environ.get("CI"):
        pytest.skip(reason)
    configurator_page.ensure_installed()


def test_the_built_page_is_fresh(tmp_path: Path) -> None:
    built = tmp_path / "page.html"
    configurator_page.build(built)
    assert built.read_text() == configurator_page.BUILT.read_text(), "run `make page`"


def resources() -> Iterator[Manifest]:
    yield from (yaml.safe_load(file.read_text()) for file in GOLDEN)
    for example in breaking.examples():
        make = _MAKERS[example.kind]
        yield make(example.name, **example.spec) if example.name else make(**example.spec)
    yield from WARNED


def test_every_rule_gives_the_same_result_in_the_page_and_in_the_operator() -> None:
    checked = [(resource["kind"], check(resource)) for resource in resources()]
    seen = {(kind, problem.message) for kind, outcome in checked for problem in outcome.problems}
    assert {(kind, rule.message) for kind, table in TABLES.items() for rule in table} <= seen, "a rule is not broken"

    told: set[str] = set()
    cases = []
    for kind, outcome in checked:
        assert outcome.resource, "its shape is wrong"
        rules = [] if kind in told else [{**asdict(rule), "path": rule.path} for rule in TABLES[kind]]
        cases.append({"kind": kind, "rules": rules or None, "resource": declared(outcome.resource)})
        told.add(kind)
    found = json.loads(configurator_page.node("evaluate.mjs", stdin=json.dumps(cases)))
    for (_, outcome), problems in zip(checked, found, strict=True):
        assert problems == [
            {"severity": problem.severity, "path": problem.path, "message": problem.message}
            for problem in outcome.problems
        ]
