"""A pass stays short although users can create many benchmarks of one target and many Jobs of one benchmark."""

import asyncio
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, cast

import pytest

from kimi_linear_operator.benchmark import holding, job, target, turn
from kimi_linear_operator.benchmark.address import TargetKey
from kimi_linear_operator.benchmark.admission import Admission, Wait
from kimi_linear_operator.benchmark.claims import Claim
from kimi_linear_operator.benchmark.holding import Asker
from kimi_linear_operator.benchmark.labels import SUITE_LABEL, TARGET_LABEL
from kimi_linear_operator.benchmark.line import FEW_RIVALS
from kimi_linear_operator.benchmark.patience import PATIENCE_SECONDS
from kimi_linear_operator.benchmark.resource_type import BENCHMARK_TYPE
from kimi_linear_operator.benchmark.spec import BENCHMARK, KimiLinearBenchmark
from kimi_linear_operator.cluster.client import Cluster
from kimi_linear_operator.kubernetes.kinds import JOB, Kind, Manifest
from kimi_linear_operator.kubernetes.times import soonest
from kimi_linear_operator.reconcile.cached_object import CachedObject, Key
from kimi_linear_operator.server.spec import SERVER
from make import make_benchmark, make_condition, make_result, make_server, owned, stored
from passes import READER, Passes, has_read_all, index_of, new_cache
from processor_time import measured

NOW = "2026-11-24T09:00:00Z"
ADDRESS = {"url": "http://kimi.default.svc:30000"}
KIMI = TargetKey("default", "kimi")
# The maximum weight of a spec, in a field that passes do not read.
HEAVY: dict[str, Any] = {"podTemplate": {"spec": {"x": [[]] * 4600}}}
# Each of these costs less than 1. An older version, which decoded all rivals, cost more than 600.
MOST_COST = 10
DONE = {"conditions": [make_condition("Complete", "True", "SuitesEnded", "")]}
SUITES = ["a", "b", "c"]
# Times at which benchmarks gave their turn back. The pause of the first benchmark is over, the pause of the second is
# not.
RESTED = ["2026-11-24T08:10:00Z", "2026-11-24T08:58:00Z"]


def key_of(name: str, namespace: str = "default") -> Key:
    return Key(namespace, name, BENCHMARK)


class World:
    """A store, and a cluster with the same objects."""

    def __init__(self) -> None:
        self.cache, self.version = new_cache(), 0
        self.put(SERVER, make_server())

    def put(self, kind: Kind, manifest: Manifest) -> set[Key]:
        self.version += 1
        metadata = {**manifest["metadata"], "resourceVersion": str(self.version)}
        return self.cache.put(kind, stored({**manifest, "metadata": metadata}))

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        return self.cache.get(Key(namespace, name, kind))

    def benchmark(self, key: Key, status: Manifest | None = None, created: str = NOW, **spec: Any) -> set[Key]:
        manifest = make_benchmark(key.name, endpoint=ADDRESS, suites=[{"name": name} for name in SUITES], **spec)
        given = {"namespace": key.namespace, "uid": f"{key.namespace}-{key.name}", "creationTimestamp": created}
        return self.put(BENCHMARK, {**manifest, "metadata": manifest["metadata"] | given, "status": status or {}})

    def job(self, key: Key, suite: str = "a", name: str = "", status: Manifest | None = None) -> Manifest:
        """Return the Job of a suite, or a Job that somebody has created by hand."""
        uid = f"{key.namespace}-{key.name}"
        name = name or job.name_of(uid, key.name, suite)
        metadata = {
            "name": name,
            "namespace": key.namespace,
            "uid": f"{key.namespace}-{name}",
            "creationTimestamp": NOW,
            "labels": {SUITE_LABEL: suite, TARGET_LABEL: "kimi.default"},
            "ownerReferences": [{"uid": uid}],
        }
        made = {"kind": "Job", "metadata": metadata, "spec": {"suspend": True}, "status": status or {}}
        return owned(made, key.name, "KimiLinearBenchmark")

    def remove(self, kind: Kind, key: Key) -> set[Key]:
        gone = self.cache.get(key.of(kind))
        assert gone
        self.version += 1
        gone = {**gone, "metadata": {**gone["metadata"], "resourceVersion": str(self.version)}}
        return self.cache.take(READER.read(kind, gone, is_deleted=True))

    async def summarize(self, kind: Kind, namespace: str, selector: str, summary: Any, add: Any) -> Any:
        """No clients of other benchmarks run."""
        return summary

    async def patch_status(self, kind: Kind, manifest: Manifest, status: Manifest, **_: bool) -> Manifest:
        self.version += 1
        return {**manifest["metadata"], "resourceVersion": str(self.version)}

    async def create(self, kind: Kind, manifest: Manifest) -> Manifest:
        return manifest

    def wait(self, key: Key) -> Wait | None:
        targets = Admission(cast(Cluster, self), self.cache, has_read_all)
        aim = target.of_endpoint(KimiLinearBenchmark.model_validate(self.cache.get(key.of(BENCHMARK))))
        return asyncio.run(targets.wait(key, aim, NOW))


