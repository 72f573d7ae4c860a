"""Somebody has deleted the record of the pods that run, and an older record is still there."""

import copy
from typing import Any

import pytest

from kimi_linear_operator.kubernetes.kinds import DEPLOYMENT, REVISION, Manifest
from kimi_linear_operator.server import deployment
from kimi_linear_operator.server.labels import REVISION_ANNOTATION
from operated import KEY, World
from unit.server.test_replaced_marks import verify


def lose(world: World, number: int) -> None:
    """Delete a record."""
    record = world.record(number)
    world.cache.take(world.cache.reader.read(REVISION, record, is_deleted=True))
    live(world)


def live(world: World) -> Manifest:
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


def records(world: World) -> list[str]:
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
    build = deployment._pod_spec
    monkeypatch.setattr(deployment, "_pod_spec", lambda *args: {**build(*args), "terminationGracePeriodSeconds": 77})
    world.new_operator()


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
