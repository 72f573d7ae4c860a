"""A router's pods stay when the operator or its CRDs change, until somebody asks for other pods."""

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from kimi_linear_operator.cluster.errors import ApiError
from kimi_linear_operator.kubernetes import metadata
from kimi_linear_operator.kubernetes.kinds import DEPLOYMENT, REVISION, Kind, Manifest, kind_of
from kimi_linear_operator.reconcile import room
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.server import preview, router, router_template
from kimi_linear_operator.server.labels import (
    AUTOMATIC_ANNOTATION,
    ROLLOUT_ANNOTATION,
    ROUTER_HASH_ANNOTATION,
    TEMPLATE_ANNOTATION,
    VERIFICATION_ANNOTATION,
)
from kimi_linear_operator.server.revision import Result, Revision
from kimi_linear_operator.server.rollouts import is_marked
from kimi_linear_operator.server.spec import KimiLinearServer
from kimi_linear_operator.server.template_choice import TemplateChoice
from make import make_server, stored
from operated import KEY, NOW, World


@pytest.fixture
def world() -> World:
    return World()


def _upgrade(monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    """Let a version go on that builds other pods of the router."""
    monkeypatch.setattr(router, "_REQUESTS", {"cpu": "3", "memory": "512Mi"})
    world.new_operator()


def _cpu(template: Manifest) -> str:
    return str(template["spec"]["containers"][0]["resources"]["requests"]["cpu"])


def test_another_version_offers_its_router_and_replaces_no_pod(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    before, writes = world.pods, len(world.writes)
    _upgrade(monkeypatch, world)
    world.passes(2)
    assert (world.pods, len(world.writes)) == (before, writes)
    assert world.condition()["reason"] == "NewTemplateAvailable"
    assert "spec.containers[router].resources.requests.cpu of the router" in world.condition()["message"]


def test_a_router_is_written_once(world: World) -> None:
    world.passes(3)
    assert len(world.writes) == 1
    assert world.cluster.reads.count("Deployment") == 0
    assert world.condition()["reason"] == "Newest"


@pytest.mark.parametrize(
    "change", [{"replicas": 2}, {"router": {"policy": "LeastLoad", "replicas": 3}}, {"suspend": True}]
)
def test_a_change_of_the_number_of_pods_keeps_the_routers_template(
    change: Manifest, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = world.pods
    _upgrade(monkeypatch, world)
    world.change(**change)
    assert world.pods == before
    assert world.router["spec"]["replicas"] == (
        0 if "suspend" in change else change.get("router", {}).get("replicas", 2)
    )


@pytest.mark.parametrize(
    "change", [{"router": {"policy": "RoundRobin"}}, {"engine": {"contextLength": 4096}}], ids=["router", "server"]
)
def test_a_requested_change_takes_the_newest_template(
    change: Manifest, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    _upgrade(monkeypatch, world)
    world.owned = {"f:router": {"f:policy": {}}, "f:engine": {"f:contextLength": {}}}
    world.change(**change)
    assert _cpu(world.pods) == "3"
    assert world.condition()["reason"] == "Newest"
    if "router" in change:
        assert "--policy=round_robin" in str(world.pods)
        assert "ControllerRevision/kimi-2" not in world.cluster.written


def test_the_annotation_takes_the_newest_template(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    _upgrade(monkeypatch, world)
    world.annotations = {ROLLOUT_ANNOTATION: "now"}
    world.passes()
    assert _cpu(world.pods) == "3"
    writes = len(world.writes)
    world.passes(2)
    assert (len(world.writes), world.condition()["reason"]) == (writes, "Newest")


def _roll_out(monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    """Let a version that builds other pods of the router roll them out. The pause is five minutes."""
    for name in ("kimi", "kimi-router"):
        world.report(name)
    world.pause = 300
    _upgrade(monkeypatch, world)
    world.passes(2)
    world.context.about_to_change.add(KEY)
    world.passes()


def test_the_automatic_rollout_takes_the_newest_template_and_replaces_no_replica(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, recorded = world.cache.get(KEY.of(DEPLOYMENT)), world.record(1)["data"]
    assert before
    _roll_out(monkeypatch, world)
    assert _cpu(world.pods) == "3"
    assert not world.context.about_to_change
    after = world.cache.get(KEY.of(DEPLOYMENT))
    assert after
    assert after["spec"] == before["spec"]
    assert (world.record(2)["data"], AUTOMATIC_ANNOTATION in metadata.annotations(world.record(2))) == (recorded, True)
    assert world.condition()["reason"] == "RollingOutByItself"


_OLD_PODS = {"updatedReplicas": 1, "replicas": 3}
_DOWN = {"type": "Available", "status": "False", "lastTransitionTime": "2026-11-24T08:00:00Z"}
_UP_AGAIN = {"type": "Available", "status": "True", "lastTransitionTime": "2026-11-24T08:58:00Z"}


@pytest.mark.parametrize(
    ("status", "is_settled"),
    [
        ({}, True),
        ({"since": "2026-11-24T08:58:00Z"}, False),
        ({"observedGeneration": 1}, False),
        (_OLD_PODS, False),
        ({"availableReplicas": 0, "conditions": [_DOWN]}, False),
        ({"conditions": [_UP_AGAIN]}, False),
    ],
    ids=["serves", "serves since two minutes", "not observed", "former pods", "failed", "has failed"],
)
def test_a_server_has_settled_only_when_its_router_has_served_for_the_whole_pause(
    status: dict[str, Any], is_settled: bool, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    _roll_out(monkeypatch, world)
    world.report("kimi")
    world.report("kimi-router", **status)
    world.passes()
    assert world.condition()["reason"] == ("Newest" if is_settled else "RollingOutByItself")
    assert (AUTOMATIC_ANNOTATION not in metadata.annotations(world.record(2))) is is_settled


def test_a_sleeping_server_settles_although_its_router_cannot_become_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without replicas, no pod of a router becomes Ready. The router notices the request that wakes the server."""
    keda = {"prometheusAddress": "http://prometheus:9090"}
    world = World(replicas=0, autoscaling={"minReplicas": 0, "maxReplicas": 2, "keda": keda})
    _roll_out(monkeypatch, world)
    assert (world.router["spec"]["replicas"], _cpu(world.pods)) == (2, "3")
    world.report("kimi")
    world.report("kimi-router", availableReplicas=0, conditions=[_DOWN])
    world.passes()
    assert world.condition()["reason"] == "Newest"
    assert AUTOMATIC_ANNOTATION not in metadata.annotations(world.record(2))


def test_a_server_whose_router_could_not_be_written_has_not_settled(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusal = ApiError(500, "try again")
    monkeypatch.setitem(world.cluster.refused, "Deployment/kimi-router", refusal)
    with pytest.raises(ApiError):
        _roll_out(monkeypatch, world)
    world.report("kimi")
    with pytest.raises(ApiError):
        world.passes()
    assert AUTOMATIC_ANNOTATION in metadata.annotations(world.record(2))
    world.cluster.refused.clear()
    world.new_operator()
    world.passes()
    assert _cpu(world.pods) == "3"


def test_a_deleted_router_has_to_serve_again_before_a_rollout_goes_on(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    _roll_out(monkeypatch, world)
    world.report("kimi")
    world.report("kimi-router", availableReplicas=0, conditions=[_DOWN])
    world.delete("kimi-router")
    world.passes()
    assert (_cpu(world.pods), is_marked(world.cache, KEY)) == ("3", True)
    world.report("kimi-router", availableReplicas=0, conditions=[_DOWN])
    world.passes()
    assert is_marked(world.cache, KEY)
    world.report("kimi-router")
    world.passes()
    assert world.condition()["reason"] == "Newest"


def _verified(world: World, number: int, *, has_passed: bool) -> None:
    """Note the answers of the pods with a record."""
    record = copy.deepcopy(world.record(number))
    result = {"passed": has_passed, "message": "benchmark kimi-verify"}
    record["metadata"].setdefault("annotations", {})[VERIFICATION_ANNOTATION] = json.dumps(result)
    record["metadata"]["resourceVersion"] = str(500 + world.version)
    world.cache.put(REVISION, record)


def _settle(world: World) -> None:
    for _ in range(2):
        world.report("kimi")
        world.report("kimi-router")
        world.passes(2)


def _rolled_back(monkeypatch: pytest.MonkeyPatch) -> World:
    """Return a server that went back to its former pods, because the answers with those of a rollout were wrong."""
    world = World(verification={"mode": "Block", "onFailure": "Rollback"})
    _verified(world, 1, has_passed=True)
    _settle(world)
    world.roll_out_other_replicas(monkeypatch)
    _verified(world, 2, has_passed=False)
    _settle(world)
    return world


def test_another_router_is_no_remedy_for_replicas_whose_answers_were_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the rollout would go on, and other servers would get the template that has failed."""
    world = _rolled_back(monkeypatch)
    assert world.condition()["reason"] == "TemplateRejected"
    _upgrade(monkeypatch, world)
    world.passes(2)
    assert world.condition()["reason"] == "TemplateRejected"


def test_a_refused_spec_that_adds_a_router_does_not_stop_a_rollout(monkeypatch: pytest.MonkeyPatch) -> None:
    """The router does not exist, so nothing waits for it."""
    world = World(router=None, replicas=2)
    world.report("kimi")
    world.passes()
    world.roll_out_other_replicas(monkeypatch)
    world.owned = {"f:router": {"f:policy": {}}, "f:engine": {"f:extraArgs": {}}}
    world.change(router={"policy": "LeastLoad"}, engine={"extraArgs": ["--host=1.2.3.4"]})
    assert AUTOMATIC_ANNOTATION in metadata.annotations(world.record(2))
    world.report("kimi")
    world.passes(2)
    assert AUTOMATIC_ANNOTATION not in metadata.annotations(world.record(2))


@pytest.mark.parametrize("has_passed", [True, False])
def test_a_rollout_of_only_the_router_ends_after_right_and_after_wrong_answers(
    has_passed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `mode: Warn`, a server serves even after wrong answers. So its router is under way, too, until it serves."""
    world = World(verification={"mode": "Warn"})
    _verified(world, 1, has_passed=has_passed)
    for name in ("kimi", "kimi-router"):
        world.report(name)
    _roll_out(monkeypatch, world)
    world.report("kimi")
    world.report("kimi-router", since="2026-11-24T08:58:00Z")
    seconds = [world.last_retry() for _ in range(2)]
    assert is_marked(world.cache, KEY)
    assert seconds == [180.0, 180.0]
    world.report("kimi-router")
    world.passes()
    assert world.condition()["reason"] == "Newest"


def test_a_rollout_of_only_the_router_needs_no_new_verification() -> None:
    result = Result(has_passed=True, message="benchmark kimi-verify-1: passed")
    revision = Revision(3, {}, {}, "", "", 1, created=NOW, result=result)
    server = KimiLinearServer.model_validate(make_server())
    marked = TemplateChoice(revision).with_mark(server, 4, "0123456789abcdef").current
    assert marked == replace(revision, number=4, created="", is_automatic=True, router_hash="0123456789abcdef")


@pytest.mark.parametrize(
    ("owned", "is_taken"),
    [
        ({"f:router": {"f:policy": {}}}, False),
        ({"f:router": {}}, False),
        ({"f:router": {"f:policy": {}, "f:resources": {"f:requests": {"f:cpu": {}}}}}, True),
    ],
    ids=["a default", "a default in an object", "a request"],
)
def test_only_a_requested_value_of_a_field_changes_the_router(owned: Manifest, is_taken: bool, world: World) -> None:
    world.owned = owned
    world.change(router={"policy": "LeastLoad", "resources": {"requests": {"cpu": "7"}}}, replicas=2)
    assert (_cpu(world.pods) == "7") is is_taken
    world.new_operator()
    world.change(replicas=3)
    assert (_cpu(world.pods) == "7") is is_taken


def test_an_edited_router_gets_its_kept_template_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    before = world.pods
    _upgrade(monkeypatch, world)
    edited = copy.deepcopy(before)
    edited["spec"]["containers"][0]["image"] = "edited"
    world.edit(edited)
    world.passes()
    assert world.pods == before


@pytest.mark.parametrize("is_upgraded", [False, True])
def test_a_router_that_somebody_rolled_back_gets_the_template_of_the_spec_again(
    world: World, monkeypatch: pytest.MonkeyPatch, *, is_upgraded: bool
) -> None:
    """`kubectl rollout undo` restores the older pod template, with our annotation."""
    before = world.router
    world.change(router={"policy": "RoundRobin"})
    wanted = world.pods
    if is_upgraded:
        _upgrade(monkeypatch, world)
    world.edit(before["spec"]["template"], metadata.annotations(before)[TEMPLATE_ANNOTATION])
    world.passes(2)
    assert ("--policy=round_robin" in str(world.pods), world.pods == wanted) == (True, not is_upgraded)


def test_a_running_router_without_a_record_keeps_its_pods(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """An older version made it. Its record costs one write."""
    before = world.pods
    world.edit(annotation="")
    _upgrade(monkeypatch, world)
    writes = len(world.writes)
    world.passes(3)
    assert (world.pods, len(world.writes)) == (before, writes + 1)
    assert world.cluster.reads.count("Deployment") == 1
    assert world.condition()["reason"] == "NewTemplateAvailable"


def _let_wait(world: World) -> None:
    """Change the spec of a server with a router, so that it waits for its weights."""
    world.owned = {"f:router": {"f:policy": {}}, "f:model": {"f:weights": {}}}
    world.change(model={"weights": "missing"})


def _new_server() -> World:
    return World(model={"weights": "missing"})


def _server_that_gets_a_router() -> World:
    world = World(router=None)
    world.owned = {"f:router": {"f:policy": {}}, "f:model": {"f:weights": {}}}
    world.change(router={"policy": "LeastLoad"}, model={"weights": "missing"})
    return world


@pytest.mark.parametrize("make", [_new_server, _server_that_gets_a_router])
def test_a_router_that_is_made_while_its_server_waits_keeps_its_pods(
    make: Callable[[], World], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make()
    assert world.condition()["reason"] == "SpecNotApplied"
    before, writes = world.pods, len(world.writes)
    _upgrade(monkeypatch, world)
    world.passes(2)
    assert (world.pods, len(world.writes)) == (before, writes)


def test_the_record_of_a_router_whose_server_waits_names_the_inputs_that_nobody_has_set() -> None:
    """Otherwise a default of the CRD would count as set, and another default would replace the pods."""
    requests = {"policy": "LeastLoad", "resources": {"requests": {"cpu": "2"}}}
    waiting, served = World(router=requests, model={"weights": "missing"}), World(router=requests)
    records = [router_template.read(world.router) for world in (waiting, served)]
    unowned = ("router", "resources", "requests", "cpu")
    assert [record.unowned for record in records if record] == [(unowned,)] * 2


def test_a_router_without_a_record_keeps_its_pods_while_its_server_waits(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = world.pods
    _let_wait(world)
    world.edit(annotation="")
    _upgrade(monkeypatch, world)
    writes = len(world.writes)
    world.passes(3)
    assert (world.pods, len(world.writes)) == (before, writes + 1)


def test_a_router_without_a_record_keeps_its_pods_after_the_wait_of_a_server_that_was_rolled_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The Deployment of the replicas has the number before that of the newest record."""
    world = _rolled_back(monkeypatch)
    before = world.pods
    world.edit(annotation="")
    _let_wait(world)
    _upgrade(monkeypatch, world)
    world.passes(2)
    del world.spec["model"]
    world.change()
    assert (world.condition()["reason"], world.pods) == ("TemplateRejected", before)


def test_a_router_of_a_server_that_lost_its_deployment_has_the_number_of_the_newest_record(world: World) -> None:
    world.owned = {"f:router": {"f:policy": {}}, "f:engine": {"f:contextLength": {}}, "f:model": {"f:weights": {}}}
    world.change(engine={"contextLength": 4096})
    world.change(model={"weights": "missing"})
    for name in ("kimi", "kimi-router"):
        world.delete(name)
    world.passes()
    record = router_template.read(world.router)
    assert (record and record.number, world.cache.get(KEY.of(DEPLOYMENT))) == (2, None)


@pytest.mark.parametrize("text", ["{", "[]", '{"number": "1"}', '{"number": 1, "template": {}}', '"' * 70_000])
def test_a_record_that_cannot_be_read_is_replaced(text: str, world: World) -> None:
    before = world.pods
    world.edit(annotation=text)
    world.passes()
    assert world.pods == before
    assert router_template.read(world.router) is not None


def test_a_record_with_more_access_than_the_spec_is_ignored(world: World) -> None:
    before = world.pods
    record = router_template.read(world.router)
    assert record
    template = copy.deepcopy(record.template)
    template["spec"]["hostNetwork"] = True
    forged = {"number": 1, "inputs": record.inputs, "template": template, "rollout": "", "uid": "", "generation": 1}
    world.edit(annotation=json.dumps(forged))
    world.passes(2)
    assert world.pods == before


@pytest.mark.parametrize("is_refused", [False, True], ids=["", "and the router cannot be written at first"])
def test_lost_records_of_the_replicas_do_not_change_the_router(
    world: World, monkeypatch: pytest.MonkeyPatch, *, is_refused: bool
) -> None:
    before = world.pods
    _upgrade(monkeypatch, world)
    world.lose_records()
    if is_refused:
        world.edit(copy.deepcopy(before) | {"metadata": {}})  # so that the pass writes the router
        monkeypatch.setitem(world.cluster.refused, "Deployment/kimi-router", ApiError(500, "try again"))
        with pytest.raises(ApiError):
            world.passes()
        world.cluster.refused.clear()
        world.new_operator()
    world.passes(2)
    assert "ControllerRevision/kimi-2" not in world.cluster.written
    assert world.cluster.written.count("ControllerRevision/kimi-1") == 2
    world.change(replicas=2)
    assert world.pods == before


def test_a_diff_shows_the_routers_kept_template(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    before = world.router
    _upgrade(monkeypatch, world)
    server = KimiLinearServer.model_validate(world.cluster.live["KimiLinearServer/kimi"])
    live = [before, *(found for kind, name in _OTHERS if (found := world.cache.get(Key("default", name, kind))))]
    wanted = preview.PREVIEW.desired(server, live, {})
    [found] = [child for child in wanted if child["metadata"]["name"] == "kimi-router" and kind_of(child) == DEPLOYMENT]
    assert found["spec"]["template"] == before["spec"]["template"]
    assert metadata.annotations(found)[TEMPLATE_ANNOTATION] == metadata.annotations(before)[TEMPLATE_ANNOTATION]


_OTHERS = ((DEPLOYMENT, "kimi"), (REVISION, "kimi-1"))


def test_a_record_that_is_too_long_is_written_without_its_template_which_stays_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    texts = {f"example.com/{number}": "x" * 4000 for number in range(20)}
    world = World(inheritedMetadata={"annotations": texts})
    before = world.pods
    assert len(metadata.annotations(world.router)[TEMPLATE_ANNOTATION]) < 4000
    assert before["metadata"]["annotations"] == texts
    _upgrade(monkeypatch, world)
    for number in (2, 3):
        world.cluster.live["Deployment/kimi-router"] = stored(world.router)
        world.change(replicas=number)
        assert (world.pods, len(world.writes)) == (before, 1), "the number of the router's pods stays the same"
    world.change(router={"policy": "RoundRobin"})
    assert (_cpu(world.pods), len(world.writes)) == ("3", 2)


@pytest.mark.parametrize(
    "change", [{"replicas": 2}, {"model": {"weights": "kimi"}}], ids=["scaled", "waits for weights"]
)
def test_a_router_keeps_its_pods_if_an_event_during_the_pass_leaves_only_its_essence(
    change: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(inheritedMetadata={"annotations": {"example.com/notes": "x" * 9000}})
    before = world.pods
    _upgrade(monkeypatch, world)
    _cut(monkeypatch, world)
    world.owned |= {"f:model": {"f:weights": {}}}
    before_change = len(world.cluster.applied)
    world.change(**change)
    applied = [item for item in world.cluster.applied[before_change:] if item["metadata"]["name"] == "kimi-router"]
    routers = [item["spec"] for item in applied if kind_of(item) == DEPLOYMENT]
    assert routers, "the essence lacks the record, so the Deployment is applied again"
    assert all(spec["template"] == before for spec in routers)


def _cut(monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    """Leave no room in the cache. Each read of the router returns late: the cache shows a newer version by then."""
    monkeypatch.setattr(room, "MOST_OF_LARGE", 0)
    for kind, name in (*_OTHERS, (DEPLOYMENT, "kimi-router")):
        found = world.cache.get(Key("default", name, kind))
        assert found
        world.cluster.live[f"{kind.kind}/{name}"] = found
        _observe(world, kind, name)
    get = world.cluster.get

    async def get_late(kind: Kind, namespace: str, name: str) -> Manifest | None:
        found = await get(kind, namespace, name)
        if name == "kimi-router":
            _observe(world, kind, name)
        return found

    monkeypatch.setattr(world.cluster, "get", get_late)


def _observe(world: World, kind: Kind, name: str) -> None:
    """Let the cache see a newer version of an object, of which only something unimportant has changed."""
    found, world.version = world.cluster.live[f"{kind.kind}/{name}"], world.version + 1
    newer = {**found, "metadata": {**found["metadata"], "resourceVersion": str(world.version)}}
    world.cluster.live[f"{kind.kind}/{name}"] = newer
    world.cache.put(kind, newer)


def test_a_rollout_of_a_router_whose_record_lacks_its_template_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """The record is too long for its template. Its number is there all the same."""
    texts = {f"example.com/{number}": "x" * 4000 for number in range(20)}
    world = World(inheritedMetadata={"annotations": texts})
    _roll_out(monkeypatch, world)
    world.cluster.live["Deployment/kimi-router"] = stored(world.router)
    for name in ("kimi", "kimi-router"):
        world.report(name)
    world.passes(2)
    assert world.condition()["reason"] == "Newest"


@pytest.mark.parametrize("cpu", ["2", "3"], ids=["another version", "the version that began it"])
def test_only_the_version_that_began_to_roll_a_router_out_goes_on_with_it(
    world: World, monkeypatch: pytest.MonkeyPatch, cpu: str
) -> None:
    """It was killed before it could write the router. Nobody has asked for the router of another version."""
    before = _cpu(world.pods)
    monkeypatch.setitem(world.cluster.refused, "Deployment/kimi-router", ApiError(500, "try again"))
    with pytest.raises(ApiError):
        _roll_out(monkeypatch, world)
    assert (_cpu(world.pods), AUTOMATIC_ANNOTATION in str(world.record(2))) == (before, True)
    world.cluster.refused.clear()
    monkeypatch.setattr(router, "_REQUESTS", {"cpu": cpu, "memory": "512Mi"})
    world.pause = None
    world.new_operator()
    world.passes(2)
    assert _cpu(world.pods) == ("3" if cpu == "3" else before)
    for name in ("kimi", "kimi-router"):
        world.report(name)
    world.passes(2)
    annotations = world.record(2)["metadata"]["annotations"]
    assert not {AUTOMATIC_ANNOTATION, ROUTER_HASH_ANNOTATION} & annotations.keys()
