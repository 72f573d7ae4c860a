"""Errors and warnings of a benchmark: each rule alone, and wrong shapes with their remedies."""

from typing import Any

import pytest

from kimi_linear_operator.benchmark.rules import RULES
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.problem import Problem
from kimi_linear_operator.resource_types import check
from make import make_benchmark
from passes import check_stored


def problems(**spec: Any) -> list[Problem]:
    return list(check(make_benchmark(**spec)).problems)


def own(**speed: Any) -> Manifest:
    return {"suites": [{"name": "own", "speed": {"numPrompts": 1, **speed}}]}


def overlay(**container: Any) -> Manifest:
    return {"podTemplate": {"spec": {"containers": [{"name": "client", **container}]}}}


def bound(**threshold: Any) -> Manifest:
    return {"thresholds": [{"suite": "speed-low", "metric": "duration", **threshold}]}


FILE = {"path": "test.jsonl"}
ENDPOINT = {"url": "http://kimi:30000"}

# For each rule, a spec that breaks only this rule: the spec, the path, and words of the message.
BROKEN: list[tuple[Manifest, str, str]] = [
    ({"serverRef": {"name": "kimi"}, "endpoint": ENDPOINT}, "spec.serverRef", "set either spec.serverRef"),
    ({"suites": [{"name": "gsm8k"}, {"name": "gsm8k"}]}, "spec.suites", "contains two suites with the same name"),
    ({"suites": [{"name": "own"}]}, "spec.suites", "contains a suite that is not in the recipe"),
    ({"suites": [{"name": "gsm8k", "accuracy": {}}]}, "spec.suites", "changes a suite of the recipe"),
    (own(extraArgs=["--num-prompts=2"]), "spec.suites", "contains a flag in extraArgs"),
    ({"datasets": {"shareGPT": FILE}}, "spec.datasets.shareGPT", "must say where the file is"),
    ({"datasets": {"gsm8k": FILE}}, "spec.datasets.gsm8k", "must say where the file is"),
    (
        {"baseline": {"benchmark": "last"}},
        "spec.baseline.benchmark",
        "must be set if and only if spec.baseline.source is benchmark",
    ),
    ({"baseline": {"source": "benchmark", "benchmark": "nightly"}}, "spec.baseline.benchmark", "is this benchmark"),
    (
        {"baseline": {"source": "none", "maxRegressionPercent": 1}},
        "spec.baseline.maxRegressionPercent",
        "needs a baseline",
    ),
    ({"baseline": {"metrics": ["concurrency"]}}, "spec.baseline.metrics", "contains a metric that cannot be compared"),
    (
        {"suites": [{"name": "gsm8k"}], **bound(min=1)},
        "spec.thresholds",
        "names a suite that is not in spec.suites",
    ),
    (bound(metric="accuracy", min=1), "spec.thresholds", "names a metric that the suite does not measure"),
    (bound(), "spec.thresholds", "lacks a limit"),
    (bound(min=2, max=1), "spec.thresholds", "has a min that is greater than its max"),
    (overlay(resources={"limits": {"amd.com/gpu": 1}}), "spec.podTemplate.spec.containers", "requests amd.com/gpu"),
    (
        overlay(env=[{"name": "OPENAI_API_KEY", "value": "x"}]),
        "spec.podTemplate.spec.containers",
        "but the operator sets it from the server's Secret",
    ),
    (overlay(args=["sleep"]), "spec.podTemplate.spec.containers", "use spec.client and spec.suites"),
    (overlay(securityContext={"privileged": True}), "spec.podTemplate.spec.containers", "it only sends requests"),
    ({"podTemplate": {"spec": {"hostNetwork": True}}}, "spec.podTemplate.spec.hostNetwork", "on the node's network"),
    (
        {"podTemplate": {"metadata": {"labels": {"kimi-linear.io/suite": "x"}}}},
        "spec.podTemplate.metadata.labels",
        "choose another key",
    ),
    *(
        ({"inheritedMetadata": {part: {key: "y"}}}, f"spec.inheritedMetadata.{part}", words)
        for part in ("labels", "annotations")
        for key, words in (("kimi-linear.io/x", "choose another key"), ("a/b/c", "a key that Kubernetes refuses"))
    ),
    ({"suites": [{"name": "few", "accuracy": {"numQuestions": 99}}]}, "spec.suites", "fewer than 100 questions"),
    (own(datasetName="random-ids"), "spec.suites", "uses the dataset random-ids"),
]


