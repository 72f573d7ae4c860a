"""Metrics about benchmarks."""

import math
from collections import Counter as Tally
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice

from kimi_linear_operator.benchmark.address import TargetKey
from kimi_linear_operator.benchmark.claims import MOST_SUITES, Measured
from kimi_linear_operator.benchmark.metric import METRICS
from kimi_linear_operator.benchmark.spec import BENCHMARK, SuiteResult
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.stored import is_readable
from kimi_linear_operator.kubernetes.times import seconds_between
from kimi_linear_operator.reconcile.cached_object import CachedObject
from kimi_linear_operator.reconcile.series import CONDITION_LABELS, ResourceMetric, by_condition, labels

# Limit of the numbers of one namespace: 29 benchmarks with all suites and metrics. Users can create hundreds of
# benchmarks.
_MOST_NUMBERS = 20_000

_BY_CONDITION = ResourceMetric("kimi_linear_benchmarks", "Benchmarks by condition", CONDITION_LABELS)
_RESULT = ResourceMetric(
    "kimi_linear_benchmark_result",
    "Results of the newest complete benchmark of each namespace and server, by suite and metric; at most "
    f"{_MOST_NUMBERS:,} numbers for each namespace",
    ("benchmark", "benchmark_namespace", "metric", "server", "suite"),
)
RESOURCE_METRICS = (_BY_CONDITION, _RESULT)
"""All metrics about benchmarks."""


def series(objects: Sequence[CachedObject], now: str) -> Iterator[str]:
    """Yield the lines about benchmarks: the number with each condition, and the measured values.

    Args:
        objects: All cached objects.
        now: The time as RFC 3339.
    """
    benchmarks = [cached for cached in objects if cached.key.kind == BENCHMARK]
    yield from by_condition(_BY_CONDITION, benchmarks)
    yield from _results(benchmarks, now)


def _results(benchmarks: Iterable[CachedObject], now: str) -> Iterator[str]:
    """Yield the newest results of each namespace, up to a limit."""
    yield _RESULT.head()
    told: Tally[str] = Tally()
    for benchmark, suites in newest(benchmarks, now).items():
        room = _MOST_NUMBERS - told[benchmark.key.namespace]
        for line in islice(_numbers_of(benchmark, suites), room):
            told[benchmark.key.namespace] += 1
            yield f"{_RESULT.name}{line}"


def _numbers_of(benchmark: CachedObject, suites: Collection[str]) -> Iterator[str]:
    """Yield the labels and the value of each measured number in these suites."""
    status = benchmark.manifest()["status"]
    server = str(status.get("environment", {}).get("server", ""))
    own = labels({"benchmark": benchmark.key.name, "benchmark_namespace": benchmark.key.namespace})
    for result in status.get("results", ())[:MOST_SUITES]:
        if is_readable(SuiteResult, result) and result["name"] in suites:
            measured = labels({"server": server, "suite": result["name"]})
            yield from (f'{{{own},metric="{key}",{measured}}} {value}\n' for key, value in _numbers(result).items())


def newest(benchmarks: Iterable[CachedObject], now: str) -> dict[CachedObject, set[str]]:
    """Map each benchmark, the newest first, to the suites that no other benchmark has measured later.

    Only benchmarks of the same namespace and target are compared: users can write any result and time in their
    namespace.
    """
    complete = [(cached, cached.facts) for cached in benchmarks if isinstance(cached.facts, Measured)]
    complete.sort(key=lambda item: (-_age(item[1], now), item[0].key.namespace, item[0].key.name), reverse=True)
    seen: set[tuple[str, TargetKey, str]] = set()
    suites: dict[CachedObject, set[str]] = {}
    for cached, measured in complete:
        own = {(cached.key.namespace, measured.target, suite) for suite in measured.suites}
        if new := own - seen:
            suites[cached] = {suite for _, _, suite in new}
            seen |= new
    return suites


def _age(measured: Measured, now: str) -> float:
    """Return how many seconds ago a benchmark was done. Infinity if the time cannot be read or is in the future."""
    age = seconds_between(measured.time, now)
    return math.inf if age is None or age < 0 else age


def _numbers(result: Manifest) -> dict[str, float]:
    """Return the numbers of a suite.

    Only metrics of its client count, because a user can write any name into a status.
    """
    names = _NAMES.get(result.get("kind", ""), frozenset())
    return {name: float(value) for name, value in result.get("metrics", {}).items() if name in names}


_NAMES = {kind: frozenset(metric.name for metric in metrics) for kind, metrics in METRICS.items()}
