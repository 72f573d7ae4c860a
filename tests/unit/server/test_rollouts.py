"""The order of servers in an automatic rollout of new pod templates."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from kimi_linear_operator import counters
from kimi_linear_operator.benchmark import job
from kimi_linear_operator.benchmark.labels import SUITE_LABEL
from kimi_linear_operator.benchmark.spec import BENCHMARK, KimiLinearBenchmark
from kimi_linear_operator.kubernetes.kinds import DEPLOYMENT, JOB, REVISION, Kind, Manifest
from kimi_linear_operator.reconcile.cached_object import CachedObject, Key
from kimi_linear_operator.reconcile.resource_type import Options
from kimi_linear_operator.server.labels import AUTOMATIC_ANNOTATION
from kimi_linear_operator.server.rollouts import Candidate, Rollouts, candidate, eligible
from kimi_linear_operator.server.spec import SERVER
from make import UID, make_benchmark, make_condition, make_deployment, make_server, owned
from passes import READER, make_context, new_cache

A, B, C = (Key("default", name, SERVER) for name in "abc")
NOW = "2026-11-24T09:00:00Z"
OFFERED = ("TemplateCurrent", "False", "NewTemplateAvailable")
# After this time at the latest, a server that is not Ready is late.
START_SECONDS = 4 * 3600


@pytest.mark.parametrize(
    ("ready", "is_ready"),
    [
        (("Ready", "True", "AllReplicasServe"), True),
        (("Ready", "False", "Suspended"), True),
        (("Ready", "False", "NoReplicas"), True),
        (("Ready", "False", "CrashLooping"), False),
        (("Ready", "Unknown", "Pending"), False),
    ],
)
def test_only_a_ready_server_gets_its_turn(ready: tuple[str, str, str], is_ready: bool) -> None:
    found = candidate(A, (ready, OFFERED), is_under_way=False)
    assert found == Candidate(A, is_offered=True, is_ready=is_ready, serves=ready[1] == "True")
    assert eligible([found]) == ([A] if is_ready else [])


def test_servers_are_ordered_by_name_and_servers_without_an_offer_are_left_out() -> None:
    known = [Candidate(C, True, True), Candidate(B, True, True), Candidate(A, False, True)]
    assert eligible(known) == [B, C]


def test_no_server_is_chosen_while_another_is_under_way_even_if_that_is_stalled() -> None:
    assert eligible([Candidate(A, False, False, True, "ProgressDeadlineExceeded"), Candidate(B, True, True)]) == []


def test_a_server_left_unready_by_another_versions_template_goes_first_and_alone() -> None:
    left, other = Candidate(B, True, False, True, "ProgressDeadlineExceeded"), Candidate(A, True, True)
    assert eligible([left, other]) == [B]
    assert eligible([left, other, Candidate(C, False, False, True)]) == []
    assert eligible([Candidate(B, True, True, True), other]) == []


def test_a_server_with_unknown_inputs_is_never_chosen() -> None:
    ready, unknown = ("Ready", "True", "AllReplicasServe"), ("TemplateCurrent", "False", "InputsUnknown")
    assert eligible([candidate(A, (ready, unknown), is_under_way=False)]) == []
    # This server is not repaired either, and the others wait, because their pods would fail, too.
    unready = candidate(A, (("Ready", "False", "CrashLooping"), unknown), is_under_way=True)
    assert eligible([unready, Candidate(B, True, True)]) == []


def test_no_server_is_chosen_when_no_template_is_offered() -> None:
    assert eligible([Candidate(A, False, True)]) == []


class World:
    """A store with servers a and b, a clock, and the requests for passes."""

    def __init__(self) -> None:
        self.cache, self.now, self.asked, self.version = new_cache(), 0.0, list[Key](), 0
        context = make_context(
            None, self.cache, options=Options(rollout_pause=60), now=lambda: NOW, enqueue=self.asked.extend
        )
        self.rollouts = Rollouts(context, lambda: self.now)
        self.chosen, self.unreadable = self.rollouts.chosen, list[str]()
        for name in ("a", "b"):
            self.server(name, is_offered=True)

    def server(self, name: str, *, is_offered: bool, is_ready: bool = True, stalled: str = "") -> None:
        conditions = [
            make_condition("Ready", str(is_ready), "AllReplicasServe" if is_ready else "RollingOut", ""),
            make_condition("TemplateCurrent", str(not is_offered), "NewTemplateAvailable", ""),
            make_condition("Stalled", str(bool(stalled)), stalled, ""),
        ]
        self.put(SERVER, {**make_server(name), "status": {"conditions": conditions}})

    def record(self, name: str, *, is_marked: bool, owner: str = UID) -> None:
        annotations = {AUTOMATIC_ANNOTATION: "true"} if is_marked else {}
        metadata = {"name": f"{name}-2", "annotations": annotations, "ownerReferences": [{"uid": owner}]}
        self.put(REVISION, owned({"kind": "ControllerRevision", "metadata": metadata, "revision": 2}, name))

    def put(self, kind: object, manifest: dict[str, object]) -> None:
        self.version += 1
        manifest["metadata"]["resourceVersion"] = str(self.version)  # type: ignore[index]
        self.cache.put(kind, manifest)  # type: ignore[arg-type]

    def step(self, seconds: float = 0) -> list[Key]:
        """Let time pass and take a step; return the chosen server."""
        self.now += seconds
        self.asked.clear()
        asyncio.run(self.rollouts.step(self.unreadable))
        return list(self.asked)


def test_a_step_lets_other_tasks_run_before_each_object_that_it_decodes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Users can create many servers, and can make each record and each Deployment as large as the cache allows."""
    world, decoded, decode = World(), list[Kind](), CachedObject.manifest
    for number in range(200):
        name = f"s{number:03}"
        world.server(name, is_offered=True)
        world.record(name, is_marked=True)
        world.put(DEPLOYMENT, make_deployment(name))

    def counted(self: CachedObject) -> Manifest:
        decoded.append(self.key.kind)
        return decode(self)

    monkeypatch.setattr(CachedObject, "manifest", counted)

    async def most_in_one_turn() -> int:
        step, most = asyncio.ensure_future(world.rollouts.step([])), 0
        while not step.done():
            before = len(decoded)
            await asyncio.sleep(0)
            most = max(most, len(decoded) - before)
        return most

    assert asyncio.run(most_in_one_turn()) == 1
    assert decoded == [DEPLOYMENT] * 200, "a step decodes no record"


