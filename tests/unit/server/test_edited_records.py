"""Users can edit the records of a server. No record gives its pods access beyond themselves."""

import asyncio
import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from kimi_linear_operator.kubernetes import access, metadata
from kimi_linear_operator.kubernetes.kinds import DEPLOYMENT, REVISION, Manifest
from kimi_linear_operator.server.labels import REVISION_ANNOTATION, TEMPLATE_ANNOTATION, UNOWNED_ANNOTATION
from kimi_linear_operator.server.revision import UNOWNED
from kimi_linear_operator.server.spec import SERVER
from make import make_server
from passes import Passes, new_cache
from unit.server.test_many_unowned_fields import KIMI, Cluster

OWNER = {"manager": "me", "operation": "Update", "time": "2026-11-01T00:00:00Z"}
ENGINE: Manifest = {"f:engine": {"f:extraArgs": {}}}
SIDE: Manifest = {"name": "side", "image": "busybox", "tty": False}
VOLUME: Manifest = {"name": "node", "emptyDir": {}}
EVIL: Manifest = {**SIDE, "securityContext": {"privileged": True}}
FILES: Manifest = {"name": "node", "hostPath": {"path": "/"}}
# The record says that nobody had set the podTemplate.
_UNOWNED = [["podTemplate"]]
REACHING: dict[str, Manifest] = {
    "privileges": {"containers": [EVIL]},
    "files": {"containers": [SIDE], "volumes": [FILES]},
    "account": {"containers": [SIDE], "serviceAccountName": "admin", "automountServiceAccountToken": True},
}


class World:
    """A server with a router and a sidecar. Nobody owns its podTemplate, or one owner owns the list of containers."""

    def __init__(self, owned: Manifest) -> None:
        self.cluster, self.cache = Cluster([{**OWNER, "fieldsV1": {"f:spec": {**owned, **ENGINE}}}]), new_cache()
        self.passes = Passes(self.cluster, self.cache)
        pod = {"containers": [SIDE], "volumes": [VOLUME]}
        self.store(make_server(router={}, podTemplate={"spec": pod}))
        self.run()

    def store(self, server: Manifest, **metadata: object) -> None:
        self.cache.put(SERVER, self.cluster.store(server, **metadata))

    def run(self) -> None:
        for _ in range(3):
            asyncio.run(self.passes.reconcile(KIMI))

    def change(self, pod: Manifest) -> None:
        """Change the pod in the spec, and something for which somebody asks."""
        server = copy.deepcopy(self.cluster.objects["KimiLinearServer", "kimi"])
        server["spec"]["podTemplate"]["spec"] = pod
        server["spec"]["engine"] = {"extraArgs": ["--log-level=info"]}
        self.store(server, generation=2)
        self.run()

    def edit_router(self, pod: Manifest) -> None:
        """Add a podTemplate to the inputs in the record of the router."""

        def add(record: Manifest) -> None:
            record["inputs"]["podTemplate"], record[UNOWNED] = {"spec": pod}, _UNOWNED

        self.edit_router_record(add)

    def edit_router_record(self, change: Callable[[Manifest], object]) -> None:
        router = copy.deepcopy(self.cluster.objects["Deployment", "kimi-router"])
        record = json.loads(router["metadata"]["annotations"][TEMPLATE_ANNOTATION])
        change(record)
        router["metadata"]["annotations"][TEMPLATE_ANNOTATION] = json.dumps(record)
        self.cache.put(DEPLOYMENT, self.cluster.store(router))

    def replace_record(self, **data: Any) -> None:
        """Create another record with a higher number. The Deployment names this record."""
        record = copy.deepcopy(self.cluster.objects["ControllerRevision", "kimi-1"])
        record |= {"revision": 7, "data": {**record["data"], **data}}
        record["metadata"]["name"] = "kimi-7"
        metadata.annotate(record, UNOWNED_ANNOTATION, json.dumps(_UNOWNED))
        self.cache.put(REVISION, self.cluster.store(record))
        deployment = copy.deepcopy(self.cluster.objects["Deployment", "kimi"])
        deployment["metadata"]["annotations"][REVISION_ANNOTATION] = "7"
        self.cache.put(DEPLOYMENT, self.cluster.store(deployment))

    @property
    def reached(self) -> list[str]:
        names = ("kimi", "kimi-router")
        return access.beyond_pod(*(self.cluster.objects["Deployment", name]["spec"]["template"] for name in names))


