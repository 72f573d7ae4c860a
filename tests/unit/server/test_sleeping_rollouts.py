"""Automatic rollouts to servers that KEDA may scale to zero replicas."""

from typing import Any

import pytest

from kimi_linear_operator.kubernetes.kinds import DEPLOYMENT, SCALED_OBJECT, Manifest
from kimi_linear_operator.server.rollouts import is_marked
from operated import KEY, World

KEDA: Manifest = {"prometheusAddress": "http://prometheus:9090", "wakeQuery": "vector(0)"}
SLEEPING: Manifest = {"minReplicas": 0, "maxReplicas": 4, "keda": KEDA}


def _serving() -> World:
    world = World(router=None, replicas=1, autoscaling=SLEEPING)
    world.report("kimi")
    world.passes()
    return world


def _asleep() -> World:
    world = World(router=None, replicas=0, autoscaling=SLEEPING)
    world.report("kimi")
    world.passes()
    return world


def _least_replicas(world: World) -> int:
    found = world.cache.get(KEY.of(SCALED_OBJECT))
    assert found
    return int(found["spec"]["minReplicaCount"])


def _grace(world: World) -> int:
    found = world.cache.get(KEY.of(DEPLOYMENT))
    assert found
    return int(found["spec"]["template"]["spec"]["terminationGracePeriodSeconds"])


def _fall_asleep(world: World) -> None:
    world.change(replicas=0)
    world.report("kimi")
    world.passes(2)


def _fail(monkeypatch: pytest.MonkeyPatch) -> World:
    """Roll out a template to a server, with which no replica becomes Ready."""
    world = _serving()
    world.roll_out_other_replicas(monkeypatch)
    world.report("kimi", availableReplicas=0)
    world.passes()
    assert (_grace(world), world.condition()["reason"]) == (77, "RollingOutByItself")
    return world


def _has_ended(world: World) -> bool:
    """Return whether the rollout goes on with the next server."""
    return world.condition()["reason"] == "Newest" and not is_marked(world.cache, KEY)


def test_keda_keeps_a_replica_of_a_server_in_a_rollout_until_the_rollout_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An idle server would otherwise fall asleep before its replica has loaded, and the rollout would have to wait."""
    world = _serving()
    assert _least_replicas(world) == 0
    world.roll_out_other_replicas(monkeypatch)
    assert _least_replicas(world) == 1
    world.report("kimi")
    world.passes()
    assert (_has_ended(world), _least_replicas(world)) == (True, 0)


def test_a_step_to_zero_does_not_end_the_halt_of_a_rollout(monkeypatch: pytest.MonkeyPatch) -> None:
    world = _fail(monkeypatch)
    _fall_asleep(world)
    assert world.condition()["reason"] == "RollingOutByItself"
    assert is_marked(world.cache, KEY)
    assert _least_replicas(world) == 1, "KEDA wakes the server"
    world.new_operator()
    world.passes(2)
    assert is_marked(world.cache, KEY)
    world.change(replicas=1)
    assert is_marked(world.cache, KEY), "the Deployment has been scaled up only now"
    world.report("kimi", availableReplicas=0)
    world.passes(2)
    assert is_marked(world.cache, KEY)
    world.report("kimi")
    world.passes(2)
    assert _has_ended(world)


@pytest.mark.parametrize(
    "change", [{"suspend": True}, {"autoscaling": None}, {"autoscaling": {"maxReplicas": 4}}], ids=str
)
@pytest.mark.parametrize("is_asleep", [False, True])
def test_a_user_who_switches_a_failed_server_off_ends_the_halt(
    change: dict[str, Any], monkeypatch: pytest.MonkeyPatch, *, is_asleep: bool
) -> None:
    world = _fail(monkeypatch)
    if is_asleep:
        _fall_asleep(world)
    world.change(**change, **({} if "suspend" in change else {"replicas": 0}))
    world.report("kimi")
    world.passes(2)
    assert _has_ended(world)


def test_a_refused_spec_does_not_end_the_halt_of_a_sleeping_server(monkeypatch: pytest.MonkeyPatch) -> None:
    world = _fail(monkeypatch)
    _fall_asleep(world)
    world.owned = {"f:engine": {"f:extraArgs": {}}}
    world.change(engine={"extraArgs": ["--host=1.2.3.4"]})
    world.report("kimi")
    world.passes(2)
    assert is_marked(world.cache, KEY)


def test_a_server_that_takes_the_template_in_its_sleep_delays_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    world = _asleep()
    world.roll_out_other_replicas(monkeypatch)
    assert (_grace(world), _least_replicas(world)) == (77, 0), "no replica starts for the rollout"
    world.report("kimi")
    world.passes()
    assert _has_ended(world)
    writes = len(world.cluster.written)
    world.passes(3)
    assert len(world.cluster.written) == writes


def test_a_server_that_a_request_wakes_while_it_takes_the_template_has_to_serve(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = _asleep()
    world.roll_out_other_replicas(monkeypatch)
    world.change(replicas=1)
    world.report("kimi", availableReplicas=0)
    world.passes()
    assert (is_marked(world.cache, KEY), _least_replicas(world)) == (True, 1)
    _fall_asleep(world)
    assert is_marked(world.cache, KEY)


def test_a_sleeping_server_that_has_failed_has_to_serve_with_the_template_that_repairs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = _fail(monkeypatch)
    _fall_asleep(world)
    world.roll_out_other_replicas(monkeypatch, grace=78)
    world.report("kimi")
    world.passes(2)
    assert (_grace(world), is_marked(world.cache, KEY), _least_replicas(world)) == (78, True, 1)
