"""The ConfigMap with the results of a benchmark."""

import json

from kimi_linear_operator.api import KimiLinearBenchmark
from kimi_linear_operator.resources import results
from make import make_benchmark


def test_it_is_the_same_whether_the_api_server_had_the_numbers_already_or_not() -> None:
    benchmark = KimiLinearBenchmark.model_validate(make_benchmark())
    measured = {"verdict": "Passed", "results": [{"metrics": {"concurrency": 1.0, "duration": 1.5}, "completed": 10}]}
    # The API server writes a whole number without a fraction.
    given_back = json.loads(json.dumps(measured).replace("1.0", "1"))
    assert results.build(benchmark, measured) == results.build(benchmark, given_back)
    assert '"concurrency": 1,' in results.build(benchmark, measured)["data"]["results.json"]