@contextmanager
def little_time(most_cost: float = MOST_COST) -> Iterator[None]:
    with measured() as done:
        yield
    assert done.cost < most_cost


@contextmanager
def few_decoded(monkeypatch: pytest.MonkeyPatch, most: int) -> Iterator[None]:
    """Count the objects that are decoded completely."""
    decoded, decode = list[CachedObject](), CachedObject.manifest

    def counted(self: CachedObject) -> Manifest:
        decoded.append(self)
        return decode(self)

    monkeypatch.setattr(CachedObject, "manifest", counted)
    yield
    assert len(decoded) <= most


def with_rivals(count: int, **spec: Any) -> World:
    """Return a world with this many benchmarks of another namespace, and `mine` of the server's namespace."""
    world = World()
    world.benchmark(key_of("mine"))
    world.benchmark(key_of("r0", "elsewhere"), **spec)
    seen = READER.read(BENCHMARK, cast(Manifest, world.cache.get(key_of("r0", "elsewhere").of(BENCHMARK))))
    assert isinstance(seen.facts, Claim)
    for number in range(1, count):
        key = key_of(f"r{number}", "elsewhere")
        contender = replace(seen.facts.contender, name=key.name)
        claim = replace(seen.facts, contender=contender, rank=turn.rank(contender))
        world.cache.take(replace(seen, key=key, owner=key, facts=claim, version=world.version))
    return world


