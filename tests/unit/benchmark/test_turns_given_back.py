"""A benchmark that cannot start lets others go first. The tests make passes over a store, with their own clock."""

import asyncio
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from kimi_linear_operator import clock
from kimi_linear_operator.benchmark.address import TargetKey
from kimi_linear_operator.benchmark.admission import LEFTOVER_RETRY_SECONDS, Admission, Wait
from kimi_linear_operator.benchmark.holding import Asker
from kimi_linear_operator.benchmark.index import BenchmarkIndex
from kimi_linear_operator.benchmark.looks import LOOK_RETRY_SECONDS
from kimi_linear_operator.benchmark.measurement import Measurement
from kimi_linear_operator.benchmark.next_suite import NextSuite, Step
from kimi_linear_operator.benchmark.spec import BENCHMARK, KimiLinearBenchmark
from kimi_linear_operator.benchmark.stored_results import StoredResults
from kimi_linear_operator.benchmark.target_state import target_state
from kimi_linear_operator.cluster.client import Cluster
from kimi_linear_operator.cluster.errors import ApiError
from kimi_linear_operator.kubernetes.conditions import Reason, find_condition
from kimi_linear_operator.kubernetes.kinds import JOB, POD, REVISION, Kind, Manifest
from kimi_linear_operator.reconcile.cache import Cache
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.server.labels import AUTOMATIC_ANNOTATION
from kimi_linear_operator.server.spec import SERVER
from make import make_benchmark, make_condition, make_server, owned, stored
from passes import READER, Passes, has_read_all, make_context, new_cache

ENDPOINT = {"endpoint": {"url": "http://kimi.default.svc"}, "suites": [{"name": "speed-low"}]}
EARLIER = "2026-11-24T08:10:00Z"
FIRST, SECOND = (Key("default", name, BENCHMARK) for name in ("first", "second"))


@dataclass
class Shown:
    """A cluster whose writes are visible at once, and that refuses the Jobs of some benchmarks."""

    cache: Cache
    now: str = "2026-11-24T09:00:00Z"
    refused: list[str] = field(default_factory=list)
    version: int = 10
    jobs: list[str] = field(default_factory=list)

    def put(self, kind: Kind, manifest: Manifest) -> Manifest:
        self.version += 1
        metadata = {"creationTimestamp": self.now, **manifest["metadata"], "resourceVersion": str(self.version)}
        shown = stored({**manifest, "metadata": metadata})
        self.cache.put(kind, shown)
        return shown

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        return self.cache.get(Key(namespace, name, kind))

    async def summarize(self, kind: Kind, namespace: str, selector: str, summary: Any, add: Any) -> Any:
        return add(summary, [item for key in (FIRST, SECOND) for item in self.cache.children(kind, key)])

    async def events_of(self, involved: Manifest, reasons: Any) -> Any:
        return []

    async def apply(self, kind: Kind, manifest: Manifest) -> Manifest:
        if kind == JOB:
            if manifest["metadata"]["labels"]["kimi-linear.io/benchmark"] in self.refused:
                raise ApiError(403, "jobs.batch is forbidden: exceeded quota: q")
            self.jobs.append(manifest["metadata"]["name"].rpartition("-speed-low-")[0])
        return self.put(kind, manifest)

    async def apply_new(self, kind: Kind, manifest: Manifest) -> Manifest:
        return await self.apply(kind, manifest)

    async def delete(self, kind: Kind, manifest: Manifest, *, children_first: bool = False) -> None:
        for pod in self.cache.children(POD, FIRST):
            self.cache.take(READER.read(POD, pod, is_deleted=True))
        self.cache.take(READER.read(kind, manifest, is_deleted=True))

    async def patch_status(self, kind: Kind, manifest: Manifest, status: Manifest, **_: bool) -> Manifest:
        return dict(self.put(kind, {**manifest, "status": status})["metadata"])

    async def create(self, kind: Kind, manifest: Manifest) -> Manifest:
        return manifest