@pytest.mark.parametrize(("spec", "path", "words"), BROKEN, ids=[case[2] for case in BROKEN])
def test_each_rule_can_be_broken_alone(spec: Manifest, path: str, words: str) -> None:
    (problem,) = problems(**spec)
    assert problem.path == path
    assert words in problem.message


def test_every_rule_is_broken_by_one_of_these_tests() -> None:
    broken = {problem for spec, *_ in BROKEN for problem in problems(**spec)}
    broken |= {*check(make_benchmark("b" * 41)).problems}
    told = {(problem.severity, problem.path, problem.message) for problem in broken}
    assert told == {(rule.severity, rule.path, rule.message) for rule in RULES}


def test_a_name_too_long_for_its_jobs_is_refused() -> None:
    (problem,) = check(make_benchmark("b" * 41)).problems
    assert (problem.path, "use at most 40 " in problem.message) == ("metadata.name", True)


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"endpoint": ENDPOINT},
        {"suites": [{"name": "own", "speed": {"numPrompts": 1}}, {"name": "asked", "accuracy": {"numQuestions": 100}}]},
        own(extraArgs=["--gsp-num-groups=2", "--tag", "mine", "--lora-name=x"]),
        {"datasets": {"shareGPT": {**FILE, "persistentVolumeClaim": "data"}, "gsm8k": {**FILE, "configMap": "gsm8k"}}},
        {"baseline": {"source": "benchmark", "benchmark": "last", "maxRegressionPercent": 0}},
        bound(min=1, max=1),
        {"suites": [{"name": "own", "accuracy": {}}], "thresholds": [{"suite": "own", "metric": "accuracy", "min": 0}]},
        overlay(env=[{"name": "HTTPS_PROXY", "value": "http://proxy"}], resources={"limits": {"memory": "8Gi"}}),
    ],
    ids=str,
)
def test_a_valid_spec_has_no_problems(spec: Manifest) -> None:
    assert problems(**spec) == []


@pytest.mark.parametrize(
    "flag", ["--num-prompts", "--output-fil=x", "--header", "--base-url=http://x", "--backend=vllm"]
)
def test_a_flag_that_has_a_field_is_refused_in_every_spelling(flag: str) -> None:
    (problem,) = problems(**own(extraArgs=[flag]))
    assert "contains a flag in extraArgs" in problem.message


@pytest.mark.parametrize(
    ("spec", "line"),
    [
        ({"suites": []}, "spec.suites: List should have at least 1 item"),
        ({"suites": [{"name": "own", "speed": {}}]}, "spec.suites[0].speed.numPrompts: is required"),
        ({"suites": [{"name": "own", "spede": {}}]}, "spec.suites[0].spede: unknown field: did you mean speed?"),
        (own(requestRate=0), "spec.suites[0].speed.requestRate: 0: must be greater than 0"),
        ({"maxErrorRate": 1.5}, "spec.maxErrorRate: 1.5: must be less than or equal to 1"),
        ({"endpoint": {"url": "kimi:30000"}}, 'spec.endpoint.url: "kimi:30000": String should match'),
        ({"endpoint": {"url": "http://kimi/v1"}}, 'spec.endpoint.url: "http://kimi/v1": String should match'),
        ({"timeoutSeconds": "1h"}, 'spec.timeoutSeconds: "1h": must be a whole number, without quotes'),
        ({"baseline": {"source": "recipes"}}, "spec.baseline.source: \"recipes\": must be 'recipe', 'benchmark' or"),
    ],
    ids=str,
)
def test_a_wrong_shape_is_reported_with_path_value_and_remedy(spec: Manifest, line: str) -> None:
    (problem,) = problems(**spec)
    assert str(problem).startswith(line)


def test_unknown_fields_of_a_newer_definition_are_ignored_in_stored_benchmarks() -> None:
    """Fields may also be in items of a list."""
    newer = make_benchmark(**own(newer=1), baseline={"newer": True})
    assert check_stored(newer) == check(make_benchmark(**own(), baseline={}))
    assert len(check(newer).errors) == 2


def test_a_suite_has_one_kind_of_load() -> None:
    broken = check(make_benchmark(suites=[{"name": "own", "accuracy": {}, "toolCalls": {}}]))
    assert [problem.path for problem in broken.problems if problem.severity == "error"] == ["spec.suites"]
    assert check(make_benchmark(suites=[{"name": "own", "toolCalls": {}}])).is_valid
