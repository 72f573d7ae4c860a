"""A pass opens gates without reading the pods of servers that have none."""

import asyncio
from typing import Any, cast

import pytest

from kimi_linear_operator.kubernetes.kinds import POD, Manifest
from kimi_linear_operator.reconcile.cache import Cache
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.reconcile.packed import PackedText
from kimi_linear_operator.server.index import ServerIndex
from kimi_linear_operator.server.labels import TEMPLATE_LABEL
from kimi_linear_operator.server.spec import SERVER
from kimi_linear_operator.server.verifying import Verifying
from make import make_pod
from passes import new_cache

KIMI = Key("default", "kimi", SERVER)


def pod(name: str, version: int = 1, *, has_gate: bool = False, is_controlled: bool = True) -> Manifest:
    made = make_pod()
    owners = [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "r", "controller": True}]
    labels = {**made["metadata"]["labels"], **({TEMPLATE_LABEL: "hash"} if has_gate else {})}
    about = {"name": name, "labels": labels, "resourceVersion": str(version)}
    return {
        **made,
        "metadata": {**made["metadata"], **about, "ownerReferences": owners if is_controlled else []},
    }


def has_gates(cache: Cache) -> bool:
    return cache.index(ServerIndex).has_gates(KIMI)


class Context:
    """A context with nothing but a cache."""

    def __init__(self, cache: Cache) -> None:
        self.cache = cache
        self.cluster = self.children = self.now = self.scheduling = self
        self.enqueue = None


def test_a_pass_reads_no_pod_of_a_server_without_gates(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = new_cache()
    for number in range(50):
        cache.put(POD, pod(f"p{number}"))
        cache.put(POD, pod(f"users-{number}", has_gate=True, is_controlled=False))

    def refuse(_: PackedText) -> bytes:
        raise AssertionError("a text was read")

    monkeypatch.setattr(PackedText, "read", refuse)
    asyncio.run(Verifying(cast(Any, Context(cache))).open_gates(KIMI, "uid"))


def test_a_server_has_gates_as_long_as_one_of_its_pods_has_one() -> None:
    cache = new_cache()
    cache.put(POD, pod("a", has_gate=True))
    cache.put(POD, pod("b", has_gate=True))
    assert has_gates(cache)
    cache.put(POD, pod("a", 2))
    assert has_gates(cache)
    cache.end_list(POD, None, {Key("default", "a", POD)}, 9)
    assert not has_gates(cache)
    cache.put(POD, pod("c", 10, has_gate=True))
    cache.clear()
    assert not has_gates(cache)
