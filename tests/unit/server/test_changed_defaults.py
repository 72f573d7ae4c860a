"""The CRD of another version drops a default and stores another one. Nobody asked for that, so the pods stay."""

import asyncio
import copy
import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Self

import pytest

from kimi_linear_operator.cluster.errors import ApiError
from kimi_linear_operator.kubernetes import ownership
from kimi_linear_operator.kubernetes.conditions import find_condition
from kimi_linear_operator.kubernetes.kinds import DEPLOYMENT, REVISION, Kind, Manifest, kind_of
from kimi_linear_operator.kubernetes.metadata import MANAGER
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.reconcile.errors import BehindError
from kimi_linear_operator.resource_types import DEFINITIONS
from kimi_linear_operator.server.labels import ROLLOUT_ANNOTATION, TEMPLATE_ANNOTATION, UNOWNED_ANNOTATION
from kimi_linear_operator.server.revision import number_on
from kimi_linear_operator.server.spec import SERVER
from make import UID, make_server
from passes import Passes, new_cache
from processor_time import cost
from refusing import RefusingCluster
from unit.server.test_many_unowned_fields import MOST_COST

_KEY = Key("default", "kimi", SERVER)
_HOUR = "2026-11-29T{:02}:00:00Z"


def _version(value: str) -> Manifest:
    return {"engine": {"version": value}}


def _container(**fields: object) -> Manifest:
    return {"podTemplate": {"spec": {"containers": [{"name": "sglang", **fields}]}}}


_CONTAINERS: Manifest = {"f:podTemplate": {"f:spec": {"f:containers": {}}}}
_SIZE: Manifest = {"f:tensorParallelism": {}}
_OLD, _NEW = _version("v0.5.6"), _version("v0.5.8")
# The entry that a scale of a custom resource leaves if somebody owned the replicas. It has no time.
_SCALE: Manifest = {
    "manager": "autoscaler",
    "operation": "Update",
    "subresource": "scale",
    "fieldsV1": {"f:spec": {"f:replicas": {}}},
}


def _without_replicas(owned: Manifest) -> Manifest:
    return {name: fields for name, fields in owned.items() if name != "f:replicas"}


