"""A server has at most one mark of an automatic rollout: that of its current revision until its pods have served."""

import copy
import json

import pytest

from kimi_linear_operator.cluster.errors import ApiError
from kimi_linear_operator.kubernetes.conditions import find_condition
from kimi_linear_operator.kubernetes.kinds import DEPLOYMENT, REVISION, Kind, Manifest
from kimi_linear_operator.kubernetes.metadata import annotations
from kimi_linear_operator.server import deployment
from kimi_linear_operator.server.labels import AUTOMATIC_ANNOTATION, VERIFICATION_ANNOTATION
from kimi_linear_operator.server.rollouts import is_marked
from operated import KEY, World
from unit.server import test_changed_defaults as owners


def marks(world: World | owners.World) -> list[str]:
    records = world.cache.children(REVISION, KEY)
    return [item["metadata"]["name"] for item in records if AUTOMATIC_ANNOTATION in annotations(item)]


def verify(world: World | owners.World, number: int, *, has_passed: bool = True) -> None:
    """Record whether the answers with the pods of a revision were right."""
    record = copy.deepcopy(world.record(number))
    world.cluster.written.append("a result")
    about = record["metadata"].setdefault("annotations", {})
    about[VERIFICATION_ANNOTATION] = json.dumps({"passed": has_passed, "message": "told"})
    record["metadata"]["resourceVersion"] = str(len(world.cluster.written) + 10)
    world.cache.put(REVISION, record)


def test_a_verified_revision_loses_its_mark_when_a_change_of_the_spec_replaces_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The server keeps the revision for a way back. With its mark, it would stop the rollout of the next version."""
    world = World(router=None, replicas=1, verification={"mode": "Warn"})
    world.report("kimi")
    world.roll_out_other_replicas(monkeypatch)
    verify(world, 2)
    world.report("kimi", availableReplicas=0)
    world.passes()
    assert marks(world) == ["kimi-2"]
    world.owned = {"f:engine": {"f:contextLength": {}}}
    world.change(engine={"contextLength": 4096})
    assert marks(world) == ["kimi-3"]
    world.report("kimi")
    world.passes(2)
    assert marks(world) == []


def restore_marks(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a tool that restores objects from a backup own the marks. An apply by the operator then keeps them."""
    apply = world.cluster.apply

    async def apply_beside(kind: Kind, manifest: Manifest) -> Manifest:
        stored = await apply(kind, manifest)
        before = world.cache.get(KEY._replace(name=manifest["metadata"]["name"]).of(kind))
        if kind == REVISION and before and AUTOMATIC_ANNOTATION in before["metadata"]["annotations"]:
            stored["metadata"]["annotations"][AUTOMATIC_ANNOTATION] = "true"
        return stored

    monkeypatch.setattr(world.cluster, "apply", apply_beside)


@pytest.mark.parametrize("spec", [{}, {"security": {"hostIPC": True}}], ids=["applied", "refused"])
def test_a_mark_that_another_field_manager_owns_goes_when_the_server_has_served(
    spec: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the healthy server would stop the rollout of the next version, and each pass would read its pods."""
    world = World(router=None)
    world.report("kimi")
    world.roll_out_other_replicas(monkeypatch)
    restore_marks(world, monkeypatch)
    world.report("kimi", availableReplicas=0)
    world.change(**spec)
    assert marks(world) == ["kimi-2"]
    world.report("kimi")
    world.passes(2)
    assert marks(world) == []
    before, world.cluster.reads = len(world.cluster.written), []
    world.passes(2)
    assert (world.cluster.reads, world.cluster.written[before:]) == ([], [])


def test_a_server_gets_everything_and_its_status_although_its_pods_cannot_be_listed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Only the pods of the API server show whether the rollout goes on. The owner's changes do not wait for that."""
    world = World(router=None)
    world.report("kimi")
    world.roll_out_other_replicas(monkeypatch)

    async def refuse(*_: object) -> list[Manifest]:
        raise ApiError(429, "too many requests")

    monkeypatch.setattr(world.cluster, "summarize", refuse)
    world.report("kimi")
    world.spec |= {"replicas": 5, "service": {"port": 31000}}
    world.generation += 1
    for failures in range(7):
        with pytest.raises(ApiError, match="too many requests"):
            world.passes(failures=failures)
        world.report("kimi")
    assert world.cluster.status["observedGeneration"] == world.generation
    ready = find_condition(world.cluster.status, "Ready")
    assert ready
    assert ready["status"] == "True"
    deployment = world.cache.get(KEY.of(DEPLOYMENT))
    assert deployment
    assert deployment["spec"]["replicas"] == 5
    assert "Service/kimi" in world.cluster.written
    assert marks(world) == ["kimi-2"]


def with_held_record(monkeypatch: pytest.MonkeyPatch) -> tuple[World, Manifest]:
    """Return a server in a rollout, and its marked record as it is when it is deleted and a finalizer holds it."""
    world = World(router=None)
    world.report("kimi")
    world.roll_out_other_replicas(monkeypatch)
    world.report("kimi", availableReplicas=0)
    held = copy.deepcopy(world.record(2))
    held["metadata"] |= {"deletionTimestamp": "2026-11-24T09:00:00Z", "finalizers": ["example.com/hold"]}
    held["metadata"]["resourceVersion"] = "1000"
    return world, held


def offer_another_template(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the next version go on. It would build other pods, and the pods stay."""
    build = deployment._pod_spec
    monkeypatch.setattr(deployment, "_pod_spec", lambda *args: {**build(*args), "terminationGracePeriodSeconds": 78})
    world.new_operator()
    world.passes(2)
    assert world.condition()["reason"] == "NewTemplateAvailable"


def test_a_deleted_record_that_a_finalizer_holds_does_not_stop_the_rollout_of_the_next_version(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It keeps its mark for ever, because the server has another template."""
    world, held = with_held_record(monkeypatch)
    world.owned = {"f:engine": {"f:contextLength": {}}}
    world.change(engine={"contextLength": 4096})
    world.cache.put(REVISION, held)
    world.report("kimi")
    world.passes(2)
    assert marks(world) == ["kimi-2"]
    offer_another_template(world, monkeypatch)
    assert not is_marked(world.cache, KEY)


def test_a_deleted_record_that_a_finalizer_holds_still_stops_the_rollout_while_its_pods_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The server does not serve with this template. The next version repairs it first, and changes no other server."""
    world, held = with_held_record(monkeypatch)
    world.cache.put(REVISION, held)
    offer_another_template(world, monkeypatch)
    assert is_marked(world.cache, KEY)
