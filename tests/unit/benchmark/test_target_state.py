"""Whether a benchmark's target is ready, why it is not, and which Jobs hold it."""

import asyncio
from typing import Any, cast

import pytest

from kimi_linear_operator.benchmark import job, target
from kimi_linear_operator.benchmark.admission import Admission, Wait
from kimi_linear_operator.benchmark.labels import SUITE_LABEL
from kimi_linear_operator.benchmark.looks import LOOK_RETRY_SECONDS
from kimi_linear_operator.benchmark.spec import BENCHMARK, KimiLinearBenchmark
from kimi_linear_operator.benchmark.target_state import TargetState, target_state
from kimi_linear_operator.cluster.client import Cluster
from kimi_linear_operator.cluster.errors import ApiError
from kimi_linear_operator.kubernetes.essence import essence
from kimi_linear_operator.kubernetes.kinds import DEPLOYMENT, JOB, POD, Kind, Manifest
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.resource_types import check
from kimi_linear_operator.server.deployment import build_pod_template
from kimi_linear_operator.server.manifests import build_deployment
from kimi_linear_operator.server.sglang.entrypoint import INSTALL
from kimi_linear_operator.server.sglang.images import image_of
from kimi_linear_operator.server.sglang.running import packages_in
from kimi_linear_operator.server.spec import SERVER, KimiLinearServer
from make import make_benchmark, make_condition, make_deployment, make_result, make_server, owned, stored
from passes import new_cache
from processor_time import measured


def server(ready: str = "True", generation: int = 1, **spec: Any) -> Manifest:
    condition = {**make_condition("Ready", ready, "Whatever", ""), "observedGeneration": generation}
    return {**make_server(**spec), "status": {"conditions": [condition]}}


def aim(*servers: Manifest, **spec: Any) -> TargetState:
    cache = new_cache()
    for manifest in servers:
        cache.put(SERVER, manifest)
    benchmark = check(make_benchmark(**spec)).resource
    assert benchmark
    # The API server gets no request before a suite starts.
    return target_state(cache, benchmark)


WITH_KEY: dict[str, Any] = {"engine": {"extraArgs": ["--api-key=$(KEY)"]}}


@pytest.mark.parametrize(
    ("found", "reason", "words"),
    [
        ((), "ServerMissing", "there is no KimiLinearServer kimi in namespace default"),
        ((server(ready="False"),), "ServerUnready", "server kimi is not ready: Whatever"),
        (
            (server(generation=0),),
            "ServerUnready",
            "server kimi was changed, and the operator has not handled the change yet",
        ),
        ((make_server(),), "ServerUnready", "server kimi was changed, and the operator has not handled the change yet"),
        ((server(**WITH_KEY),), "ApiKeyUnknown", "use spec.auth.apiKeySecretRef of the server"),
    ],
)
def test_a_server_that_cannot_be_measured_says_why(found: tuple[Manifest, ...], reason: str, words: str) -> None:
    seen = aim(*found)
    assert (seen.reason.name, seen.is_ready, words in seen.reason.message) == (reason, False, True)


def test_a_ready_server_is_measured_at_its_service() -> None:
    seen = aim(server(service={"port": 80}))
    assert (seen.reason.name, seen.is_ready) == ("ServerReady", True)
    assert seen.target
    assert (seen.target.url, seen.target.label) == ("http://kimi.default.svc:80", "kimi.default")


def test_a_server_whose_spec_is_only_partly_readable_is_still_measured() -> None:
    """The spec contains a default of a newer CRD. The server still counts as ready."""
    engine = {"attentionBackend": "AITER-v2", "image": "example.com/sglang:v0.5.7", "extraArgs": ["--api-key=$(KEY)"]}
    variable = {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "kimi"}}}
    pod = {"spec": {"containers": [{"name": "sglang", "env": [variable]}]}}
    seen = aim(server(engine=engine, podTemplate=pod))
    assert (seen.reason.name, seen.is_ready) == ("ServerReady", True)
    assert seen.target
    assert seen.target.image == "example.com/sglang:v0.5.7"
    assert [item["valueFrom"]["secretKeyRef"]["key"] for item in seen.target.environment] == ["kimi"]