def test_a_rollout_begins_after_the_pause_and_continues_when_the_mark_is_gone() -> None:
    world = World()
    assert [world.step(), world.step(59), world.step(1)] == [[], [], [A]]
    assert [world.step(299), world.chosen] == [[], {A}]
    world.chosen.clear()
    world.server("a", is_offered=False, is_ready=False)
    world.record("a", is_marked=True)
    assert world.step(600) == []
    world.server("a", is_offered=False)
    assert world.step(600) == []
    world.record("a", is_marked=False)
    assert world.step() == [B]


def test_a_server_that_loses_its_rollout_mark_without_serving_begins_a_pause() -> None:
    """For example, a server that failed with the new template was suspended."""
    world = World()
    world.server("a", is_offered=False, is_ready=False)
    world.record("a", is_marked=True)
    assert world.step(600) == []
    world.record("a", is_marked=False)
    assert [world.step(), world.step(59), world.step(1)] == [[], [], [B]]


@pytest.mark.parametrize("reason", ["Suspended", "NoReplicas"])
def test_a_failed_server_that_somebody_suspends_begins_a_pause_although_its_pods_drain(reason: str) -> None:
    """While its pods drain, the server is marked and has no replicas. So nobody knows whether the template is good."""
    world = World()
    world.server("a", is_offered=False, is_ready=False, stalled="ProgressDeadlineExceeded")
    world.record("a", is_marked=True)
    assert world.step(600) == []
    told = [make_condition("Ready", "False", reason, ""), make_condition("TemplateCurrent", "True", "Newest", "")]
    world.put(SERVER, {**make_server("a"), "status": {"conditions": told}})
    assert world.step(10) == []
    world.record("a", is_marked=False)
    assert [world.step(10), world.step(59), world.step(1)] == [[], [], [B]]


