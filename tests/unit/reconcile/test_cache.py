"""The cache: watch events and lists may arrive in any order, and the newest object wins."""

from dataclasses import replace
from typing import Any

import pytest

from kimi_linear_operator.kubernetes.kinds import DEPLOYMENT, POD, SERVICE, Kind, Manifest
from kimi_linear_operator.reconcile import cache as module
from kimi_linear_operator.reconcile import cached_object
from kimi_linear_operator.reconcile.cache import MOST_CHILDREN, Cache
from kimi_linear_operator.reconcile.cached_object import REVISION_ANNOTATION, Key
from kimi_linear_operator.reconcile.listing import Listing
from kimi_linear_operator.server.spec import SERVER
from make import make_deployment, make_pod, make_server, owned, stored
from passes import READER, new_cache
from processor_time import measured

KIMI, OTHER = Key("default", "kimi", SERVER), Key("default", "other", SERVER)
POD_KEY = Key("default", "kimi-0", SERVER)


def deleted(cache: Cache, pod: Manifest) -> set[Key]:
    return cache.take(READER.read(POD, pod, is_deleted=True))


def versions(cache: Cache, key: Key = KIMI) -> list[str]:
    return [pod["metadata"]["resourceVersion"] for pod in cache.children(POD, key)]


def names(cache: Cache, key: Key = KIMI) -> list[str]:
    return [pod["metadata"]["name"] for pod in cache.children(POD, key)]


def filled(*pods: Manifest) -> Cache:
    cache = new_cache()
    for pod in pods:
        cache.put(POD, pod)
    return cache


def test_an_object_is_cached_and_enqueues_its_server() -> None:
    cache = new_cache()
    deployment = make_deployment()
    assert cache.put(DEPLOYMENT, deployment) == {KIMI}
    assert cache.get(KIMI.of(DEPLOYMENT)) == deployment
    assert cache.children(DEPLOYMENT, KIMI) == [deployment]


def test_a_server_enqueues_itself_and_is_no_child() -> None:
    cache = new_cache()
    assert cache.put(SERVER, make_server()) == {KIMI}
    assert (cache.resources(), cache.children(SERVER, KIMI)) == ([KIMI], [])


def test_an_object_without_a_server_enqueues_none() -> None:
    cache = new_cache()
    stray = stored({"kind": "Pod", "metadata": {"name": "stray"}})
    assert cache.put(POD, stray) == set()
    assert deleted(cache, stray) == set()


@pytest.mark.parametrize("version", [4, 5])
def test_an_older_or_equal_version_does_not_overwrite_the_cached_one(version: int) -> None:
    cache = filled(make_pod(version=5, phase="Running"))
    assert cache.put(POD, make_pod(version=version, phase="Pending")) == set()
    assert cache.children(POD, KIMI)[0]["status"] == {"phase": "Running"}


def test_versions_are_compared_as_numbers() -> None:
    cache = filled(make_pod(version=9))
    assert cache.put(POD, make_pod(version=10)) == {KIMI}


def test_children_of_one_kind_come_in_order_of_their_names() -> None:
    cache = filled(make_pod("kimi-2"), make_pod("kimi-1"), make_pod("else", server="other"))
    cache.put(DEPLOYMENT, make_deployment())
    assert names(cache) == ["kimi-1", "kimi-2"]


def test_cached_objects_cannot_be_changed_from_outside() -> None:
    pod = make_pod(phase="Running")
    cache = filled(pod)
    pod["status"]["phase"] = "changed"
    cache.children(POD, KIMI)[0]["status"]["phase"] = "changed"
    assert cache.children(POD, KIMI)[0]["status"] == {"phase": "Running"}


