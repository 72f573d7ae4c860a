"""Unrequested defaults from the CRD of another version do not block a resource, even if this version refuses them."""

import asyncio
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from kimi_linear_operator.benchmark.definition import CHECKER as BENCHMARKS
from kimi_linear_operator.benchmark.spec import BENCHMARK
from kimi_linear_operator.cli import diff
from kimi_linear_operator.cli.failure import CommandError
from kimi_linear_operator.cluster.client import Cluster
from kimi_linear_operator.kubernetes.conditions import find_condition
from kimi_linear_operator.kubernetes.kinds import Kind, Manifest
from kimi_linear_operator.kubernetes.ownership import unowned
from kimi_linear_operator.reconcile import recheck
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.reconcile.errors import BehindError, GoneError
from kimi_linear_operator.reconcile.recheck import Rechecker
from kimi_linear_operator.server.definition import CHECKER as SERVERS
from kimi_linear_operator.server.spec import SERVER
from make import make_benchmark, make_server
from passes import Passes, new_cache
from processor_time import cost
from refusing import DefaultingCluster


def owned_by(manager: str, *paths: str) -> Manifest:
    """Return an entry of managed fields for these applied fields of a spec."""
    fields: Manifest = {}
    for path in paths:
        below = fields.setdefault("f:spec", {})
        for name in filter(None, path.split(".")):
            below = below.setdefault(f"f:{name}", {})
    return {"manager": manager, "operation": "Apply", "fieldsV1": fields}


REPORTED = {
    "manager": "kimi-linear-operator",
    "operation": "Update",
    "subresource": "status",
    "fieldsV1": {"f:spec": {"f:model": {"f:revision": {}}}, "f:status": {}},
}


def managed(manifest: Manifest, *owners: Manifest) -> Manifest:
    return {**manifest, "metadata": {**manifest["metadata"], "managedFields": [*owners, REPORTED]}}


def test_owning_an_object_does_not_mean_owning_the_fields_in_it() -> None:
    spec = {"model": {"path": "/m", "revision": "r"}, "engine": {"extraArgs": ["a"]}, "drain": {}, "replicas": 1}
    fields: Manifest = {"f:model": {"f:path": {}}, "f:engine": {}, "f:drain": {}}
    assert list(unowned(spec, fields)) == [("model", "revision"), ("engine", "extraArgs"), ("replicas",)]


# Defaults of a newer definition: the spec, the owner's fields, and the unrequested fields that break a rule or bound.
SERVER_DEFAULTS: list[Any] = [
    pytest.param({"model": {"path": "/m", "revision": "r"}}, ["model.path"], ["model.revision"], id="two of one"),
    pytest.param(
        {"reasoningParser": "enabled", "model": {"variant": "instruct"}}, [""], ["reasoningParser"], id="rule"
    ),
    pytest.param({"engine": {"attentionBackend": "AITER-v2"}}, ["engine"], ["engine.attentionBackend"], id="shape"),
    pytest.param({"engine": {"extraArgs": ["--tp", "8"]}}, ["engine"], ["engine.extraArgs"], id="list"),
    pytest.param({"engine": {"extraArgs": [8]}}, ["engine"], ["engine.extraArgs"], id="shape in a list"),
    pytest.param({"security": {"hostIPC": True}}, ["replicas"], ["security.hostIPC"], id="permission"),
]


def passes_over_server(server: Manifest, times: int = 2) -> DefaultingCluster:
    cluster, cache = DefaultingCluster({}), new_cache()
    cluster.live["KimiLinearServer/kimi"] = server
    cache.put(SERVER, server)
    reconciler = Passes(cluster, cache)
    for _ in range(times):
        asyncio.run(reconciler.reconcile(Key("default", "kimi", SERVER)))
    return cluster


@pytest.mark.parametrize(("spec", "owned", "refused"), SERVER_DEFAULTS)
def test_a_server_is_reconciled_without_unrequested_fields_that_are_refused(
    spec: Manifest, owned: list[str], refused: list[str]
) -> None:
    cluster = passes_over_server(managed(make_server(**spec), owned_by("me", *owned)))
    assert find_condition(cluster.status, "Accepted")["reason"] == "SpecValid"
    assert {"Deployment/kimi", "Service/kimi"} <= set(cluster.written)
    assert cluster.reads.count("KimiLinearServer") == 1


