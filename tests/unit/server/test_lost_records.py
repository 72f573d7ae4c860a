"""The pods that run do not have the template of the newest record."""

import copy
from dataclasses import replace
from typing import Any

import pytest

from kimi_linear_operator.cluster.errors import ApiError
from kimi_linear_operator.kubernetes.conditions import find_condition
from kimi_linear_operator.kubernetes.kinds import DEPLOYMENT, REVISION, Kind, Manifest
from kimi_linear_operator.server import deployment, router
from kimi_linear_operator.server.labels import (
    AUTOMATIC_ANNOTATION,
    REVISION_ANNOTATION,
    ROLLOUT_ANNOTATION,
    TEMPLATE_ANNOTATION,
)
from kimi_linear_operator.server.network_policy import needs_of_others
from kimi_linear_operator.server.revision import History
from kimi_linear_operator.server.spec import SERVER, KimiLinearServer
from kimi_linear_operator.server.template_choice import choose
from kimi_linear_operator.server.unrequested import Before, was_only_scaled
from make import make_server
from operated import KEY, World
from unit.server import test_changed_defaults as owners
from unit.server.test_replaced_marks import marks, verify

_SIZE: Manifest = {"f:tensorParallelism": {}}
# If somebody owned the replicas, a scale leaves an entry in the managed fields.
_SIZES = pytest.mark.parametrize(
    "size", [_SIZE, {**_SIZE, "f:replicas": {}}], ids=["no owner", "an owner of the replicas"]
)


class Owned(owners.World):
    """A server whose managed fields show who wrote its spec, and when."""

    def template(self, name: str) -> Manifest:
        found = self.cache.get(KEY._replace(name=name).of(DEPLOYMENT))
        assert found
        return dict(found["spec"]["template"])

    def lose_records(self) -> None:
        """Delete the records. The API server still has the Deployments."""
        for record in self.cache.children(REVISION, KEY):
            self.cache.take(self.cache.reader.read(REVISION, record, is_deleted=True))
        for name in ("kimi", "kimi-router"):
            found = self.cache.get(KEY._replace(name=name).of(DEPLOYMENT))
            if found:
                self.cluster.live[f"Deployment/{name}"] = found


def lose(world: World | Owned, number: int) -> None:
    """Delete a record."""
    record = world.record(number)
    world.cache.take(world.cache.reader.read(REVISION, record, is_deleted=True))
    live(world)


def live(world: World | Owned) -> Manifest:
    """Let the API server return the server's Deployment, which another tool has restored from a backup."""
    found = copy.deepcopy(world.cache.get(KEY.of(DEPLOYMENT)))
    assert found
    world.cluster.live["Deployment/kimi"] = found
    return found


def store(world: World, edited: Manifest) -> None:
    """Let a watch show that somebody has edited the Deployment."""
    world.cluster.written.append("an edit")
    edited["metadata"]["resourceVersion"] = str(len(world.cluster.written) + 10)
    world.cache.put(DEPLOYMENT, edited)


def pods(world: World) -> Manifest:
    found = world.cache.get(KEY.of(DEPLOYMENT))
    assert found
    return dict(found["spec"]["template"])


def records(world: World | Owned) -> list[str]:
    return sorted(record["metadata"]["name"] for record in world.cache.children(REVISION, KEY))


def changed(**spec: Any) -> World:
    """Return a server with the verified record of its first spec, and with the record of another spec."""
    world = World(router=None, verification={"mode": "Warn"})
    world.report("kimi")
    world.passes()
    verify(world, 1)
    world.owned = {f"f:{name}": {} for name in spec}
    world.change(**spec)
    world.report("kimi")
    world.passes()
    assert records(world) == ["kimi-1", "kimi-2"]
    return world