def test_a_failed_step_is_logged_and_another_one_follows(caplog: pytest.LogCaptureFixture) -> None:
    world, looks = World(), iter((KeyError("metadata"), None, asyncio.CancelledError()))

    async def look(unreadable: Sequence[str]) -> None:
        if failure := next(looks):
            raise failure

    world.rollouts._pause, world.rollouts.step = 0, look  # type: ignore[method-assign]
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(world.rollouts.run(lambda: True, list))
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "KeyError: 'metadata'" in caplog.text


def test_no_server_is_chosen_before_everything_was_read() -> None:
    """Another replica may have marked a server, and this replica does not know it yet."""
    world, answers = World(), iter((False, False, True))

    async def look(unreadable: Sequence[str]) -> None:
        assert next(answers, None) is None
        raise asyncio.CancelledError

    world.rollouts._pause, world.rollouts.step = 0, look  # type: ignore[method-assign]
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(world.rollouts.run(lambda: next(answers), list))


def test_another_replica_continues_where_the_last_one_stopped() -> None:
    world = World()
    world.server("a", is_offered=False, is_ready=False)
    world.record("a", is_marked=True)
    assert [world.step(), world.step(600)] == [[], []]


def test_a_chosen_server_that_is_deleted_delays_no_other() -> None:
    world = World()
    world.step()
    assert world.step(60) == [A]
    last = {**make_server("a"), "metadata": {**make_server("a")["metadata"], "resourceVersion": "900"}}
    world.cache.take(READER.read(SERVER, last, is_deleted=True))
    assert [world.step(), world.step(60)] == [[], [B]]


@pytest.mark.parametrize("is_marked", [True, False], ids=["during its rollout", "before its turn"])
def test_a_server_with_a_finalizer_that_blocks_its_deletion_delays_no_other(is_marked: bool) -> None:
    """A finalizer keeps the server. Any user with permission to change servers can set a finalizer."""
    world = World()
    world.record("a", is_marked=is_marked)
    kept = world.cache.get(A)
    assert kept
    world.put(SERVER, {**kept, "metadata": {**kept["metadata"], "deletionTimestamp": NOW}})
    assert [world.step(), world.step(60)] == [[], [B]]


def test_a_chosen_server_that_is_being_deleted_gives_its_turn_back() -> None:
    world = World()
    assert [world.step(), world.step(60)] == [[], [A]]
    kept = world.cache.get(A)
    assert kept
    world.put(SERVER, {**kept, "metadata": {**kept["metadata"], "deletionTimestamp": NOW}})
    assert [world.step(), world.step(60)] == [[], [B]]


def test_namespaces_take_turns() -> None:
    world, other = World(), Key("other", "z", SERVER)
    conditions = [make_condition("Ready", "True", "", ""), make_condition("TemplateCurrent", "False", "", "")]
    metadata = {"namespace": "other", "name": "z", "uid": "z"}
    world.put(SERVER, {**make_server("z"), "metadata": metadata, "status": {"conditions": conditions}})
    order = []
    for _ in range(3):
        world.step()
        order += world.step(60)
        for key in world.chosen:
            changed = world.cache.get(key)
            assert changed
            world.put(SERVER, {**changed, "status": {"conditions": conditions[:1]}})
        world.chosen.clear()
    assert order == [A, other, B]


