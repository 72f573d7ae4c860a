"""Golden files: what a resource becomes, whole and as a person would review it.

Each folder is a case. `cr.yaml` becomes `objects.yaml`; where `observed.yaml` holds a Deployment and pods,
`cr.yaml` and those become `status.yaml`. `pytest tests/golden --update-golden` rewrites the results.
"""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from kimi_linear_operator import resources, rules
from kimi_linear_operator.api import Manifest
from kimi_linear_operator.cli.manifests import dump
from kimi_linear_operator.cluster import Cluster
from kimi_linear_operator.reconcile import Reconciler
from kimi_linear_operator.resources import DEPLOYMENT, POD, SERVER, Kind
from kimi_linear_operator.store import Key, Store
from make import owned, stored

NOW = "2026-11-24T10:00:00Z"
CASES = Path(__file__).parent
OBSERVED_KINDS = {"Deployment": DEPLOYMENT, "Pod": POD}


@dataclass
class RecordingCluster:
    """Has the server and no child, accepts what is written, and remembers the status."""

    server: Manifest
    status: list[Manifest] = field(default_factory=list)
    events: list[Manifest] = field(default_factory=list)

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        return self.server if kind == SERVER else None

    async def apply(self, kind: Kind, manifest: Manifest) -> Manifest:
        return stored(manifest)

    async def patch_status(self, kind: Kind, manifest: Manifest, status: Manifest) -> Manifest:
        self.status.append(status)
        return manifest

    async def create(self, kind: Kind, event: Manifest) -> Manifest:
        self.events.append({key: event[key] for key in ("type", "reason", "message")})
        return event


def cases(file: str) -> list[str]:
    return sorted(path.parent.name for path in CASES.glob(f"*/{file}"))


def read(case: str, file: str) -> list[Any]:
    return [document for document in yaml.safe_load_all((CASES / case / file).read_text()) if document]


def read_server(case: str) -> Manifest:
    (manifest,) = read(case, "cr.yaml")
    return stored(manifest)


def compare(case: str, file: str, text: str, request: pytest.FixtureRequest) -> None:
    path = CASES / case / file
    if request.config.getoption("--update-golden"):
        path.write_text(text)
    assert path.read_text() == text


@pytest.mark.parametrize("case", sorted({*cases("cr.yaml")} - {*cases("observed.yaml")}))
def test_a_resource_becomes_these_objects(case: str, request: pytest.FixtureRequest) -> None:
    checked = rules.check(read_server(case))
    assert checked.server
    assert checked.errors == []
    compare(case, "objects.yaml", "---\n".join(dump(child) for child in resources.build(checked.server)), request)


@pytest.mark.parametrize("case", cases("observed.yaml"))
def test_what_is_observed_becomes_this_status(case: str, request: pytest.FixtureRequest) -> None:
    server = read_server(case)
    name = server["metadata"]["name"]
    store, cluster = Store(), RecordingCluster(server)
    store.put(SERVER, server)
    for manifest in read(case, "observed.yaml"):
        store.put(OBSERVED_KINDS[manifest["kind"]], owned(manifest, name))
    reconciler = Reconciler(cast(Cluster, cluster), store, now=lambda: NOW)
    asyncio.run(reconciler.reconcile(Key("default", name)))
    (status,) = cluster.status
    compare(case, "status.yaml", dump({"status": status, "events": cluster.events}), request)
