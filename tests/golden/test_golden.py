"""Golden files: all objects and the status of a resource, in a form that a person can review.

Each folder is a case. `cr.yaml` becomes `objects.yaml`; where `observed.yaml` holds a Deployment, Jobs and pods,
`cr.yaml` and those become `status.yaml`. The server that a benchmark measures is in `server.yaml`.
`pytest tests/golden --update-golden` rewrites the results.
"""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from kimi_linear_operator.benchmark.labels import SUITE_LABEL
from kimi_linear_operator.cli.manifests import dump
from kimi_linear_operator.kubernetes.kinds import CONFIG_MAP, JOB, POD, Kind, Manifest
from kimi_linear_operator.kubernetes.models import Resource
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.resource_types import TYPES, check
from make import owned, stored
from passes import CHILDREN, RESOURCES, Passes, new_cache

NOW = "2026-11-24T10:00:00Z"
CASES = Path(__file__).parent
OBSERVED_KINDS = {kind.kind: kind for kind in (*RESOURCES, *CHILDREN)}


@dataclass
class RecordingCluster:
    """A cluster with the resource and, for a benchmark, its pods. It accepts all writes and keeps the status."""

    resource: Manifest
    pods: list[Manifest] = field(default_factory=list)
    status: list[Manifest] = field(default_factory=list)
    events: list[Manifest] = field(default_factory=list)

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        return self.resource if kind in RESOURCES else None

    async def events_of(self, involved: Manifest) -> list[Manifest]:
        return []

    async def essences(self, kind: Kind, namespace: str, selector: str) -> list[Manifest]:
        suite = selector.rpartition(f"{SUITE_LABEL}=")[2]
        return [pod for pod in self.pods if kind == POD and pod["metadata"]["labels"].get(SUITE_LABEL) == suite]

    async def apply(self, kind: Kind, manifest: Manifest) -> Manifest:
        return stored({**manifest, "metadata": {"creationTimestamp": NOW, **manifest["metadata"]}})

    async def apply_new(self, kind: Kind, manifest: Manifest) -> Manifest:
        return await self.apply(kind, manifest)

    async def annotate(self, kind: Kind, manifest: Manifest, name: str, value: str) -> Manifest:
        return manifest

    async def delete(self, kind: Kind, manifest: Manifest) -> None:
        assert kind in (CONFIG_MAP, JOB)

    async def patch_status(self, kind: Kind, manifest: Manifest, status: Manifest, **_: bool) -> Manifest:
        self.status.append(status)
        return {**manifest["metadata"], "resourceVersion": "2"}

    async def create(self, kind: Kind, event: Manifest) -> Manifest:
        self.events.append({key: event[key] for key in ("type", "reason", "message")})
        return event


def cases(file: str) -> list[str]:
    return sorted(path.parent.name for path in CASES.glob(f"*/{file}"))


def read(case: str, file: str) -> list[Any]:
    return [document for document in yaml.safe_load_all((CASES / case / file).read_text()) if document]


def read_resource(case: str, file: str = "cr.yaml") -> Manifest:
    (manifest,) = read(case, file)
    return stored(manifest)


def build(case: str) -> list[Manifest]:
    resource = valid(read_resource(case))
    preview = TYPES[resource.KIND].preview
    servers = {key: valid(read_resource(case, "server.yaml")) for key in preview.references(resource).values()}
    return preview.build(resource, servers)


def valid(manifest: Manifest) -> Resource:
    checked = check(manifest)
    assert checked.errors == []
    assert isinstance(checked.resource, Resource)
    return checked.resource


def without_runner(manifest: Manifest) -> Manifest:
    """Leave out the runner's text, which has its own tests, and the values that are computed from it."""
    if manifest["kind"] != "ConfigMap":
        return manifest
    metadata = {key: value for key, value in manifest["metadata"].items() if key != "annotations"}
    return {**manifest, "metadata": metadata, "data": {"runner.py": "..."}}


def compare(case: str, file: str, text: str, request: pytest.FixtureRequest) -> None:
    path = CASES / case / file
    if request.config.getoption("--update-golden"):
        path.write_text(text)
    assert path.read_text() == text


@pytest.mark.parametrize("case", sorted({*cases("cr.yaml")} - {*cases("observed.yaml")}))
def test_a_resource_becomes_these_objects(case: str, request: pytest.FixtureRequest) -> None:
    objects = [without_runner(child) for child in build(case)]
    compare(case, "objects.yaml", "---\n".join(dump(child) for child in objects), request)


@pytest.mark.parametrize("case", cases("observed.yaml"))
def test_what_is_observed_becomes_this_status(case: str, request: pytest.FixtureRequest) -> None:
    resource = read_resource(case)
    key = Key("default", resource["metadata"]["name"], OBSERVED_KINDS[resource["kind"]])
    cache, cluster = new_cache(), RecordingCluster(resource)
    cache.put(key.kind, resource)
    for manifest in read(case, "observed.yaml"):
        kind = OBSERVED_KINDS[manifest["kind"]]
        observed = stored(manifest) if kind in RESOURCES else owned(manifest, key.name, resource["kind"])
        cache.put(kind, observed)
        cluster.pods += [observed] if kind == POD else []
    reconciler = Passes(cluster, cache, now=lambda: NOW)
    asyncio.run(reconciler.reconcile(key))
    (status,) = cluster.status
    compare(case, "status.yaml", dump({"status": status, "events": cluster.events}), request)