def test_a_server_with_an_unreadable_spec_counts_as_unready_and_unchanged() -> None:
    found = {**server(), "spec": "newer"}
    seen = aim(found)
    assert (seen.reason.name, seen.reason.message) == ("ServerUnready", "the spec of server kimi cannot be read")
    assert target.changes(target.snapshot(server(), {}), target.snapshot(found, {})) == []


def test_the_running_pods_are_measured_even_if_the_spec_has_changed() -> None:
    """The pods of a server stay, even if defaults of another version get into its spec."""
    ran = KimiLinearServer.model_validate(make_server(model={"path": "/m"}, engine={"extraPipPackages": ["a", "c"]}))
    deployment = owned(build_deployment(ran, build_pod_template(ran), 1))
    cache = new_cache()
    found = server(model={"path": "/n", "revision": "pinned"}, engine={"image": "example.com/newer:v9.9.9"})
    for kind, manifest in ((SERVER, found), (DEPLOYMENT, deployment)):
        cache.put(kind, manifest)
    benchmark = check(make_benchmark()).resource
    assert benchmark
    seen = target_state(cache, benchmark).target
    assert seen
    assert (seen.model, seen.revision, seen.packages) == ("/m", None, ["a", "c"])
    assert seen.image == seen.facts["image"] == image_of(ran.spec)


@pytest.mark.parametrize("packages", [[], ["sentencepiece"], ["tiktoken>=0.7,<1", "a[b]"]])
def test_the_packages_of_a_pod_template_can_be_read_from_it(packages: list[str]) -> None:
    server = KimiLinearServer.model_validate(make_server(engine={"extraPipPackages": packages}))
    assert packages_in(build_pod_template(server)) == packages
    assert packages_in({"spec": {"containers": [{"name": "sglang", "command": ["pip", "x"]}]}}) is None
    assert packages_in({}) is None