@pytest.mark.parametrize(("spec", "owned", "refused"), SERVER_DEFAULTS)
def test_a_requested_field_is_refused_with_the_usual_message(
    spec: Manifest, owned: list[str], refused: list[str]
) -> None:
    cluster = passes_over_server(managed(make_server(**spec), owned_by("me", *owned), owned_by("other", *refused)))
    accepted = find_condition(cluster.status, "Accepted")
    assert accepted["reason"] == "InvalidSpec"
    if refused != ["security.hostIPC"]:
        assert accepted["message"] == SERVERS.check_stored(make_server(**spec)).message
    assert "Deployment/kimi" not in cluster.written
    assert cluster.reads.count("KimiLinearServer") == 1


def test_all_fields_count_as_requested_if_their_owners_are_unknown() -> None:
    server = make_server(model={"path": "/m", "revision": "r"})
    assert find_condition(passes_over_server(server).status, "Accepted")["reason"] == "InvalidSpec"


def test_a_valid_server_needs_no_other_read() -> None:
    assert "KimiLinearServer" not in passes_over_server(managed(make_server(), owned_by("me", ""))).reads


@dataclass
class Reads:
    """A cluster with one object. It counts the reads."""

    live: Manifest | None
    count: int = 0

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        self.count += 1
        return self.live


@dataclass
class World:
    """A server whose path was set by somebody, and whose revision is a default from the CRD of another version."""

    cluster: Reads = field(default_factory=lambda: Reads(None))
    server: Manifest = field(default_factory=lambda: make_server(model={"path": "/m", "revision": "r"}))

    def __post_init__(self) -> None:
        self.cluster.live = managed(self.server, owned_by("me", "model.path"))
        self.rechecker = Rechecker(cast(Cluster, self.cluster), SERVERS.check_stored)

    def recheck(self, name: str = "kimi", namespace: str = "default", **spec: Any) -> Any:
        server = {**self.server, "spec": {**self.server["spec"], **spec}}
        key = Key(namespace, name, SERVER)
        return asyncio.run(self.rechecker.recheck(key, server, SERVERS.check_stored(server)))


def test_only_unrequested_fields_that_are_refused_are_left_out() -> None:
    server = World().recheck(toolCallParser="enabled", replicas=3, newer="enabled").resource
    assert (server.spec.model.path, server.spec.model.revision) == ("/m", None)
    assert (server.spec.tool_call_parser, server.spec.replicas) == ("enabled", 3)


def test_several_refused_unrequested_fields_are_left_out() -> None:
    checked = World().recheck(reasoningParser="enabled", tensorParallelism=3, hardware="mi999")
    assert checked.is_valid
    assert checked.resource.spec.hardware == "mi300x"


def test_an_object_is_read_once_for_each_spec_and_again_after_it_was_forgotten() -> None:
    world = World()
    for _ in range(3):
        assert world.recheck().is_valid
    assert world.cluster.count == 1
    world.rechecker.forget(Key("default", "kimi", SERVER))
    world.recheck()
    assert world.cluster.count == 2
    # With another CRD, the API server shows the same spec differently.
    assert world.recheck(reasoningParser="enabled").is_valid
    assert world.cluster.count == 3


def test_the_number_of_remembered_answers_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recheck, "_MOST_ANSWERS", 2)
    world = World()
    for name in "abca":
        world.recheck(name)
    assert world.cluster.count == 4
    world.recheck("c")
    assert world.cluster.count == 4


def test_refused_resources_of_one_namespace_cause_no_other_read_in_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recheck, "_MOST_ANSWERS", 8)
    world = World()
    world.recheck()
    for number in range(8):
        world.recheck(f"s{number}", "tenant")
    assert world.cluster.count == 9
    world.recheck()
    assert world.cluster.count == 9


def test_removing_all_owners_does_not_cause_checks_of_thousands_of_fields() -> None:
    world = World()
    labels = {f"label-{number}": "x" for number in range(1000)}
    assert not world.recheck(podTemplate={"metadata": {"labels": labels}}).is_valid


@pytest.mark.parametrize(
    ("change", "error"), [({"generation": 2}, BehindError), ({"uid": "another"}, GoneError), (None, GoneError)]
)
def test_the_last_answer_is_not_used_for_another_spec_or_object(
    change: Manifest | None, error: type[Exception]
) -> None:
    world = World()
    live = world.cluster.live or {}
    world.cluster.live = None if change is None else {**live, "metadata": {**live["metadata"], **change}}
    with pytest.raises(error):
        world.recheck()