def test_new_servers_do_not_go_before_a_server_that_could_not_take_its_turn() -> None:
    """Somebody may create a server with a forged status again and again. Such a server never takes the template."""
    world, chosen = World(), list[Key]()
    offered = world.cache.get(B)
    assert offered
    for number in range(8):
        metadata = {"namespace": "other", "name": f"z{number}", "uid": f"z{number}"}
        world.put(SERVER, {**offered, "metadata": metadata})
        world.step()
        chosen += world.step(60)
        world.chosen.clear()
    assert [chosen.count(A), chosen.count(B)] == [2, 2]


def test_a_chosen_server_that_cannot_take_the_template_lets_others_go_first() -> None:
    world = World()
    world.step()
    assert [world.step(60), world.step(299)] == [[A], []]
    assert [world.step(1), world.step(60)] == [[], [B]]
    assert [world.step(300), world.step(60)] == [[], [A]]


def test_a_chosen_server_has_a_minute_to_finish_its_write_before_others_go_first() -> None:
    """This is true for any pause, because the request to write the template may be under way."""
    world = World()
    world.rollouts._pause = 1
    world.step()
    assert world.step(1) == [A]
    assert [world.step(300), world.step(59), world.step(1)] == [[], [], [B]]


def test_a_label_on_a_foreign_record_marks_no_server() -> None:
    world = World()
    world.server("a", is_offered=False, is_ready=False)
    world.record("a", is_marked=True, owner="somebody-else")
    assert [world.step(), world.step(60)] == [[], [B]]


def test_a_rollout_mark_that_somebody_set_permanently_delays_no_other() -> None:
    """The mark may come from kubectl, or from a restored record.

    The operator cannot remove a mark that another manager owns.
    """
    world = World()
    world.record("a", is_marked=True)
    conditions = [make_condition("Ready", "True", "", ""), make_condition("TemplateCurrent", "True", "Newest", "")]
    world.put(SERVER, {**make_server("a"), "status": {"conditions": conditions}})
    assert [world.step(), world.step(60)] == [[], [B]]


