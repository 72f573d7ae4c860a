"""The pod of a benchmark's client takes the volume of the weights from the server, but no access beyond itself."""

import asyncio
from typing import Any

import pytest

from kimi_linear_operator.benchmark.spec import BENCHMARK
from kimi_linear_operator.kubernetes.conditions import find_condition
from kimi_linear_operator.kubernetes.kinds import DEPLOYMENT, Kind, Manifest
from kimi_linear_operator.server.deployment import build_pod_template
from kimi_linear_operator.server.spec import SERVER, KimiLinearServer
from kimi_linear_operator.weights.location import on_claim
from make import make_benchmark, make_condition, make_deployment, make_server
from passes import Passes
from unit.benchmark.test_turns_given_back import FIRST, World

_FILES: Manifest = {"hostPath": {"path": "/"}}
_TOKEN: Manifest = {"projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}
_CLAIM: Manifest = {"persistentVolumeClaim": {"claimName": "kimi"}}


def _world(source: Manifest) -> World:
    """Return a world with a server whose Deployment has this volume in place of the volume of the weights."""
    world = World()
    server = make_server(model={"weights": "kimi"})
    status = {"conditions": [make_condition("Ready", "True", "AllReplicasServe", "") | {"observedGeneration": 1}]}
    world.cluster.put(SERVER, {**server, "status": status})
    template = build_pod_template(KimiLinearServer.model_validate(server), on_claim("kimi", "instruct", "1" * 40))
    pod = template["spec"]
    pod["volumes"] = [item for item in pod["volumes"] if item["name"] != "weights"] + [{"name": "weights", **source}]
    deployment = {**make_deployment(), "spec": {"replicas": 1, "template": template}}
    world.cluster.put(DEPLOYMENT, deployment)
    benchmark = make_benchmark("first", suites=[{"name": "speed-low"}])
    benchmark["metadata"] |= {"creationTimestamp": "2026-11-24T08:00:01Z", "uid": "first"}
    world.cluster.put(BENCHMARK, benchmark)
    return world


def _jobs(world: World, monkeypatch: pytest.MonkeyPatch, **options: Any) -> list[Manifest]:
    """Make a pass over the benchmark, and return the Jobs as the operator applies them."""
    apply, applied = world.cluster.apply, list[Manifest]()

    async def noting(kind: Kind, manifest: Manifest) -> Manifest:
        applied.append(manifest)
        return await apply(kind, manifest)

    monkeypatch.setattr(world.cluster, "apply", noting)
    asyncio.run(Passes(world.cluster, world.cache, now=lambda: world.cluster.now, **options).reconcile(FIRST))
    return [item for item in applied if item["kind"] == "Job"]


@pytest.mark.parametrize("source", [_FILES, _TOKEN], ids=["files", "token"])
def test_a_volume_in_an_edited_deployment_gives_the_clients_pod_no_access_beyond_itself(
    source: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = _world(source)
    assert _jobs(world, monkeypatch) == []
    found = find_condition((world.cache.get(FIRST) or {})["status"], "TargetReady")
    assert (found["status"], found["reason"]) == ("False", "ServerUnready")
    assert "the weights' volume of the pods of kimi, which gives access that is not allowed" in found["message"]


@pytest.mark.parametrize(("source", "allows"), [(_CLAIM, False), (_FILES, True)], ids=["claim", "allowed"])
def test_the_clients_pod_has_the_volume_of_the_weights(
    source: Manifest, allows: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    [job] = _jobs(_world(source), monkeypatch, allows_node_access=allows)
    assert {"name": "weights", **source} in job["spec"]["template"]["spec"]["volumes"]
