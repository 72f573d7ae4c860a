"""A suite is compared only with numbers of the same load; otherwise a finding gives the reason."""

from typing import Any

import pytest

from kimi_linear_operator.benchmark import baseline
from kimi_linear_operator.benchmark.baseline import Baseline
from kimi_linear_operator.benchmark.spec import Suite
from kimi_linear_operator.kubernetes.kinds import Manifest
from make import make_result


def suite(name: str = "own", **load: Any) -> Suite:
    return Suite.model_validate({"name": name, "speed": {"numPrompts": 10, **load}})


MEASURED = {**make_result("speed-low"), "name": "own", "metrics": {"output_throughput": 100.0}}
INVALID = {**MEASURED, "findings": [{"rule": "Validity", "passed": False, "message": ""}]}
ASKED = Suite.model_validate({"name": "own", "accuracy": {}})


def found(suites: list[Suite], *results: Manifest, ours: Suite | None = None) -> Baseline:
    return baseline.of_benchmark("last", suites, results, ours or suite())


def test_numbers_of_the_same_load_are_compared() -> None:
    assert found([suite(maxConcurrency=None)], MEASURED) == Baseline({"output_throughput": 100.0})
    # A spec that writes out a default has the same load.
    assert found([suite(datasetName="random")], MEASURED).metrics


@pytest.mark.parametrize(
    ("suites", "results", "words"),
    [
        ([], [], "the comparison needs a complete benchmark last, but there is none"),
        ([suite()], [], "the comparison needs a complete benchmark last, but there is none"),
        ([suite("other")], [{**MEASURED, "name": "other"}], "benchmark last has no suite own"),
        (
            [suite(numPrompts=1, maxConcurrency=1)],
            [MEASURED],
            "own of benchmark last ran a different load (numPrompts is 1 in the baseline, 10 in this "
            "benchmark, maxConcurrency is 1 in the baseline, not set in this benchmark)",
        ),
        (
            [ASKED],
            [MEASURED],
            "own of benchmark last ran a different load (accuracy in the baseline, speed in this benchmark)",
        ),
        ([suite()], [INVALID], "own of benchmark last is invalid: its numbers do not count"),
        (
            [suite()],
            [{**MEASURED, "outcome": "Failed"}],
            "own of benchmark last is invalid: its numbers do not count",
        ),
    ],
    ids=["no such benchmark", "not complete", "no such suite", "another load", "another kind", "invalid", "failed"],
)
def test_a_missing_comparison_gives_its_reason(suites: list[Suite], results: list[Manifest], words: str) -> None:
    assert found(suites, *results) == Baseline(missing=words)


def test_a_suite_of_an_unknown_kind_is_no_baseline() -> None:
    assert found([Suite.model_validate({"name": "own"})], MEASURED).missing == "benchmark last has no suite own"