@dataclass
class World:
    """A server, its owner, and the operator. Each write takes an hour."""

    cluster: RefusingCluster = field(default_factory=lambda: RefusingCluster({}))
    hours: Iterator[int] = field(default_factory=lambda: iter(range(1, 23)))
    uid: str = UID
    generation: int = 0
    written: int = 0
    owner_of_replicas: str = ""

    def __post_init__(self) -> None:
        self.cache = new_cache()
        self.start()

    def start(self) -> None:
        """Let a new operator take over."""
        self.operator = Passes(self.cluster, self.cache, now=lambda: _HOUR.format(23))

    def write(
        self,
        owned: Manifest,
        *specs: Manifest,
        is_same: bool = False,
        is_scale: bool = False,
        rollout: str = "",
        **more: Any,
    ) -> Self:
        """Let somebody who owns these fields write a spec, and make two passes.

        Args:
            owned: The fields.
            specs: The parts of the spec.
            is_same: Whether the owner writes nothing: the spec only gets defaults.
            is_scale: Whether the owner writes nothing: an autoscaler scales. If somebody owned the replicas,
                the autoscaler then owns them.
            rollout: The value of the rollout annotation.
            more: More fields of the spec.
        """
        hour = next(self.hours)
        self.written = self.written if is_same or is_scale else hour
        self.generation += not is_same
        is_scaled = self._is_scaled(owned, is_same=is_same, is_scale=is_scale)
        spec: Manifest = {"tensorParallelism": 4, "replicas": 1, **more}
        for part in specs:
            spec |= part
        server = make_server(**spec)
        entry = {
            "manager": "gitops",
            "operation": "Apply",
            "time": _HOUR.format(self.written),
            "fieldsV1": {"f:spec": _without_replicas(owned) if is_scale or is_scaled else owned},
        }
        before = _HOUR.format(hour - 1).replace(":00:", ":30:")
        reported = {"manager": MANAGER, "subresource": "status", "time": before, "fieldsV1": {}}
        server["metadata"] |= {
            "uid": self.uid,
            "generation": self.generation,
            "resourceVersion": str(100 * hour),
            "managedFields": [
                *([_SCALE] if is_scaled else []),
                entry,
                *([reported] if self.cluster.status else []),
            ],
            "annotations": {ROLLOUT_ANNOTATION: rollout} if rollout else {},
        }
        stored = {**server, "status": self.cluster.status}
        self.cluster.live["KimiLinearServer/kimi"] = stored
        self.cache.put(SERVER, stored)
        for _ in range(2):
            asyncio.run(self.operator.reconcile(_KEY))
        return self

    def _is_scaled(self, owned: Manifest, *, is_same: bool, is_scale: bool) -> bool:
        """Return whether an autoscaler owns the replicas after a write."""
        if is_scale:
            self.owner_of_replicas = self.owner_of_replicas and "autoscaler"
        elif not is_same and (self.owner_of_replicas != "autoscaler" or "f:replicas" in owned):
            self.owner_of_replicas = "gitops" if "f:replicas" in owned else ""
        return self.owner_of_replicas == "autoscaler"

    def delete_without_children(self) -> Self:
        """Delete the server with `--cascade=orphan`."""
        children = [child for kind in (REVISION, DEPLOYMENT) for child in self.cache.children(kind, _KEY)]
        self.cache = new_cache()
        for child in children:
            kept = {name: value for name, value in child["metadata"].items() if name != "ownerReferences"}
            orphan = {**child, "metadata": kept}
            self.cache.put(kind_of(child), orphan)
            self.cluster.live[f"{child['kind']}/{child['metadata']['name']}"] = orphan
        self.cluster.status = {}
        self.uid, self.generation, self.owner_of_replicas = "the-uid-of-the-next-server", 0, ""
        self.start()
        return self

    @property
    def number(self) -> int:
        """Return the number of the pod template that the server has."""
        return number_on(self.cache.get(_KEY.of(DEPLOYMENT)))

    def record(self, number: int) -> Manifest:
        found = self.cache.get(_KEY._replace(name=f"kimi-{number}").of(REVISION))
        assert found
        return found

    @property
    def deployment(self) -> Manifest:
        deployment = self.cache.get(_KEY.of(DEPLOYMENT))
        assert deployment
        return deployment

    @property
    def pods(self) -> str:
        return str(self.deployment["spec"]["template"])


def test_a_default_that_was_dropped_and_comes_back_with_another_value_replaces_no_pod() -> None:
    world = World().write(_SIZE, _OLD)
    assert world.write(_SIZE, _NEW, replicas=2).number == 1
    world.start()
    assert world.write(_SIZE, _NEW, replicas=3).number == 1
    # The CRD of a third version has no such default.
    assert world.write(_SIZE, replicas=4).number == 1


@pytest.mark.parametrize("fraction", [0.7, 1.5], ids=["known", "refused by this version"])
def test_another_default_in_place_of_a_recorded_value_replaces_no_pod(fraction: float) -> None:
    """The record is of a version that allowed the value. A write of the spec has stored another default since then."""
    world = World().write(_SIZE, {"engine": {"memoryFractionStatic": 0.85, "version": "v0.5.6"}})
    [record] = world.cache.children(REVISION, _KEY)
    record["data"]["inputs"]["engine"]["memoryFractionStatic"] = fraction
    record["metadata"]["resourceVersion"] = "150"
    world.cache.put(REVISION, record)
    world.start()
    before = world.pods
    world.write(_SIZE, {"engine": {"memoryFractionStatic": 0.6, "version": "v0.5.7"}}, is_scale=True, replicas=2)
    assert (world.pods, world.number) == (before, 1)
    world.write({**_SIZE, "f:engine": {"f:memoryFractionStatic": {}}}, {"engine": {"memoryFractionStatic": 0.6}})
    assert world.number == 2


def test_a_server_that_is_created_again_under_other_defaults_keeps_its_pods() -> None:
    world = World().write(_SIZE, _OLD).delete_without_children()
    assert world.write(_SIZE, _NEW).number == 1
    assert world.write(_SIZE, _NEW, replicas=2).number == 1