@pytest.mark.parametrize("spec", [{}, HEAVY], ids=["small", "heavy"])
def test_a_pass_stays_short_with_thousands_of_benchmarks_of_one_server(
    spec: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = with_rivals(3000, **spec)
    admission = Admission(cast(Cluster, world), world.cache, has_read_all)
    with few_decoded(monkeypatch, 6), little_time():
        assert world.wait(key_of("mine")) is None
        assert not admission.has_rivals(key_of("mine"))
        assert admission.has_rivals(key_of("r0", "elsewhere"))
    with few_decoded(monkeypatch, 6), little_time():
        assert hindered(world, key_of("r0", "elsewhere"))[0].startswith(
            "benchmark mine of namespace default goes first"
        )
        assert hindered(world, key_of("r7", "elsewhere"))[0].startswith(f"{FEW_RIVALS} or more")


@pytest.mark.parametrize("asker", ["default", "elsewhere", ""], ids=["its own", "another", "nobody's"])
@pytest.mark.parametrize("spec", [{}, HEAVY], ids=["small", "heavy"])
def test_a_search_for_holding_jobs_stays_short_with_thousands_of_jobs(
    asker: str, spec: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    world, key = World(), key_of("a")
    world.benchmark(key, suspend=False, **spec)
    for number in range(2000):
        # The first half of the Jobs has ended. So a search reads all of these before it finds a Job that has not ended.
        status = DONE if number < 1000 else {}
        world.put(JOB, world.job(key, name=f"made-{number:04}", status=status))
    with few_decoded(monkeypatch, 0), little_time():
        assert (holding.hold_seconds(index_of(world.cache), key, Asker(NOW, asker)) > 0) == (asker == "default")
        assert not holding.is_measured(index_of(world.cache), Key("default", "kimi", SERVER), NOW)
    world.put(JOB, world.job(key))
    with few_decoded(monkeypatch, 0), little_time():
        assert holding.is_measured(index_of(world.cache), Key("default", "kimi", SERVER), NOW)


def test_thousands_of_benchmarks_with_jobs_enqueue_little_and_take_little_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Users can create a Job for each of them, with any name or with the name that the operator uses."""
    world, keys = World(), [key_of(f"b{number:04}", "elsewhere") for number in range(3000)]
    for number, key in enumerate(keys):
        world.put(JOB, world.job(key, name="" if number % 2 else f"made-{number:04}"))
        world.benchmark(key, created=f"2026-11-24T{number // 3600:02}:{number // 60 % 60:02}:{number % 60:02}Z")
    with few_decoded(monkeypatch, 0), little_time():
        far = [number for number in (*range(2 * FEW_RIVALS), 1500, 2999) if index_of(world.cache).is_far(keys[number])]
        assert far == [*range(FEW_RIVALS, 2 * FEW_RIVALS), 1500, 2999]
    with little_time():
        told = world.benchmark(keys[2000], created="2026-11-24T00:33:20Z", timeoutSeconds=1000)
        assert told == {keys[2000]}
        assert world.put(JOB, world.job(keys[2001], "b")) == {keys[2001]}
        assert world.remove(BENCHMARK, keys[2002]) == {keys[2002]}
        near = {*keys[: FEW_RIVALS + 2]}
        assert world.put(JOB, world.job(keys[2003], status=DONE)) == near - {keys[FEW_RIVALS + 1]} | {keys[2003]}
        assert world.benchmark(keys[0], DONE, created="2026-11-24T00:00:00Z") == near


def test_a_benchmark_whose_suite_runs_is_never_far() -> None:
    world, keys = numbered(MANY)
    world.put(JOB, world.job(keys[-1], status=DONE))
    assert index_of(world.cache).is_far(keys[-1]), "the suite of that Job has ended"
    world.put(JOB, world.job(keys[-1], "b"))
    assert not index_of(world.cache).is_far(keys[-1])
    assert keys[-1] in world.benchmark(keys[0], DONE)


def test_thousands_of_jobs_that_only_the_api_server_shows_take_a_pass_little_time() -> None:
    world, key = World(), key_of("a", "elsewhere")
    world.benchmark(key, **HEAVY)
    found = [world.job(key, name=f"made-{number:04}") for number in range(2000)]
    real = world.job(key)
    with little_time():
        held = holding.holding_jobs([*found, real], index_of(world.cache).claims(KIMI).values(), Asker(NOW, "default"))
    assert held == [real]


def test_a_pass_over_a_benchmark_with_thousands_of_jobs_takes_little_time(monkeypatch: pytest.MonkeyPatch) -> None:
    world, key = World(), key_of("a")
    world.benchmark(key, suspend=True)
    for number in range(2000):
        world.put(JOB, world.job(key, name=f"made-{number:04}"))
    reconciler = Passes(world, world.cache, now=lambda: NOW)
    with few_decoded(monkeypatch, (BENCHMARK_TYPE.most_children or 0) + 10):
        asyncio.run(reconciler.reconcile(key))


def test_the_first_of_several_jobs_of_one_suite_counts() -> None:
    world, key = World(), key_of("a")
    world.benchmark(key)
    for name in ("second", "first"):
        world.put(JOB, world.job(key, "b", name))
    found = index_of(world.cache).job_of(key, "default-a", "b")
    assert found
    assert found["metadata"]["name"] == "first"
    assert index_of(world.cache).job_of(key, "default-a", "a") is None
    assert index_of(world.cache).job_of(key, "of-another", "b") is None


def numbered(count: int) -> tuple[World, list[Key]]:
    """Return a world of benchmarks of one server, the oldest one first."""
    world, keys = World(), [key_of(f"b{number:03}") for number in range(count)]
    for number, key in enumerate(keys):
        world.benchmark(key, created=f"2026-11-24T08:{number:02}:00Z")
    return world, keys


MANY = FEW_RIVALS + 12


def test_only_one_of_many_waiting_benchmarks_is_enqueued_after_a_status_write() -> None:
    world, keys = numbered(MANY)
    waits = {"conditions": [make_condition("TargetReady", "False", "WaitingForTurn", "")]}
    assert world.benchmark(keys[5], waits, created="2026-11-24T08:05:00Z") == {keys[5]}
    assert world.benchmark(keys[0], waits, created="2026-11-24T08:00:00Z") == {keys[0]}


def test_a_change_of_a_far_benchmark_enqueues_no_other() -> None:
    world, keys = numbered(MANY)
    assert world.benchmark(key_of("new")) == {key_of("new")}
    assert world.benchmark(key_of("new"), suspend=True) == {key_of("new")}
    assert world.remove(BENCHMARK, keys[9]) == {keys[9]}


def test_the_end_of_the_first_benchmark_enqueues_the_next_ones() -> None:
    world, keys = numbered(MANY)
    world.benchmark(keys[3], created="2026-11-24T08:03:00Z", suspend=True)
    near = {*keys[1 : FEW_RIVALS + 3]} - {keys[3]}
    assert world.benchmark(keys[0], DONE) == {keys[0], *near}
    assert world.remove(BENCHMARK, keys[1]) == {*near, keys[FEW_RIVALS + 3]}


def test_the_status_names_a_rival_only_when_few_benchmarks_go_first() -> None:
    world, keys = numbered(FEW_RIVALS + 1)
    told = f"{FEW_RIVALS} or more benchmarks go first on {ADDRESS['url']}: this benchmark waits until they are done"
    assert hindered(world, keys[-1]) == (told, None)
    assert hindered(world, keys[-2])[0].startswith("benchmark b000 goes first")
    assert keys[-1] in world.benchmark(keys[0], DONE)
    assert hindered(world, keys[-1])[0].startswith("benchmark b001 goes first")
    for key in keys[1:-1]:
        assert keys[-1] in world.benchmark(key, DONE)
    assert world.wait(keys[-1]) is None


def hindered(world: World, key: Key) -> tuple[str, float | None]:
    found = world.wait(key)
    assert found
    return found.reason.message, found.again


def test_the_first_job_of_a_benchmark_and_its_end_enqueue_many_rivals() -> None:
    world, keys = numbered(MANY)
    made = world.job(keys[7])
    near = {*keys[: FEW_RIVALS + 1]}
    assert world.put(JOB, made) == near
    assert world.put(JOB, {**made, "status": {"active": 1}}) == {keys[7]}
    assert world.put(JOB, world.job(keys[7], name="made-by-hand")) == {keys[7]}
    assert world.put(JOB, {**made, "status": DONE}) == near


def test_a_change_of_a_server_enqueues_no_benchmark_of_another_namespace() -> None:
    world = World()
    world.benchmark(key_of("mine"))
    world.benchmark(key_of("theirs", "elsewhere"))
    changed = make_server()
    changed["metadata"]["generation"] = 2
    assert world.put(SERVER, changed) == {Key("default", "kimi", SERVER), key_of("mine")}


def test_a_change_of_a_server_with_many_benchmarks_enqueues_only_those_whose_turn_is_next() -> None:
    world = World()
    for number in range(60):
        world.benchmark(key_of(f"b{number:02}"), created=f"2026-11-24T08:{number:02}:00Z")
        world.benchmark(key_of(f"suspended-{number}"), suspend=True)
    changed = make_server()
    changed["metadata"]["generation"] = 2
    enqueued = world.put(SERVER, changed) - {Key("default", "kimi", SERVER)}
    assert enqueued == {key_of(f"b{number:02}") for number in range(FEW_RIVALS + 1)}


@pytest.mark.parametrize("seed", range(10))
def test_a_benchmark_is_enqueued_when_its_turn_comes_or_another_goes_first(seed: int) -> None:
    """After any change, benchmarks that were not enqueued still wait for the same benchmark."""
    world, chance = World(), random.Random(seed)  # noqa: S311 - which changes a test makes is no secret
    keys = [key_of(f"b{number}", space) for number in range(10) for space in ("default", "x")]
    for key in keys:
        world.benchmark(key, created=f"2026-11-24T08:{chance.randrange(60):02}:00Z")
    for _ in range(150):
        before = firsts(world)
        told = happen(world, chance, chance.choice(keys))
        after = firsts(world)
        changed = {key for key in before.keys() & after.keys() if before[key] != after[key]}
        assert changed <= told


def firsts(world: World) -> dict[Key, object]:
    """Return for each waiting benchmark which benchmark goes first, or that many go first."""
    targets, index = Admission(cast(Cluster, world), world.cache, has_read_all), index_of(world.cache)
    willing = {key for key, claim in index.claims(KIMI).items() if claim.is_willing}
    found = {
        key: turn.first(targets._contenders(index.line(key).claims, Asker(NOW, key.namespace)), index.line(key).turns)
        for key in willing
    }
    named = {key: (first.namespace, first.name) if first else None for key, first in found.items()}
    far = {key for key in willing if index.is_far(key)}
    assert not {(key.namespace, key.name) for key in far} & {*named.values()}, "no benchmark waits for a far benchmark"
    return {key: "many" if key in far else named[key] for key in willing}


def happen(world: World, chance: random.Random, key: Key) -> set[Key]:
    """Change a benchmark, one of its Jobs, or the server; return the keys that are enqueued."""
    if chance.random() < 0.1:
        address = Key("default", "kimi", SERVER)
        return world.remove(SERVER, address) if world.cache.get(address) else world.put(SERVER, make_server())
    suite = chance.choice(SUITES)
    made = world.job(key, suite, status=DONE if chance.random() < 0.5 else {})
    address = Key(key.namespace, made["metadata"]["name"], SERVER)
    if chance.random() < 0.4:
        is_there = world.cache.get(address.of(JOB)) is not None
        return world.remove(JOB, address) if is_there and chance.random() < 0.5 else world.put(JOB, made)
    if world.cache.get(key.of(BENCHMARK)) and chance.random() < 0.3:
        return world.remove(BENCHMARK, key)
    status: Manifest = chance.choice([{}, {}, {}, DONE, {"startTime": "2026-11-24T08:30:00Z"}])
    if chance.random() < 0.2:
        failed = {"suite": suite, "reason": "Unschedulable", "message": "", "time": chance.choice(RESTED)}
        status = {**status, "failedStart": failed}
    minute = chance.randrange(60)
    return world.benchmark(key, status, f"2026-11-24T08:{minute:02}:00Z", suspend=chance.random() < 0.2)


# The front of the two orders, guests and others, and of the benchmarks with a Job; and the benchmark itself.
MOST_ENQUEUED = 3 * (FEW_RIVALS + 1) + 1
# With guests of many namespaces, nine of the first namespace are near, eight of the second, and so on.
MOST_ENQUEUED_OF_MANY = sum(range(FEW_RIVALS + 2)) + 2 * (FEW_RIVALS + 1) + 1
FAILED = {"suite": "a", "reason": "ApplyFailed", "message": "exceeded quota", "time": RESTED[1]}


@pytest.mark.parametrize("namespace", ["default", "elsewhere"])
@pytest.mark.parametrize(
    ("status", "spec"),
    [({"failedStart": FAILED}, {}), ({}, {}), ({}, {"suspend": True})],
    ids=["gave their turns back", "wait", "are suspended"],
)
def test_a_change_of_one_of_1500_resting_benchmarks_enqueues_few(namespace: str, status: Manifest, spec: Any) -> None:
    world, keys = World(), [key_of(f"b{number:04}", namespace) for number in range(1500)]
    for key in keys:
        world.benchmark(key, status, **spec)
    # These 1600 changes cost at most 30.
    with little_time(150):
        for key in keys[:50]:
            assert len(world.benchmark(key, {"failedStart": {**FAILED, "time": NOW}}, **spec)) <= MOST_ENQUEUED
            assert len(world.put(JOB, world.job(key))) <= MOST_ENQUEUED
        for key in keys:
            assert len(world.remove(BENCHMARK, key)) <= MOST_ENQUEUED


@pytest.mark.parametrize("seed", range(8))
def test_the_next_in_line_always_gets_its_turn_although_a_change_enqueues_few(seed: int) -> None:
    """Random changes, and passes over the enqueued benchmarks only, lead to the same runs as a simple model."""
    chance = random.Random(seed)  # noqa: S311 - which changes a test makes is no secret
    life = Life(chance)
    for _ in range(250):
        life.change()
        asyncio.run(life.settle())
        assert life.ran == life.expected()


class Life:
    """Benchmarks of one server, and an operator that makes only the passes for which it was enqueued or set a timer.

    The model is the dictionary of statuses, and `expected`. A benchmark without an entry in `statuses` does not exist.
    """

    def __init__(self, chance: random.Random) -> None:
        self.world, self.chance, self.now = World(), chance, 0
        self.admission = Admission(cast(Cluster, self.world), self.world.cache, has_read_all)
        self.due = set[Key]()
        self.timers = dict[Key, float]()
        self.created = dict[Key, str]()
        self.statuses = dict[Key, Manifest]()
        self.suspended = set[Key]()
        self.ran = set[Key]()
        # When the running suites began, and the last suites of the guests of each namespace.
        self.began = dict[Key, str]()
        self.turns = dict[str, str]()

    def time(self, seconds: float = 0.0) -> str:
        moment = datetime.fromisoformat(NOW) + timedelta(seconds=self.now + seconds)
        return moment.strftime("%Y-%m-%dT%H:%M:%SZ")

    def change(self) -> None:
        """Change one thing, as a user or a Job may do at any time."""
        happens = self.chance.choice(["create", "create", "wait", "suspend", "delete", *["end"] * 4])
        if happens == "create":
            self.create()
        elif happens == "wait":
            self.wait()
        elif happens == "end" and self.ran:
            self.end(self.chance.choice(sorted(self.ran)))
        elif happens == "suspend" and self.statuses:
            self.suspend(self.chance.choice(sorted(self.statuses)))
        elif happens == "delete" and self.statuses:
            self.delete(self.chance.choice(sorted(self.statuses)))

    def create(self) -> None:
        key = key_of(f"b{len(self.created):03}", self.chance.choice(["default", "default", "x", "y"]))
        self.created[key], self.statuses[key] = self.time(), {}
        self.write(key)

    def suspend(self, key: Key) -> None:
        self.suspended ^= {key}
        self.write(key)
        self.stop(key)

    def delete(self, key: Key) -> None:
        self.due |= self.world.remove(BENCHMARK, key)
        self.stop(key)
        self.leave(key)

    def leave(self, key: Key) -> None:
        del self.statuses[key]
        if not self.statuses:
            self.turns.clear()

    def end(self, key: Key) -> None:
        """End the suite of a benchmark: it is done, or gives its turn back because it could not start."""
        gives_back = self.chance.random() < 0.5
        status = {**self.statuses[key], "failedStart": {**FAILED, "time": self.time()}} if gives_back else DONE
        self.statuses[key] = status
        self.write(key)
        self.stop(key)
        if not gives_back:
            self.leave(key)

    def wait(self) -> None:
        self.now += self.chance.choice([1, 60, 200])
        over = {key for key, when in self.timers.items() if when <= self.now}
        self.due |= over
        self.timers = {key: when for key, when in self.timers.items() if key not in over}

    def write(self, key: Key) -> None:
        is_suspended = key in self.suspended
        created, status = self.created[key], self.statuses[key]
        self.due |= self.world.benchmark(key, status, created, suspend=is_suspended, timeoutSeconds=604_800)

    def stop(self, key: Key) -> None:
        if key in self.ran:
            self.ran.remove(key)
            self.turns[key.namespace] = max(self.turns.get(key.namespace, ""), self.began[key])
            self.due |= self.world.remove(JOB, self.job_key(key))

    def job_key(self, key: Key) -> Key:
        return Key(key.namespace, self.world.job(key)["metadata"]["name"], JOB)

    async def settle(self) -> None:
        """Make a pass over each benchmark that is due, in any order."""
        while self.due:
            key = self.chance.choice(sorted(self.due, key=str))
            self.due.remove(key)
            if key in self.statuses and key not in self.suspended | self.ran:
                await self.try_to_start(key)

    async def try_to_start(self, key: Key) -> None:
        aim = target.of_endpoint(KimiLinearBenchmark.model_validate(self.world.cache.get(key)))
        if wait := await self.admission.wait(key, aim, self.time()):
            again = soonest([wait.again, wait.look])
            self.timers |= {} if again is None else {key: self.now + again}
            return
        self.ran.add(key)
        self.began[key] = self.time()
        made = self.world.job(key)
        self.due |= self.world.put(JOB, {**made, "metadata": made["metadata"] | {"creationTimestamp": self.time()}})
        self.statuses[key] = {"startTime": self.statuses[key].get("startTime", self.time())}
        self.write(key)

    def expected(self) -> set[Key]:
        """Return the benchmarks that should run now: nobody else whose turn it is has to wait."""
        idle = [key for key in self.statuses if key not in self.suspended | self.ran and not self.is_resting(key)]
        owns = {key for key in self.ran if key.namespace == "default"}
        next_own = [] if owns else sorted((key for key in idle if key.namespace == "default"), key=self.order)[:1]
        is_free = not (self.ran or next_own)
        firsts = [self.first_of(space, idle) for space in ("x", "y")]
        next_guest = sorted((key for key in firsts if key), key=self.place)[:1] if is_free else []
        return {*self.ran, *next_own, *next_guest}

    def is_resting(self, key: Key) -> bool:
        failed = self.statuses[key].get("failedStart", {}).get("time")
        return failed is not None and failed > self.time(-turn.REST_SECONDS)

    def first_of(self, namespace: str, idle: list[Key]) -> Key | None:
        return min((key for key in idle if key.namespace == namespace), key=self.order, default=None)

    def place(self, key: Key) -> tuple[Any, ...]:
        failed = self.statuses[key].get("failedStart", {}).get("time", "")
        return failed, self.turns.get(key.namespace, ""), self.created[key], key

    def order(self, key: Key) -> tuple[Any, ...]:
        status = self.statuses[key]
        started = status.get("startTime", "")
        return status.get("failedStart", {}).get("time", ""), not started, started, self.created[key], key


VICTIM = key_of("victim", "victims")
EARLY, LATE = "2026-11-24T07:00:00Z", "2026-11-24T08:59:00Z"


def ends_its_suite(world: World, key: Key, how: str) -> None:
    """Let a benchmark run a suite, and let the suite leave the cache, as a user of its namespace can bring about."""
    made = world.job(key)
    world.put(JOB, made)
    at = Key(key.namespace, made["metadata"]["name"], JOB)
    if how == "the Job ends":
        world.put(JOB, {**made, "status": DONE})
    elif how == "the Job is deleted":
        world.remove(JOB, at)
    elif how == "the Job loses its owner":
        world.put(JOB, {**made, "metadata": {**made["metadata"], "ownerReferences": [], "labels": {}}})
    else:
        world.remove(BENCHMARK, key)
        world.remove(JOB, at)


@pytest.mark.parametrize(
    "how", ["the Job ends", "the Job is deleted", "the Job loses its owner", "the benchmark is deleted"]
)
def test_no_namespace_has_two_turns_while_a_guest_of_another_one_waits(how: str) -> None:
    world, forged = World(), {"startTime": "2000-01-01T00:00:00Z"}
    world.benchmark(VICTIM, created=LATE)
    for number in range(2 * FEW_RIVALS):
        world.benchmark(key_of(f"t{number:02}", "tenant"), forged, created=EARLY)
    first = key_of("t00", "tenant")
    assert hindered(world, VICTIM)[0].startswith("benchmark t00 of namespace tenant goes first")
    ends_its_suite(world, first, how)
    assert world.wait(VICTIM) is None
    assert hindered(world, key_of("t01", "tenant"))[0].startswith("benchmark victim of namespace victims goes first")


def test_a_forged_time_in_a_status_moves_no_guest_before_one_of_another_namespace() -> None:
    world = World()
    world.benchmark(VICTIM, created=EARLY)
    for number in range(2 * FEW_RIVALS):
        world.benchmark(key_of(f"t{number}", "tenant"), {"startTime": "2000-01-01T00:00:00Z"}, created=LATE)
    assert world.wait(VICTIM) is None
    assert hindered(world, key_of("t0", "tenant"))[0].startswith("benchmark victim of namespace victims goes first")


def test_no_job_of_before_the_operators_start_counts_as_out_of_turn() -> None:
    world, tenant = World(), key_of("t", "tenant")
    waits = make_condition("TargetReady", "False", "WaitingForTurn", "") | {"lastTransitionTime": EARLY}
    world.benchmark(VICTIM, {"conditions": [waits]}, created=EARLY)
    world.benchmark(tenant, created=LATE)
    made = world.job(tenant)
    world.put(JOB, {**made, "metadata": made["metadata"] | {"creationTimestamp": "2026-11-24T08:30:00Z"}})
    aim = target.of_endpoint(KimiLinearBenchmark.model_validate(world.cache.get(VICTIM)))
    for since, has_to_wait in (("2026-11-24T08:00:00Z", False), ("2026-11-24T08:45:00Z", True)):
        admission = Admission(cast(Cluster, world), world.cache, has_read_all, since=since)
        assert (asyncio.run(admission.wait(VICTIM, aim, NOW)) is not None) == has_to_wait


def test_a_namespace_whose_guests_start_nothing_is_passed_over_as_a_whole() -> None:
    world, seconds = World(), [0.0]
    admission = Admission(cast(Cluster, world), world.cache, has_read_all, lambda: seconds[0])
    world.benchmark(VICTIM, created=LATE)
    for number in range(3):
        world.benchmark(key_of(f"t{number}", "tenant"), created=EARLY)
    aim = target.of_endpoint(KimiLinearBenchmark.model_validate(world.cache.get(VICTIM)))
    assert asyncio.run(admission.wait(VICTIM, aim, NOW))
    # Neither another first benchmark nor an invented end of a suite begins the ten minutes again.
    seconds[0] = PATIENCE_SECONDS - 1
    world.benchmark(key_of("t0", "tenant"), created=EARLY, suspend=True)
    invented = {"results": [make_result("gsm8k", completionTime=NOW)]}
    world.benchmark(key_of("t1", "tenant"), invented, created=EARLY)
    assert asyncio.run(admission.wait(VICTIM, aim, NOW))
    seconds[0] = PATIENCE_SECONDS
    assert asyncio.run(admission.wait(VICTIM, aim, NOW)) is None


def test_a_change_enqueues_few_guests_of_many_namespaces() -> None:
    world = World()
    keys = [key_of(f"b{number:02}", f"n{space:02}") for space in range(40) for number in range(12)]
    for key in keys:
        world.benchmark(key)
        world.put(JOB, world.job(key))
    made = world.job(keys[0])
    with little_time():
        assert len(world.put(JOB, {**made, "status": DONE})) <= MOST_ENQUEUED_OF_MANY