@dataclass
class World:
    """Two benchmarks of one server; the first one is the older one."""

    cache: Cache = field(default_factory=new_cache)
    cluster: Shown = field(init=False)

    def __post_init__(self) -> None:
        self.cluster = Shown(self.cache)
        for name, second in (("first", "01"), ("second", "02")):
            manifest = make_benchmark(name, **ENDPOINT)
            manifest["metadata"] |= {"creationTimestamp": f"2026-11-24T08:00:{second}Z", "uid": name}
            self.cluster.put(BENCHMARK, manifest)

    def pass_over(self, key: Key, time: str) -> float | None:
        """Make a pass at a time of that day; return when the next one is due."""
        self.cluster.now = f"2026-11-24T{time}Z"
        reconciler = Passes(self.cluster, self.cache, now=lambda: self.cluster.now)
        return asyncio.run(reconciler.reconcile(key))

    def succeeded(self, key: Key) -> tuple[str, str]:
        status = (self.cache.get(key.of(BENCHMARK)) or {})["status"]
        [condition] = [item for item in status["conditions"] if item["type"] == "Succeeded"]
        return condition["reason"], condition["message"]

    def synced(self, key: Key) -> Manifest:
        return find_condition((self.cache.get(key.of(BENCHMARK)) or {})["status"], "Synced")

    def report(self, **state: Any) -> None:
        """Report a state of the container in the first benchmark's pod."""
        [job] = self.cache.children(JOB, FIRST)
        container = {"name": "client", "image": "typo", "restartCount": 0, "state": state}
        conditions = [{"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-11-24T09:00:01Z"}]
        began = {"phase": "Pending", "startTime": "2026-11-24T09:00:02Z"}
        status = {**began, "conditions": conditions, "containerStatuses": [container]}
        references = [{"kind": "Job", "name": job["metadata"]["name"], "uid": job["metadata"]["uid"]}]
        metadata = {"name": "pod", "ownerReferences": references}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "status": status}
        self.cluster.put(POD, owned(pod, "first", "KimiLinearBenchmark"))


TYPO = {
    "waiting": {"reason": "ImagePullBackOff", "message": 'Back-off pulling image "typo": ErrImagePull: no such image'}
}


def test_an_image_with_a_typo_delays_others_for_minutes_and_not_for_hours() -> None:
    world = World()
    world.pass_over(FIRST, "09:00:00")
    world.pass_over(SECOND, "09:00:00")
    world.report(**TYPO)
    world.pass_over(FIRST, "09:04:59")
    assert world.succeeded(FIRST)[0] == "ImagePullFailed"
    assert world.succeeded(SECOND)[0] == "WaitingForTurn"
    world.pass_over(FIRST, "09:05:00")
    reason, message = world.succeeded(FIRST)
    assert (reason, "no such image" in message, "other benchmarks have gone first since" in message) == (
        "ImagePullFailed",
        True,
        True,
    )
    world.pass_over(SECOND, "09:05:00")
    assert world.succeeded(SECOND)[0] in ("Starting", "Running")
    assert world.cluster.jobs == ["first", "second"]
    # The benchmark does not start in this time, and no pass is due before its rest is over.
    assert world.pass_over(FIRST, "09:06:00") == 240
    world.pass_over(FIRST, "09:10:00")
    assert world.cluster.jobs == ["first", "second"]
    assert world.succeeded(FIRST)[0] == "ImagePullFailed"


def test_time_before_the_turn_does_not_count_as_waiting() -> None:
    """While its server was not ready or its spec was refused, other benchmarks could start."""
    world = World()
    world.pass_over(FIRST, "08:30:00")
    waiting = world.cache.get(SECOND.of(BENCHMARK)) or {}
    unready = make_condition("TargetReady", "False", "ServerUnready", "") | {"lastTransitionTime": EARLIER}
    world.cluster.put(BENCHMARK, {**waiting, "status": {"conditions": [unready]}})
    for time in ("09:00:00", "09:05:00"):
        world.pass_over(SECOND, time)
        status = (world.cache.get(SECOND.of(BENCHMARK)) or {})["status"]
        [ready] = [item for item in status["conditions"] if item["type"] == "TargetReady"]
        assert (ready["reason"], ready["lastTransitionTime"]) == ("WaitingForTurn", "2026-11-24T09:00:00Z")