CHANGED = {
    "containers": [{**SIDE, "securityContext": {"privileged": False}}],
    "serviceAccountName": "default",
    "automountServiceAccountToken": False,
    "volumes": [{"name": "node", "emptyDir": {"medium": "Memory"}}],
}


@pytest.mark.parametrize("owned", [{"f:suspend": {}}, {"f:podTemplate": {"f:spec": {"f:containers": {}}}}], ids=str)
@pytest.mark.parametrize("pod", REACHING.values(), ids=REACHING)
def test_the_record_of_a_router_gives_no_pod_access_beyond_itself(pod: Manifest, owned: Manifest) -> None:
    world = World(owned)
    world.edit_router(pod)
    world.change(CHANGED)
    assert world.reached == []


@pytest.mark.parametrize("owned", [{"f:suspend": {}}, {"f:podTemplate": {"f:spec": {"f:containers": {}}}}], ids=str)
@pytest.mark.parametrize("pod", REACHING.values(), ids=REACHING)
def test_the_inputs_of_a_record_give_no_pod_access_beyond_itself(pod: Manifest, owned: Manifest) -> None:
    world = World(owned)
    inputs = world.cluster.objects["ControllerRevision", "kimi-1"]["data"]["inputs"]
    world.replace_record(inputs={**inputs, "podTemplate": {"spec": pod}}, generation=0)
    world.change(CHANGED)
    assert world.reached == []


@pytest.mark.parametrize("pod", REACHING.values(), ids=REACHING)
def test_the_inputs_of_a_record_give_access_only_if_the_administrator_allows_it(pod: Manifest) -> None:
    """Without the check, the tests above would see this access."""
    world = World({"f:suspend": {}})
    world.passes = Passes(world.cluster, world.cache, allows_node_access=True)
    inputs = world.cluster.objects["ControllerRevision", "kimi-1"]["data"]["inputs"]
    world.replace_record(inputs={**inputs, "podTemplate": {"spec": pod}}, generation=0)
    world.change(CHANGED)
    assert world.reached


def _template(image: str) -> Manifest:
    return {"spec": {"automountServiceAccountToken": False, "containers": [{**EVIL, "image": image}]}}


@pytest.mark.parametrize(("image", "is_kept"), [("busybox", True), ("mine", False)])
def test_of_templates_with_access_only_that_of_the_running_pods_is_kept(image: str, is_kept: bool) -> None:
    """An administrator has allowed the access before, and has taken the permission back."""
    world = World({"f:suspend": {}})
    deployment = copy.deepcopy(world.cluster.objects["Deployment", "kimi"])
    deployment["spec"]["template"] = {"metadata": {}, **_template("busybox")}
    world.cache.put(DEPLOYMENT, world.cluster.store(deployment))
    world.replace_record(template=_template(image))
    deployment = copy.deepcopy(world.cluster.objects["Deployment", "kimi"])
    world.run()
    found = world.cluster.objects["Deployment", "kimi"]["spec"]["template"]
    assert (access.beyond_pod(found) != []) is is_kept
    assert "mine" not in str(found)


def test_a_forged_record_of_a_router_without_any_other_change_is_left_out() -> None:
    world = World({"f:suspend": {}})
    world.edit_router_record(lambda record: record["template"]["spec"].update(volumes=[FILES]))
    world.run()
    assert world.reached == []


def test_a_record_without_a_field_that_protects_the_pods_is_left_out() -> None:
    world = World({"f:suspend": {}})
    record = copy.deepcopy(world.cluster.objects["ControllerRevision", "kimi-1"])
    del record["data"]["template"]["spec"]["automountServiceAccountToken"]
    world.cache.put(REVISION, world.cluster.store(record))
    world.run()
    assert world.reached == []


def test_a_record_of_a_router_without_a_field_that_protects_its_pods_is_left_out() -> None:
    world = World({"f:suspend": {}})
    world.edit_router_record(lambda record: record["template"]["spec"].pop("automountServiceAccountToken"))
    world.run()
    assert world.reached == []
