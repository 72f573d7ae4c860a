"""A spec that is not applied gets a default within a list. When its owner corrects the spec, the pods stay."""

from typing import Any

import pytest

from kimi_linear_operator.cluster.errors import ApiError
from kimi_linear_operator.kubernetes.conditions import find_condition, ready_condition
from kimi_linear_operator.kubernetes.kinds import Manifest
from passes import Passes
from unit.server.test_changed_defaults import World

_FIELDS: Manifest = {"f:podTemplate": {"f:spec": {"f:containers": {}}}}
_RECORD = "ControllerRevision/kimi-1"


def _list(**fields: object) -> Manifest:
    return {"podTemplate": {"spec": {"containers": [{"name": "sglang", "tty": False, **fields}]}}}


_DEFAULT = {"imagePullPolicy": "Always"}
MISTAKES = [
    pytest.param({"security": {"hostIPC": True}}, "InvalidSpec", id="the operator refuses it"),
    pytest.param({"model": {"weights": "missing"}}, "WeightsMissing", id="the weights are missing"),
]


def _owned(mistake: Manifest) -> Manifest:
    return {**_FIELDS, **{f"f:{name}": {f"f:{field}": {} for field in fields} for name, fields in mistake.items()}}


def _mistaken(mistake: Manifest, reason: str, **fields: object) -> World:
    """Return a server whose owner has made a mistake, before the CRD of another version has a default."""
    world = World().write(_FIELDS, _list()).write(_owned(mistake), _list(**fields), **mistake)
    assert ready_condition(world.cluster.status)["reason"] == reason
    return world


@pytest.mark.parametrize("is_upgraded", [False, True], ids=["the same operator", "another operator"])
@pytest.mark.parametrize(("mistake", "reason"), MISTAKES)
def test_a_default_that_appears_in_a_spec_that_is_not_applied_replaces_no_pod(
    mistake: Manifest, reason: str, *, is_upgraded: bool
) -> None:
    world = _mistaken(mistake, reason)
    if is_upgraded:
        world.start()
    world.write(_owned(mistake), _list(**_DEFAULT), is_same=True, **mistake)
    assert world.write(_FIELDS, _list(**_DEFAULT)).number == 1
    assert "imagePullPolicy" in find_condition(world.cluster.status, "TemplateCurrent")["message"]
    world.start()
    assert world.write(_FIELDS, _list(**_DEFAULT), service={"port": 31000}).number == 1


@pytest.mark.parametrize(("mistake", "reason"), MISTAKES)
def test_a_change_that_was_written_with_the_mistake_takes_effect_when_the_mistake_is_corrected(
    mistake: Manifest, reason: str
) -> None:
    world = _mistaken(mistake, reason, stdin=True)
    world.start()
    world.write(_owned(mistake), _list(stdin=True, **_DEFAULT), is_same=True, **mistake)
    assert world.write(_FIELDS, _list(stdin=True, **_DEFAULT)).number == 2
    assert "'stdin': True" in world.pods
    assert "Always" not in world.pods


@pytest.mark.parametrize(("mistake", "reason"), MISTAKES)
def test_a_change_that_is_written_with_the_correction_takes_effect(mistake: Manifest, reason: str) -> None:
    world = _mistaken(mistake, reason).write(_owned(mistake), _list(**_DEFAULT), is_same=True, **mistake)
    assert world.write(_FIELDS, _list(stdin=True, **_DEFAULT)).number == 2
    assert "'stdin': True" in world.pods
    assert "Always" not in world.pods


@pytest.mark.parametrize("is_requested", [False, True])
@pytest.mark.parametrize(("mistake", "reason"), MISTAKES)
def test_a_scale_of_a_spec_that_is_not_applied_takes_no_default(
    mistake: Manifest, reason: str, *, is_requested: bool
) -> None:
    """The default appears with the scale, which leaves no entry in the managed fields."""
    requested: dict[str, Any] = {"stdin": True} if is_requested else {}
    world = _mistaken(mistake, reason, **requested)
    world.write(_owned(mistake), _list(**requested, **_DEFAULT), is_scale=True, replicas=2, **mistake)
    assert world.write(_FIELDS, _list(**requested, **_DEFAULT), replicas=2).number == (2 if is_requested else 1)
    assert "Always" not in world.pods