def test_a_job_without_our_labels_in_a_suites_place_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any user with permission to create Jobs can create such a Job with the benchmark as owner.

    Without our labels, no watch shows it.
    """
    world = World()
    made: list[Manifest] = []

    async def apply_new(kind: Kind, manifest: Manifest) -> Manifest:
        if kind != JOB:
            return await world.cluster.apply(kind, manifest)
        bare = {**manifest["metadata"], "labels": {"app.kubernetes.io/managed-by": "kimi-linear-operator"}}
        made.append(manifest)
        return stored(
            {**manifest, "metadata": {**bare, "creationTimestamp": world.cluster.now, "resourceVersion": "9"}}
        )

    monkeypatch.setattr(world.cluster, "apply_new", apply_new)
    world.pass_over(FIRST, "09:00:00")
    assert made
    reason, message = world.succeeded(FIRST)
    assert (reason, "lacks the operator's labels: delete it" in message) == ("NameConflict", True)


def test_a_benchmark_that_is_alone_keeps_its_turn() -> None:
    world = World()
    world.pass_over(FIRST, "09:00:00")
    world.cache.take(READER.read(BENCHMARK, world.cache.get(SECOND.of(BENCHMARK)) or {}, is_deleted=True))
    world.report(**TYPO)
    world.pass_over(FIRST, "10:30:00")
    assert world.cache.children(JOB, FIRST)
    assert world.succeeded(FIRST)[0] == "ImagePullFailed"


def test_a_slow_image_is_no_reason_to_give_a_turn_back() -> None:
    world = World()
    world.pass_over(FIRST, "09:00:00")
    world.report(waiting={"reason": "ContainerCreating"})
    world.pass_over(FIRST, "09:50:00")
    assert world.cache.children(JOB, FIRST)


def test_a_client_that_has_begun_never_gives_its_turn_back() -> None:
    world = World()
    world.pass_over(FIRST, "09:00:00")
    world.report(running={})
    world.pass_over(FIRST, "10:30:00")
    assert world.cache.children(JOB, FIRST)


def test_a_refused_job_lets_the_other_benchmark_run_and_is_retried_minutes_later() -> None:
    world = World()
    world.cluster.refused = ["first"]
    world.pass_over(FIRST, "09:00:00")
    reason, message = world.succeeded(FIRST)
    assert (reason, "exceeded quota" in message) == ("ApplyFailed", True)
    world.pass_over(SECOND, "09:00:01")
    assert world.cluster.jobs == ["second"]
    assert world.pass_over(FIRST, "09:00:15") == 285


def without_server() -> World:
    """Return a world in which the first benchmark names a server that is missing."""
    world = World()
    missing = make_benchmark("first", serverRef={"name": "kimi"}, suites=[{"name": "speed-low"}])
    missing["metadata"] |= {"creationTimestamp": "2026-11-24T08:00:01Z", "uid": "first"}
    world.cluster.put(BENCHMARK, missing)
    return world


def test_a_benchmark_without_a_server_lets_the_other_run_and_reports_it_once() -> None:
    world = without_server()
    world.pass_over(FIRST, "09:00:00")
    assert world.succeeded(FIRST)[0] == "ServerMissing"
    world.pass_over(SECOND, "09:00:01")
    assert world.cluster.jobs == ["second"]
    written = world.cache.get(FIRST.of(BENCHMARK))
    world.pass_over(FIRST, "09:30:00")
    assert world.cache.get(FIRST.of(BENCHMARK)) == written


def test_a_benchmark_whose_server_comes_back_has_its_turn_again() -> None:
    world = without_server()
    world.pass_over(FIRST, "09:00:00")
    world.cluster.put(SERVER, make_server("kimi"))
    world.pass_over(FIRST, "09:00:10")
    assert world.succeeded(FIRST)[0] == "ServerUnready"
    world.pass_over(SECOND, "09:00:20")
    assert (world.cluster.jobs, world.succeeded(SECOND)[0]) == ([], "WaitingForTurn")


def test_two_refused_benchmarks_give_their_turns_back_only_once() -> None:
    world = World()
    world.cluster.refused = ["first", "second"]
    for second in range(30):
        for key in (FIRST, SECOND):
            world.pass_over(key, f"09:00:{second:02}")
    statuses = [(world.cache.get(key.of(BENCHMARK)) or {})["status"]["failedStart"]["time"] for key in (FIRST, SECOND)]
    assert statuses == ["2026-11-24T09:00:00Z", "2026-11-24T09:00:00Z"]


def test_a_job_of_ours_with_a_former_name_continues() -> None:
    """Earlier builds of the operator used this name."""
    world = World()
    world.pass_over(FIRST, "09:00:00")
    [job] = world.cache.children(JOB, FIRST)
    world.cache.take(READER.read(JOB, job, is_deleted=True))
    former = {**job, "metadata": {**job["metadata"], "name": "first-speed-low"}}
    world.cluster.put(JOB, former)
    world.pass_over(FIRST, "09:01:00")
    assert [item["metadata"]["name"] for item in world.cache.children(JOB, FIRST)] == ["first-speed-low"]
    assert (world.cache.get(FIRST.of(BENCHMARK)) or {})["status"]["currentSuite"] == "speed-low"
    assert world.cluster.jobs == ["first"]


def test_an_error_that_continues_is_reported() -> None:
    world = World()

    async def unavailable(kind: Kind, manifest: Manifest) -> Manifest:
        raise ApiError(503, "etcd does not answer")

    world.cluster.apply = unavailable  # type: ignore[method-assign]
    reconciler = Passes(world.cluster, world.cache, now=lambda: world.cluster.now)
    for failures in (0, 5):
        with pytest.raises(ApiError, match="etcd does not answer"):
            asyncio.run(reconciler.reconcile(FIRST, failures))
    assert world.succeeded(FIRST) == ("ApplyFailed", "etcd does not answer")


def test_a_suite_whose_events_cannot_be_read_is_reported_with_fewer_details() -> None:
    world = World()
    world.pass_over(FIRST, "09:00:00")

    async def forbidden(involved: Manifest, reasons: Any) -> Any:
        raise ApiError(403, "events is forbidden")

    world.cluster.events_of = forbidden  # type: ignore[method-assign]
    world.pass_over(FIRST, "09:01:00")
    reason, message = world.succeeded(FIRST)
    assert (reason, "has no pod, and no Event says why" in message) == ("PodCreationFailed", True)


def test_a_job_without_an_owner_reference_delays_no_benchmark() -> None:
    world = World()
    forged = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "forged"}, "spec": {}}
    labelled = owned(forged, "second", "KimiLinearBenchmark")
    del labelled["metadata"]["ownerReferences"]
    world.cluster.put(JOB, labelled)
    targets = Admission(cast(Cluster, world.cluster), world.cache, has_read_all)
    asker, claims = (
        Asker(world.cluster.now, "default"),
        world.cache.index(BenchmarkIndex).claims(TargetKey("default", "kimi")),
    )
    assert [one.is_active for one in targets._contenders(claims, asker)] == [False, False]


@pytest.mark.parametrize("is_marked", [False, True], ids=["chosen", "its revision is recorded"])
def test_no_suite_starts_on_a_server_that_is_about_to_get_other_pods(*, is_marked: bool) -> None:
    world = World()
    world.cluster.put(SERVER, make_server())
    context = make_context(world.cluster, world.cache)
    if is_marked:
        metadata = {"name": "kimi-2", "annotations": {AUTOMATIC_ANNOTATION: "true"}}
        world.cluster.put(REVISION, owned({"kind": "ControllerRevision", "metadata": metadata, "revision": 2}, "kimi"))
    else:
        context.about_to_change.add(Key("default", "kimi", SERVER))
    benchmark = KimiLinearBenchmark.model_validate(world.cache.get(FIRST.of(BENCHMARK)))
    measurement = Measurement(FIRST, benchmark, target_state(world.cache, benchmark))
    step = asyncio.run(NextSuite(context, StoredResults(context)).proceed(measurement, benchmark.spec.suites[0]))
    assert (step.reason.name, step.job, step.again) == ("ServerUnready", None, LEFTOVER_RETRY_SECONDS)


def test_no_suite_starts_on_a_server_that_was_chosen_during_the_preparation() -> None:
    world = World()
    world.cluster.put(SERVER, make_server())
    context = make_context(world.cluster, world.cache)
    apply = context.children.apply

    async def apply_slowly(*given: Any) -> None:
        await apply(*given)
        context.about_to_change.add(Key("default", "kimi", SERVER))

    object.__setattr__(context.children, "apply", apply_slowly)
    benchmark = KimiLinearBenchmark.model_validate(world.cache.get(FIRST.of(BENCHMARK)))
    measurement = Measurement(FIRST, benchmark, target_state(world.cache, benchmark))
    step = asyncio.run(NextSuite(context, StoredResults(context)).proceed(measurement, benchmark.spec.suites[0]))
    assert (step.reason.name, step.job, step.again) == ("ServerUnready", None, LEFTOVER_RETRY_SECONDS)


def start_beside(world: World, key: Key, namespace: str) -> Step:
    """Let a benchmark start while another one, of this namespace, is about to start on the same target."""
    context = make_context(world.cluster, world.cache)
    next_suite = NextSuite(context, StoredResults(context))
    benchmark = KimiLinearBenchmark.model_validate(world.cache.get(key.of(BENCHMARK)))
    state = target_state(world.cache, benchmark)
    assert state.target
    other = (state.target.label, namespace)
    next_suite._starting.add(other)
    step = asyncio.run(next_suite._start(Measurement(key, benchmark, state), benchmark.spec.suites[0]))
    assert next_suite._starting == {other}
    return step


def test_a_benchmark_does_not_block_its_worker_while_another_starts() -> None:
    """A waiting pass would block a worker that other keys need."""
    step = start_beside(World(), SECOND, "default")
    assert (step.reason.name, step.look) == ("WaitingForTurn", LEFTOVER_RETRY_SECONDS)


def test_a_benchmark_starts_although_a_guest_of_its_server_is_about_to_start() -> None:
    world = World()
    world.cluster.put(SERVER, make_server())
    assert start_beside(world, FIRST, "elsewhere").job


def test_no_guest_makes_a_suite_of_the_servers_own_namespace_give_its_turn_back() -> None:
    """Otherwise a suite that waits for a GPU or in a queue would lose its place because of the guest."""
    world = World()
    world.cluster.put(SERVER, make_server())
    guest = make_benchmark("second", **ENDPOINT)
    guest["metadata"] |= {"namespace": "elsewhere", "uid": "guest", "creationTimestamp": "2026-11-24T08:00:00Z"}
    world.cluster.put(BENCHMARK, guest)
    world.cache.take(READER.read(BENCHMARK, world.cache.get(SECOND.of(BENCHMARK)) or {}, is_deleted=True))
    world.pass_over(FIRST, "09:00:00")
    world.report(**TYPO)
    world.pass_over(FIRST, "10:00:00")
    assert len(world.cache.children(JOB, FIRST)) == 1
    assert "failedStart" not in (world.cache.get(FIRST.of(BENCHMARK)) or {})["status"]


def test_a_job_that_a_finalizer_holds_is_named_until_it_is_gone() -> None:
    world = World()
    world.pass_over(FIRST, "09:00:00")
    [job] = world.cache.children(JOB, FIRST)
    held = {"deletionTimestamp": "2026-11-24T09:01:00Z", "finalizers": ["example.com/hold"]}
    world.cluster.put(JOB, {**job, "metadata": {**job["metadata"], **held}})
    assert world.pass_over(FIRST, "09:01:04") == 6
    reason, message = world.succeeded(FIRST)
    assert (reason, "Finalizers hold it: example.com/hold" in message) == ("WaitingForTurn", True)
    assert world.synced(FIRST) == {}
    world.pass_over(FIRST, "09:01:10")
    told = world.synced(FIRST)
    assert (told["status"], told["reason"]) == ("False", "DeletionBlocked")
    assert f"Job {job['metadata']['name']} (example.com/hold)" in told["message"]
    assert f"`kubectl edit job/{job['metadata']['name']}`" in told["message"]
    world.cache.take(READER.read(JOB, world.cache.children(JOB, FIRST)[0], is_deleted=True))
    world.pass_over(FIRST, "09:02:00")
    assert world.synced(FIRST) == {}
    assert len(world.cluster.jobs) == 2


def test_an_earlier_wait_does_not_lengthen_the_wait_for_a_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wait for a place also leaves the pauses of the earlier wait as long as they were."""
    world, time = World(), [0.0]
    world.cluster.put(SERVER, make_server())
    monkeypatch.setattr(clock, "seconds", lambda: time[0])
    context = make_context(world.cluster, world.cache)
    next_suite = NextSuite(context, StoredResults(context))
    benchmark = KimiLinearBenchmark.model_validate(world.cache.get(FIRST.of(BENCHMARK)))
    measurement = Measurement(FIRST, benchmark, target_state(world.cache, benchmark))
    reason = Reason("WaitingForTurn", "")
    client = Wait(reason, look=LEFTOVER_RETRY_SECONDS)
    place = Wait(reason, look=LOOK_RETRY_SECONDS, lacks_place=True)
    found = []
    for seconds, wait in ((0.0, client), (1000.0, client), (1000.0, place), (1100.0, place), (1200.0, client)):
        time[0] = seconds

        async def answer(*_: Any, wait: Wait = wait) -> Wait:
            return wait

        monkeypatch.setattr(next_suite._admission, "wait", answer)
        found.append(asyncio.run(next_suite.proceed(measurement, benchmark.spec.suites[0])).again)
    assert found == [LEFTOVER_RETRY_SECONDS, 250.0, LOOK_RETRY_SECONDS, 25.0, 300.0]
