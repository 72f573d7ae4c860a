"""Clusters that refuse writes or have other defaults, and passes over servers in them."""

import asyncio
from dataclasses import dataclass, field, replace
from typing import Any

from kimi_linear_operator.cluster.errors import ApiError
from kimi_linear_operator.kubernetes.kinds import (
    Kind,
    Manifest,
    kind_of,
)
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.server.manifests import build_deployment, build_revision
from kimi_linear_operator.server.revision import History
from kimi_linear_operator.server.spec import SERVER, KimiLinearServer
from kimi_linear_operator.server.template_choice import choose
from make import make_server, stored
from passes import Passes, new_cache


@dataclass
class RefusingCluster:
    """A cluster that refuses some writes, and remembers the others."""

    refused: dict[str, ApiError]
    live: dict[str, Manifest] = field(default_factory=dict)
    written: list[str] = field(default_factory=list)
    applied: list[Manifest] = field(default_factory=list)
    scaled: list[Manifest] = field(default_factory=list)
    status: Manifest = field(default_factory=dict)

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        return self.live.get(f"{kind.kind}/{name}")

    async def summarize(self, kind: Kind, namespace: str, selector: str, summary: Any, add: Any) -> Any:
        return add(summary, [manifest for name, manifest in self.live.items() if name.startswith(f"{kind.kind}/")])

    async def apply_new(self, kind: Kind, manifest: Manifest) -> Manifest:
        return await self.apply(kind, manifest)

    async def apply(self, kind: Kind, manifest: Manifest) -> Manifest:
        name = f"{kind.kind}/{manifest['metadata']['name']}"
        if name in self.refused:
            raise self.refused[name]
        self.written.append(name)
        self.applied.append(manifest)
        version = str(len(self.written) + 10)
        return stored({**manifest, "metadata": {**manifest["metadata"], "resourceVersion": version}})

    async def overwrite(self, kind: Kind, manifest: Manifest) -> Manifest:
        raise self.refused[f"{kind.kind}/{manifest['metadata']['name']}"]

    async def scale(self, kind: Kind, live: Manifest, replicas: int) -> Manifest:
        self.scaled.append({**live, "spec": {**live["spec"], "replicas": replicas}})
        return self.scaled[-1]

    async def remove_annotation(self, kind: Kind, live: Manifest, name: str) -> Manifest:
        self.written.append(f"{kind.kind}/{live['metadata']['name']} without {name}")
        kept = {key: value for key, value in live["metadata"]["annotations"].items() if key != name}
        version = str(len(self.written) + 10)
        return {**live, "metadata": {**live["metadata"], "annotations": kept, "resourceVersion": version}}

    async def unify(self, kind: Kind, live: Manifest) -> Manifest:
        return live

    async def delete(self, kind: Kind, manifest: Manifest, **_: bool) -> None:
        self.written.append(f"-{kind.kind}/{manifest['metadata']['name']}")

    async def patch_status(self, kind: Kind, manifest: Manifest, status: Manifest, **_: bool) -> Manifest:
        self.status = status
        return {**manifest["metadata"], "resourceVersion": "99"}

    async def create(self, kind: Kind, manifest: Manifest) -> Manifest:
        return stored({**manifest, "metadata": {**manifest["metadata"], "resourceVersion": "12"}})


def one_pass(cluster: RefusingCluster, *known: Manifest, failures: int = 0, **spec: Any) -> float | None:
    cache = new_cache()
    cache.put(SERVER, make_server(**spec))
    cluster.live.setdefault("KimiLinearServer/kimi", make_server(**spec))
    for manifest in known:
        cache.put(kind_of(manifest), manifest)
    reconciler = Passes(cluster, cache)
    return asyncio.run(reconciler.reconcile(Key("default", "kimi", SERVER), failures))


def kept_objects(number: int, **spec: Any) -> tuple[Manifest, Manifest]:
    """Return the record and the Deployment of a server that had this spec."""
    server = KimiLinearServer.model_validate(make_server(**spec))
    (kept,) = [replace(choose(server, History()).current, number=number, generation=0)]
    record = build_revision(server, kept)
    return stored(record), stored(build_deployment(server, kept.template, number))


def running_objects(replicas: int = 1, **spec: Any) -> tuple[Manifest, Manifest]:
    """Return the record of a server's first spec, and its Deployment, whose pods serve."""
    record, deployment = kept_objects(1, replicas=replicas, **spec)
    counts = dict.fromkeys(("replicas", "updatedReplicas", "availableReplicas", "readyReplicas"), replicas)
    deployment["status"] = {"observedGeneration": 1, **counts}
    return record, deployment


def pass_over(cluster: RefusingCluster, *known: Manifest, server: Manifest) -> None:
    """Make a pass over a server, with these objects in the cache."""
    cache = new_cache()
    cache.put(SERVER, server)
    for manifest in known:
        cache.put(kind_of(manifest), manifest)
    cluster.live["KimiLinearServer/kimi"] = server
    asyncio.run(Passes(cluster, cache).reconcile(Key("default", "kimi", SERVER)))


@dataclass
class DefaultingCluster(RefusingCluster):
    """A cluster whose CRD now has another default. It counts how often the server and its Deployment are read."""

    reads: list[str] = field(default_factory=list)

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        self.reads.append(kind.kind)
        return await super().get(kind, namespace, name)