LONG = 700_000
COMMANDS = {
    "installations": [f"{INSTALL} " * (LONG // len(INSTALL))],
    "ends": [" && exec " * (LONG // 9)],
    "an installation of long packages": [f"{INSTALL} {'x' * LONG} && exec x"],
    "an installation of many packages": [f"{INSTALL} {'x ' * (LONG // 2)} && exec x"],
    "an installation in quotes": [f"{INSTALL} '{' ' * LONG} && exec x"],
    "many words": ["x"] * (LONG // 4),
}


@pytest.mark.parametrize("field", ["command", "args"])
@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
def test_the_target_is_found_in_little_time_whatever_command_its_pods_have(words: list[str], field: str) -> None:
    deployment = owned(
        {
            **make_deployment(),
            "spec": {"replicas": 1, "template": {"spec": {"containers": [{"name": "sglang", field: words}]}}},
        }
    )
    cache = new_cache()
    for kind, manifest in ((SERVER, server()), (DEPLOYMENT, deployment)):
        cache.put(kind, manifest)
    benchmark = check(make_benchmark()).resource
    assert benchmark
    with measured() as done:
        seen = target_state(cache, benchmark).target
    # A search with a regular expression took a minute.
    assert done.cost < 10
    assert seen
    assert len(seen.packages) <= 2


def test_an_endpoint_counts_as_ready() -> None:
    seen = aim(endpoint={"url": "http://far:1"})
    assert (seen.reason.name, seen.is_ready) == ("EndpointGiven", True)


MINE = Key("default", "mine", BENCHMARK)
THEIRS = Key("elsewhere", "theirs", BENCHMARK)
ADDRESS = {"url": "http://kimi.default.svc:30000"}


class World:
    """The time is 09:00.

    The benchmark `mine` is in the server's namespace. `theirs` measures the same server from another namespace.
    """

    def __init__(self) -> None:
        self.cache, self.version = new_cache(), 1
        # Jobs that the cache does not show yet.
        self.new_jobs: dict[tuple[str, str], Manifest] = {}
        self.unreadable = ""
        # Watch events that arrive while the API server is asked.
        self.news: list[Key] = []
        self.put(SERVER, server())
        self.benchmark(MINE)
        self.benchmark(THEIRS, endpoint=ADDRESS)

    async def summarize(self, kind: Kind, namespace: str, selector: str, summary: Any, add: Any) -> Any:
        """The API server's own lists, from the store."""
        for key in self.news:
            self.benchmark(key, endpoint=ADDRESS)
        known = [key for key in (MINE, THEIRS) if key.namespace == namespace]
        return add(summary, [essence(item) for key in known for item in self.cache.children(kind, key)])

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        if namespace == self.unreadable:
            raise ApiError(403, "forbidden")
        return self.new_jobs.get((namespace, name)) or self.cache.get(Key(namespace, name, kind))

    def put(self, kind: Kind, manifest: Manifest) -> None:
        self.version += 1
        metadata = {**manifest["metadata"], "resourceVersion": str(self.version)}
        self.cache.put(kind, stored({**manifest, "metadata": metadata}))

    def benchmark(self, key: Key, status: Manifest | None = None, **spec: Any) -> None:
        manifest = make_benchmark(key.name, suites=[{"name": "gsm8k"}], timeoutSeconds=600, **spec)
        given = {"namespace": key.namespace, "uid": key.name, "creationTimestamp": "2026-11-24T08:00:00Z"}
        self.put(BENCHMARK, {**manifest, "metadata": {**manifest["metadata"], **given}, "status": status or {}})

    def waits(self, since: str, **status: Any) -> None:
        """Write into the status of `earlier` that it waits for its turn."""
        ready = {**make_condition("TargetReady", "False", "WaitingForTurn", ""), "lastTransitionTime": since}
        self.benchmark(EARLIER, {"conditions": [ready], **status}, endpoint=ADDRESS)

    def start(self, key: Key, created: str = "2026-11-24T08:55:00Z", name: str = "") -> Manifest:
        """Create a Job that a benchmark owns, with the operator's name for it unless the test gives another name."""
        benchmark = KimiLinearBenchmark.model_validate(self.cache.get(key.of(BENCHMARK)))
        metadata: Manifest = {
            "name": name or job.name(benchmark, benchmark.spec.suites[0]),
            "namespace": key.namespace,
            "uid": f"job-of-{key.name}",
            "creationTimestamp": created,
            "ownerReferences": [{"uid": key.name}],
        }
        metadata["labels"] = {SUITE_LABEL: benchmark.spec.suites[0].name}
        made = owned({"kind": "Job", "metadata": metadata, "spec": {"suspend": True}}, key.name, "KimiLinearBenchmark")
        self.put(JOB, made)
        return made

    def wait(self, key: Key = MINE) -> Wait | None:
        """Return why a benchmark has to wait, None if it may start."""
        targets = Admission(cast(Cluster, self), self.cache, lambda place, _: place != self.unreadable)
        benchmark = KimiLinearBenchmark.model_validate(self.cache.get(key.of(BENCHMARK)))
        found = target_state(self.cache, benchmark).target
        assert found
        return asyncio.run(targets.wait(key, found, "2026-11-24T09:00:00Z"))


LATER = Key("somewhere", "zz-later", BENCHMARK)
EARLIER = Key("anywhere", "earlier", BENCHMARK)


def guests() -> World:
    """Return a world in which `mine` does not want to run, and `earlier` also measures the server as a guest."""
    world = World()
    world.benchmark(MINE, suspend=True)
    world.benchmark(EARLIER, endpoint=ADDRESS)
    return world


def test_no_benchmark_of_another_namespace_holds_a_benchmark_of_the_servers_own_namespace() -> None:
    world = World()
    started = {"conditions": [], "startTime": "2026-11-24T07:00:00Z"}
    for number in range(20):
        world.benchmark(Key("elsewhere", f"a{number:02}", BENCHMARK), started, endpoint=ADDRESS)
    running = world.start(THEIRS)
    assert world.wait() is None
    # The cache of the operator may be late. It does not even ask for Jobs of other namespaces.
    world.new_jobs["elsewhere", running["metadata"]["name"]] = running
    world.unreadable = "elsewhere"
    assert world.wait() is None
    world.news = [Key("elsewhere", "a00", BENCHMARK)]
    assert world.wait() is None


def test_a_guest_waits_for_a_suite_that_the_servers_own_benchmark_began_during_one_of_the_guest() -> None:
    world = World()
    times = {"startTime": "2026-11-24T08:40:00Z", "completionTime": "2026-11-24T08:59:00Z"}
    waits = {**make_condition("TargetReady", "False", "WaitingForTurn", ""), "lastTransitionTime": times["startTime"]}
    world.benchmark(THEIRS, {"conditions": [waits], "results": [{**make_result("gsm8k"), **times}]}, endpoint=ADDRESS)
    world.start(MINE, created="2026-11-24T08:55:00Z")
    found = world.wait(THEIRS)
    assert found
    assert "benchmark mine of namespace default goes first" in found.reason.message
    assert found.again == 420, "the Job counts"


@pytest.mark.parametrize(
    "url", ["http://x.example.com", "http://example.com", "http://vllm.default.svc:8000", "http://10.0.0.1:30000"]
)
def test_if_the_address_is_no_known_server_each_namespace_takes_turns_alone(url: str) -> None:
    world, address = World(), {"url": url}
    mine, second = (Key("default", name, BENCHMARK) for name in ("mine", "second"))
    for number in range(20):
        world.benchmark(Key("elsewhere", f"a{number:02}", BENCHMARK), endpoint=address)
    for key in (mine, second, THEIRS):
        world.benchmark(key, endpoint=address)
    world.start(THEIRS)
    assert world.wait(mine) is None
    found = world.wait(second)
    assert found
    assert "benchmark mine goes first" in found.reason.message


def test_a_host_of_two_labels_is_a_server_if_there_is_such_a_server() -> None:
    world = World()
    for key in (THEIRS, EARLIER):
        world.benchmark(key, endpoint={"url": "http://example.com"})
    assert world.wait(THEIRS) is None
    found = server()
    world.put(SERVER, {**found, "metadata": {**found["metadata"], "name": "example", "namespace": "com"}})
    waits = world.wait(THEIRS)
    assert waits
    assert "benchmark earlier of namespace anywhere goes first" in waits.reason.message


def test_a_suite_of_another_guest_continues_for_as_long_as_it_may_take() -> None:
    world = guests()
    assert world.wait(EARLIER) is None
    world.start(THEIRS)
    found = world.wait(EARLIER)
    assert found
    assert "benchmark theirs of namespace elsewhere goes first" in found.reason.message
    # The limit is ten minutes, plus two minutes for the end of the Job. Five minutes have passed.
    assert found.again == 420


def test_a_benchmark_waits_for_a_suite_that_another_replica_has_just_started() -> None:
    world, replica = guests(), World()
    replica.start(THEIRS, created="2026-11-24T08:59:59Z")
    [made] = replica.cache.children(JOB, THEIRS)
    world.new_jobs["elsewhere", made["metadata"]["name"]] = made
    found = world.wait(EARLIER)
    assert found
    assert "a client of an earlier benchmark still runs" in found.reason.message
    ended = {"status": {"conditions": [make_condition("Complete", "True", "", "")]}}
    world.new_jobs["elsewhere", made["metadata"]["name"]] = {**made, **ended}
    assert world.wait(EARLIER) is None


def test_in_an_unreadable_namespace_only_running_clients_are_waited_for() -> None:
    world = World()
    world.benchmark(LATER, endpoint=ADDRESS)
    found = world.wait(LATER)
    assert found
    world.benchmark(MINE, suspend=True)
    found = world.wait(LATER)
    assert found
    assert "benchmark theirs of namespace elsewhere goes first" in found.reason.message
    world.unreadable = "elsewhere"
    assert world.wait(LATER) is None
    world.start(THEIRS)
    assert world.wait(LATER), "a client in that namespace still runs"


def test_a_benchmark_that_appears_during_a_look_is_taken_into_account() -> None:
    world = World()
    world.benchmark(MINE, suspend=True)
    assert world.wait(THEIRS) is None
    # A benchmark whose turn comes later does not change this. Otherwise its namespace could create one benchmark after
    # the other.
    world.news = [LATER]
    assert world.wait(THEIRS) is None
    world.benchmark(THEIRS, endpoint=ADDRESS, suspend=True)
    world.news = [EARLIER]
    found = world.wait(LATER)
    assert found
    assert found.look == LOOK_RETRY_SECONDS


def test_a_benchmark_of_a_newer_definition_holds_a_server_too() -> None:
    world = guests()
    world.start(THEIRS)
    world.benchmark(THEIRS, endpoint=ADDRESS, newer="enabled")
    assert world.wait(EARLIER)


def test_a_job_with_a_foreign_name_holds_no_server_of_another_namespace() -> None:
    world = guests()
    world.start(THEIRS, name="forged")
    assert world.wait(EARLIER) is None
    world.benchmark(MINE)
    # Jobs with a name of earlier builds count only in the server's own namespace.
    world.start(MINE, name="mine-gsm8k")
    world.benchmark(Key("default", "second", BENCHMARK))
    found = world.wait(Key("default", "second", BENCHMARK))
    assert found
    assert "benchmark mine goes first" in found.reason.message


STOPPED = {"conditions": [make_condition("Stalled", "True", "InvalidSpec", "")]}
DONE = {"conditions": [make_condition("Complete", "True", "SuitesEnded", "")]}


@pytest.mark.parametrize(("status", "spec"), [({}, {"suspend": True}), (STOPPED, {}), (DONE, {})])
def test_a_benchmark_that_does_not_want_to_run_holds_no_server_of_another_namespace(
    status: Manifest, spec: dict[str, Any]
) -> None:
    world = guests()
    world.start(THEIRS)
    world.benchmark(THEIRS, status, endpoint=ADDRESS, **spec)
    assert world.wait(EARLIER) is None


def test_a_finalizer_cannot_hold_a_server_of_another_namespace_beyond_a_suites_time() -> None:
    world = guests()
    running = world.start(THEIRS, created="2026-11-24T08:48:00Z")
    metadata = {"name": "pod", "namespace": "elsewhere", "finalizers": ["tests/held"], "uid": "pod"}
    references = {"ownerReferences": [{"uid": running["metadata"]["uid"]}]}
    pod = {"kind": "Pod", "metadata": {**metadata, **references}, "status": {"phase": "Running"}}
    world.put(POD, owned(pod, "theirs", "KimiLinearBenchmark"))
    assert world.wait(EARLIER) is None


def test_an_earlier_guest_that_has_waited_for_long_waits_for_no_later_guests_job() -> None:
    world = guests()
    world.start(THEIRS)
    world.waits("2026-11-24T08:53:00Z")
    assert world.wait(EARLIER)
    world.waits("2026-11-24T08:52:59Z")
    assert world.wait(EARLIER) is None
    # While the benchmark rested after a failed start, others went first.
    failed = {"suite": "gsm8k", "reason": "Unschedulable", "message": ""}
    world.benchmark(THEIRS, {"failedStart": {**failed, "time": "2026-11-24T08:54:00Z"}}, endpoint=ADDRESS)
    world.waits("2026-11-24T08:00:00Z", failedStart={**failed, "time": "2026-11-24T08:49:00Z"})
    assert world.wait(EARLIER)
    world.waits("2026-11-24T08:00:00Z", failedStart={**failed, "time": "2026-11-24T08:40:00Z"})
    assert world.wait(EARLIER) is None


def test_an_earlier_guest_may_get_its_job_while_a_later_one_waits() -> None:
    world = guests()
    waits = make_condition("TargetReady", "False", "WaitingForTurn", "")
    since = {"conditions": [{**waits, "lastTransitionTime": "2026-11-24T07:00:00Z"}]}
    world.benchmark(THEIRS, since, endpoint=ADDRESS)
    world.start(EARLIER)
    assert world.wait(THEIRS)


def test_a_guest_waits_for_a_suite_of_another_one_that_began_right_after_its_own() -> None:
    """Namespaces take turns, so another suite can begin between two suites of a benchmark."""
    world = guests()
    times = {"startTime": "2026-11-24T08:50:00Z", "completionTime": "2026-11-24T08:59:00Z"}
    world.benchmark(EARLIER, {"results": [{**make_result("gsm8k"), **times}]}, endpoint=ADDRESS)
    world.start(THEIRS, created="2026-11-24T08:59:02Z")
    assert world.wait(EARLIER)


def test_a_guest_waits_for_benchmarks_of_the_servers_own_namespace() -> None:
    world = World()
    known = {"conditions": [], "startTime": "2026-11-24T07:00:00Z"}
    world.benchmark(THEIRS, known, endpoint=ADDRESS)
    found = world.wait(THEIRS)
    assert found
    assert "benchmark mine of namespace default goes first" in found.reason.message
    world.benchmark(MINE, suspend=True)
    assert world.wait(THEIRS) is None
