"""The output of `kimi-linear status` for a golden case, as in a cluster with exactly these objects."""

import contextlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from kimi_linear_operator.cli import main, status
from kimi_linear_operator.kubernetes.kinds import Kind, Manifest
from make import owned, stored

CASES = Path(__file__).parent / "golden"


class Observed:
    """A cluster with the objects of a golden case."""

    def __init__(self, case: str) -> None:
        folder = CASES / case
        resource, found = (yaml.safe_load((folder / file).read_text()) for file in ("cr.yaml", "status.yaml"))
        self.resource: Manifest = {**stored(resource), "status": found["status"]}
        self.children = [
            owned(child, resource["metadata"]["name"], resource["kind"])
            for child in yaml.safe_load_all((folder / "observed.yaml").read_text())
        ]

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        own = (self.resource["kind"], self.resource["metadata"]["name"])
        return self.resource if (kind.kind, name) == own else None

    async def list(self, kind: Kind, namespace: str, selector: str) -> list[Manifest]:
        return [child for child in self.children if child["kind"] == kind.kind]


def connect_to(monkeypatch: pytest.MonkeyPatch, cluster: Any, now: str = "2026-11-24T10:00:00Z") -> None:
    """Let the command find a cluster, at this time."""
    monkeypatch.setattr(status, "connect", lambda: contextlib.nullcontext(cluster))
    monkeypatch.setattr(status, "now", lambda: now)


def printed(
    case: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *options: str
) -> SimpleNamespace:
    """Return the exit code and the output."""
    cluster = Observed(case)
    connect_to(monkeypatch, cluster)
    name = cluster.resource["metadata"]["name"]
    code = main(["status", name, "--namespace=default", *options])
    return SimpleNamespace(code=code, output=capsys.readouterr().out)
