"""Children that finalizers hold are named without being decoded, the server's own children first."""

import tracemalloc

from kimi_linear_operator.kubernetes.kinds import REVISION, SERVICE, Manifest
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.server.labels import SERVER_LABEL
from kimi_linear_operator.server.spec import SERVER
from make import make_server, owned
from passes import make_context, new_cache
from refusing import RefusingCluster

KEY = Key("default", "kimi", SERVER)
DELETED: Manifest = {"deletionTimestamp": "2026-11-24T09:00:00Z"}


def labelled(number: int, finalizer: str) -> Manifest:
    """Return a large object that a user has created with the label of a server, and has deleted."""
    metadata = {
        "name": f"a{number:03}",
        "namespace": "default",
        "uid": str(number),
        "resourceVersion": "5",
        "labels": {SERVER_LABEL: "kimi"},
        "finalizers": [finalizer],
        **DELETED,
    }
    data = {"text": "x" * 900_000}
    return {"apiVersion": "apps/v1", "kind": "ControllerRevision", "revision": 1, "data": data, "metadata": metadata}


def test_many_objects_of_a_user_take_no_memory_and_hide_no_child() -> None:
    cluster, cache, server = RefusingCluster({}), new_cache(), make_server()
    cache.put(SERVER, server)
    service = owned({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "kimi"}})
    service["metadata"] |= {"finalizers": ["example.com/hold"], **DELETED}
    cache.put(SERVICE, service)
    for number in range(33):
        cache.put(REVISION, labelled(number, "foregroundDeletion" if number % 2 else "example.com/hold"))
    children = make_context(cluster, cache).children
    tracemalloc.start()
    try:
        held = children.held(KEY, server["metadata"]["uid"], (REVISION, SERVICE))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert [item["kind"] for item in held] == ["Service"] + ["ControllerRevision"] * 17
    assert peak < 100_000
