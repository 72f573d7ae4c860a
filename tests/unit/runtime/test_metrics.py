"""The metrics about servers and benchmarks."""

import re
from typing import Any

import pytest

from kimi_linear_operator.benchmark import series
from kimi_linear_operator.benchmark.metric import METRICS
from kimi_linear_operator.benchmark.spec import BENCHMARK
from kimi_linear_operator.kubernetes.kinds import DEPLOYMENT, Manifest
from kimi_linear_operator.reconcile.cache import Cache
from kimi_linear_operator.resource_types import TYPES
from kimi_linear_operator.runtime.exposition import resource_lines
from kimi_linear_operator.server.spec import SERVER
from make import make_benchmark, make_condition, make_deployment, make_result, make_server
from passes import new_cache

NOW = "2026-11-24T12:00:00Z"


def lines(cache: Cache) -> list[str]:
    """Return the metrics of all objects in a store."""
    return [
        line.removesuffix("\n") for line in resource_lines(TYPES, cache.snapshot(), NOW) if not line.startswith("#")
    ]


def told(*servers: dict[str, str], reason: str = "CrashLooping") -> list[str]:
    """Return the metrics of servers with these conditions."""
    cache = new_cache()
    cache.put(DEPLOYMENT, make_deployment())
    for number, conditions in enumerate(servers):
        listed = [make_condition(kind, status, reason, "") for kind, status in conditions.items()]
        cache.put(SERVER, {**make_server(f"kimi-{number}"), "status": {"conditions": listed}})
    return lines(cache)


def test_servers_are_counted_by_condition_status_and_reason() -> None:
    ready, broken = {"Ready": "True"}, {"Ready": "False", "Stalled": "True"}
    assert told(ready, ready, broken) == [
        'kimi_linear_servers{condition="Ready",reason="CrashLooping",status="False"} 1.0',
        'kimi_linear_servers{condition="Ready",reason="CrashLooping",status="True"} 2.0',
        'kimi_linear_servers{condition="Stalled",reason="CrashLooping",status="True"} 1.0',
        'kimi_linear_server_ready{server="kimi-0",server_namespace="default"} 1.0',
        'kimi_linear_server_ready{server="kimi-1",server_namespace="default"} 1.0',
        'kimi_linear_server_ready{server="kimi-2",server_namespace="default"} 0.0',
    ]


def test_invented_conditions_and_reasons_get_no_lines_of_their_own() -> None:
    """Anybody who can write a status can write any condition into it."""
    cache = new_cache()
    for number in range(200):
        invented = [make_condition(f"C{number}-{item}", "True", "R", "") for item in range(30)]
        conditions = [make_condition("Complete", "True", f"R{number}", ""), *invented]
        cache.put(BENCHMARK, {**make_benchmark(f"b{number}"), "status": {"conditions": conditions}})
    assert lines(cache) == ['kimi_linear_benchmarks{condition="Complete",reason="other",status="True"} 200.0']


def test_a_server_without_wanted_replicas_is_not_counted_as_unready() -> None:
    suspended = told({"Ready": "False"}, reason="Suspended")
    assert suspended == ['kimi_linear_servers{condition="Ready",reason="Suspended",status="False"} 1.0']


def test_a_server_without_a_status_is_in_no_count() -> None:
    assert told({}) == []


def complete(name: str, time: str, namespace: str = "default", **spec: Any) -> Manifest:
    """Return a complete benchmark with one measured number: the hour at which it ended."""
    suites = spec.pop("measured", ("gsm8k",))
    status = {
        "conditions": [make_condition("Complete", "True", "SuitesEnded", "")],
        "environment": {"server": "kimi"},
        "completionTime": f"2026-11-24T{time}:00Z",
        "results": [make_result("gsm8k", {"accuracy": int(time[:2])}, name=suite) for suite in suites],
    }
    benchmark = make_benchmark(name, **spec)
    return {**benchmark, "metadata": {**benchmark["metadata"], "namespace": namespace}, "status": status}


def results(*benchmarks: Manifest) -> list[str]:
    """Return the numbers in the metrics, by benchmark and suite."""
    cache = new_cache()
    for benchmark in benchmarks:
        cache.put(BENCHMARK, benchmark)
    pattern = re.compile(r'kimi_linear_benchmark_result{benchmark="(.*?)".*suite="(.*?)"} (.*)')
    found = map(pattern.fullmatch, lines(cache))
    return sorted(" ".join(match.groups()) for match in found if match)