def test_fields_that_the_operator_does_not_read_are_not_cached() -> None:
    probe = {"periodSeconds": 10, "failureThreshold": 360}
    container = {"name": "sglang", "image": "i", "env": [{"name": "A", "value": "x"}], "startupProbe": probe}
    spec = {"nodeName": "n1", "containers": [container, {"name": "sidecar"}], "dnsPolicy": "ClusterFirst"}
    pod = make_pod() | {"spec": spec}
    pod["metadata"]["managedFields"] = [{"manager": "kubelet"}]
    pod["metadata"]["annotations"] = {"kubectl.kubernetes.io/last-applied-configuration": "{...}", "a": "b"}
    (kept,) = filled(pod).children(POD, KIMI)
    assert kept["spec"] == {"nodeName": "n1", "containers": [{"name": "sglang", "startupProbe": probe}]}
    assert kept["metadata"]["annotations"] == {"a": "b"}
    assert "managedFields" not in kept["metadata"]
    (kept,) = filled(pod | {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}).children(POD, KIMI)
    assert kept["spec"] == {}
    deployment = make_deployment() | {"spec": {"replicas": 1}}
    cache = new_cache()
    cache.put(DEPLOYMENT, deployment)
    assert cache.get(KIMI.of(DEPLOYMENT)) == deployment


def test_an_object_that_moves_to_another_server_enqueues_both() -> None:
    cache = filled(make_pod(version=1))
    assert cache.put(POD, make_pod(version=2, server="other")) == {KIMI, OTHER}
    assert (names(cache, KIMI), names(cache, OTHER)) == ([], ["kimi-0"])


def test_a_deleted_object_is_forgotten_and_enqueues_its_server() -> None:
    cache = filled(make_pod(version=1))
    assert deleted(cache, make_pod(version=2)) == {KIMI}
    assert (names(cache), cache.get(POD_KEY.of(POD))) == ([], None)


def test_the_deletion_of_a_predecessor_does_not_remove_the_successor() -> None:
    cache = filled(make_pod(version=7))
    assert deleted(cache, make_pod(version=6)) == set()
    assert versions(cache) == ["7"]


def test_the_deletion_of_an_unknown_object_enqueues_none() -> None:
    assert deleted(new_cache(), make_pod()) == set()


def test_an_object_does_not_come_back_if_its_first_deletion_is_seen_after_its_second_one() -> None:
    cache = new_cache()
    deleted(cache, make_pod(version=9))
    deleted(cache, make_pod(version=4))
    assert cache.put(POD, make_pod(version=6)) == set()
    assert cache.get(Key("default", make_pod()["metadata"]["name"], POD)) is None


def test_a_successor_of_a_deleted_object_is_cached() -> None:
    cache = filled(make_pod(version=1))
    deleted(cache, make_pod(version=2))
    assert cache.put(POD, make_pod(version=3)) == {KIMI}


def taken(cache: Cache, manifests: list[Manifest], version: int, kind: Kind = POD) -> set[Key]:
    """Put a complete list into the cache, in one page."""
    listing = Listing(cache, kind)
    listing.take(manifests, version)
    return listing.end()


ODD: list[Any] = [
    {"metadata": {"labels": 7}},
    {"metadata": {"annotations": []}},
    {"metadata": {"managedFields": [{"manager": {}, "fieldsV1": 1}, 2]}},
    {"metadata": {"ownerReferences": [{}]}},
    {"metadata": {"resourceVersion": "no number"}},
    {"status": 1},
]


@pytest.mark.parametrize("odd", ODD, ids=[str(odd)[:40] for odd in ODD])
def test_an_unreadable_object_in_a_list_keeps_its_cached_state(odd: Manifest) -> None:
    cache, skipped = filled(make_pod(version=1), make_pod("gone", version=1)), list[Key]()
    page = [make_pod(version=5), make_pod("next", version=5)]
    page[0] = {**page[0], **odd, "metadata": {**page[0]["metadata"], **odd.get("metadata", {})}}
    listing = Listing(cache, POD, None, lambda key, _: skipped.append(key))
    listing.take(page, 5)
    assert listing.end() == {KIMI}
    assert skipped in ([], [POD_KEY.of(POD)])
    assert names(cache)[-1] == "next"
    assert (cache.find(POD_KEY.of(POD)) is not None, cache.find(POD_KEY.of(POD)._replace(name="gone"))) == (True, None)
    assert versions(cache)[0] == ("1" if skipped else "5")