def test_a_server_that_is_created_again_keeps_its_pods_although_its_lists_have_another_default() -> None:
    world = World().write(_CONTAINERS, _container(tty=False)).delete_without_children()
    default = _container(tty=False, imagePullPolicy="Always")
    assert world.write(_CONTAINERS, default).number == 1
    assert world.write(_CONTAINERS, default, service={"port": 31000}).number == 1
    assert world.write(_CONTAINERS, default, rollout="now").number == 2
    assert "Always" in world.pods


def test_a_change_within_a_list_of_a_server_that_was_created_again_takes_effect() -> None:
    world = World().write(_CONTAINERS, _container(tty=False)).delete_without_children()
    assert world.write(_CONTAINERS, _container(tty=False)).number == 1
    assert world.write(_CONTAINERS, _container(tty=False, stdin=True)).number == 2


@pytest.mark.parametrize(
    ("first", "then"),
    [
        pytest.param((_SIZE, _OLD), ({**_SIZE, "f:engine": {"f:version": {}}}, _NEW), id="sets the field"),
        pytest.param(({"f:engine": {"f:version": {}}}, _OLD), (_SIZE, _NEW), id="removes the field"),
        pytest.param(({"f:engine": {"f:version": {}}}, _OLD), (_SIZE,), id="removes the field, which has no default"),
    ],
)
def test_a_change_by_the_owner_takes_effect(first: tuple[Manifest, ...], then: tuple[Manifest, ...]) -> None:
    assert World().write(*first).write(*then).number == 2


def test_an_owner_who_takes_over_a_default_and_then_removes_it_gets_the_new_default() -> None:
    world = World().write(_SIZE, _OLD)
    assert world.write({"f:engine": {"f:version": {}}}, _OLD, is_same=True).number == 1
    assert world.write(_SIZE, _NEW).number == 2
    assert "v0.5.8" in world.pods


def test_another_change_keeps_the_value_that_the_pods_have() -> None:
    world = World().write(_SIZE, _OLD)
    assert world.write({**_SIZE, "f:toolCallParser": {}}, _NEW, toolCallParser="enabled").number == 2
    assert "v0.5.6" in world.pods
    assert "v0.5.8" not in world.pods
    assert world.write(_SIZE, _version("v0.5.9"), toolCallParser="enabled").number == 2


_IN_OBJECT: Manifest = {**_SIZE, "f:engine": {}}
_OLD_ITEM = _container(tty=False, imagePullPolicy="IfNotPresent")
_NEW_ITEM = _container(tty=False, imagePullPolicy="Always")


@pytest.mark.parametrize(
    ("owned", "before", "after"),
    [
        pytest.param(_IN_OBJECT, _OLD, _NEW, id="another value in an object written as {}"),
        pytest.param(_IN_OBJECT, _OLD, {"engine": {}}, id="no value in an object written as {}"),
        pytest.param(_CONTAINERS, _OLD_ITEM, _NEW_ITEM, id="another value in an item"),
        pytest.param(_CONTAINERS, _OLD_ITEM, _container(tty=False), id="no value in an item"),
    ],
)
def test_another_default_in_something_that_was_written_as_a_whole_replaces_no_pod(
    owned: Manifest, before: Manifest, after: Manifest
) -> None:
    world = World().write(owned, before)
    kept = world.pods
    assert world.write(owned, after, replicas=2, is_scale=True).number == 1
    world.start()
    assert world.write(owned, after, replicas=3, is_scale=True).number == 1
    assert "spec." in find_condition(world.cluster.status, "TemplateCurrent")["message"]
    assert world.pods == kept
    assert world.write(owned, after, rollout="now", replicas=3).number == 2
    assert world.pods != kept


def test_no_object_in_our_definitions_is_atomic() -> None:
    """An atomic object with requested fields would look like an object that somebody wrote as `{}`."""
    assert all("x-kubernetes-map-type" not in str(definition.manifest()) for definition in DEFINITIONS)


def test_an_owner_who_writes_an_empty_object_again_asks_for_no_default_in_it() -> None:
    assert World().write(_IN_OBJECT, _OLD).write(_IN_OBJECT, _NEW, replicas=2).number == 1
    assert World().write(_IN_OBJECT, _OLD).write({"f:engine": {"f:version": {}}}, _NEW).number == 2
    assert World().write({"f:engine": {"f:version": {}}}, _OLD).write(_IN_OBJECT, _NEW).number == 2


