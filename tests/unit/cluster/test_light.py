"""Large objects in answers take little memory, however many requests wait for an answer at the same time."""

import asyncio
import json
import tracemalloc
from typing import Any, cast

import pytest

from kimi_linear_operator import jsontext
from kimi_linear_operator.cluster.answer import Answer, object_in
from kimi_linear_operator.cluster.client import Cluster
from kimi_linear_operator.cluster.light import HEAVIEST_MANAGED_FIELDS
from kimi_linear_operator.cluster.pages import Pages
from kimi_linear_operator.cluster.transport import Transport
from kimi_linear_operator.kubernetes import ownership
from kimi_linear_operator.kubernetes.kinds import SERVICE, Manifest
from kimi_linear_operator.kubernetes.metadata import MANAGER
from kimi_linear_operator.resource_types import check
from kimi_linear_operator.server.applied_template import running_template
from kimi_linear_operator.server.index import ServerFacts
from kimi_linear_operator.server.spec import SERVER
from make import make_deployment, make_server
from passes import READER

# The API server stores this many keys in an object.
KEYS = 95_000
CHILDREN = 48
MIB = 2**20


def fields(keys: int) -> Manifest:
    return {"f:metadata": {"f:annotations": {f"f:{number:05}": {} for number in range(keys)}}}


def entry(operation: str, keys: int = 3, manager: str = MANAGER) -> Manifest:
    return {"manager": manager, "operation": operation, "apiVersion": "v1", "fieldsV1": fields(keys)}


def text_of(*managed_fields: Manifest, kind: str = "Service", version: str = "v1", **rest: Any) -> bytes:
    about = {"name": "a", "namespace": "b", "uid": "u", "resourceVersion": "5", "managedFields": list(managed_fields)}
    return jsontext.encode({"apiVersion": version, "kind": kind, "metadata": about, **rest})


def read(text: bytes, kind: str = "Service") -> Manifest:
    return object_in(Answer(200, text, ""), kind, "a")


def test_an_object_of_the_operator_stays_as_it_is() -> None:
    text = text_of(entry("Apply", 10_000), entry("Update", 5_000), spec={"ports": [{"port": 1}] * 12_000})
    assert jsontext.weight(text) > HEAVIEST_MANAGED_FIELDS
    assert read(text) == json.loads(text)


def test_heavy_managed_fields_of_a_child_keep_only_what_merges_our_two_managers() -> None:
    text = text_of(entry("Update", KEYS), entry("Apply"), entry("Update", 10, "kubectl"), spec={"a": 1})
    found = read(text)
    assert found["spec"] == {"a": 1}
    assert ownership.has_second_manager(found, MANAGER)
    [merged] = ownership.unified(found["metadata"]["managedFields"], MANAGER) or []
    assert (merged["operation"], merged["fieldsV1"]) == ("Apply", fields(3))


@pytest.mark.parametrize("manager", [MANAGER, "kubectl"])
def test_heavy_managed_fields_of_a_resource_are_unknown(manager: str) -> None:
    text = text_of(entry("Update", KEYS, manager), kind=SERVER.kind, version=SERVER.api_version, spec={"replicas": 2})
    found = read(text, SERVER.kind)
    assert (found["metadata"]["managedFields"], found["spec"]) == (None, {"replicas": 2})


@pytest.mark.parametrize("part", [{"x": [{}] * 70_000}, {"x": "x" * 1_400_000}], ids=["heavy", "long"])
def test_only_the_essence_of_an_object_is_left_that_is_larger_than_any_of_ours(part: Manifest) -> None:
    found = read(text_of(entry("Apply"), spec={"type": "ClusterIP", **part}))
    assert (found["spec"], found["metadata"]["uid"]) == ({"type": "ClusterIP"}, "u")
    assert len(found["metadata"]["managedFields"]) == 1


class Slow:
    """An API server with a Service that has heavy managed fields. It answers all writes at the same time."""

    def __init__(self, text: bytes) -> None:
        self.text, self.may_answer = text, asyncio.Event()
        self.have_all_asked = asyncio.Barrier(CHILDREN + 1)

    async def answer(self, request: Any, *_: Any) -> Answer:
        await asyncio.sleep(0)
        if request.method == "PATCH":
            await self.have_all_asked.wait()
            await self.may_answer.wait()
            return Answer(200, text_of(entry("Apply")), "")
        return Answer(200, self.text, "")


@pytest.mark.parametrize("keys", [KEYS], ids=["too heavy"])
def test_managers_of_many_children_become_one_at_the_same_time_with_little_memory(keys: int) -> None:
    async def unify(cluster: Cluster) -> None:
        await cluster.unify(SERVICE, await cluster.get(SERVICE, "b", "a") or {})

    async def test() -> int:
        server = Slow(text_of(entry("Update", keys), entry("Apply")))
        cluster = Cluster(cast(Transport, server), cast(Pages, None))
        tracemalloc.start()
        async with asyncio.TaskGroup() as group:
            for _ in range(CHILDREN):
                group.create_task(unify(cluster))
            await server.have_all_asked.wait()
            held, _ = tracemalloc.get_traced_memory()
            server.may_answer.set()
        return held

    try:
        assert asyncio.run(test()) < CHILDREN * MIB
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "spec",
    [
        {"replicas": 2, "podTemplate": {"spec": {"containers": [{"env": [{"name": f"A{i}"} for i in range(30_000)]}]}}},
        {"replicas": 2, "engine": {"extraArgs": ["x" * 1_100_000]}},
    ],
    ids=["heavy", "long"],
)
def test_a_spec_that_is_too_large_does_not_become_a_valid_one(spec: Manifest) -> None:
    """Its plain fields alone would be the spec of another server, whose pods nobody has asked for."""
    text = text_of(kind="KimiLinearServer", version="kimi-linear.io/v1alpha1", spec=spec)
    reduced = read(text, "KimiLinearServer")
    assert len(jsontext.encode(reduced)) < 100_000
    paths = [[problem.path for problem in check(manifest).problems] for manifest in (reduced, json.loads(text))]
    assert paths[0] == paths[1] != []
    assert not check(reduced).is_valid


def test_a_server_whose_managed_fields_are_unknown_can_be_cached() -> None:
    manifest = make_server()
    manifest["metadata"] |= {"resourceVersion": "5", "managedFields": None}
    facts = READER.read(SERVER, manifest).facts
    assert isinstance(facts, ServerFacts)
    assert facts.unowned is None


def test_a_template_whose_managed_fields_are_unknown_does_not_count_as_ours() -> None:
    manifest = make_deployment()
    manifest["metadata"]["managedFields"] = None
    manifest["spec"] = {"template": {}}
    assert running_template({}, manifest) is None
