"""An unwanted child is deleted only once, even if its watch event comes late.

Resources that depend on a child are enqueued.
"""

import asyncio
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

import pytest

from kimi_linear_operator.benchmark.labels import SUITE_LABEL
from kimi_linear_operator.benchmark.spec import BENCHMARK, KimiLinearBenchmark
from kimi_linear_operator.cluster.client import Cluster
from kimi_linear_operator.cluster.errors import ApiError
from kimi_linear_operator.kubernetes.kinds import DEPLOYMENT, JOB, SERVICE, Kind, Manifest
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.reconcile.children import Children
from kimi_linear_operator.reconcile.decoded import decoded_once
from kimi_linear_operator.reconcile.errors import GoneError
from kimi_linear_operator.reconcile.repairs import QUICK_REPAIRS
from kimi_linear_operator.reconcile.writes import write_all
from kimi_linear_operator.server.manifests import build_companions
from kimi_linear_operator.server.spec import SERVER, KimiLinearServer
from make import make_benchmark, make_deployment, make_server, owned, stored
from passes import new_cache, tell_nobody


class Deletions:
    """A cluster that makes every deletion, and sends no watch events."""

    def __init__(self) -> None:
        self.deleted: list[str] = []

    async def delete(self, kind: Kind, manifest: Manifest, **_: bool) -> None:
        self.deleted.append(manifest["metadata"]["name"])


def test_the_pass_after_a_deletion_does_not_delete_again() -> None:
    cluster, cache, server = Deletions(), new_cache(), make_server()
    cache.put(SERVICE, owned({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "kimi"}}))
    children = Children(cast(Cluster, cluster), cache, tell_nobody)
    owner = KimiLinearServer.model_validate(server)
    key = Key("default", "kimi", SERVER)
    for _ in range(2):
        asyncio.run(children.prune(owner, key, (SERVICE,), []))
    assert cluster.deleted == ["kimi"]


def test_a_child_that_a_finalizer_keeps_is_not_deleted_again() -> None:
    cluster, cache, server = Deletions(), new_cache(), make_server()
    live = owned(make_deployment())
    cache.put(DEPLOYMENT, live)
    children = Children(cast(Cluster, cluster), cache, tell_nobody)
    owner, key = KimiLinearServer.model_validate(server), Key("default", "kimi", SERVER)
    asyncio.run(children.prune(owner, key, (DEPLOYMENT,), []))
    marked = {"deletionTimestamp": "2026-11-24T09:30:00Z", "resourceVersion": "900"}
    cache.put(DEPLOYMENT, {**live, "metadata": {**live["metadata"], **marked}})
    asyncio.run(children.prune(owner, key, (DEPLOYMENT,), []))
    assert cache.get(key.of(DEPLOYMENT)) is not None
    assert cluster.deleted == ["kimi"]


def test_waiting_benchmarks_are_enqueued_when_another_benchmarks_job_is_deleted() -> None:
    cluster, cache, told = Deletions(), new_cache(), set[Key]()
    for name in ("nightly", "weekly"):
        cache.put(BENCHMARK, make_benchmark(name))
    meta = {"name": "nightly-suite", "labels": {SUITE_LABEL: "suite"}}
    cache.put(JOB, owned({"apiVersion": "batch/v1", "kind": "Job", "metadata": meta}, "nightly", "KimiLinearBenchmark"))
    children = Children(cast(Cluster, cluster), cache, told.update)
    owner = KimiLinearBenchmark.model_validate(make_benchmark("nightly"))
    asyncio.run(children.prune(owner, Key("default", "nightly", BENCHMARK), (JOB,), []))
    assert (cluster.deleted, told) == (["nightly-suite"], {Key("default", "weekly", BENCHMARK)})


def test_a_child_stays_while_its_kind_cannot_be_read() -> None:
    cluster, cache = Deletions(), new_cache()
    cache.put(DEPLOYMENT, owned(make_deployment()))
    readable: list[Kind] = []
    children = Children(cast(Cluster, cluster), cache, tell_nobody, has_read=lambda _, kinds: {*kinds} <= {*readable})
    owner, key = KimiLinearServer.model_validate(make_server()), Key("default", "kimi", SERVER)
    asyncio.run(children.prune(owner, key, (DEPLOYMENT,), []))
    assert cluster.deleted == []
    readable.append(DEPLOYMENT)
    asyncio.run(children.prune(owner, key, (DEPLOYMENT,), []))
    assert cluster.deleted == ["kimi"]


