"""A spec with thousands of fields without an owner does not make passes slow."""

import asyncio
import copy

from kimi_linear_operator.kubernetes.kinds import Kind, Manifest
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.server.spec import SERVER
from make import make_server
from passes import Passes, new_cache
from processor_time import cost

KIMI = Key("default", "kimi", SERVER)
# The first pass costs about 3.5.
MOST_COST = 20
WRITTEN: Manifest = {
    "manager": "me",
    "operation": "Update",
    "time": "2026-11-01T00:00:00Z",
    "fieldsV1": {"f:spec": {"f:suspend": {}}},
}


class Cluster:
    """Stores written objects. Managed fields are only in the answer to a read of the server."""

    def __init__(self, managed_fields: list[Manifest] | None = None) -> None:
        self.managed_fields = [WRITTEN] if managed_fields is None else managed_fields
        self.version = 100
        self.objects: dict[tuple[str, str], Manifest] = {}

    def store(self, manifest: Manifest, **metadata: object) -> Manifest:
        self.version += 1
        made = {"uid": f"u{self.version}", "generation": 1, "creationTimestamp": "2026-11-24T09:00:00Z"}
        given = {**made, **manifest["metadata"], **metadata, "resourceVersion": str(self.version)}
        stored = {**copy.deepcopy(manifest), "metadata": given}
        self.objects[manifest["kind"], given["name"]] = stored
        return stored

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        found = copy.deepcopy(self.objects.get((kind.kind, name)))
        if found and kind == SERVER:
            found["metadata"]["managedFields"] = self.managed_fields
        return found

    async def apply_new(self, kind: Kind, manifest: Manifest) -> Manifest:
        return self.store(manifest)

    async def apply(self, kind: Kind, manifest: Manifest) -> Manifest:
        return self.store(manifest)

    async def create(self, kind: Kind, manifest: Manifest) -> Manifest:
        return self.store(manifest)

    async def unify(self, kind: Kind, manifest: Manifest) -> Manifest:
        return manifest

    async def patch_status(
        self, kind: Kind, manifest: Manifest, status: Manifest, *, if_unchanged: bool = False
    ) -> Manifest:
        metadata: Manifest = self.store({**manifest, "status": status})["metadata"]
        return metadata

    async def delete(self, kind: Kind, manifest: Manifest, **_: bool) -> None:
        pass


def test_a_pass_takes_little_time_however_many_fields_nobody_owns() -> None:
    cluster, cache = Cluster(), new_cache()
    passes = Passes(cluster, cache)
    server = make_server(suspend=True, podTemplate={"spec": {"terminationGracePeriodSeconds": 5}})
    cache.put(SERVER, cluster.store(server))
    for _ in range(3):
        asyncio.run(passes.reconcile(KIMI))
    seen = copy.deepcopy(cache.get(KIMI))
    assert seen
    seen["spec"]["podTemplate"]["spec"]["newer"] = {f"field-{number}": 1 for number in range(2300)}
    cache.put(SERVER, cluster.store(seen, generation=2))
    for _ in range(3):
        assert cost(lambda: asyncio.run(passes.reconcile(KIMI))) < MOST_COST
