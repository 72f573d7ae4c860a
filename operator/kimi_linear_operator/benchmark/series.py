"""Metrics about benchmarks."""

import math
from collections.abc import Iterable, Iterator, Sequence

from kimi_linear_operator.benchmark.address import TargetKey
from kimi_linear_operator.benchmark.claims import MOST_SUITES, Measured
from kimi_linear_operator.benchmark.metric import METRICS
from kimi_linear_operator.benchmark.spec import BENCHMARK
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.times import seconds_between
from kimi_linear_operator.reconcile.cached_object import CachedObject
from kimi_linear_operator.reconcile.series import by_condition, head, labels


def series(objects: Sequence[CachedObject], now: str) -> Iterator[str]:
    """Yield the lines about benchmarks: how many are in which condition, and what was measured.

    Args:
        objects: Everything that is cached.
        now: The time as RFC 3339.
    """
    benchmarks = [found for found in objects if found.key.kind == BENCHMARK]
    yield from by_condition("kimi_linear_benchmarks", "Benchmarks by condition", benchmarks)
    yield from _results(benchmarks, now)


def _results(benchmarks: Iterable[CachedObject], now: str) -> Iterator[str]:
    name = "kimi_linear_benchmark_result"
    told = "What the newest complete benchmark of a namespace measured of a server, by suite and the client's own names"
    yield head(name, told)
    for found, suites in newest(benchmarks, now).items():
        status = found.manifest()["status"]
        server = str(status.get("environment", {}).get("server", ""))
        own = labels({"benchmark": found.key.name, "benchmark_namespace": found.key.namespace})
        for result in status.get("results", ())[:MOST_SUITES]:
            if result["name"] in suites:
                of = labels({"server": server, "suite": result["name"]})
                yield from (f'{name}{{{own},metric="{key}",{of}}} {value}\n' for key, value in _numbers(result))


def newest(benchmarks: Iterable[CachedObject], now: str) -> dict[CachedObject, set[str]]:
    """Return the complete benchmarks that were the last of their namespace to measure a suite of a server, with these.

    Anybody who may edit a namespace can write any result and time there. So each namespace has its own newest ones.
    """
    done = [(found, found.facts) for found in benchmarks if isinstance(found.facts, Measured)]
    latest: dict[tuple[str, TargetKey, str], CachedObject] = {}
    for found, measured in sorted(
        done, key=lambda item: (-_age(item[1], now), item[0].key.namespace, item[0].key.name)
    ):
        latest |= {(found.key.namespace, measured.target, suite): found for suite in measured.suites}
    suites: dict[CachedObject, set[str]] = {}
    for (_, _, suite), found in latest.items():
        suites.setdefault(found, set()).add(suite)
    return suites


def _age(measured: Measured, now: str) -> float:
    """Return how many seconds ago a benchmark was done; what is yet to come is older than all that is past."""
    age = seconds_between(measured.time, now)
    return math.inf if age is None or age < 0 else age


def _numbers(result: Manifest) -> Iterator[tuple[str, float]]:
    """Yield what the client of a suite can have measured: others may write a status, and each name is a series."""
    names = _NAMES.get(result.get("kind", ""), frozenset())
    return ((name, float(value)) for name, value in result.get("metrics", {}).items() if name in names)


_NAMES = {kind: frozenset(metric.name for metric in known) for kind, known in METRICS.items()}
