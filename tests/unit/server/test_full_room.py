"""Servers in a namespace whose large objects fill the room that the cache has for them."""

import asyncio
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from kimi_linear_operator.benchmark.spec import BENCHMARK
from kimi_linear_operator.cluster.light import unread_object
from kimi_linear_operator.kubernetes.bounds import LARGEST_CHILD
from kimi_linear_operator.kubernetes.conditions import find_condition, ready_condition
from kimi_linear_operator.kubernetes.kinds import DEPLOYMENT, JOB, POD, REVISION, SERVICE, Kind, Manifest
from kimi_linear_operator.reconcile import room
from kimi_linear_operator.reconcile.cache import MOST_CHILDREN, Cache
from kimi_linear_operator.reconcile.cached_object import LARGE_CHILD, Key
from kimi_linear_operator.reconcile.children import Children
from kimi_linear_operator.reconcile.room import MOST_OF_LARGE
from kimi_linear_operator.server.spec import SERVER
from make import make_benchmark, make_pod, make_server, owned, stored
from passes import CHILDREN, READER, Passes, make_context, new_cache

KIMI = Key("default", "kimi", SERVER)
LARGE_OBJECTS: Manifest = {"annotations": {f"example.com/{number}": "x" * 4000 for number in range(8)}}
LARGE: Manifest = {"podTemplate": {"metadata": {"annotations": {"example.com/notes": "x" * 2 * LARGE_CHILD}}}}
NOW = "2026-11-24T09:00:00Z"
COUNTERS = ("replicas", "updatedReplicas", "availableReplicas", "readyReplicas")


@dataclass
class Stored:
    """A cluster that stores what is written, and counts requests."""

    objects: dict[tuple[Kind, str], Manifest] = field(default_factory=dict)
    requests: Counter[str] = field(default_factory=Counter)
    version: int = 10

    def store(self, kind: Kind, manifest: Manifest) -> Manifest:
        self.version += 1
        about = {"creationTimestamp": NOW, **manifest["metadata"], "resourceVersion": str(self.version)}
        self.objects[kind, about["name"]] = stored({**manifest, "metadata": about})
        return self.objects[kind, about["name"]]

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        self.requests["get"] += 1
        return self.objects.get((kind, name))

    async def apply(self, kind: Kind, manifest: Manifest) -> Manifest:
        self.requests[f"apply {kind.kind}"] += 1
        live = self.objects.get((kind, manifest["metadata"]["name"]), {})
        return self.store(kind, {**manifest, "status": live.get("status", {})})

    async def apply_new(self, kind: Kind, manifest: Manifest) -> Manifest:
        return await self.apply(kind, manifest)

    async def delete(self, kind: Kind, manifest: Manifest, **_: bool) -> None:
        self.requests[f"delete {kind.kind}"] += 1
        del self.objects[kind, manifest["metadata"]["name"]]

    async def patch_status(self, kind: Kind, manifest: Manifest, status: Manifest, **_: bool) -> Manifest:
        self.requests["status"] += 1
        live = self.objects[kind, manifest["metadata"]["name"]]
        return dict(self.store(kind, {**live, "status": status})["metadata"])

    async def summarize(self, kind: Kind, namespace: str, selector: str, summary: Any, add: Any) -> Any:
        return summary

    async def create(self, kind: Kind, manifest: Manifest) -> Manifest:
        return manifest

    def writes(self) -> dict[str, int]:
        return {request: count for request, count in self.requests.items() if request != "get"}

    def serve(self) -> None:
        """Let all pods of the server's Deployment serve."""
        deployment = self.objects[DEPLOYMENT, "kimi"]
        counters = dict.fromkeys(COUNTERS, deployment["spec"]["replicas"])
        self.store(DEPLOYMENT, {**deployment, "status": {"observedGeneration": 1, **counters}})


