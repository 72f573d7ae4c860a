"""The CRD of another version drops a default and stores another one. Nobody asked for that, so the pods stay."""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from kimi_linear_operator.kubernetes import ownership
from kimi_linear_operator.kubernetes.kinds import DEPLOYMENT, REVISION, Manifest, kind_of
from kimi_linear_operator.kubernetes.metadata import MANAGER
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.server.labels import ROLLOUT_ANNOTATION, UNOWNED_ANNOTATION
from kimi_linear_operator.server.revision import number_on
from kimi_linear_operator.server.spec import SERVER
from make import UID, make_server
from passes import Passes, new_cache
from refusing import RefusingCluster
from unit.server.test_many_unowned_fields import MOST_SECONDS

_KEY = Key("default", "kimi", SERVER)
_HOUR = "2026-11-29T{:02}:00:00Z"


def _version(value: str) -> Manifest:
    return {"engine": {"version": value}}


def _container(**fields: object) -> Manifest:
    return {"podTemplate": {"spec": {"containers": [{"name": "sglang", **fields}]}}}


_CONTAINERS: Manifest = {"f:podTemplate": {"f:spec": {"f:containers": {}}}}
_SIZE: Manifest = {"f:tensorParallelism": {}}
_OLD, _NEW = _version("v0.5.6"), _version("v0.5.8")


@dataclass
class World:
    """A server, its owner, and the operator. Each write takes an hour."""

    cluster: RefusingCluster = field(default_factory=lambda: RefusingCluster({}))
    hours: Iterator[int] = field(default_factory=lambda: iter(range(1, 23)))
    uid: str = UID
    generation: int = 0
    written: int = 0

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
    ) -> "World":
        """Let somebody who owns these fields write a spec, and make two passes.

        Args:
            owned: The fields.
            specs: The parts of the spec.
            is_same: Whether the owner writes nothing: the spec only gets defaults.
            is_scale: Whether the owner writes nothing: an autoscaler scales.
            rollout: The value of the rollout annotation.
            more: More fields of the spec.
        """
        hour = next(self.hours)
        self.written = self.written if is_same or is_scale else hour
        self.generation += not is_same
        spec: Manifest = {"tensorParallelism": 4, "replicas": 1, **more}
        for part in specs:
            spec |= part
        server = make_server(**spec)
        entry = {
            "manager": "gitops",
            "operation": "Apply",
            "time": _HOUR.format(self.written),
            "fieldsV1": {"f:spec": owned},
        }
        before = _HOUR.format(hour - 1).replace(":00:", ":30:")
        reported = {"manager": MANAGER, "subresource": "status", "time": before, "fieldsV1": {}}
        server["metadata"] |= {
            "uid": self.uid,
            "generation": self.generation,
            "resourceVersion": str(100 * hour),
            "managedFields": [entry, *([reported] if self.cluster.status else [])],
            "annotations": {ROLLOUT_ANNOTATION: rollout} if rollout else {},
        }
        stored = {**server, "status": self.cluster.status}
        self.cluster.live["KimiLinearServer/kimi"] = stored
        self.cache.put(SERVER, stored)
        for _ in range(2):
            asyncio.run(self.operator.reconcile(_KEY))
        return self

    def delete_without_children(self) -> "World":
        """Delete the server with `--cascade=orphan`."""
        children = [child for kind in (REVISION, DEPLOYMENT) for child in self.cache.children(kind, _KEY)]
        self.cache = new_cache()
        for child in children:
            kept = {name: value for name, value in child["metadata"].items() if name != "ownerReferences"}
            orphan = {**child, "metadata": kept}
            self.cache.put(kind_of(child), orphan)
            self.cluster.live[f"{child['kind']}/{child['metadata']['name']}"] = orphan
        self.cluster.status = {}
        self.uid, self.generation = "the-uid-of-the-next-server", 0
        self.start()
        return self

    @property
    def number(self) -> int:
        """Return the number of the pod template that the server has."""
        return number_on(self.cache.get(_KEY.of(DEPLOYMENT)))

    @property
    def pods(self) -> str:
        deployment = self.cache.get(_KEY.of(DEPLOYMENT))
        return str(deployment and deployment["spec"]["template"])


def test_a_default_that_was_dropped_and_comes_back_with_another_value_replaces_no_pod() -> None:
    world = World().write(_SIZE, _OLD)
    assert world.write(_SIZE, _NEW, replicas=2).number == 1
    world.start()
    assert world.write(_SIZE, _NEW, replicas=3).number == 1
    # The CRD of a third version has no such default.
    assert world.write(_SIZE, replicas=4).number == 1


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


@pytest.mark.parametrize(
    ("owned", "unowned"),
    [
        ([], None),
        ([{}], [("a", "b"), ("a", "c", "d"), ("e",), ("f",)]),
        ([{"f:a": {}}], [("e",), ("f",)]),
        ([{"f:a": {".": {}}}], [("a", "b"), ("a", "c", "d"), ("e",), ("f",)]),
        ([{"f:a": {"f:b": {}}}, {"f:a": {"f:c": {}}, "f:e": {}}], [("f",)]),
        ([{"f:a": {"f:b": {}}}, {"f:a": {}}], [("e",), ("f",)]),
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
    began = time.thread_time()
    assert ownership.without_owner(spec, managed) == ()
    assert ownership.without_owner(spec, [{"manager": "m", "fieldsV1": {}}]) is None
    assert time.thread_time() - began < MOST_SECONDS
