"""`diff` shows what the operator would do."""

import argparse
import asyncio
from typing import Any, cast

import pytest

from kimi_linear_operator.cli import diff, manifests
from kimi_linear_operator.cluster.client import Cluster
from kimi_linear_operator.kubernetes.kinds import SERVICE, Kind, Manifest
from kimi_linear_operator.kubernetes.metadata import ADOPT_ANNOTATION
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.server.manifests import build_companions
from kimi_linear_operator.server.spec import SERVER, KimiLinearServer
from make import ODD_STATUSES, make_server, make_weights, stored


def make(name: str, **spec: object) -> Manifest:
    manifest = make_server(name, **spec)
    return {**manifest, "metadata": {**manifest["metadata"], "uid": f"uid-of-{name}"}}


class Store:
    """A cluster with these objects."""

    def __init__(self, objects: dict[tuple[str, str], Manifest]) -> None:
        self.objects = objects

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        return self.objects.get((kind.kind, name))

    async def list(self, kind: Kind, namespace: str, selector: str) -> list[Manifest]:
        return []

    async def apply(self, kind: Kind, manifest: Manifest, *, dry_run: bool) -> Manifest:
        assert dry_run
        return stored(manifest)


@pytest.mark.parametrize("does_owner_exist", [True, False])
def test_diff_shows_an_adoption_only_if_the_childs_owner_is_gone(*, does_owner_exist: bool) -> None:
    """The Service of server kimi-headless and the headless Service of server kimi have the same name."""
    owner = make("kimi", service={"headless": True})
    children = build_companions(KimiLinearServer.model_validate(owner))
    [held] = [child for child in children if (child["kind"], child["metadata"]["name"]) == ("Service", "kimi-headless")]
    held["metadata"] |= {"annotations": {**held["metadata"]["annotations"], ADOPT_ANNOTATION: "true"}}
    objects = {("Service", "kimi-headless"): stored(held)}
    if does_owner_exist:
        objects["KimiLinearServer", "kimi"] = owner
    wanting = KimiLinearServer.model_validate(make("kimi-headless"))
    in_files = {Key("default", "kimi-headless", SERVER): wanting}
    changes = asyncio.run(diff._resource_changes(cast(Cluster, Store(objects)), wanting, in_files))
    [shown] = [change for change in changes if change["object"] == "Service/default/kimi-headless"]
    assert shown["action"] == ("blocked" if does_owner_exist else "change")
    assert ("belongs to KimiLinearServer kimi" in shown["diff"]) == does_owner_exist


def test_diff_names_a_child_that_the_operator_cannot_change_because_a_finalizer_holds_it() -> None:
    owner = make("kimi", replicas=1)
    server = KimiLinearServer.model_validate(owner)
    [service] = build_companions(server)
    about = {"deletionTimestamp": "2026-11-24T10:00:00Z", "finalizers": ["example.com/hold"]}
    held = stored({**service, "metadata": {**service["metadata"], **about}})

    class Labelled(Store):
        async def list(self, kind: Kind, namespace: str, selector: str) -> list[Manifest]:
            return [held] if kind == SERVICE else []

    cluster = Labelled({("KimiLinearServer", "kimi"): owner})
    changes = asyncio.run(diff._resource_changes(cast(Cluster, cluster), server, {}))
    [shown] = [change for change in changes if change["object"] == "Service/default/kimi"]
    assert shown["action"] == "blocked"
    assert "Service kimi (example.com/hold)" in shown["diff"]


@pytest.mark.parametrize("status", ODD_STATUSES, ids=str)
def test_no_status_of_a_stored_resource_keeps_diff_from_its_answer(status: Any) -> None:
    owner = make("kimi", replicas=1, model={"weights": "kimi"})
    weights = {**stored(make_weights()), "status": status}
    objects = {("KimiLinearServer", "kimi"): {**owner, "status": status}, ("KimiLinearWeights", "kimi"): weights}
    server = KimiLinearServer.model_validate(owner)
    changes = asyncio.run(diff._resource_changes(cast(Cluster, Store(objects)), server, {}))
    assert [change["object"] for change in changes if change["action"] == "create"] == [
        "Service/default/kimi",
        "Deployment/default/kimi",
    ]


def test_diff_prints_no_control_sequences(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    name = "\x1b]0;title\x07\x1b[2J\x1b[HNo differences.\u202e"

    async def changes(_: Any) -> list[Manifest]:
        return [{"object": name, "action": "blocked", "diff": f"# Service kimi belongs to {name}\n"}]

    monkeypatch.setattr(diff, "_changes", changes)
    monkeypatch.setattr(manifests, "read", lambda _: [])
    assert diff.run(argparse.Namespace(namespace="default", output="text")) == 1
    assert capsys.readouterr().out == "# Service kimi belongs to No differences.\N{REPLACEMENT CHARACTER}\n"
