"""The CRD of servers gets a default in items of a list, while the owner keeps writing the list."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from kimi_linear_operator.kubernetes.conditions import find_condition
from kimi_linear_operator.kubernetes.kinds import Manifest, kind_of
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.server.labels import ROLLOUT_ANNOTATION
from kimi_linear_operator.server.manifests import build_deployment, build_revision
from kimi_linear_operator.server.revision import History
from kimi_linear_operator.server.spec import SERVER, KimiLinearServer
from kimi_linear_operator.server.template_choice import choose
from make import make_condition, make_server, stored
from passes import Passes, new_cache
from processor_time import measured
from refusing import RefusingCluster

_KEY = Key("default", "kimi", SERVER)
_TIMES = "2026-11-29T{:02}:00:00Z"
_ITEM: Manifest = {"name": "sglang", "env": [{"name": "X", "value": "1"}]}
_DEFAULT = "imagePullPolicy"


@dataclass
class World:
    """A server that was applied at generation 1, before the default existed. Each write takes an hour."""

    cluster: RefusingCluster = field(default_factory=lambda: RefusingCluster({}))
    hours: Iterator[int] = field(default_factory=lambda: iter(range(2, 24)))
    item: Manifest = field(default_factory=lambda: _ITEM)

    def __post_init__(self) -> None:
        server = KimiLinearServer.model_validate(make_server(podTemplate={"spec": {"containers": [self.item]}}))
        kept = choose(server, History()).current
        self.cache = new_cache()
        for child in (build_revision(server, kept), build_deployment(server, kept.template, kept.number)):
            child["metadata"]["creationTimestamp"] = _TIMES.format(1)
            self.cache.put(kind_of(child), stored(child))
        self.operator = Passes(self.cluster, self.cache, now=lambda: _TIMES.format(23))
        ready = make_condition("Ready", "True", "AllReplicasServe", "")
        self.status: Manifest = {"observedGeneration": 1, "conditions": [ready]}
        self.generation = 0

    def write(self, item: Manifest, *, annotation: str = "", **spec: Any) -> None:
        """Let the owner of the list write the spec, and make two passes over the stored object."""
        manifest = make_server(podTemplate={"spec": {"containers": [_ITEM | item]}}, **spec)
        fields: Manifest = {"f:spec": {"f:podTemplate": {"f:spec": {"f:containers": {}}}}}
        hour = next(self.hours)
        owner = {"manager": "gitops", "time": _TIMES.format(hour), "fieldsV1": fields}
        self.generation += not annotation
        manifest["metadata"] |= {
            "generation": self.generation,
            "resourceVersion": str(100 * hour),
            "annotations": {ROLLOUT_ANNOTATION: annotation},
        }
        live = {**manifest["metadata"], "managedFields": [owner]}
        self.cluster.live["KimiLinearServer/kimi"] = {**manifest, "metadata": live}
        self.cache.put(SERVER, {**manifest, "status": self.status})
        for _ in range(2):
            asyncio.run(self.operator.reconcile(_KEY))
        self.status = self.cluster.status

    @property
    def records(self) -> int:
        """Return how many pod templates were recorded since the first."""
        written = {name for name in self.cluster.written if name.startswith("ControllerRevision/")}
        return len(written - {"ControllerRevision/kimi-1"})

    @property
    def container(self) -> Manifest:
        """Return the engine's container as it was applied last."""
        *_, deployment = (item for item in self.cluster.applied if item["kind"] == "Deployment")
        return dict(deployment["spec"]["template"]["spec"]["containers"][0])


@pytest.fixture
def world() -> World:
    """A world whose operator has seen the spec under the newer CRD."""
    world = World()
    world.write({_DEFAULT: "Always"})
    assert world.records == 0
    return world


def _items(number: int, **default: object) -> Manifest:
    """Return a container with this number of variables, each with the default."""
    return {"env": [{"name": f"X{item}", "value": "1", **default} for item in range(number)]}


@pytest.mark.parametrize("number", [1, 101, 128])
def test_the_default_of_each_item_replaces_no_pod_however_many_items_there_are(number: int) -> None:
    """A newer CRD gives every item of a list a value without an owner."""
    world = World(item=_ITEM | _items(number))
    with measured() as done:
        for replicas in (1, 3):
            world.write(_items(number, newer="x"), replicas=replicas)
    assert done.cost < 40
    assert world.records == 0


def test_another_change_by_a_lists_owner_takes_no_earlier_default(world: World) -> None:
    world.write({_DEFAULT: "Always"}, service={"port": 31000})
    world.write({_DEFAULT: "Always"}, replicas=3)
    assert world.records == 0
    assert _DEFAULT not in world.container


def test_a_change_within_the_same_list_takes_no_earlier_default(world: World) -> None:
    world.write({_DEFAULT: "Always", "tty": True})
    assert world.records == 1
    assert world.container["tty"] is True
    assert _DEFAULT not in world.container


def test_another_value_and_a_value_written_again_count_as_requested(world: World) -> None:
    world.write({_DEFAULT: "Never"})
    assert (world.records, world.container[_DEFAULT]) == (1, "Never")
    other = World()
    other.write({_DEFAULT: "Always"})
    other.write({}, replicas=3)
    other.write({_DEFAULT: "Always"}, replicas=3)
    assert (other.records, other.container[_DEFAULT]) == (1, "Always")


def test_a_possible_default_is_named_and_the_annotation_takes_it(world: World) -> None:
    template = find_condition(world.status, "TemplateCurrent")
    assert template["reason"] == "Newest"
    assert "spec.podTemplate.spec.containers[0].imagePullPolicy" in template["message"]
    assert ROLLOUT_ANNOTATION in template["message"]
    world.write({_DEFAULT: "Always"}, annotation="now")
    assert (world.records, world.container[_DEFAULT]) == (1, "Always")
    assert _DEFAULT not in find_condition(world.status, "TemplateCurrent")["message"]