def test_an_object_deleted_during_a_list_does_not_come_back() -> None:
    cache = filled(make_pod(version=1))
    listing = Listing(cache, POD)
    deleted(cache, make_pod(version=5))
    listing.take([make_pod(version=4)], version=4)
    assert listing.end() == set()
    assert names(cache) == []


def test_only_the_latest_of_very_many_deletions_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_DELETED", 100)
    cache = new_cache()
    for number in range(1, 1000):
        deleted(cache, make_pod(f"x{number}", version=number))
    assert len(cache._deleted) == 100
    assert cache.put(POD, make_pod("x999", version=998)) == set()


def test_deletions_in_one_namespace_bring_back_no_object_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_DELETED", 8)
    cache = filled(make_pod(version=1))
    listing = Listing(cache, POD)
    deleted(cache, make_pod(version=5))
    for number in range(8):
        pod = make_pod(f"x{number}", version=6 + number)
        deleted(cache, {**pod, "metadata": {**pod["metadata"], "namespace": "tenant"}})
    listing.take([make_pod(version=4)], version=4)
    assert names(cache) == []


def test_an_object_created_during_a_list_stays() -> None:
    cache = new_cache()
    listing = Listing(cache, POD)
    cache.put(POD, make_pod(version=5))
    listing.take([], version=4)
    assert listing.end() == set()
    assert names(cache) == ["kimi-0"]


def test_a_list_finds_changes_that_watches_lost_and_enqueues_the_affected_resources() -> None:
    cache = filled(make_pod("same", version=1), make_pod("changed", version=2), make_pod("gone", version=3))
    listed = [make_pod("same", version=1), make_pod("changed", version=8), make_pod("new", server="other", version=9)]
    assert taken(cache, listed, version=10) == {KIMI, OTHER}
    assert (names(cache), versions(cache), names(cache, OTHER)) == (["changed", "same"], ["8", "1"], ["new"])


def test_a_list_without_changes_enqueues_none() -> None:
    cache = filled(make_pod("a", version=1), make_pod("b", version=2))
    assert taken(cache, [make_pod("a", version=1), make_pod("b", version=2)], version=10) == set()


def test_a_list_shows_the_defaults_of_another_crd_although_nobody_has_written_the_server() -> None:
    """The resource version is the same, and there is no watch event."""
    cache = new_cache()
    cache.put(SERVER, make_server(tensorParallelism=4))
    shown = make_server(tensorParallelism=4, engine={"memoryFractionStatic": 0.5})
    for affected in ({KIMI}, set()):
        listing = Listing(cache, SERVER)
        listing.take([shown], version=10)
        assert listing.end() == affected
        assert (cache.get(KIMI) or {})["spec"] == shown["spec"]


def test_a_list_may_come_in_pages() -> None:
    cache = filled(make_pod("a", version=1), make_pod("b", version=2), make_pod("c", version=3))
    listing = Listing(cache, POD)
    listing.take([make_pod("a", version=1)], version=10)
    listing.take([make_pod("c", version=9)], version=10)
    assert listing.end() == {KIMI}
    assert (names(cache), versions(cache)) == (["a", "c"], ["1", "9"])


def test_a_list_that_starts_again_forgets_its_first_pages() -> None:
    cache = filled(make_pod("a", version=1), make_pod("b", version=2))
    listing = Listing(cache, POD)
    listing.take([make_pod("a", version=1)], version=10)
    listing.take([make_pod("b", version=2)], version=20)
    assert listing.end() == {KIMI}
    assert names(cache) == ["b"]


