"""Changes enqueue the right benchmarks: benchmarks of a changed server, and benchmarks that wait for each other."""

from typing import Any

import pytest

from kimi_linear_operator.benchmark.address import TargetKey, target_of
from kimi_linear_operator.benchmark.index import BenchmarkIndex
from kimi_linear_operator.benchmark.spec import BENCHMARK
from kimi_linear_operator.kubernetes.kinds import JOB, POD, Kind, Manifest
from kimi_linear_operator.reconcile.cache import Cache
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.reconcile.listing import Listing
from kimi_linear_operator.server.spec import SERVER
from make import make_benchmark, make_condition, make_pod, make_server, owned
from passes import READER, new_cache

KIMI = Key("default", "kimi", SERVER)
FIRST, SECOND, ELSEWHERE = (Key("default", name, BENCHMARK) for name in ("first", "second", "elsewhere"))
KIMI_TARGET = TargetKey("default", "kimi")


def filled() -> Cache:
    """Return a store with two benchmarks of the server kimi and one of an endpoint."""
    cache = new_cache()
    for benchmark in (
        make_benchmark("first"),
        make_benchmark("second"),
        make_benchmark("elsewhere", endpoint={"url": "http://far:1"}),
    ):
        cache.put(BENCHMARK, benchmark)
    return cache


def newer(manifest: Manifest, version: int = 2) -> Manifest:
    return {**manifest, "metadata": {**manifest["metadata"], "resourceVersion": str(version)}}


def make_job(benchmark: str, version: int = 1) -> Manifest:
    metadata = {"name": f"{benchmark}-gsm8k", "resourceVersion": str(version)}
    return owned({"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata}, benchmark, "KimiLinearBenchmark")


def test_a_server_and_a_benchmark_with_the_same_name_have_different_keys() -> None:
    cache = new_cache()
    assert cache.put(SERVER, make_server("kimi")) == {KIMI}
    assert cache.put(BENCHMARK, make_benchmark("kimi")) == {Key("default", "kimi", BENCHMARK)}
    assert cache.resources() == [KIMI, Key("default", "kimi", BENCHMARK)]


def test_a_change_of_a_server_enqueues_the_benchmarks_that_measure_it() -> None:
    assert filled().put(SERVER, make_server()) == {KIMI, FIRST, SECOND}


READY = [make_condition("Ready", "True", "AllReplicasServe", "1 of 1 replicas serve")]
LATER = [make_condition("Ready", "True", "AllReplicasServe", "2 of 2 replicas serve")]
UNREADY = [make_condition("Ready", "False", "CrashLooping", "exit code 1")]


@pytest.mark.parametrize(
    ("change", "is_news"),
    [
        ({"status": {"conditions": LATER, "readyReplicas": 2, "startup": {"phase": "compiling"}}}, False),
        ({"status": {"conditions": READY}, "metadata": {"labels": {"team": "search"}}}, False),
        ({"status": {"conditions": [{**READY[0], "observedGeneration": 1}]}}, True),
        ({"status": {"conditions": UNREADY}}, True),
        ({"status": {"conditions": READY}, "metadata": {"generation": 2}}, True),
        ({"status": {"conditions": READY}, "metadata": {"uid": "another"}}, True),
        ({"status": {"conditions": READY, "image": "sglang:2"}}, True),
    ],
    ids=["progress", "a label", "seen", "unready", "another spec", "another server", "another image"],
)
def test_a_server_enqueues_benchmarks_only_if_a_part_that_they_read_changes(change: Manifest, is_news: bool) -> None:
    cache = filled()
    cache.put(SERVER, {**make_server(), "status": {"conditions": READY}})
    changed = newer(
        {**make_server(), **change, "metadata": {**make_server()["metadata"], **change.get("metadata", {})}}
    )
    assert cache.put(SERVER, changed) == ({KIMI, FIRST, SECOND} if is_news else {KIMI})


def test_a_pod_of_a_server_enqueues_only_the_server() -> None:
    assert filled().put(POD, make_pod()) == {KIMI}


def test_a_change_of_a_benchmark_enqueues_the_benchmarks_that_wait_for_it() -> None:
    cache = filled()
    assert cache.put(BENCHMARK, newer(make_benchmark("first"))) == {FIRST, SECOND}
    assert cache.put(BENCHMARK, newer(make_benchmark("elsewhere", endpoint={"url": "http://far:1"}))) == {ELSEWHERE}


@pytest.mark.parametrize(("kind", "gone"), [(JOB, make_job("first")), (BENCHMARK, make_benchmark("first"))])
def test_the_end_of_a_job_or_a_benchmark_enqueues_the_benchmarks_that_wait_for_it(kind: Kind, gone: Manifest) -> None:
    cache = filled()
    cache.put(JOB, make_job("first"))
    assert cache.take(READER.read(kind, newer(gone, 3), is_deleted=True)) == {FIRST, SECOND}


def test_a_benchmark_with_a_new_target_is_no_longer_enqueued_for_the_old_one() -> None:
    cache = filled()
    moved = newer(make_benchmark("second", serverRef={"name": "other"}))
    assert cache.put(BENCHMARK, moved) == {SECOND, FIRST}
    assert sorted(cache.index(BenchmarkIndex).claims(KIMI_TARGET)) == [FIRST]
    assert cache.put(SERVER, make_server()) == {KIMI, FIRST}


def test_a_finished_benchmark_makes_room_and_is_no_longer_enqueued() -> None:
    cache = filled()
    done = {"conditions": [make_condition("Complete", "True", "SuitesEnded", "all 4 suites have ended")]}
    assert cache.put(BENCHMARK, newer(make_benchmark("first")) | {"status": done}) == {FIRST, SECOND}
    assert sorted(cache.index(BenchmarkIndex).claims(KIMI_TARGET)) == [SECOND]
    assert cache.put(SERVER, make_server()) == {KIMI, SECOND}


def test_a_benchmark_that_a_list_no_longer_shows_is_forgotten() -> None:
    cache = filled()
    listing = Listing(cache, BENCHMARK)
    listing.take([make_benchmark("first")], 9)
    assert listing.end() >= {SECOND, ELSEWHERE}
    assert sorted(cache.index(BenchmarkIndex).claims(KIMI_TARGET)) == [FIRST]
    assert sorted(cache.index(BenchmarkIndex).claims(TargetKey("default", "far"))) == []


@pytest.mark.parametrize(
    "spec", [None, [], {}, {"serverRef": "kimi"}, {"serverRef": {}, "endpoint": {"url": 1}}], ids=str
)
def test_an_unreadable_benchmark_has_no_target(spec: Any) -> None:
    assert target_of(make_benchmark() | {"spec": spec}) is None