@pytest.mark.parametrize("after", [_NEW_ITEM, _container(tty=False)], ids=["another value", "no value"])
@pytest.mark.parametrize("is_new", [False, True], ids=["", "created again"])
def test_a_value_in_an_item_that_its_owner_changes_takes_effect(after: Manifest, *, is_new: bool) -> None:
    world = World().write(_CONTAINERS, _OLD_ITEM)
    world = world.delete_without_children() if is_new else world
    assert world.write(_CONTAINERS, after).number == 2
    assert "IfNotPresent" not in world.pods


@pytest.mark.parametrize(
    "requested", [{"tty": False, "stdin": True}, {"tty": True}, {}], ids=["added", "changed", "removed"]
)
def test_a_change_in_an_item_that_the_api_server_refused_for_a_while_takes_effect(requested: Manifest) -> None:
    world = World().write(_CONTAINERS, _container(tty=False))
    world.cluster.live["Deployment/kimi"] = world.deployment
    world.cluster.refused["Deployment/kimi"] = ApiError(422, "refused")
    world.write(_CONTAINERS, _container(**requested))
    for failures in range(7):
        with suppress(ApiError):
            asyncio.run(world.operator.reconcile(_KEY, failures))
    world.cluster.refused.clear()
    world.start()
    assert world.write(_CONTAINERS, _container(**requested), is_same=True).number == 2
    world.cluster.live["Deployment/kimi"] = world.deployment
    assert [name in world.pods for name in ("'stdin'", "'tty': True", "'tty': False")] == [
        "stdin" in requested,
        requested.get("tty") is True,
        requested.get("tty") is False,
    ]


def test_a_record_that_is_made_while_the_spec_changes_still_names_its_unowned_inputs() -> None:
    world = World().write(_SIZE, _OLD)
    read = world.cluster.get

    async def get(kind: Kind, namespace: str, name: str) -> Manifest | None:
        live = await read(kind, namespace, name)
        if kind == SERVER and live:
            about = {**live["metadata"], "generation": 3, "resourceVersion": "250"}
            world.cache.put(SERVER, {**live, "metadata": about})
        return live

    world.cluster.get = get  # type: ignore[method-assign]
    with pytest.raises(BehindError, match="during the pass"):
        world.write({**_SIZE, "f:toolCallParser": {}}, _NEW, toolCallParser="enabled")
    world.cluster.get = read  # type: ignore[method-assign]
    world.generation += 1
    world.write({**_SIZE, "f:toolCallParser": {}}, _NEW, toolCallParser="enabled")
    record = world.cache.get(Key("default", "kimi-2", REVISION))
    assert record
    assert "version" in record["metadata"]["annotations"][UNOWNED_ANNOTATION]


def test_a_record_of_an_older_version_is_read_as_before() -> None:
    """It does not say which inputs had an owner, so each other value counts."""
    world = World().write(_SIZE, _OLD)
    record = world.cache.get(Key("default", "kimi-1", REVISION))
    assert record
    del record["metadata"]["annotations"][UNOWNED_ANNOTATION]
    world.cache.put(REVISION, {**record, "metadata": {**record["metadata"], "resourceVersion": "9000"}})
    assert world.write(_SIZE, _NEW, replicas=2).number == 2


def test_the_record_is_written_once() -> None:
    world = World().write(_SIZE, _OLD).write(_SIZE, _OLD, replicas=2)
    assert world.cluster.written.count("ControllerRevision/kimi-1") == 1


def _policy_in_pods(world: World) -> list[str]:
    router = world.cache.get(Key("default", "kimi-router", DEPLOYMENT))
    assert router
    arguments = router["spec"]["template"]["spec"]["containers"][0]["args"]
    return [item for item in arguments if str(item).startswith("--policy")]


def test_the_routers_pods_stay_too_unless_the_owner_asks() -> None:
    owned: Manifest = {"f:router": {"f:replicas": {}}}
    world = World().write(owned, router={"replicas": 1, "policy": "RoundRobin"})
    before = _policy_in_pods(world)
    assert _policy_in_pods(world.write(owned, router={"replicas": 2, "policy": "CacheAware"})) == before
    world.start()
    assert _policy_in_pods(world.write(owned, router={"replicas": 2})) == before
    owned = {"f:router": {"f:policy": {}}}
    assert _policy_in_pods(world.write(owned, router={"replicas": 2, "policy": "CacheAware"})) != before


