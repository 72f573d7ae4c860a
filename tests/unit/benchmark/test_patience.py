"""No benchmark waits for ever for a benchmark that has its turn but starts no suite."""

import asyncio
from typing import Any, cast

import pytest

from kimi_linear_operator.benchmark import patience, target
from kimi_linear_operator.benchmark.admission import Admission, Wait
from kimi_linear_operator.benchmark.job import name_of
from kimi_linear_operator.benchmark.patience import PATIENCE_SECONDS, Patience
from kimi_linear_operator.benchmark.spec import BENCHMARK, KimiLinearBenchmark
from kimi_linear_operator.cluster.client import Cluster
from kimi_linear_operator.kubernetes.kinds import JOB, Kind, Manifest
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.server.spec import SERVER
from make import make_benchmark, make_condition, make_result, make_server, owned, stored
from passes import Passes, has_read_all, new_cache

OUTSIDE, INSIDE = "http://kimi.example.com", "http://kimi.default.svc:30000"
EARLIER, LATER = Key("b", "earlier", BENCHMARK), Key("b", "later", BENCHMARK)


class World:
    """Two benchmarks of one address, and a clock. The earlier benchmark has run a suite."""

    def __init__(self, url: str, *, first: Key = EARLIER) -> None:
        self.cache, self.version, self.seconds, self.url = new_cache(), 1, 0.0, url
        self.admission = Admission(cast(Cluster, self), self.cache, has_read_all, lambda: self.seconds)
        self.put(SERVER, make_server())
        self.benchmark(first, {"startTime": "2026-11-24T08:00:00Z", "results": [make_result("speed-low")]})
        self.benchmark(LATER, {})

    async def summarize(self, kind: Kind, namespace: str, selector: str, summary: Any, add: Any) -> Any:
        return summary

    async def get(self, kind: Kind, namespace: str, name: str) -> None:
        return None

    async def apply_new(self, kind: Kind, manifest: Manifest) -> Manifest:
        return stored(manifest)

    def put(self, kind: Kind, manifest: Manifest) -> None:
        self.version += 1
        self.cache.put(kind, {**manifest, "metadata": {**manifest["metadata"], "resourceVersion": str(self.version)}})

    def benchmark(self, key: Key, status: Manifest) -> None:
        suites = [{"name": "speed-low"}, {"name": "gsm8k"}]
        manifest = make_benchmark(key.name, suites=suites, endpoint={"url": self.url})
        given = {"namespace": key.namespace, "uid": key.name, "creationTimestamp": "2026-11-24T07:00:00Z"}
        self.put(BENCHMARK, {**manifest, "metadata": {**manifest["metadata"], **given}, "status": status})

    def job(self, key: Key) -> None:
        """Let the second suite of a benchmark run."""
        metadata = {
            "name": name_of(key.name, key.name, "gsm8k"),
            "namespace": key.namespace,
            "uid": "job",
            "creationTimestamp": "2026-11-24T08:59:00Z",
            "ownerReferences": [{"uid": key.name}],
            "labels": {"kimi-linear.io/suite": "gsm8k"},
        }
        self.put(JOB, owned({"kind": "Job", "metadata": metadata, "spec": {}}, key.name, "KimiLinearBenchmark"))

    def wait(self, key: Key = LATER) -> Wait | None:
        benchmark = KimiLinearBenchmark.model_validate(self.cache.get(key.of(BENCHMARK)))
        return asyncio.run(self.admission.wait(key, target.of_endpoint(benchmark), "2026-11-24T09:00:00Z"))


def test_an_idle_benchmark_of_an_outside_address_lets_others_go_first_after_a_limit() -> None:
    world = World(OUTSIDE)
    found = world.wait()
    assert found
    assert "benchmark earlier goes first" in found.reason.message
    assert found.again == PATIENCE_SECONDS
    world.seconds = PATIENCE_SECONDS - 1
    assert world.wait()
    world.seconds = PATIENCE_SECONDS
    assert world.wait() is None
    # The benchmark gets its turn when it can start again.
    assert world.wait(EARLIER) is None


def test_others_wait_again_for_a_benchmark_that_started_again() -> None:
    world = World(OUTSIDE)
    world.wait()
    world.seconds = PATIENCE_SECONDS - 1
    world.job(EARLIER)
    running = world.wait()
    assert running
    assert running.again != 1
    world.cache.take(world.cache.reader.read(JOB, world.cache.children(JOB, EARLIER)[0], is_deleted=True))
    world.seconds += 2
    assert world.wait()
    ended = make_result("speed-low", completionTime="2026-11-24T08:58:00Z")
    world.seconds += PATIENCE_SECONDS - 1
    world.benchmark(EARLIER, {"startTime": "2026-11-24T08:00:00Z", "results": [ended]})
    assert world.wait()


@pytest.mark.parametrize(
    ("first", "is_limited"), [(Key("default", "own", BENCHMARK), False), (Key("a", "guest", BENCHMARK), True)]
)
def test_only_guests_of_a_server_have_a_limit(first: Key, is_limited: bool) -> None:
    world = World(INSIDE, first=first)
    assert world.wait()
    world.seconds = PATIENCE_SECONDS
    assert (world.wait() is None) == is_limited


@pytest.mark.parametrize("is_deleted", [True, False])
def test_the_waits_for_complete_and_deleted_benchmarks_are_forgotten(
    monkeypatch: pytest.MonkeyPatch, *, is_deleted: bool
) -> None:
    forgotten: list[Key] = []
    monkeypatch.setattr(Patience, "forget", lambda _, key: forgotten.append(key))
    world = World(OUTSIDE)
    if not is_deleted:
        world.benchmark(LATER, {"conditions": [make_condition("Complete", "True", "SuitesEnded", "")]})
    missing = Key("b", "missing", BENCHMARK)
    asyncio.run(Passes(world, world.cache).reconcile(missing if is_deleted else LATER))
    assert forgotten == [missing if is_deleted else LATER]


def of_tenant(number: int) -> Key:
    return Key("tenant", f"idle-{number}", BENCHMARK)


def test_no_wait_begins_again_because_a_tenant_has_very_many_idle_benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "_MOST_WAITED_FOR", 8)
    seconds = [0.0]
    waits = Patience(lambda: seconds[0])
    before = {key: waits.seconds_left(key, "") for key in (EARLIER, of_tenant(0))}
    assert before == {EARLIER: PATIENCE_SECONDS, of_tenant(0): PATIENCE_SECONDS}
    seconds[0] = PATIENCE_SECONDS - 1
    for number in range(1, 20):
        waits.seconds_left(of_tenant(number), "")
    assert waits.seconds_left(EARLIER, "") == 1
    assert waits.seconds_left(LATER, "") == PATIENCE_SECONDS
    assert waits.seconds_left(of_tenant(0), "") <= 1
    # There is room again for benchmarks of the tenant when some are complete or deleted.
    for number in range(20):
        waits.forget(of_tenant(number))
    assert waits.seconds_left(of_tenant(20), "") == PATIENCE_SECONDS
