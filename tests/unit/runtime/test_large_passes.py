"""Passes that read much run one after the other, so together they take no more memory than one of them."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

import pytest

from kimi_linear_operator.benchmark.spec import BENCHMARK
from kimi_linear_operator.kubernetes.kinds import POD, REVISION, Kind, Manifest
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.reconcile.resource_type import Options, Reconciler
from kimi_linear_operator.resource_types import TYPES
from kimi_linear_operator.runtime.work import Work
from kimi_linear_operator.server.labels import SERVER_LABEL
from kimi_linear_operator.server.spec import SERVER
from make import make_benchmark, make_server
from passes import new_cache, new_scopes

NAMESPACES = ("a", "b")
# Each is smaller than the objects of which the cache limits the total size.
TEXT = "x" * 15_000


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


def made_passes(kind: Kind, *, resources: int = 4) -> Passes:
    """Make passes over small and large resources of two namespaces that become due together.

    Args:
        kind: The kind of the resources: servers, or benchmarks that measure these servers.
        resources: How many small and how many large resources each namespace has.
    """
    scopes, cache, made = new_scopes([]), new_cache(), Passes()
    for scope in scopes:
        scopes.begin(scope, 0)
        scopes.succeed(scope, 1)
    keys = []
    for namespace in NAMESPACES:
        for name in (f"{size}-{number}" for number in range(resources) for size in ("large", "small")):
            cache.put(SERVER, in_namespace(namespace, make_server(), name))
            benchmark = make_benchmark(serverRef={"name": name})
            cache.put(BENCHMARK, in_namespace(namespace, benchmark, name))
            for number in range(100) if name.startswith("large") else ():
                cache.put(
                    POD if number % 2 else REVISION, labelled(POD if number % 2 else REVISION, namespace, name, number)
                )
            keys.append(Key(namespace, name, kind))
    work = Work(TYPES, scopes, cache, Options())
    by_kind = cast(Mapping[Kind, Reconciler], {kind: made})

    async def run() -> None:
        await asyncio.gather(*(work._reconcile(by_kind, key, 0) for key in keys))

    asyncio.run(run())
    assert sorted(made.begun) == sorted(keys)
    return made


@pytest.mark.parametrize("kind", [SERVER, BENCHMARK], ids=str)
def test_large_passes_run_one_after_the_other_and_small_passes_at_the_same_time(kind: Kind) -> None:
    made = made_passes(kind)
    assert made.most == {"large": 1, "small": 8}


def test_namespaces_take_turns_with_their_large_passes() -> None:
    made = made_passes(SERVER)
    assert [key.namespace for key in made.begun if key.name.startswith("large")] == ["a", "b"] * 4
