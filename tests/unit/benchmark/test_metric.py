"""The table of metrics agrees with the recipe's numbers and with what the runner reads."""

import pytest

from kimi_linear_operator.benchmark import metric, recipe, runner
from kimi_linear_operator.benchmark.metric import Kind
from kimi_linear_operator.benchmark.spec import RECIPE_SUITES, Speed


def kind_of(suite: str) -> Kind:
    return "speed" if isinstance(RECIPE_SUITES[suite], Speed) else "accuracy"


@pytest.mark.parametrize("suite", recipe.PUBLISHED)
def test_every_published_number_has_a_known_metric_in_order(suite: str) -> None:
    known = [item.name for item in metric.METRICS[kind_of(suite)]]
    published = list(recipe.PUBLISHED[suite])
    assert published == [name for name in known if name in published]


def test_the_table_has_every_metric_that_the_runner_reads() -> None:
    assert {item.name for item in metric.SPEED} == set(runner.SPEED_METRICS)


@pytest.mark.parametrize(
    ("kind", "name", "better"),
    [
        ("speed", "output_throughput", "higher"),
        ("speed", "request_throughput", "higher"),
        ("speed", "max_output_tokens_per_s", "higher"),
        ("speed", "p99_ttft_ms", "lower"),
        ("speed", "std_itl_ms", "lower"),
        ("speed", "duration", "lower"),
        ("speed", "total_output_tokens", None),
        ("speed", "concurrency", None),
        ("accuracy", "accuracy", "higher"),
        ("accuracy", "invalid", "lower"),
        ("accuracy", "latency", "lower"),
        ("accuracy", "output_throughput", "higher"),
    ],
)
def test_a_metric_is_better_when_higher_or_lower_or_neither(kind: Kind, name: str, better: str | None) -> None:
    found = metric.find(kind, name)
    assert found
    assert found.better == better


def test_a_metric_that_no_client_reports_is_not_found() -> None:
    assert metric.find("accuracy", "mean_ttft_ms") is None