def test_a_list_of_a_namespace_drops_only_objects_missing_in_that_namespace() -> None:
    elsewhere = make_pod("kimi-0", namespace="elsewhere", version=1)
    cache = filled(make_pod(version=1), elsewhere)
    cache.put(DEPLOYMENT, make_deployment(version=1))
    listing = Listing(cache, POD, "default")
    listing.take([], version=10)
    assert listing.end() == {KIMI}
    assert (names(cache), names(cache, Key("elsewhere", "kimi", SERVER))) == ([], ["kimi-0"])
    assert cache.get(KIMI.of(DEPLOYMENT))


def test_a_list_of_one_kind_forgets_no_deletion_of_another() -> None:
    cache = new_cache()
    listing = Listing(cache, POD)
    deleted(cache, make_pod(version=5))
    taken(cache, [], version=6, kind=DEPLOYMENT)
    listing.take([make_pod(version=4)], version=4)
    assert listing.end() == set()
    assert names(cache) == []


def test_a_list_of_one_namespace_forgets_no_deletion_in_another() -> None:
    cache = new_cache()
    listing = Listing(cache, POD, "default")
    deleted(cache, make_pod(version=5))
    Listing(cache, POD, "elsewhere")
    listing.take([make_pod(version=4)], version=4)
    assert listing.end() == set()
    assert names(cache) == []


@pytest.mark.parametrize("seen", ["a list", "an object"])
def test_a_list_older_than_the_cache_reveals_a_restored_backup(seen: str) -> None:
    cache = new_cache()
    if seen == "a list":
        taken(cache, [], version=1000, kind=SERVER)
    else:
        cache.put(SERVER, _at(make_server("gone"), 1000))
    listing = Listing(cache, SERVER)
    listing.take([_at(make_server("kept"), 600)], version=700)
    assert listing.is_restored
    assert Key("default", "kept", SERVER) not in cache.resources()
    cache.clear()
    assert taken(cache, [_at(make_server("kept"), 600)], version=700, kind=SERVER) == {Key("default", "kept", SERVER)}
    assert cache.resources() == [Key("default", "kept", SERVER)]


def test_an_object_older_than_the_cached_one_reveals_a_restored_backup() -> None:
    cache = new_cache()
    cache.put(SERVER, _at(make_server("kept"), 1000))
    listing = Listing(cache, SERVER)
    listing.take([_at(make_server("kept"), 500)], version=1200)
    assert listing.is_restored
    # Objects that appeared after the list began are not dropped.
    listing = Listing(cache, SERVER)
    cache.put(SERVER, _at(make_server("kept"), 1300))
    listing.take([_at(make_server("kept"), 500)], version=1200)
    assert not listing.is_restored


def _at(manifest: Manifest, version: int) -> Manifest:
    return {**manifest, "metadata": {**manifest["metadata"], "resourceVersion": str(version)}}


def test_the_source_of_a_change_is_the_last_manager_outside_the_status() -> None:
    entries = [
        {"manager": "kubectl", "time": "2026-01-01T00:00:00Z"},
        {"manager": "argocd", "time": "2026-01-02T00:00:00Z"},
        {"manager": "kimi-linear-operator", "subresource": "status", "time": "2026-01-03T00:00:00Z"},
    ]
    server = make_server()
    server["metadata"]["managedFields"] = entries
    assert READER.read(SERVER, server).source == "argocd"
    assert READER.read(SERVER, make_server()).source == ""


def changed(manifest: Manifest, **metadata: Any) -> Manifest:
    return {**manifest, "metadata": {**manifest["metadata"], "resourceVersion": "9", **metadata}}