class SlowDeletions(Deletions):
    """The same, but each deletion takes a moment; counts how many are under way at the same time, and fails some."""

    def __init__(self) -> None:
        super().__init__()
        self.under_way = self.most_at_once = 0

    async def delete(self, kind: Kind, manifest: Manifest, **_: bool) -> None:
        self.under_way += 1
        self.most_at_once = max(self.most_at_once, self.under_way)
        await asyncio.sleep(0)
        self.under_way -= 1
        await super().delete(kind, manifest)
        if manifest["metadata"]["name"] == "d0003":
            raise ApiError(500, "once")


def test_thousands_of_fake_children_are_deleted_a_few_at_a_time() -> None:
    cluster, cache = SlowDeletions(), new_cache()
    live = owned(make_deployment())
    for number in range(1000):
        about = {**live["metadata"], "name": f"d{number:04}", "resourceVersion": str(number + 1)}
        cache.put(DEPLOYMENT, {**live, "metadata": about})
    children = Children(cast(Cluster, cluster), cache, tell_nobody)
    owner, key = KimiLinearServer.model_validate(make_server()), Key("default", "kimi", SERVER)
    with pytest.raises(ApiError, match="once"):
        asyncio.run(children.prune(owner, key, (DEPLOYMENT,), []))
    assert len(cluster.deleted) == 1000
    assert cluster.most_at_once <= 16


class Guarded:
    """A cluster with a server and its Service. It refuses a write that names another state than the stored one."""

    def __init__(self) -> None:
        self.server: Manifest | None = make_server() | {"status": {"observedGeneration": 1}}
        self.owner = KimiLinearServer.model_validate(self.server)
        [self.wanted] = [child for child in build_companions(self.owner) if child["metadata"]["name"] == "kimi"]
        self.service: Manifest = self._version("20", self.wanted)
        self.cache = new_cache()
        self.children = Children(cast(Cluster, self), self.cache, tell_nobody)
        self.is_busy = False
        """Whether another client writes the Service during each request."""
        self.before_writes: list[Callable[[], None]] = []
        """What happens before each of the next writes."""

    def _version(self, version: str, manifest: Manifest) -> Manifest:
        made = stored(manifest)
        return {**made, "metadata": {**made["metadata"], "resourceVersion": version}}

    def watch(self) -> None:
        self.cache.put(SERVICE, self.service)

    def change(self, **metadata: Any) -> None:
        """Let somebody change the Service."""
        version = str(int(self.service["metadata"]["resourceVersion"]) + 1)
        spec = {**self.service["spec"], "selector": {"stolen": "yes"}}
        changed = {**self.service, "metadata": {**self.service["metadata"], **metadata}, "spec": spec}
        self.service = self._version(version, changed)

    def write(self) -> None:
        asyncio.run(self.children.apply(self.owner, self.wanted))

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        return self.server if kind == SERVER else self.service

    async def apply(self, kind: Kind, manifest: Manifest, *, dry_run: bool = False) -> Manifest:
        self._meanwhile()
        named = {name: manifest["metadata"].get(name) for name in ("uid", "resourceVersion")}
        if any(value not in (None, self.service["metadata"][name]) for name, value in named.items()):
            raise ApiError(409, "the object has been modified")
        assert named["uid"], "a write without a UID creates the object again"
        applied = self._version(str(int(self.service["metadata"]["resourceVersion"]) + 1), manifest)
        if not dry_run:
            self.service = applied
        return applied

    async def amend(self, kind: Kind, live: Manifest, tried: Manifest) -> Manifest:
        """Change everything except the owners, if the spec is still the same."""
        self._meanwhile()
        if self.service["spec"] != live["spec"]:
            raise ApiError(409, "a test in the patch failed")
        owners = self.service["metadata"].get("ownerReferences", [])
        changed = {**tried, "metadata": {**tried["metadata"], "ownerReferences": owners}}
        self.service = self._version(str(int(self.service["metadata"]["resourceVersion"]) + 1), changed)
        return self.service

    async def unify(self, kind: Kind, live: Manifest) -> Manifest:
        return live

    def _meanwhile(self) -> None:
        if self.before_writes:
            self.before_writes.pop(0)()
        if self.is_busy:
            self.change()


def _orphan(cluster: Guarded) -> None:
    cluster.change(ownerReferences=[])