@pytest.mark.parametrize("is_upgraded", [False, True], ids=["the same operator", "another operator"])
@pytest.mark.parametrize(("mistake", "reason"), MISTAKES)
def test_a_change_that_is_written_with_the_correction_takes_effect_after_a_scale(
    mistake: Manifest, reason: str, *, is_upgraded: bool
) -> None:
    """An autoscaler has scaled the server. The Deployment keeps its replicas while the spec is not applied."""
    world = _mistaken(mistake, reason).write(_owned(mistake), _list(), is_scale=True, replicas=2, **mistake)
    assert world.deployment["spec"]["replicas"] == 1
    if is_upgraded:
        world.start()
    assert world.write(_FIELDS, _list(stdin=True), replicas=2).number == 2
    assert world.deployment["spec"]["replicas"] == 2
    assert "'stdin': True" in world.pods


@pytest.mark.parametrize(("mistake", "reason"), MISTAKES)
def test_a_change_that_is_written_with_the_same_mistake_after_a_scale_takes_effect_with_the_correction(
    mistake: Manifest, reason: str
) -> None:
    world = _mistaken(mistake, reason).write(_owned(mistake), _list(), is_scale=True, replicas=2, **mistake)
    world.write(_owned(mistake), _list(stdin=True), replicas=2, **mistake)
    assert world.write(_FIELDS, _list(stdin=True), replicas=2).number == 2
    assert "'stdin': True" in world.pods


def test_a_change_takes_effect_after_a_scale_that_the_api_server_refused() -> None:
    world = World().write(_FIELDS, _list())
    refused = ApiError(403, "exceeded quota")
    world.cluster.refused["Deployment/kimi"] = refused
    world.write(_FIELDS, _list(), is_scale=True, replicas=2)
    assert ready_condition(world.cluster.status)["reason"] == "ApplyFailed"
    del world.cluster.refused["Deployment/kimi"]
    assert world.write(_FIELDS, _list(stdin=True), replicas=2).number == 2
    assert "'stdin': True" in world.pods


@pytest.mark.parametrize(("mistake", "reason"), MISTAKES)
def test_a_scale_takes_no_default_although_the_lists_owner_wrote_a_label_after_the_mistake(
    mistake: Manifest, reason: str
) -> None:
    world = _mistaken(mistake, reason)
    world.written += 1  # The owner writes a label.
    world.write(_owned(mistake), _list(**_DEFAULT), is_scale=True, replicas=2, **mistake)
    assert world.write(_FIELDS, _list(**_DEFAULT), replicas=2).number == 1


def test_a_spec_that_is_applied_later_gets_no_default_that_appeared_in_the_meantime() -> None:
    mistake: Manifest = {"security": {"hostIPC": True}}
    world = _mistaken(mistake, "InvalidSpec")
    world.operator = Passes(world.cluster, world.cache, allows_node_access=True, now=lambda: "2026-11-29T23:00:00Z")
    world.write(_owned(mistake), _list(**_DEFAULT), is_same=True, **mistake)
    assert world.number == 2
    assert "'hostIPC': True" in world.pods
    assert "Always" not in world.pods


@pytest.mark.parametrize(("mistake", "reason"), MISTAKES)
def test_a_spec_that_is_not_applied_costs_one_write_of_the_record(mistake: Manifest, reason: str) -> None:
    world = _mistaken(mistake, reason)
    written = world.cluster.written.count(_RECORD)
    for _ in range(3):
        world.start()
        world.write(_owned(mistake), _list(), is_same=True, **mistake)
    assert (written, world.cluster.written.count(_RECORD)) == (2, 2)
