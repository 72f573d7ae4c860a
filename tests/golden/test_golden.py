"""Golden files: all objects and the status of a resource, in a form that people can review.

Each folder is a case. `objects.yaml` contains the objects that the operator builds for `cr.yaml`. If a case has
`observed.yaml` with a Deployment, Jobs or pods, `status.yaml` contains the status for `cr.yaml` and these objects, and
`pod.log` the log of a pod. `server.yaml` is the server that a benchmark measures, `weights.yaml` the weights that a
server uses. `pytest tests/golden --update-golden` rewrites the results.
"""

import asyncio
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from kimi_linear_operator.cli.manifests import dump
from kimi_linear_operator.kubernetes.kinds import CONFIG_MAP, JOB, POD, Kind, Manifest
from kimi_linear_operator.kubernetes.metadata import FINGERPRINT_ANNOTATION
from kimi_linear_operator.kubernetes.models import Resource
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.resource_types import TYPES, check
from kimi_linear_operator.server.preflight import POD_CHECK
from kimi_linear_operator.server.router import LAUNCHER
from kimi_linear_operator.weights.job import program_name
from kimi_linear_operator.weights.spec import KimiLinearWeights
from make import make_weights, owned, stored
from passes import CHILDREN, RESOURCES, Passes, new_cache

NOW = "2026-11-24T10:00:00Z"
CASES = Path(__file__).parent
OBSERVED_KINDS = {kind.kind: kind for kind in (*RESOURCES, *CHILDREN)}


@dataclass
class RecordingCluster:
    """A cluster with the resource and the observed objects. It accepts all writes and keeps the status."""

    resource: Manifest
    observed: dict[tuple[Kind, str], Manifest] = field(default_factory=dict)
    pods: list[Manifest] = field(default_factory=list)
    log: str = ""
    status: list[Manifest] = field(default_factory=list)
    events: list[Manifest] = field(default_factory=list)

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        is_resource = self.resource["kind"] == kind.kind
        return self.resource if is_resource else self.observed.get((kind, name))

    async def events_of(self, involved: Manifest, reasons: Any) -> list[Manifest]:
        return []

    async def summarize(self, kind: Kind, namespace: str, selector: str, summary: Any, add: Any) -> Any:
        wanted = dict(part.split("=") for part in selector.split(",")).items()
        return add(summary, [pod for pod in self.pods if kind == POD and wanted <= pod["metadata"]["labels"].items()])

    async def pod_log_tail(self, pod: Manifest, container: str, since_seconds: float | None = None, **_: int) -> str:
        return self.log

    async def apply(self, kind: Kind, manifest: Manifest) -> Manifest:
        return stored({**manifest, "metadata": {"creationTimestamp": NOW, **manifest["metadata"]}})

    async def apply_new(self, kind: Kind, manifest: Manifest) -> Manifest:
        return await self.apply(kind, manifest)

    async def annotate(self, kind: Kind, manifest: Manifest, name: str, value: str) -> Manifest:
        return manifest

    async def delete(self, kind: Kind, manifest: Manifest, **_: bool) -> None:
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
    referenced = {key: valid(read_resource(case, _file_of(key))) for key in preview.references(resource).values()}
    return preview.build(resource, referenced)


def _file_of(key: Key) -> str:
    return f"{key.kind.kind.removeprefix('KimiLinear').lower()}.yaml"


def valid(manifest: Manifest) -> Resource:
    checked = check(manifest)
    assert checked.errors == []
    assert isinstance(checked.resource, Resource)
    return checked.resource


def without_programs(manifest: Manifest) -> Manifest:
    """Leave out the texts of programs in pods, and hashes of these texts. The programs have their own tests."""
    if manifest["kind"] == "Deployment":
        text = json.dumps(manifest)
        for program in (POD_CHECK, LAUNCHER):
            text = text.replace(json.dumps(program), '"..."')
        shortened: Manifest = json.loads(text)
        return shortened
    if manifest["metadata"]["labels"]["app.kubernetes.io/component"] == "weights":
        manifest = _without_hash_of_program(manifest)
    if manifest["kind"] != "ConfigMap":
        return manifest
    metadata = {key: value for key, value in manifest["metadata"].items() if key != "annotations"}
    return {**manifest, "metadata": metadata, "data": dict.fromkeys(manifest["data"], "...")}


def hash_of_program() -> str:
    weights = check(make_weights()).resource
    assert isinstance(weights, KimiLinearWeights)
    return program_name(weights).rpartition("-")[2]


def _without_hash_of_program(manifest: Manifest) -> Manifest:
    """Leave out the hash of the fetching program, which is part of a name, and the fingerprint, which depends on it."""
    named: Manifest = json.loads(re.sub(rf"-fetch-{hash_of_program()}\b", "-fetch-...", json.dumps(manifest)))
    annotations: Manifest = named["metadata"].get("annotations", {})
    if manifest["kind"] == "Job":
        annotations[FINGERPRINT_ANNOTATION] = "..."
    return named


def compare(case: str, file: str, text: str, request: pytest.FixtureRequest) -> None:
    path = CASES / case / file
    if request.config.getoption("--update-golden"):
        path.write_text(text)
    assert path.read_text() == text


@pytest.mark.parametrize("case", sorted({*cases("cr.yaml")} - {*cases("observed.yaml")}))
def test_a_resource_becomes_the_golden_objects(case: str, request: pytest.FixtureRequest) -> None:
    objects = [without_programs(child) for child in build(case)]
    compare(case, "objects.yaml", "---\n".join(dump(child) for child in objects), request)


@pytest.mark.parametrize("case", cases("observed.yaml"))
def test_observed_objects_become_the_golden_status(case: str, request: pytest.FixtureRequest) -> None:
    resource = read_resource(case)
    key = Key("default", resource["metadata"]["name"], OBSERVED_KINDS[resource["kind"]])
    cache, cluster = new_cache(), RecordingCluster(resource)
    cache.put(key.kind, resource)
    for manifest in read(case, "observed.yaml"):
        kind = OBSERVED_KINDS[manifest["kind"]]
        observed = stored(manifest) if kind in RESOURCES else owned(manifest, key.name, resource["kind"])
        cache.put(kind, observed)
        cluster.observed[kind, observed["metadata"]["name"]] = observed
        cluster.pods += [observed] if kind == POD else []
    log = CASES / case / "pod.log"
    cluster.log = log.read_text() if log.exists() else ""
    asyncio.run(passes(Passes(cluster, cache, now=lambda: NOW), key, 2 if cluster.log else 1))
    compare(case, "status.yaml", dump({"status": cluster.status[-1], "events": cluster.events}), request)


async def passes(reconciler: Passes, key: Key, number: int) -> None:
    """Make this number of passes. The contents of a log are known in the pass after the read."""
    for _ in range(number):
        await reconciler.reconcile(key)
        await asyncio.sleep(0)