@pytest.mark.parametrize(
    "end",
    [
        lambda server: None,
        lambda server: {**server, "metadata": {**server["metadata"], "uid": "of its successor"}},
        lambda server: {**server, "metadata": {**server["metadata"], "deletionTimestamp": "2026-11-24T09:30:00Z"}},
    ],
    ids=["gone", "replaced", "being deleted"],
)
def test_an_orphan_is_not_adopted_for_a_server_that_ends(end: Callable[[Manifest], Manifest | None]) -> None:
    cluster = Guarded()
    _orphan(cluster)
    cluster.watch()
    cluster.server = end(make_server())
    with pytest.raises(GoneError):
        cluster.write()
    assert cluster.service["metadata"]["ownerReferences"] == []


def test_an_orphan_is_adopted_for_a_server_that_exists() -> None:
    cluster = Guarded()
    _orphan(cluster)
    cluster.watch()
    cluster.write()
    assert [owner["name"] for owner in cluster.service["metadata"]["ownerReferences"]] == ["kimi"]


def test_a_child_that_was_orphaned_after_the_pass_had_read_it_stays_an_orphan() -> None:
    cluster = Guarded()
    cluster.change()
    cluster.watch()
    _orphan(cluster)
    cluster.server = None
    with pytest.raises(GoneError):
        cluster.write()
    assert cluster.service["metadata"]["ownerReferences"] == []


def test_a_child_that_has_changed_since_the_pass_read_it_is_compared_again() -> None:
    cluster = Guarded()
    cluster.change()
    cluster.watch()
    cluster.change(annotations={})
    # No watch event comes: the operator reads the child itself.
    cluster.write()
    assert cluster.service["spec"] == cluster.wanted["spec"]


def test_a_child_that_somebody_else_writes_during_each_attempt_is_still_repaired_and_counts_as_one_repair() -> None:
    cluster = Guarded()
    cluster.change()
    cluster.watch()
    cluster.is_busy = True
    cluster.write()
    assert cluster.service["spec"] == cluster.wanted["spec"]
    for _ in range(QUICK_REPAIRS - 2):
        cluster.change()
        cluster.watch()
        cluster.write()
    assert cluster.children.contested(cluster.owner, [cluster.wanted]) == []


def test_a_busy_child_that_is_orphaned_right_before_any_write_stays_an_orphan() -> None:
    for writes_before in range(5):
        cluster = Guarded()
        cluster.change()
        cluster.watch()

        def delete_with_orphans(cluster: Guarded = cluster) -> None:
            cluster.server = None
            _orphan(cluster)

        cluster.before_writes = [cluster.change] * writes_before + [delete_with_orphans]
        with suppress(ApiError, GoneError):
            cluster.write()
        if cluster.server is None:
            assert cluster.service["metadata"]["ownerReferences"] == []


def test_a_busy_orphan_is_adopted_only_in_a_state_in_which_it_is_an_orphan() -> None:
    cluster = Guarded()
    _orphan(cluster)
    cluster.watch()
    cluster.is_busy = True
    with pytest.raises(ApiError) as caught:
        cluster.write()
    assert caught.value.is_passing
    cluster.is_busy = False
    cluster.write()
    assert [owner["name"] for owner in cluster.service["metadata"]["ownerReferences"]] == ["kimi"]


def test_the_longest_pause_that_the_api_server_asks_for_counts() -> None:
    async def fail(error: ApiError) -> None:
        raise error

    asked = [ApiError(429, "too many requests", 30.0), ApiError(409, "changed"), ApiError(429, "again", 1.0)]
    failures = asyncio.run(write_all(fail(error) for error in asked))
    assert failures.passing is asked[0]


def test_many_unwanted_children_are_decoded_only_when_it_is_their_turn() -> None:
    """Users can make thousands of objects that a server owns, and their finalizers can hold them."""
    cluster, cache, server = Deletions(), new_cache(), make_server()
    for number in range(400):
        service = owned({"apiVersion": "v1", "kind": "Service", "metadata": {"name": f"kimi-{number:03}"}})
        service["metadata"] |= {"name": f"kimi-{number:03}", "annotations": {"text": "x" * 15_000}}
        if number % 2:
            service["metadata"] |= {"deletionTimestamp": "2026-11-24T09:00:00Z", "finalizers": ["a/b"]}
        cache.put(SERVICE, service)
    children = Children(cast(Cluster, cluster), cache, tell_nobody)
    resource = KimiLinearServer.model_validate(server)
    tracemalloc.start()
    try:
        with decoded_once():
            asyncio.run(children.prune(resource, Key("default", "kimi", SERVER), (SERVICE,), []))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(cluster.deleted) == 200
    assert peak < 100 * 15_000