@pytest.mark.parametrize("policy", [{"policy": "CacheAware"}, {}], ids=["another value", "no value"])
def test_another_default_in_a_router_that_was_written_as_an_empty_object_replaces_no_pod(policy: Manifest) -> None:
    owned: Manifest = {**_SIZE, "f:router": {}}
    world = World().write(owned, router={"policy": "RoundRobin"})
    before = _policy_in_pods(world)
    assert _policy_in_pods(world.write(owned, router=policy, replicas=2, is_scale=True)) == before
    owned = {**_SIZE, "f:router": {"f:policy": {}}}
    assert _policy_in_pods(world.write(owned, router={"policy": "CacheAware"})) != before


@pytest.mark.parametrize(
    ("owned", "unowned"),
    [
        ([], None),
        ([{}], [("a", "b"), ("a", "c", "d"), ("e",), ("f",)]),
        ([{"f:a": {}}], [("a", "b"), ("a", "c", "d"), ("e",), ("f",)]),
        ([{"f:a": {".": {}}}], [("a", "b"), ("a", "c", "d"), ("e",), ("f",)]),
        ([{"f:a": {"f:b": {}}}, {"f:a": {"f:c": {}}, "f:e": {}}], [("a", "c", "d"), ("f",)]),
        ([{"f:a": {"f:b": {}}}, {"f:a": {}}], [("a", "c", "d"), ("e",), ("f",)]),
        ([{"f:e": {"k:{}": {}}, "f:f": {}}], [("a", "b"), ("a", "c", "d")]),
        ([{}] * 1000, None),
    ],
    ids=str,
)
def test_fields_without_an_owner_are_found(owned: list[Manifest], unowned: list[tuple[str, ...]] | None) -> None:
    spec = {"a": {"b": 1, "c": {"d": 2}}, "e": [{"g": 1}], "f": {}}
    managed = [{"manager": "m", "fieldsV1": {"f:spec": fields}} for fields in owned]
    found = ownership.without_owner(spec, managed)
    assert found == (None if unowned is None else tuple(unowned))


def test_fields_without_an_owner_are_found_in_little_time() -> None:
    fields: Manifest = {f"f:{number}": {} for number in range(100_000)}
    managed = [{"manager": "m", "fieldsV1": {"f:spec": fields}}] * 16
    spec = {str(number): 1 for number in range(5_000)}
    unread = [{"manager": "m", "fieldsV1": {}}]
    assert ownership.without_owner(spec, managed) == ()
    assert ownership.without_owner(spec, unread) is None
    for entries in (managed, unread):
        assert cost(partial(ownership.without_owner, spec, entries), tries=3) < MOST_COST


@pytest.mark.parametrize("policy", ["RoundRobin", "PrefixHash"])
def test_a_scale_replaces_no_pod_although_this_version_refuses_a_default_of_the_router(policy: str) -> None:
    """A newer version made the router with this default. The CRD now has other defaults."""
    owned: Manifest = {**_SIZE, "f:router": {}}
    world = World().write(owned, _OLD, router={"replicas": 1, "policy": "RoundRobin"})
    key = Key("default", "kimi-router", DEPLOYMENT)
    router = copy.deepcopy(world.cache.get(key))
    assert router
    record = json.loads(router["metadata"]["annotations"][TEMPLATE_ANNOTATION])
    record["inputs"]["router"]["policy"] = policy
    router["metadata"]["annotations"][TEMPLATE_ANNOTATION] = json.dumps(record)
    router["metadata"]["resourceVersion"] = str(len(world.cluster.written) + 11)
    world.cluster.written.extend(["an edit", "another edit"])
    world.cache.put(DEPLOYMENT, router)
    world.cluster.live["Deployment/kimi-router"] = router
    world.start()
    before = world.pods, router["spec"]["template"]
    world.write(owned, _NEW, router={"replicas": 1, "policy": "CacheAware"}, replicas=2, is_scale=True)
    after = world.cache.get(key)
    assert after
    assert (world.pods, after["spec"]["template"]) == before