def test_results_of_a_benchmark_have_the_clients_own_metric_names() -> None:
    cache = new_cache()
    cache.put(BENCHMARK, complete("nightly", "10:00"))
    assert lines(cache) == [
        'kimi_linear_benchmarks{condition="Complete",reason="SuitesEnded",status="True"} 1.0',
        'kimi_linear_benchmark_result{benchmark="nightly",benchmark_namespace="default",metric="accuracy",'
        'server="kimi",suite="gsm8k"} 10.0',
    ]


def test_only_the_newest_result_of_a_server_and_suite_is_reported() -> None:
    old, new = complete("old", "09:00"), complete("new", "10:00")
    assert results(old, new) == results(new, old) == ["new gsm8k 10.0"]
    more = complete("more", "08:00", measured=("gsm8k", "again"))
    assert results(old, new, more) == ["more again 8.0", "new gsm8k 10.0"]
    # A server with the same name in another namespace is a different server. The address of a server means this server.
    other = complete("other", "08:00", namespace="elsewhere")
    assert results(old, new, other) == ["new gsm8k 10.0", "other gsm8k 8.0"]
    near = complete("near", "11:00", endpoint={"url": "http://kimi.default.svc:30000"})
    assert results(old, new, near) == ["near gsm8k 11.0"]


def test_a_result_replaces_no_result_of_another_namespace() -> None:
    own = complete("nightly", "10:00")
    far = complete("far", "11:00", namespace="elsewhere", endpoint={"url": "http://kimi.default.svc:30000"})
    assert results(own, far) == ["far gsm8k 11.0", "nightly gsm8k 10.0"]


def test_a_future_or_unreadable_time_is_not_the_newest() -> None:
    own = complete("nightly", "10:00")
    for time in ("9999-12-31T00:00:00Z", "2026-11-24T12:00:01Z", "z"):
        forged = complete("a", "11:00")
        forged["status"]["completionTime"] = time
        assert results(own, forged) == ["nightly gsm8k 10.0"]
    # Times are compared correctly with any offset.
    late = complete("late", "11:00")
    late["status"]["completionTime"] = "2026-11-24T09:30:00-01:00"
    assert results(own, late) == ["late gsm8k 11.0"]


def test_an_incomplete_benchmark_reports_no_result() -> None:
    running = complete("nightly", "10:00")
    running["status"]["conditions"] = []
    assert results(running) == []


def test_no_status_can_add_series_or_break_a_line() -> None:
    odd = complete("odd", "10:00", measured=[f"suite-{number}" for number in range(16)])
    odd["status"]["results"][0]["metrics"] = {f"metric_{number}": 1 for number in range(30)}
    odd["status"]["environment"]["server"] = 'a"\n\\b'
    cache = new_cache()
    cache.put(BENCHMARK, odd)
    told = [line for line in lines(cache) if line.startswith("kimi_linear_benchmark_result")]
    assert len(told) == 15
    assert 'server="a\\"\\n\\\\b"' in told[0]


# Bytes of all metrics of one benchmark: 16 suites with 43 numbers.
MOST_BYTES = 1_000_000


def largest(name: str, time: str, namespace: str = "default", **spec: Any) -> Manifest:
    """Return a benchmark with all suites and all numbers."""
    suites = [f"s{number}" for number in range(16)]
    benchmark = complete(name, time, namespace, suites=[{"name": suite, "speed": {}} for suite in suites], **spec)
    numbers = {metric.name: 1.5 for metric in METRICS["speed"]}
    benchmark["status"]["results"] = [make_result("speed-low", numbers, name=suite) for suite in suites]
    return benchmark


def test_a_long_text_in_a_status_is_not_repeated_for_each_number() -> None:
    odd = largest("odd", "10:00")
    odd["status"]["environment"]["server"] = "x" * 900_000
    cache = new_cache()
    cache.put(BENCHMARK, odd)
    told = lines(cache)
    assert len(told) > 600
    assert sum(map(len, told)) < MOST_BYTES


def test_only_the_newest_results_of_a_full_namespace_are_reported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(series, "_MOST_NUMBERS", 2)
    benchmarks = [
        complete(name, f"{hour:02}:00", endpoint={"url": f"http://{name}.a.example:1"})
        for hour, name in enumerate(("oldest", "newer", "newest"), start=1)
    ]
    other = complete("other", "00:30", namespace="elsewhere")
    assert results(*benchmarks, other) == ["newer gsm8k 2.0", "newest gsm8k 3.0", "other gsm8k 0.0"]
