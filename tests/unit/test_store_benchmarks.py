"""Who is told of what: benchmarks of a server that changes, and benchmarks that wait for each other."""

from typing import Any

import pytest

from kimi_linear_operator.api import Manifest
from kimi_linear_operator.benchmark.address import TargetKey, target_of
from kimi_linear_operator.resources import BENCHMARK, JOB, POD, SERVER, Kind
from kimi_linear_operator.store import Key, Sight, Store
from make import make_benchmark, make_condition, make_pod, make_server, owned

KIMI = Key("default", "kimi")
FIRST, SECOND, ELSEWHERE = (Key("default", name, BENCHMARK) for name in ("first", "second", "elsewhere"))
KIMI_TARGET = TargetKey("default", "kimi")


def filled() -> Store:
    """Return a store with two benchmarks of the server kimi and one of an endpoint."""
    store = Store()
    for benchmark in (
        make_benchmark("first"),
        make_benchmark("second"),
        make_benchmark("elsewhere", endpoint={"url": "http://far:1"}),
    ):
        store.put(BENCHMARK, benchmark)
    return store


def newer(manifest: Manifest, version: int = 2) -> Manifest:
    return {**manifest, "metadata": {**manifest["metadata"], "resourceVersion": str(version)}}


def make_job(benchmark: str, version: int = 1) -> Manifest:
    metadata = {"name": f"{benchmark}-gsm8k", "resourceVersion": str(version)}
    return owned({"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata}, benchmark, "KimiLinearBenchmark")


def test_a_server_and_a_benchmark_of_one_name_are_two() -> None:
    store = Store()
    assert store.put(SERVER, make_server("kimi")) == {KIMI}
    assert store.put(BENCHMARK, make_benchmark("kimi")) == {Key("default", "kimi", BENCHMARK)}
    assert store.resources() == [KIMI, Key("default", "kimi", BENCHMARK)]


def test_a_change_of_a_server_concerns_those_who_measure_it() -> None:
    assert filled().put(SERVER, make_server()) == {KIMI, FIRST, SECOND}


def test_a_pod_of_a_server_concerns_the_server_alone() -> None:
    assert filled().put(POD, make_pod()) == {KIMI}


def test_a_change_of_a_benchmark_concerns_those_who_wait_for_it() -> None:
    store = filled()
    assert store.put(BENCHMARK, newer(make_benchmark("first"))) == {FIRST, SECOND}
    assert store.put(BENCHMARK, newer(make_benchmark("elsewhere", endpoint={"url": "http://far:1"}))) == {ELSEWHERE}


@pytest.mark.parametrize(("kind", "gone"), [(JOB, make_job("first")), (BENCHMARK, make_benchmark("first"))])
def test_the_end_of_a_job_or_a_benchmark_concerns_those_who_wait_for_it(kind: Kind, gone: Manifest) -> None:
    store = filled()
    store.put(JOB, make_job("first"))
    assert store.take(Sight.of(kind, newer(gone, 3), is_deleted=True)) == {FIRST, SECOND}


def test_a_benchmark_that_measures_something_else_now_is_told_of_the_old_no_more() -> None:
    store = filled()
    moved = newer(make_benchmark("second", serverRef={"name": "other"}))
    assert store.put(BENCHMARK, moved) == {SECOND, FIRST}
    assert sorted(store.claims(KIMI_TARGET)) == [FIRST]
    assert store.put(SERVER, make_server()) == {KIMI, FIRST}


def test_a_benchmark_that_is_done_makes_room_and_is_told_no_more() -> None:
    store = filled()
    done = {"conditions": [make_condition("Complete", "True", "SuitesEnded", "all 4 suites have ended")]}
    assert store.put(BENCHMARK, newer(make_benchmark("first")) | {"status": done}) == {FIRST, SECOND}
    assert sorted(store.claims(KIMI_TARGET)) == [SECOND]
    assert store.put(SERVER, make_server()) == {KIMI, SECOND}


def test_a_benchmark_that_a_list_no_longer_shows_is_forgotten() -> None:
    store = filled()
    listing = store.begin_list(BENCHMARK)
    listing.take([make_benchmark("first")], 9)
    assert listing.end() >= {SECOND, ELSEWHERE}
    assert sorted(store.claims(KIMI_TARGET)) == [FIRST]
    assert sorted(store.claims(TargetKey("default", "far"))) == []


@pytest.mark.parametrize(
    "spec", [None, [], {}, {"serverRef": "kimi"}, {"serverRef": {}, "endpoint": {"url": 1}}], ids=str
)
def test_what_cannot_be_read_measures_nothing(spec: Any) -> None:
    assert target_of(make_benchmark() | {"spec": spec}) is None
