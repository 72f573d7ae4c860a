"""The ConfigMap with the results of a benchmark."""

import json

import pytest

from kimi_linear_operator.benchmark import results_config_map
from kimi_linear_operator.benchmark.spec import KimiLinearBenchmark
from make import make_benchmark, make_result

NOW = "2026-11-24T12:00:00Z"


def test_the_config_map_does_not_depend_on_how_the_api_server_writes_numbers() -> None:
    benchmark = KimiLinearBenchmark.model_validate(make_benchmark())
    measured = {"verdict": "Passed", "results": [{"metrics": {"concurrency": 1.0, "duration": 1.5}, "completed": 10}]}
    # The API server writes a whole number without a fraction.
    given_back = json.loads(json.dumps(measured).replace("1.0", "1"))
    assert results_config_map.build(benchmark, measured) == results_config_map.build(benchmark, given_back)
    assert '"concurrency": 1,' in results_config_map.build(benchmark, measured)["data"]["results.json"]


@pytest.mark.parametrize("text", ["", "{", "[" * 5000, "[" * 5000 + "]" * 5000, "1" * 5000, "null", '"x"'])
def test_invalid_content_in_place_of_results_gives_no_results(text: str) -> None:
    assert results_config_map.read({"data": {"results.json": text}}, NOW) == {}


@pytest.mark.parametrize("number", ["1e400", "-1e400", "NaN", "Infinity", "1" * 400, "1" * 5000])
def test_a_result_with_an_impossible_number_counts_as_ended_and_is_kept_as_text(number: str) -> None:
    text = json.dumps({"results": [make_result("speed-low", {"duration": 0.25})]})
    [whole] = results_config_map.read({"data": {"results.json": text}}, NOW)["results"]
    assert (whole["outcome"], whole["metrics"]) == ("Succeeded", {"duration": 0.25})
    odd = text.replace("0.25", number)
    [kept] = results_config_map.read({"data": {"results.json": odd}}, NOW)["results"]
    assert (kept["name"], kept["outcome"]) == ("speed-low", "Unknown")
    assert kept["message"].startswith("another version of the operator stored this result: {")