def test_a_paused_deployment_under_way_is_reported_even_after_all_pods_were_updated(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World()
    world.server("a", is_offered=False, is_ready=False)
    world.record("a", is_marked=True)
    world.put(DEPLOYMENT, owned(make_deployment("a") | {"spec": {"paused": True}}, "a"))
    assert world.step(60) == []
    assert "default/a has not settled with the newest pod template (RolloutPaused)" in caplog.text


def test_after_a_rollback_the_server_left_unready_goes_first_and_then_the_others() -> None:
    world = World()
    world.server("b", is_offered=True, is_ready=False, stalled="ProgressDeadlineExceeded")
    world.record("b", is_marked=True)
    assert [world.step(), world.step(60)] == [[], [B]]
    world.chosen.clear()
    world.server("b", is_offered=False, is_ready=False)
    assert [world.step(60), world.step(60)] == [[], []]
    world.server("b", is_offered=False)
    assert world.step() == []
    world.record("b", is_marked=False)
    assert world.step() == [A]


@pytest.mark.parametrize("name", ["a", "a-router"])
def test_a_server_whose_deployment_or_router_is_paused_is_passed_over(name: str) -> None:
    world = World()
    world.put(DEPLOYMENT, {**_deployment(name), "spec": {"paused": True}})
    assert [world.step(), world.step(60)] == [[], [B]]


@pytest.mark.parametrize("name", ["a", "a-router"])
def test_a_server_whose_deployment_or_router_is_held_by_a_finalizer_is_passed_over(name: str) -> None:
    """It cannot take the template, and all other servers would wait for it."""
    world = World()
    held = _deployment(name)
    held["metadata"] |= {"deletionTimestamp": NOW, "finalizers": ["example.com/hold"]}
    world.put(DEPLOYMENT, held)
    assert [world.step(), world.step(60)] == [[], [B]]


def test_a_foreign_deployment_with_the_name_of_a_router_delays_no_server() -> None:
    world = World()
    world.put(DEPLOYMENT, {**make_deployment("a-router"), "spec": {"paused": True}})
    assert [world.step(), world.step(60)] == [[], [A]]


def _deployment(name: str, complete_since: str = "") -> Manifest:
    """Return a Deployment of server a, whose rollout has been complete since this time, or is not complete."""
    reason = "NewReplicaSetAvailable" if complete_since else "ReplicaSetUpdated"
    found = {"type": "Progressing", "reason": reason, "lastUpdateTime": complete_since or NOW}
    metadata = {"name": name, "resourceVersion": "1"}
    status = {"conditions": [found], "observedGeneration": 1}
    return owned({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "status": status}, "a")


@pytest.mark.parametrize(
    ("complete_since", "stalled"),
    [("", ""), ("2026-11-24T08:58:30Z", ""), ("2026-11-24T08:50:00Z", "its pods do not stay Ready")],
)
def test_a_server_whose_router_is_not_replaced_yet_is_not_stalled(
    complete_since: str, stalled: str, caplog: pytest.LogCaptureFixture
) -> None:
    """If only the router is new, the rollout of the replicas has been complete for a long time."""
    world = World()
    world.server("a", is_offered=False)
    world.record("a", is_marked=True)
    world.put(DEPLOYMENT, _deployment("a", "2026-11-20T08:00:00Z"))
    world.put(DEPLOYMENT, _deployment("a-router", complete_since))
    assert world.step(60) == []
    assert [f"({stalled})" in record.getMessage() for record in caplog.records] == ([True] if stalled else [])


def test_a_server_whose_router_fails_in_a_rollout_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    conditions = [
        make_condition("Ready", "False", "RouterUnavailable", ""),
        make_condition("TemplateCurrent", "True", "RollingOutByItself", ""),
    ]
    world.put(SERVER, {**make_server("a"), "status": {"conditions": conditions}})
    world.record("a", is_marked=True)
    world.put(DEPLOYMENT, _deployment("a", "2026-11-20T08:00:00Z"))
    world.put(DEPLOYMENT, _deployment("a-router"))
    assert world.step(60) == []
    assert "default/a has not settled with the newest pod template (RouterUnavailable)" in caplog.text
    assert counters.ROLLOUTS.labels("halted")._value.get() == 1


def measure(world: World, created: str, suspend: bool = False, namespace: str = "default") -> dict[str, Any]:
    """Let a benchmark measure a server, with a Job of this age; return the Job."""
    target: dict[str, Any] = (
        {"endpoint": {"url": "http://a.default.svc"}} if namespace != "default" else {"serverRef": {"name": "a"}}
    )
    manifest = make_benchmark(**target, suites=[{"name": "gsm8k"}], timeoutSeconds=600, suspend=suspend)
    manifest["metadata"]["namespace"] = namespace
    world.put(BENCHMARK, manifest)
    benchmark = KimiLinearBenchmark.model_validate(manifest)
    metadata: dict[str, Any] = {"name": job.name(benchmark, benchmark.spec.suites[0]), "creationTimestamp": created}
    metadata |= {"labels": {SUITE_LABEL: "gsm8k"}, "namespace": namespace}
    found = owned({"kind": "Job", "metadata": metadata, "spec": {}}, "nightly", "KimiLinearBenchmark")
    world.put(JOB, found)
    return found


ENDED = {"conditions": [make_condition("Complete", "True", "SuitesEnded", "all 1 suites have ended")]}


def test_a_server_that_is_being_measured_follows_after_the_measurement() -> None:
    world = World()
    running = measure(world, "2026-11-24T08:55:00Z")
    assert [world.step(), world.step(60)] == [[], [B]]
    world.chosen.clear()
    world.server("b", is_offered=False)
    assert world.step(60) == world.step(60) == []
    world.put(JOB, {**running, "status": ENDED})
    assert world.step(60) == []  # the suite is not judged yet
    benchmark = world.cache.get(Key("default", "nightly", BENCHMARK)) or {}
    world.put(BENCHMARK, {**benchmark, "status": ENDED})
    assert world.step(60) == [A]


@pytest.mark.parametrize(
    ("ended", "changes", "first"),
    [
        ("2026-11-24T08:55:00Z", {}, B),
        ("2026-11-24T08:49:00Z", {}, A),
        ("2026-11-24T08:55:00Z", {"suspend": True}, A),
        ("2026-11-24T08:55:00Z", {"serverRef": {"name": "b"}}, A),
    ],
    ids=["the next suite follows", "no suite for longer than a suite may take", "suspended", "another server"],
)
def test_a_server_keeps_its_pods_between_two_suites(ended: str, changes: dict[str, Any], first: Key) -> None:
    world = World()
    suites = [{"name": "speed-low"}, {"name": "gsm8k"}]
    manifest = make_benchmark(**{"serverRef": {"name": "a"}, "suites": suites, "timeoutSeconds": 600, **changes})
    result = {"name": "speed-low", "kind": "speed", "outcome": "Succeeded", "startTime": ended, "completionTime": ended}
    world.put(BENCHMARK, {**manifest, "status": {"results": [result]}})
    assert [world.step(), world.step(60)] == [[], [first]]


@pytest.mark.parametrize("status", [{}, ENDED], ids=["running", "ended"])
@pytest.mark.parametrize(("created", "is_suspended"), [("2026-11-24T08:47:59Z", False), ("2026-11-24T08:55:00Z", True)])
def test_no_measurement_delays_a_rollout_for_ever(created: str, is_suspended: bool, status: Manifest) -> None:
    world = World()
    world.put(JOB, {**measure(world, created, is_suspended), "status": status})
    assert [world.step(), world.step(60)] == [[], [A]]


def test_no_suite_of_another_namespace_holds_a_rollout_back() -> None:
    world = World()
    measure(world, "2026-11-24T08:59:59Z", namespace="guests")
    assert [world.step(), world.step(60)] == [[], [A]]
    world.rollouts.confirm(A)
    assert world.chosen == {A}


def test_a_server_that_holds_up_all_others_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    world.server("a", is_offered=False, is_ready=False, stalled="ProgressDeadlineExceeded")
    world.record("a", is_marked=True)
    for _ in range(3):
        world.step(60)
    [told] = [record.getMessage() for record in caplog.records]
    assert told.startswith("KimiLinearServer default/a has not settled with the newest pod template")


@pytest.mark.parametrize(
    "deployment",
    [
        pytest.param({"spec": {"progressDeadlineSeconds": 600}}, id="crashes-after-all-its-replicas-served"),
        pytest.param({"spec": {"progressDeadlineSeconds": 2**31 - 1}}, id="somebody-changed-the-deadline"),
        pytest.param({"metadata": {"deletionTimestamp": "2026-11-24T08:00:00Z"}}, id="deleted-and-held"),
    ],
)
def test_a_server_that_is_not_ready_after_the_time_for_a_start_is_reported(
    deployment: Manifest, caplog: pytest.LogCaptureFixture
) -> None:
    """The Deployment of the server has been complete, so it never exceeds its deadline."""
    world = World()
    world.server("a", is_offered=False, is_ready=False)
    world.record("a", is_marked=True)
    complete = _deployment("a", "2026-11-24T08:00:00Z")
    spec, metadata = ({**deployment.get(name, {})} for name in ("spec", "metadata"))
    spec, metadata = {"replicas": 1} | spec, complete["metadata"] | metadata
    world.put(DEPLOYMENT, {**complete, "spec": spec, "metadata": metadata})
    world.step()
    seconds = spec.get("progressDeadlineSeconds", 0)
    assert [world.step(599), caplog.text] == [[], ""]
    assert world.step(1 if seconds == 600 else START_SECONDS) == []
    assert "default/a has not settled with the newest pod template (RollingOut)" in caplog.text
    assert counters.ROLLOUTS.labels("halted")._value.get() == 1


def test_a_replica_that_is_added_before_a_rollout_goes_on_has_time_to_start(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    world.record("a", is_marked=True)
    world.put(DEPLOYMENT, {**_deployment("a", "2026-11-24T08:00:00Z"), "spec": {"replicas": 2}})
    for _ in range(3):  # an autoscaler adds one replica after the other, and each of them takes an hour to start
        world.server("a", is_offered=False, is_ready=False)
        assert [world.step(10), world.step(3600)] == [[], []]
        world.put(DEPLOYMENT, _deployment("a", "2026-11-24T08:59:00Z"))
        world.server("a", is_offered=False, is_ready=True)
        assert world.step(10) == []
    assert (caplog.text, counters.ROLLOUTS.labels("halted")._value.get()) == ("", 0)


def test_a_server_whose_new_pods_wait_in_a_queue_is_reported_after_its_deadline(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Such a server is not Stalled, because its wait ends by itself. But all other servers wait with it."""
    world = World()
    world.server("a", is_offered=False, is_ready=False)
    world.record("a", is_marked=True)

    def look(status: str, reason: str) -> str:
        found = {"type": "Progressing", "status": status, "reason": reason, "lastUpdateTime": "2026-11-24T08:00:00Z"}
        world.put(DEPLOYMENT, owned(make_deployment("a", conditions=[found], observedGeneration=1), "a"))
        assert world.step(60) == []
        return caplog.text

    assert look("True", "ReplicaSetUpdated") == ""
    assert "default/a has not settled" in look("False", "ProgressDeadlineExceeded")
    assert counters.ROLLOUTS.labels("halted")._value.get() == 1


def test_a_server_whose_pods_do_not_stay_ready_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    """The pause here is a minute, and the time is nine o'clock."""
    world = World()
    world.server("a", is_offered=False)
    world.record("a", is_marked=True)

    def look(complete_since: str) -> str:
        found = {"type": "Progressing", "reason": "NewReplicaSetAvailable", "lastUpdateTime": complete_since}
        world.put(DEPLOYMENT, owned(make_deployment("a", conditions=[found], observedGeneration=1), "a"))
        assert world.step(60) == []
        return caplog.text

    # A server that has just become Ready has not stayed Ready for the pause yet.
    assert look("2026-11-24T08:58:30Z") == ""
    assert "default/a has not settled with the newest pod template (its pods do not stay Ready)" in look(
        "2026-11-24T08:50:00Z"
    )
    assert counters.ROLLOUTS.labels("halted")._value.get() == 1


def _scaled_to_zero(world: World, *, reason: str) -> None:
    """Let KEDA scale server a to zero. Its Deployment has been complete, without a replica, for an hour."""
    told = [
        make_condition("Ready", "False", "ScaledToZero", ""),
        make_condition("TemplateCurrent", str(reason != "NewTemplateAvailable"), reason, ""),
    ]
    world.put(SERVER, {**make_server("a"), "status": {"conditions": told}})
    progress = {"type": "Progressing", "reason": "NewReplicaSetAvailable", "lastUpdateTime": "2026-11-24T08:00:00Z"}
    world.put(DEPLOYMENT, owned(make_deployment("a", conditions=[progress], observedGeneration=1), "a"))


def test_a_server_scaled_to_zero_before_it_served_is_reported_and_repaired_first(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World()
    world.record("a", is_marked=True)
    _scaled_to_zero(world, reason="RollingOutByItself")
    assert [world.step(60), world.step(60)] == [[], []]
    assert "default/a has not settled with the newest pod template (ScaledToZero)" in caplog.text
    _scaled_to_zero(world, reason="NewTemplateAvailable")
    world.step(60)
    assert world.step(60) == [A]


def test_a_sleeping_server_takes_its_turn_without_a_message(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    _scaled_to_zero(world, reason="NewTemplateAvailable")
    world.step(60)
    assert world.step(60) == [A]
    assert world.step(60) == []
    assert (caplog.text.count("has not settled"), world.chosen) == (0, {A})


def test_a_paused_deployment_is_reported_although_it_has_no_deadline() -> None:
    ready = ("Ready", "False", "RolloutPaused")
    assert candidate(A, (ready, ("Stalled", "False", "NotStalled")), is_under_way=True).stalled == "RolloutPaused"


@pytest.mark.parametrize("reason", ["ApplyFailed", "NameConflict"])
def test_a_server_whose_template_cannot_be_written_is_reported_although_it_has_no_deadline(reason: str) -> None:
    conditions = (("Ready", "False", reason), ("Stalled", "False", "NotStalled"))
    assert candidate(A, conditions, is_under_way=True).stalled == reason


def test_a_server_whose_status_says_it_is_rolling_out_holds_others_up_without_a_mark() -> None:
    conditions = (("Ready", "False", "ModelLoading"), ("TemplateCurrent", "True", "RollingOutByItself"))
    under_way = candidate(A, conditions, is_under_way=False)
    assert eligible([under_way, Candidate(B, True, True)]) == []


def test_no_server_is_chosen_while_a_scope_is_unreadable_and_log_and_metric_say_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World()
    world.unreadable = [f"controllerrevisions in namespace team-{number}" for number in range(5)]
    assert [world.step(), world.step(60), world.step(600)] == [[], [], []]
    [told] = [record.getMessage() for record in caplog.records]
    assert "namespace team-2 and 2 more, because" in told
    assert "remove it from watchNamespaces" in told
    [metric] = counters.ROLLOUTS.collect()
    assert {sample.labels["state"]: sample.value for sample in metric.samples} == {
        "waiting": 2,
        "under_way": 0,
        "halted": 1,
    }
    world.unreadable = []
    assert [world.step(), world.step(59), world.step(1)] == [[], [], [A]]


def test_an_unreadable_scope_is_not_reported_when_no_server_waits(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    world.unreadable = ["deployments in namespace gone"]
    for name in ("a", "b"):
        world.server(name, is_offered=False)
    world.step()
    assert not caplog.records


@pytest.mark.parametrize("since", ["measured", "unready", "unreadable"])
def test_a_chosen_server_that_was_measured_or_became_unready_or_unseen_loses_its_turn(since: str) -> None:
    world = World()
    world.step()
    assert world.step(60) == [A]
    world.rollouts.confirm(A)
    assert world.chosen == {A}
    if since == "measured":
        measure(world, NOW)
    elif since == "unreadable":
        world.rollouts.unreadable = lambda: ["jobs in namespace team-b"]
    else:
        world.server("a", is_offered=True, is_ready=False)
    world.rollouts.confirm(A)
    assert world.chosen == set()
    assert [world.step(), world.step(60)] == [[], [B]]


def test_a_chosen_server_that_another_version_left_unready_stays_chosen() -> None:
    world = World()
    world.server("b", is_offered=True, is_ready=False)
    world.record("b", is_marked=True)
    world.step()
    assert world.step(60) == [B]
    world.rollouts.confirm(B)
    assert world.chosen == {B}


def test_the_turn_of_a_deleted_server_is_forgotten() -> None:
    world = World()
    assert [world.step(), world.step(60)] == [[], [A]]
    world.cache.take(
        READER.read(
            SERVER,
            {**make_server("a"), "metadata": {**make_server("a")["metadata"], "resourceVersion": "99"}},
            is_deleted=True,
        )
    )
    world.step()
    assert A not in world.rollouts._waiting_since