@pytest.mark.parametrize(
    ("kind", "manifest", "change", "is_progress"),
    [
        (POD, make_pod(), {}, True),
        (DEPLOYMENT, make_deployment(), {}, True),
        (DEPLOYMENT, make_deployment(), {"generation": 2}, False),
        (DEPLOYMENT, make_deployment(), {"generation": 2, "annotations": {REVISION_ANNOTATION: "2"}}, True),
        (SERVER, make_server(), {}, True),
        (SERVER, make_server(), {"generation": 2}, False),
        # Services have no generation, so any change may be drift.
        (SERVICE, owned({"metadata": {"name": "kimi", "generation": 0}}), {}, False),
    ],
)
def test_a_change_that_leaves_every_spec_alone_counts_as_progress(
    kind: Kind, manifest: Manifest, change: dict[str, Any], is_progress: bool
) -> None:
    cache = new_cache()
    cache.put(kind, manifest)
    assert cache.is_progress(READER.read(kind, changed(manifest, **change))) == is_progress
    assert new_cache().is_progress(READER.read(kind, manifest)) == (kind == POD), (
        "of new objects, only pods are progress"
    )


def test_children_can_be_limited_to_objects_that_the_server_owns() -> None:
    cache = new_cache()
    own = make_deployment()
    stranger = stored({"kind": "Deployment", "metadata": {"name": "theirs", "labels": own["metadata"]["labels"]}})
    for deployment in (own, stranger):
        cache.put(DEPLOYMENT, deployment)
    assert len(cache.children(DEPLOYMENT, KIMI)) == 2
    (owner,) = own["metadata"]["ownerReferences"]
    assert cache.children(DEPLOYMENT, KIMI, owner["uid"]) == [own]


def test_a_pass_reads_a_bounded_number_of_bytes_of_a_servers_objects() -> None:
    """Users with permission to create pods can give them a server's label."""
    cache = new_cache()
    for number in range(40):
        pod = make_pod(f"kimi-{number:02}")
        cache.put(POD, {**pod, "status": {**pod.get("status", {}), "message": "x" * 2**19}})
    read = cache.children(POD, KIMI)
    assert 0 < len(read) * 2**19 <= MOST_CHILDREN


def owners_of_a_pod(uid: str) -> tuple[str, ...]:
    pod = make_pod()
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": uid}
    return READER.read(POD, {**pod, "metadata": {**pod["metadata"], "ownerReferences": [reference]}}).owners


def test_a_short_owner_uid_is_shared_and_a_very_long_one_is_not_kept() -> None:
    first, second = (owners_of_a_pod("-".join(["one", "owner"]))[0] for _ in range(2))
    assert first is second
    assert owners_of_a_pod("x" * 100_000) == ()
    assert cached_object._remembered.cache_info().maxsize, "Python 3.12 never frees interned strings"


@pytest.mark.parametrize("namespace", [None, "default"])
def test_an_event_from_before_a_list_does_not_bring_back_an_object_that_the_list_lacks(namespace: str | None) -> None:
    """An API server whose own cache is late can send such an event long after the list."""
    cache = filled(make_pod(version=40))
    listing = Listing(cache, POD, namespace)
    listing.take([], 100)
    assert listing.end() == {KIMI}
    assert cache.take(READER.read(POD, make_pod(version=50))) == set()
    assert cache.take(READER.read(POD, make_pod(version=100))) == set()
    assert names(cache) == []
    assert cache.take(READER.read(POD, make_pod(version=101))) == {KIMI}
    assert versions(cache) == ["101"]


def test_an_event_from_before_a_list_of_another_namespace_is_taken() -> None:
    cache = new_cache()
    listing = Listing(cache, POD, "other")
    listing.take([], 100)
    listing.end()
    assert cache.take(READER.read(POD, make_pod(version=50))) == {KIMI}


def test_a_list_of_one_namespace_takes_no_time_for_the_objects_of_others() -> None:
    """An operator with many namespaces lists each kind in each of them, every five minutes."""
    cache = new_cache()
    seen = READER.read(POD, make_pod())
    for number in range(20_000):
        cache.take(replace(seen, key=Key(f"n{number % 200}", f"p{number}", POD), version=number + 1))
    with measured() as done:
        for number in range(1000):
            listing = Listing(cache, POD, f"empty-{number}")
            listing.take([], 1)
            assert listing.end() == set()
    # When each list read all objects, it took 48 s.
    assert done.cost < 10
    assert len(cache.snapshot()) == 20_000
