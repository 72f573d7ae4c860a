"""A former autoscaler and a former router are deleted again until a watch shows their end. A watch may miss the end."""

import asyncio
from typing import Any

import pytest

from kimi_linear_operator.kubernetes.kinds import DEPLOYMENT, SCALED_OBJECT, Kind, Manifest
from kimi_linear_operator.reconcile.cache import Cache
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.reconcile.errors import BEHIND_RETRY_SECONDS
from kimi_linear_operator.server.spec import SERVER
from make import make_server, owned, stored
from passes import READER, Passes, new_cache
from refusing import RefusingCluster, running_objects

KEY = Key("default", "kimi", SERVER)
SCALED: dict[str, Any] = {"autoscaling": {"minReplicas": 1, "maxReplicas": 4}}
FORMER = {SCALED_OBJECT: ("kimi", SCALED), DEPLOYMENT: ("kimi-router", {})}


class Hidden(RefusingCluster):
    """A cluster whose writes are seen at once, but no deletion is."""

    def __init__(self, cache: Cache) -> None:
        super().__init__({})
        self.cache = cache

    def deletions(self, child: str) -> int:
        return self.written.count(f"-{child}")


def server_with(kind: Kind) -> tuple[Cache, Hidden, Manifest]:
    """Return the cache and the cluster of a server that no longer wants a child of this kind, and the child."""
    name, spec = FORMER[kind]
    cache = new_cache()
    cache.put(SERVER, make_server(**spec))
    record, deployment = running_objects(**spec)
    cache.put(DEPLOYMENT, deployment)
    child = owned({"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {"name": name}, "spec": {}})
    cache.put(kind, child)
    cluster = Hidden(cache)
    cluster.live["KimiLinearServer/kimi"] = make_server(**spec)
    cluster.live[f"ControllerRevision/{record['metadata']['name']}"] = record
    return cache, cluster, child


def changed(child: Manifest, version: int, **more: Any) -> Manifest:
    return stored({**child, "metadata": {**child["metadata"], "resourceVersion": str(version), **more}})


@pytest.mark.parametrize("kind", FORMER, ids=lambda kind: kind.kind)
def test_a_former_child_is_deleted_again_until_its_end_is_seen(kind: Kind) -> None:
    cache, cluster, child = server_with(kind)
    passes, name = Passes(cluster, cache), f"{kind.kind}/{child['metadata']['name']}"
    for number in (1, 2):
        again = asyncio.run(passes.reconcile(KEY))
        assert again is not None
        assert 1.0 <= again <= BEHIND_RETRY_SECONDS
        assert cluster.deletions(name) == number
    held = changed(child, 2, deletionTimestamp="2026-11-24T12:00:00Z", finalizers=["finalizer.keda.sh"])
    cache.put(kind, held)
    asyncio.run(passes.reconcile(KEY))
    assert asyncio.run(passes.reconcile(KEY)) is None, "a finalizer may hold it for ever"
    cache.take(READER.read(kind, changed(held, 3), is_deleted=True))
    asyncio.run(passes.reconcile(KEY))
    assert asyncio.run(passes.reconcile(KEY)) is None
    assert cluster.deletions(name) == 2