def seen(cluster: Stored) -> Cache:
    """Return the cache of a new operator. It has seen other objects first, which fill the room of the namespace."""
    cache = new_cache()
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "filler"}, "status": {"x": "x" * LARGE_CHILD}}
    filler = READER.read(POD, owned(pod, "filler"))
    for number in range(MOST_OF_LARGE // filler.large):
        cache.take(replace(filler, key=filler.key._replace(name=f"filler-{number}")))
    for (kind, _), manifest in cluster.objects.items():
        cache.put(kind, manifest)
    return cache


def reconcile(passes: Passes, number: int = 1) -> float | None:
    for _ in range(number):
        again = asyncio.run(passes.reconcile(KIMI))
    return again


def serving(**spec: Any) -> Stored:
    """Return a cluster with a server that serves. Its large objects were written while there was room."""
    cluster, cache = Stored(), new_cache()
    cache.put(SERVER, cluster.store(SERVER, make_server(**LARGE, **spec)))
    passes = Passes(cluster, cache)
    reconcile(passes)
    cluster.serve()
    cache.put(DEPLOYMENT, cluster.objects[DEPLOYMENT, "kimi"])
    reconcile(passes, 2)
    cluster.requests.clear()
    return cluster


def status_of(cluster: Stored) -> Manifest:
    return dict(cluster.objects[SERVER, "kimi"]["status"])


def change(cluster: Stored, cache: Cache, **spec: Any) -> None:
    server = cluster.objects[SERVER, "kimi"]
    metadata = {**server["metadata"], "generation": server["metadata"]["generation"] + 1}
    cache.put(SERVER, cluster.store(SERVER, {**server, "metadata": metadata, "spec": {**server["spec"], **spec}}))


def is_cut(cache: Cache, kind: Kind) -> bool:
    return any(cached.cut for cached in cache.cached_children(kind, KIMI))


def test_a_server_without_room_for_its_children_is_served_as_before_without_any_write() -> None:
    cluster = serving()
    before, cache = status_of(cluster), seen(cluster)
    assert is_cut(cache, DEPLOYMENT)
    assert is_cut(cache, REVISION)
    again = reconcile(Passes(cluster, cache), 5)
    assert (cluster.writes(), again) == ({}, None), "at rest, no request follows"
    assert status_of(cluster) == before
    assert ready_condition(before)["status"] == "True"


class Restless(Stored):
    """A cluster in which somebody changes each child directly after the operator has read it."""

    cache: Cache

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        found = await super().get(kind, namespace, name)
        if found and kind != SERVER:
            about = found["metadata"]
            touched = {**about, "annotations": {**about.get("annotations", {}), "example.com/x": str(self.version)}}
            self.cache.put(kind, self.store(kind, {**found, "metadata": touched}))
        return found


def without_any_room(cluster: Stored, monkeypatch: pytest.MonkeyPatch) -> Cache:
    """Return a cache with the server and only the smallest part of each of its children."""
    cache = new_cache()
    cache.put(SERVER, cluster.objects[SERVER, "kimi"])
    for name in ("MOST_OF_ALL", "RESERVED"):
        monkeypatch.setattr(room, name, 0)
    for (kind, _), manifest in cluster.objects.items():
        if kind != SERVER:
            cache.put(kind, manifest)
    return cache


@pytest.mark.parametrize("is_empty", [True, False], ids=["no room at all", "no room for large children"])
def test_a_server_without_room_is_served_while_its_children_change_during_each_pass(
    is_empty: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = serving()
    before = status_of(cluster)
    restless = Restless(cluster.objects, version=cluster.version)
    restless.cache = without_any_room(cluster, monkeypatch) if is_empty else seen(cluster)
    reconcile(Passes(restless, restless.cache), 3)
    assert (restless.writes(), status_of(restless)) == ({}, before)


def test_a_child_that_loses_its_room_during_a_pass_stays_whole_for_this_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = serving()
    with monkeypatch.context() as much_room:
        much_room.setattr(room, "MOST_OF_LARGE", 2 * MOST_OF_LARGE)
        cache = seen(cluster)
    passes = Passes(cluster, cache)

    async def grown(*_: Any) -> Any:
        for (kind, _name), manifest in list(cluster.objects.items()):
            if kind in (DEPLOYMENT, REVISION):
                about = {**manifest["metadata"], "annotations": {**manifest["metadata"]["annotations"], "x": "y" * 99}}
                cache.put(kind, cluster.store(kind, {**manifest, "metadata": about}))
        return await recheck(*_)

    rechecker: Any = passes._reconcilers[SERVER]._rechecker  # type: ignore[attr-defined]
    recheck = rechecker.recheck
    monkeypatch.setattr(rechecker, "recheck", grown)
    assert not is_cut(cache, DEPLOYMENT)
    reconcile(passes)
    assert is_cut(cache, DEPLOYMENT)
    assert cluster.writes() == {}


def test_a_server_without_room_for_its_children_can_be_changed_and_then_rests() -> None:
    cluster = serving()
    cache = seen(cluster)
    passes = Passes(cluster, cache)
    change(cluster, cache, replicas=2)
    again = reconcile(passes, 5)
    assert cluster.objects[DEPLOYMENT, "kimi"]["spec"]["replicas"] == 2
    assert cluster.writes()["apply Deployment"] == 1
    assert "apply ControllerRevision" not in cluster.writes(), "the pods keep their template"
    assert again is None
    change(cluster, cache, podTemplate={})
    reconcile(passes, 5)
    assert cluster.writes()["apply Deployment"] == 2
    assert cluster.writes()["apply ControllerRevision"] == 1
    assert not cache.find(KIMI.of(DEPLOYMENT)).cut  # type: ignore[union-attr]


def test_a_new_large_server_starts_although_there_is_no_room_and_then_rests() -> None:
    cluster = Stored()
    cluster.store(SERVER, make_server(**LARGE))
    cache = seen(cluster)
    passes = Passes(cluster, cache)
    reconcile(passes)
    assert is_cut(cache, DEPLOYMENT)
    written = cluster.writes()
    assert (written["apply Deployment"], written["apply ControllerRevision"]) == (1, 1)
    assert reconcile(passes, 5) is None
    assert cluster.writes() == written
    assert find_condition(status_of(cluster), "Synced")["status"] == "True"


def test_a_benchmark_sees_the_same_server_whether_there_is_room_or_not() -> None:
    jobs = []
    for has_room in (True, False):
        cluster = serving()
        cluster.store(BENCHMARK, make_benchmark(suites=[{"name": "speed-low"}]))
        cache = new_cache() if has_room else seen(cluster)
        for (kind, _), manifest in cluster.objects.items():
            cache.put(kind, manifest)
        asyncio.run(Passes(cluster, cache).reconcile(Key("default", "nightly", BENCHMARK)))
        jobs += [manifest for (kind, _), manifest in cluster.objects.items() if kind == JOB]
    assert len(jobs) == 2
    assert jobs[0]["spec"] == jobs[1]["spec"]
    assert jobs[0]["metadata"]["annotations"] == jobs[1]["metadata"]["annotations"], "the snapshots of the server"


def test_only_a_limited_number_of_large_children_is_read() -> None:
    cluster = Stored()
    cluster.store(SERVER, make_server())
    cache = seen(cluster)
    for number in range(30):
        spec = {"template": {"x": "x" * (LARGEST_CHILD - 2_000)}}
        made = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": f"d{number:02}"}, "spec": spec}
        cache.put(DEPLOYMENT, cluster.store(DEPLOYMENT, owned(made)))
    children: Children = make_context(cluster, cache).children
    asyncio.run(children.read_whole(KIMI, [SERVICE, DEPLOYMENT]))
    assert 0 < cluster.requests["get"] * LARGEST_CHILD <= MOST_CHILDREN + LARGEST_CHILD


def _label_large_objects(cluster: Stored, cache: Cache) -> None:
    """Store 500 large Deployments with the label of the server. It does not own them."""
    for number in range(500):
        spec = {"template": {"x": "x" * LARGE_CHILD}}
        made = owned({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": f"d{number}"}, "spec": spec})
        made["metadata"] |= {"ownerReferences": []}
        cache.put(DEPLOYMENT, cluster.store(DEPLOYMENT, made))


def test_large_objects_that_a_user_labels_cost_few_reads_and_hide_no_child() -> None:
    cluster = serving(router={}, inheritedMetadata=LARGE_OBJECTS)
    cache = seen(cluster)
    _label_large_objects(cluster, cache)
    assert reconcile(Passes(cluster, cache)) is None
    assert (cluster.writes(), cluster.requests["get"] <= 40) == ({}, True)


def test_large_objects_that_a_user_labels_hide_no_orphan() -> None:
    """The server was deleted without its children and created again."""
    cluster = serving(router={}, inheritedMetadata=LARGE_OBJECTS)
    pods = {name: cluster.objects[DEPLOYMENT, name]["spec"]["template"] for name in ("kimi", "kimi-router")}
    for kind, name in list(cluster.objects):
        manifest = cluster.objects[kind, name]
        about = {key: value for key, value in manifest["metadata"].items() if key != "ownerReferences"}
        cluster.store(kind, {**manifest, "metadata": about})
    server = make_server(**LARGE, router={}, inheritedMetadata=LARGE_OBJECTS)
    cluster.store(SERVER, {**server, "metadata": {**server["metadata"], "uid": "the-uid-of-the-next-server"}})
    cache = seen(cluster)
    _label_large_objects(cluster, cache)
    reconcile(Passes(cluster, cache), 2)
    assert cluster.writes()["apply Deployment"] == 2, "the server adopts both"
    assert (REVISION, "kimi-2") not in cluster.objects
    assert {name: cluster.objects[DEPLOYMENT, name]["spec"]["template"] for name in pods} == pods


def test_a_pod_whose_metadata_finds_no_room_keeps_what_a_status_is_made_of() -> None:
    cluster = Stored()
    cache = seen(cluster)
    gates = [{"conditionType": "kimi-linear.io/verified"}]
    pod = make_pod()
    metadata = {**pod["metadata"], "annotations": {"example.com/notes": "x" * 2 * LARGE_CHILD}}
    cache.put(POD, {**pod, "metadata": metadata, "spec": {"readinessGates": gates, "nodeName": "a"}})
    [kept] = cache.children(POD, KIMI)
    assert (kept["spec"]["readinessGates"], kept["metadata"]["annotations"]) == (gates, {})


@pytest.mark.parametrize("kind", CHILDREN)
def test_large_children_of_every_kind_share_one_room(kind: Kind) -> None:
    cache = seen(Stored())
    manifest = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {"name": "kimi"}}
    cache.put(kind, owned({**manifest, "status": {"x": "x" * 2 * LARGE_CHILD}}))
    assert is_cut(cache, kind)


def test_objects_that_are_too_large_to_decode_and_have_the_label_of_a_server_cost_no_read_and_hide_nothing() -> None:
    """The API server has sent only their metadata."""

    def requests(kinds: Iterable[Kind]) -> Counter[str]:
        cluster = serving()
        cache, labels = seen(cluster), cluster.objects[SERVICE, "kimi"]["metadata"]["labels"]
        for kind in kinds:
            about = {"name": f"a-{kind.plural}", "namespace": "default", "uid": kind.plural, "resourceVersion": "9"}
            cache.put(kind, unread_object(kind.api_version, kind.kind, {**about, "labels": labels}))
        cluster.requests.clear()
        reconcile(Passes(cluster, cache), 3)
        assert ready_condition(status_of(cluster))["status"] == "True"
        return cluster.requests

    assert requests(CHILDREN) == requests(())
