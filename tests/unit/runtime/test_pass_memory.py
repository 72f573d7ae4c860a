"""Passes that read much share a limited room in memory."""

import asyncio
import tracemalloc
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

import pytest

from kimi_linear_operator import jsontext
from kimi_linear_operator.kubernetes.kinds import POD, REVISION, SERVICE, Kind, Manifest
from kimi_linear_operator.reconcile import room
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.reconcile.resource_type import Options, Reconciler
from kimi_linear_operator.resource_types import TYPES
from kimi_linear_operator.runtime.pass_memory import PassMemory
from kimi_linear_operator.runtime.work import LARGEST_USUAL_PASS, NO_ROOM_SECONDS, Work
from kimi_linear_operator.server.labels import SERVER_LABEL
from kimi_linear_operator.server.spec import SERVER
from make import make_server
from passes import new_cache, new_scopes

NAMESPACES = ("a", "b")
# Each is smaller than the objects of which the cache limits the total size.
TEXT = "x" * 15_000
# Room for five large servers of these tests.
MOST = 8 * 2**20


@dataclass
class Passes:
    """Passes that wait for an answer. It notes which run at the same time."""

    running: Counter[str] = field(default_factory=Counter)
    most: Counter[str] = field(default_factory=Counter)
    begun: list[Key] = field(default_factory=list)

    async def reconcile(self, key: Key, _: int) -> None:
        size = key.name.split("-")[0]
        self.begun.append(key)
        self.running[size] += 1
        self.most[size] = max(self.most[size], self.running[size])
        await asyncio.sleep(0.01)
        self.running[size] -= 1


def in_namespace(namespace: str, manifest: Manifest, name: str) -> Manifest:
    return {**manifest, "metadata": {**manifest["metadata"], "name": name, "namespace": namespace, "uid": name}}


def labelled(kind: Kind, namespace: str, server: str, number: int) -> Manifest:
    """Return an object that only carries the label of a server."""
    metadata = {
        "name": f"{server}-{number}",
        "namespace": namespace,
        "uid": f"{server}-{number}",
        "resourceVersion": "1",
        "labels": {SERVER_LABEL: server},
        "annotations": {"text": TEXT},
    }
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata}


class World:
    """Small and large servers of two namespaces that become due together."""

    def __init__(self) -> None:
        self.cache, self.passes = new_cache(), Passes()
        self.scopes = new_scopes([])
        self.read_all()
        self.work = Work(TYPES, self.scopes, self.cache, Options(), _memory=PassMemory(MOST))
        names = [f"{size}-{number}" for number in range(4) for size in ("large", "small")]
        self.keys = [Key(namespace, name, SERVER) for namespace in NAMESPACES for name in names]
        for key in self.keys:
            self.cache.put(SERVER, in_namespace(key.namespace, make_server(), key.name))
            for number in range(100) if key.name.startswith("large") else ():
                child = POD if number % 2 else REVISION
                self.cache.put(child, labelled(child, key.namespace, key.name, number))

    def read_all(self) -> None:
        for scope in self.scopes:
            self.scopes.begin(scope, 0)
            self.scopes.succeed(scope, 1)

    async def try_all(self) -> list[Key]:
        """Try to make a pass over each resource at the same time. Return the resources that have to wait."""
        by_kind = cast(Mapping[Kind, Reconciler], {SERVER: self.passes})
        delays = await asyncio.gather(*(self.work._reconcile(by_kind, key, 0) for key in self.keys))
        self.keys = [key for key, delay in zip(self.keys, delays, strict=True) if delay == NO_ROOM_SECONDS]
        return self.keys


def test_large_passes_take_a_limited_room_together_and_small_passes_do_not_wait() -> None:
    world, rounds = World(), 0
    while asyncio.run(world.try_all()):
        rounds += 1
    assert 0 < rounds < 8
    assert world.passes.most["small"] == 8
    assert 1 < world.passes.most["large"] <= MOST / (100 * len(TEXT))


def test_a_namespace_whose_large_passes_hang_leaves_room_for_another_namespace() -> None:
    world = World()
    large = [key for key in world.keys if key.name.startswith("large")]
    hanging = [key for key in large if key.namespace == "a"]
    taken = [world.work._memory.take(key.namespace, world.work._size(key)) for key in hanging]
    assert taken == [True, False, False, False]
    world.keys = [key for key in large if key.namespace == "b"]
    for left in (3, 2, 1, 0):
        assert len(asyncio.run(world.try_all())) == left


def test_a_pass_that_waited_for_room_begins_only_if_everything_is_still_read() -> None:
    """In the meantime, etcd was restored, and nothing is read any more."""
    world = World()
    waiting = asyncio.run(world.try_all())
    assert waiting
    world.scopes.forget(list(world.scopes))
    world.passes.begun.clear()
    asyncio.run(world.try_all())
    assert world.passes.begun == []


def test_namespaces_whose_largest_passes_hang_leave_room_for_usual_large_passes() -> None:
    """Each of the other passes takes no more than the share of its namespace."""
    memory = PassMemory(MOST)
    hanging = [namespace for namespace in ("a", "b", "c") if memory.take(namespace, 10 * MOST)]
    assert hanging == ["a"]
    assert all(memory.take(f"other-{number}", MOST // 8) for number in range(4))
    memory.give_back("a", 10 * MOST)
    assert memory.take("b", 10 * MOST)


def test_passes_over_children_with_many_managed_fields_share_the_room() -> None:
    """An answer to a write contains the managed fields. They are not in the cache."""
    world = World()
    fields: Manifest = {f"f:{number}": {} for number in range(20_000)}
    managed = [{"manager": "a", "operation": "Update", "fieldsV1": {"f:metadata": {"f:annotations": fields}}}]
    for key in world.keys:
        child = labelled(SERVICE, key.namespace, key.name, 0)
        child["metadata"] |= {"managedFields": managed, "annotations": {}}
        world.cache.put(SERVICE, child)
        # Python may keep the names from an earlier text, so the measured size varies.
        assert world.work._size(key) >= 0.8 * decoded_size(child)
    world.keys = [key for key in world.keys if key.name.startswith("small")]
    asyncio.run(world.try_all())
    assert 0 < world.passes.most["small"] * decoded_size(child) < MOST


def decoded_size(manifest: Manifest) -> int:
    """Return how many bytes a manifest takes when it is decoded."""
    text = jsontext.encode(manifest)
    tracemalloc.start()
    try:
        decoded = jsontext.decode(text)
        assert decoded
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


def test_a_pass_takes_as_much_for_children_that_are_cached_only_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such a pass reads the whole children from the API server."""
    sizes = []
    for most in (room.MOST_OF_LARGE, 0):
        monkeypatch.setattr(room, "MOST_OF_LARGE", most)
        world = World()
        key = Key("a", "small-0", SERVER)
        for number in range(8):
            child = labelled(REVISION, key.namespace, key.name, number)
            world.cache.put(REVISION, {**child, "revision": number, "data": {"items": [{} for _ in range(6000)]}})
        assert all(bool(child.cut) == (most == 0) for child in world.cache.cached_children(REVISION, key))
        sizes.append(world.work._size(key))
    assert sizes[0] == sizes[1] > LARGEST_USUAL_PASS


def test_the_largest_pass_runs_when_no_other_one_runs() -> None:
    memory = PassMemory(MOST)
    assert memory.take("a", 10 * MOST)
    assert not memory.take("a", 10 * MOST)
    memory.give_back("a", 10 * MOST)
    assert memory.take("b", 10 * MOST)