GATED: Any = {"baseline": {"source": "none", "maxRegressionPercent": 5}, "suites": [{"name": "gsm8k"}]}
OWNED = ("serverRef.name", "baseline.source", "suites")


@pytest.mark.parametrize(("more", "reason"), [((), "SpecValid"), (("baseline.maxRegressionPercent",), "InvalidSpec")])
def test_a_benchmark_is_reconciled_without_unrequested_fields_that_are_refused(
    more: tuple[str, ...], reason: str
) -> None:
    benchmark = managed(make_benchmark(**GATED), owned_by("me", *OWNED, *more))
    cluster, cache = DefaultingCluster({}), new_cache()
    cluster.live["KimiLinearBenchmark/nightly"] = benchmark
    cache.put(BENCHMARK, benchmark)
    reconciler = Passes(cluster, cache)
    for _ in range(2):
        asyncio.run(reconciler.reconcile(Key("default", "nightly", BENCHMARK)))
    accepted = find_condition(cluster.status, "Accepted")
    assert accepted["reason"] == reason
    assert reason == "SpecValid" or accepted["message"] == BENCHMARKS.check_stored(make_benchmark(**GATED)).message
    assert cluster.reads == ["KimiLinearBenchmark"]


def test_the_command_line_reads_a_server_as_far_as_possible() -> None:
    key = Key("default", "kimi", SERVER)

    def referenced(live: Manifest | None) -> Any:
        return asyncio.run(diff._referenced(cast(Cluster, Reads(live)), "nightly: spec.serverRef", key))

    found = referenced(make_server(engine={"attentionBackend": "AITER-v2", "image": "example.com/i:1"}))
    assert found.spec.engine.image == "example.com/i:1"
    with pytest.raises(CommandError, match="the spec of KimiLinearServer kimi cannot be read"):
        referenced({**make_server(), "spec": "newer"})
    with pytest.raises(CommandError, match=r"nightly: spec\.serverRef: there is no KimiLinearServer kimi"):
        referenced(None)


def test_replicas_without_an_owner_count_as_requested_because_autoscalers_leave_no_owner() -> None:
    scaled = managed(make_server(replicas=1001), owned_by("me", "hardware"))
    cluster = passes_over_server(scaled)
    assert find_condition(cluster.status, "Accepted")["reason"] == "InvalidSpec"
    assert cluster.written == []


# A check of a refused spec costs about 2, and 25 if the search has no limit. During the check, the Lease is not
# renewed.
MOST_COST = 10


def test_a_refused_spec_takes_little_time_however_many_fields_nobody_owns() -> None:
    """Each of the fields alone makes the spec invalid, and each check takes long."""
    # The names of more fields would take too much memory. Then the operator searches no field.
    annotations = {f"container.apparmor.security.beta.kubernetes.io/c{number}": "unconfined" for number in range(40)}
    spec = {"containers": [{"name": "sglang"}], "newer": [[]] * 3500}
    server = make_server(podTemplate={"metadata": {"annotations": annotations}, "spec": spec})
    cluster, cache = DefaultingCluster({}), new_cache()
    cluster.live["KimiLinearServer/kimi"] = managed(server, owned_by("me", "podTemplate.spec"))
    cache.put(SERVER, server)
    passes = Passes(cluster, cache)
    assert cost(lambda: asyncio.run(passes.reconcile(Key("default", "kimi", SERVER)))) < MOST_COST


def test_without_time_for_a_search_all_unowned_fields_are_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recheck, "_MOST_CHECKS", 1)
    server = World().recheck(toolCallParser="enabled").resource
    assert (server.spec.model.path, server.spec.model.revision) == ("/m", None)
    assert server.spec.tool_call_parser != "enabled"


def test_a_spec_stays_refused_if_the_fields_that_nobody_owns_take_much_memory() -> None:
    """The operator remembers these fields for thousands of resources."""
    labels = {f"label-{number}-{'x' * 40}": "x" for number in range(90)}
    assert not World().recheck(podTemplate={"metadata": {"labels": labels}}).is_valid
    assert World().recheck(podTemplate={"metadata": {"labels": dict(list(labels.items())[:30])}}).is_valid


def test_a_single_refused_default_is_found_among_very_many_fields() -> None:
    labels = {f"label-{number}": "x" for number in range(50)}
    server = World().recheck(podTemplate={"metadata": {"labels": labels}}).resource
    assert server.spec.model.revision is None
    assert server.spec.pod_template