def build_other_pods(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let another version of the operator go on. It would build other pods."""
    build_other(monkeypatch)
    world.new_operator()


def build_other(monkeypatch: pytest.MonkeyPatch) -> None:
    build = deployment._pod_spec
    monkeypatch.setattr(deployment, "_pod_spec", lambda *args: {**build(*args), "terminationGracePeriodSeconds": 77})
    monkeypatch.setattr(router, "_REQUESTS", {"cpu": "2", "memory": "512Mi"})


@pytest.mark.parametrize(
    "spec",
    [
        {"engine": {"contextLength": 4096}},
        # The first template is a part of this one.
        {"podTemplate": {"spec": {"nodeSelector": {"zone": "a"}}}},
    ],
    ids=str,
)
def test_the_pods_of_a_lost_record_stay(spec: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    world = changed(**spec)
    before = pods(world)
    build_other_pods(world, monkeypatch)
    lose(world, 2)
    world.passes(2)
    assert (pods(world), records(world)) == (before, ["kimi-1", "kimi-2"])
    assert world.condition()["reason"] == "NewTemplateAvailable"


@_SIZES
@pytest.mark.parametrize(
    ("is_scale", "more"),
    [
        (True, {"replicas": 2}),
        (False, {"engine": {"extraArgs": ["--log-level=info"]}}),
        (False, {"replicas": 2, "engine": {"extraArgs": ["--log-level=info"]}}),
    ],
    ids=["an autoscaler", "the owner", "the owner, together with a scale"],
)
def test_of_lost_records_only_a_change_by_the_owner_replaces_pods(
    size: Manifest, is_scale: bool, more: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All records were deleted while no operator ran, and the replicas changed before the next version started."""
    world = Owned().write({**size, "f:router": {}}, router={})
    before = [world.template(name) for name in ("kimi", "kimi-router")]
    build_other(monkeypatch)
    world.lose_records()
    world.start()
    owned = {**_SIZE, "f:router": {}, "f:replicas": {}, "f:engine": {"f:extraArgs": {}}}
    world.write(owned, is_scale=is_scale, router={}, **more)
    after = [world.template(name) for name in ("kimi", "kimi-router")]
    assert [one == other for one, other in zip(before, after, strict=True)] == [is_scale, is_scale]


def test_pods_that_somebody_has_edited_get_the_spec_and_no_older_record() -> None:
    world = changed(engine={"contextLength": 4096})
    before = pods(world)
    lose(world, 2)
    edited = live(world)
    edited["metadata"]["managedFields"] = [
        {
            "manager": "kubectl-edit",
            "operation": "Update",
            "fieldsV1": {"f:spec": {"f:template": {"f:spec": {"f:terminationGracePeriodSeconds": {}}}}},
        }
    ]
    edited["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = 999
    store(world, edited)
    world.passes(2)
    assert (pods(world), world.condition()["reason"]) == (before, "Newest")


def test_a_higher_number_that_somebody_writes_on_a_deployment_changes_no_pod(monkeypatch: pytest.MonkeyPatch) -> None:
    world = changed(engine={"contextLength": 4096})
    before = pods(world)
    build_other_pods(world, monkeypatch)
    edited = live(world)
    edited["metadata"]["annotations"][REVISION_ANNOTATION] = "7"
    store(world, edited)
    world.change(replicas=3)
    assert (pods(world), records(world)) == (before, ["kimi-1", "kimi-2"])
    found = world.cache.get(KEY.of(DEPLOYMENT))
    assert found
    assert found["metadata"]["annotations"][REVISION_ANNOTATION] == "2"


def test_a_server_that_went_back_keeps_its_pods_although_their_record_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """The answers with the template of record 2 were wrong. Its pods must not come back."""
    world = World(router=None, verification={"mode": "Block", "onFailure": "Rollback"})
    world.report("kimi")
    world.passes()
    verify(world, 1)
    first = pods(world)
    world.owned = {"f:engine": {"f:contextLength": {}}}
    world.change(engine={"contextLength": 4096})
    verify(world, 2, has_passed=False)
    world.passes(2)
    assert (pods(world), world.condition()["reason"]) == (first, "RolledBack")
    lose(world, 1)
    build_other_pods(world, monkeypatch)
    world.passes(2)
    assert (pods(world), records(world)) == (first, ["kimi-1", "kimi-2"])


def rolled_back() -> World:
    """Return a server that went back to the pods of record 1. The answers with those of record 2 were wrong."""
    world = World(router=None, verification={"mode": "Block", "onFailure": "Rollback"})
    world.report("kimi")
    world.passes()
    verify(world, 1)
    world.owned = {"f:engine": {"f:contextLength": {}}}
    world.change(engine={"contextLength": 4096})
    verify(world, 2, has_passed=False)
    world.passes(2)
    world.report("kimi")
    assert world.condition()["reason"] == "RolledBack"
    return world


@pytest.mark.parametrize("lost", [(2,), (1, 2)], ids=str)
def test_a_server_that_went_back_never_says_that_it_serves_its_spec(lost: tuple[int, ...]) -> None:
    """The record of the wrong answers is lost, or all records are."""
    world = rolled_back()
    before = pods(world)
    for number in lost:
        lose(world, number)
    world.passes(3)
    assert (pods(world), records(world)) == (before, ["kimi-1", "kimi-2"])
    assert world.condition()["reason"] == "RolledBack"
    assert find_condition(world.cluster.status, "Verified")["reason"] == "VerificationFailed"
    lose(world, 1)
    world.passes(2)
    assert (pods(world), world.condition()["reason"]) == (before, "RolledBack")
    world.change(engine={"contextLength": 8192})
    assert "8192" in str(pods(world))


@_SIZES
def test_a_scaled_server_that_went_back_keeps_its_pods_although_their_record_is_lost(size: Manifest) -> None:
    """An autoscaler scales the server before the operator sees that the record is lost."""
    verified: Manifest = {"verification": {"mode": "Block", "onFailure": "Rollback"}}
    world = Owned().write(size, **verified)
    before = world.template("kimi")
    verify(world, 1)
    wrong: Manifest = {**verified, "engine": {"contextLength": 4096}}
    world.write({**size, "f:engine": {"f:contextLength": {}}}, **wrong)
    verify(world, 2, has_passed=False)
    world.write({**size, "f:engine": {"f:contextLength": {}}}, is_same=True, **wrong)
    assert world.template("kimi") == before
    lose(world, 1)
    world.write({**size, "f:engine": {"f:contextLength": {}}}, is_scale=True, replicas=2, **wrong)
    assert (world.template("kimi"), records(world)) == (before, ["kimi-1", "kimi-2"])


@pytest.mark.parametrize("is_lost", [False, True], ids=["unreadable", "lost beside a higher number"])
def test_the_pods_of_an_unreadable_record_stay(is_lost: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The record of an older spec can be read. Its pods must not come back."""
    world = changed(engine={"contextLength": 4096})
    before = pods(world)
    build_other_pods(world, monkeypatch)
    unreadable = {**copy.deepcopy(world.record(2)), "data": {"from": "another version"}}
    world.cluster.written.append("an edit")
    unreadable["metadata"]["resourceVersion"] = str(len(world.cluster.written) + 10)
    if is_lost:
        lose(world, 2)
        unreadable["metadata"] |= {"name": "kimi-5", "uid": "other"}
        unreadable["revision"] = 5
    live(world)
    world.cache.put(REVISION, unreadable)
    world.passes(3)
    assert (pods(world), world.condition()["reason"]) == (before, "NewTemplateAvailable")


def test_a_rollout_of_only_the_router_stops_although_its_record_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """An older, verified record has the same pods. The next server must not get the router that does not serve."""
    world = World(verification={"mode": "Warn"})
    for name in ("kimi", "kimi-router"):
        world.report(name)
    world.passes(2)
    verify(world, 1)
    monkeypatch.setattr(router, "_REQUESTS", {"cpu": "3", "memory": "512Mi"})
    world.pause = 300.0
    world.new_operator()
    world.passes(2)
    world.context.about_to_change.add(KEY)
    world.passes(2)
    world.report("kimi-router", availableReplicas=0)
    world.passes()
    lose(world, 2)
    world.passes(2)
    assert (marks(world), world.condition()["reason"]) == (["kimi-2"], "RollingOutByItself")


def test_a_scaled_server_at_which_a_rollout_has_stopped_keeps_the_mark_of_its_lost_record() -> None:
    """An autoscaler scales the server before the operator sees that the records are lost."""
    world = Owned().write(_SIZE)
    record = copy.deepcopy(world.record(1))
    record["metadata"].setdefault("annotations", {})[AUTOMATIC_ANNOTATION] = "true"
    record["metadata"]["resourceVersion"] = "13"
    world.cache.put(REVISION, record)
    world.write(_SIZE, is_same=True)
    world.lose_records()
    world.cluster.live = {name: live for name, live in world.cluster.live.items() if "ControllerRevision" not in name}
    world.start()
    world.write(_SIZE, is_scale=True, replicas=2)
    assert marks(world) == ["kimi-1"]


def test_an_adopted_server_keeps_its_pods_although_its_newest_record_never_ran(monkeypatch: pytest.MonkeyPatch) -> None:
    """The API server refused a change. The server was deleted without its children, and created without the change."""
    world = Owned().write(_SIZE)
    before = world.template("kimi")
    world.cluster.refused["Deployment/kimi"] = ApiError(422, "wrong")
    world.write({**_SIZE, "f:engine": {"f:contextLength": {}}}, engine={"contextLength": 4096})
    assert [record["metadata"]["name"] for record in world.cache.children(REVISION, KEY)] == ["kimi-1", "kimi-2"]
    world.cluster.refused.clear()
    world.delete_without_children()
    build_other(monkeypatch)
    world.write(_SIZE)
    assert (world.template("kimi"), world.number) == (before, 1)


@_SIZES
@pytest.mark.parametrize(
    ("is_scale", "more"),
    [(True, {"replicas": 2}), (False, {"router": {"policy": "LeastLoad"}})],
    ids=["an autoscaler", "the owner"],
)
def test_only_a_change_by_the_owner_replaces_a_router_without_a_record(
    size: Manifest, is_scale: bool, more: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An earlier build made the router. The replicas changed before this version started."""
    world = Owned().write({**size, "f:router": {}}, router={})
    before = world.template("kimi-router")
    world.cluster.live["Deployment/kimi"] = world.deployment
    found = world.cache.get(KEY._replace(name="kimi-router").of(DEPLOYMENT))
    assert found
    made = copy.deepcopy(found)
    del made["metadata"]["annotations"][TEMPLATE_ANNOTATION]
    world.cluster.written.append("an edit")
    made["metadata"]["resourceVersion"] = str(len(world.cluster.written) + 10)
    world.cache.put(DEPLOYMENT, made)
    world.cluster.live["Deployment/kimi-router"] = made
    build_other(monkeypatch)
    world.start()
    world.write({**size, "f:router": {"f:policy": {}}}, is_scale=is_scale, **{"router": {}, **more})
    assert (world.template("kimi-router") == before) is is_scale


@pytest.mark.parametrize("replicas", [1, 5], ids=["as reported", "scaled by hand"])
def test_a_spec_counts_as_only_scaled_only_if_nobody_has_scaled_the_deployment(replicas: int) -> None:
    """If somebody has, the other replicas in the spec do not show that the only write was a scale."""
    world = Owned().write(_SIZE)
    world.cluster.status["replicas"] = 1
    world.write(_SIZE, is_scale=True, replicas=2)
    stored = world.cluster.live["KimiLinearServer/kimi"]
    before = Before("2026-11-24T23:00:00Z", replicas=replicas)
    assert was_only_scaled(stored, before) is (replicas == 1)


def test_an_older_record_with_the_same_pods_and_an_older_annotation_replaces_no_pod(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The owner asked for the newest pods, and these were the same. The record of this is lost."""
    world = World(verification={"mode": "Warn"})
    for name in ("kimi", "kimi-router"):
        world.report(name)
    world.passes(2)
    verify(world, 1)
    world.annotations = {ROLLOUT_ANNOTATION: "now"}
    world.passes(2)
    assert records(world) == ["kimi-1", "kimi-2"]
    before = [pods(world), world.pods]
    build_other_pods(world, monkeypatch)
    lose(world, 2)
    world.passes(2)
    assert ([pods(world), world.pods], records(world)) == (before, ["kimi-1", "kimi-2"])
    assert world.condition()["reason"] == "NewTemplateAvailable"


def make_unreadable(world: World, number: int) -> None:
    """Let another version write a record that this version cannot read."""
    unreadable = {**copy.deepcopy(world.record(number)), "data": {"from": "another version"}}
    world.cluster.written.append("an edit")
    unreadable["metadata"]["resourceVersion"] = str(len(world.cluster.written) + 10)
    world.cache.put(REVISION, unreadable)
    live(world)


@pytest.mark.parametrize("is_killed", [False, True], ids=["at once", "killed before the router is written"])
def test_an_unreadable_record_of_the_replicas_replaces_no_router(
    is_killed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World()
    world.report("kimi-router")
    world.cluster.live["Deployment/kimi-router"] = world.router
    before = [pods(world), world.pods]
    build_other_pods(world, monkeypatch)
    make_unreadable(world, 1)
    if is_killed:
        world.cluster.refused["Deployment/kimi-router"] = ApiError(500, "try again")
        with pytest.raises(ApiError):
            world.passes()
        world.cluster.refused.clear()
        world.new_operator()
    world.passes(2)
    assert ([pods(world), world.pods], world.condition()["reason"]) == (before, "NewTemplateAvailable")
    world.owned = {**world.owned, "f:engine": {"f:contextLength": {}}}
    world.change(engine={"contextLength": 4096})
    assert world.pods != before[1]


def rejected(monkeypatch: pytest.MonkeyPatch) -> World:
    """Return a server at which an automatic rollout has stopped, because the answers with its template were wrong."""
    world = World(verification={"mode": "Block", "onFailure": "Rollback"})
    for name in ("kimi", "kimi-router"):
        world.report(name)
    world.passes(2)
    verify(world, 1)
    world.roll_out_other_replicas(monkeypatch)
    verify(world, 2, has_passed=False)
    world.passes(2)
    for name in ("kimi", "kimi-router"):
        world.report(name)
    world.passes(2)
    assert world.condition()["reason"] == "TemplateRejected"
    return world


@pytest.mark.parametrize("lost", [(2,), (1,), (1, 2)], ids=str)
def test_an_automatic_rollout_goes_on_after_wrong_answers_only_if_the_owner_wants_it(
    lost: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The records of the template that failed, or of the verified one, are lost. Other servers must not get it."""
    world = rejected(monkeypatch)
    before = [pods(world), world.pods]
    for number in lost:
        lose(world, number)
    world.passes(3)
    assert ([pods(world), world.pods], world.condition()["reason"]) == (before, "TemplateRejected")
    assert marks(world) == ["kimi-2"]


def test_a_router_of_a_server_that_went_back_keeps_its_pods_although_its_record_is_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = rejected(monkeypatch)
    before = world.pods
    monkeypatch.setattr(router, "_REQUESTS", {"cpu": "2", "memory": "512Mi"})
    world.new_operator()
    world.edit(annotation="")
    world.passes(2)
    assert world.pods == before


class Shown(Owned):
    """A server whose status every pass sees as the pass before has written it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        patch = self.cluster.patch_status

        async def patch_and_show(kind: Kind, manifest: Manifest, status: Manifest, **more: bool) -> Manifest:
            found = self.cluster.live["KimiLinearServer/kimi"]
            version = str(int(found["metadata"]["resourceVersion"]) + 1)
            shown = {**found, "metadata": {**found["metadata"], "resourceVersion": version}, "status": status}
            self.cluster.live["KimiLinearServer/kimi"] = shown
            self.cache.put(SERVER, shown)
            return await patch(kind, manifest, status, **more)

        self.cluster.patch_status = patch_and_show  # type: ignore[method-assign]


def test_a_spec_that_seems_to_be_only_scaled_hides_no_difference_from_a_record() -> None:
    """The router has no record, and the owner changes the spec and the replicas in one write."""
    world = Shown().write({**_SIZE, "f:router": {}}, router={})
    made = copy.deepcopy(world.cache.get(KEY._replace(name="kimi-router").of(DEPLOYMENT)))
    assert made
    del made["metadata"]["annotations"][TEMPLATE_ANNOTATION]
    world.cluster.written.append("an edit")
    made["metadata"]["resourceVersion"] = str(len(world.cluster.written) + 10)
    world.cache.put(DEPLOYMENT, made)
    world.cluster.live["Deployment/kimi-router"] = made
    world.start()
    owned = {**_SIZE, "f:router": {}, "f:engine": {"f:contextLength": {}}}
    world.write(owned, router={}, replicas=2, engine={"contextLength": 8192})
    assert "8192" in world.pods


def test_the_ports_of_pods_stay_open_while_nobody_knows_their_spec() -> None:
    """The records of a server that went back were all lost. Its pods have a sidecar with a port."""
    server = KimiLinearServer.model_validate(make_server())
    record = replace(choose(server, History()).current, inputs={})
    serving = {"metadata": {"generation": 1}, "status": {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1}}
    policy = {"spec": {"ingress": [{"ports": [{"port": 9999, "protocol": "TCP"}]}]}}
    assert (9999, "TCP") in needs_of_others(record, record, serving, policy).ports


@pytest.mark.parametrize("number", ["7", "", "1000000000000"], ids=["too high", "missing", "senseless"])
@pytest.mark.parametrize("is_lost", [False, True], ids=["all records exist", "their record is lost"])
def test_pods_whose_number_somebody_edits_stay(is_lost: bool, number: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The record of an older spec can be read. Its pods must not come back."""
    world = changed(engine={"contextLength": 4096})
    before = pods(world)
    build_other_pods(world, monkeypatch)
    if is_lost:
        lose(world, 2)
    edited = live(world)
    edited["metadata"]["annotations"][REVISION_ANNOTATION] = number
    store(world, edited)
    world.passes(3)
    assert (pods(world), world.condition()["reason"]) == (before, "NewTemplateAvailable")
