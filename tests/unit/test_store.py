"""The cache of what was observed: watches and lists overtake each other, and the newest wins."""

from typing import Any

import pytest

from kimi_linear_operator.api import Manifest
from kimi_linear_operator.resources import DEPLOYMENT, POD, SERVER, SERVICE, Kind
from kimi_linear_operator.store import MOST_CHILDREN, REVISION_ANNOTATION, Key, Listing, Sight, Store
from make import make_deployment, make_pod, make_server, owned, stored

KIMI, OTHER = Key("default", "kimi"), Key("default", "other")
POD_KEY = Key("default", "kimi-0")


def deleted(store: Store, pod: Manifest) -> set[Key]:
    return store.take(Sight.of(POD, pod, is_deleted=True))


def versions(store: Store, key: Key = KIMI) -> list[str]:
    return [pod["metadata"]["resourceVersion"] for pod in store.children(POD, key)]


def names(store: Store, key: Key = KIMI) -> list[str]:
    return [pod["metadata"]["name"] for pod in store.children(POD, key)]


def filled(*pods: Manifest) -> Store:
    store = Store()
    for pod in pods:
        store.put(POD, pod)
    return store


def test_an_object_is_kept_and_concerns_its_server() -> None:
    store = Store()
    deployment = make_deployment()
    assert store.put(DEPLOYMENT, deployment) == {KIMI}
    assert store.get(DEPLOYMENT, KIMI) == deployment
    assert store.children(DEPLOYMENT, KIMI) == [deployment]


def test_a_server_concerns_itself_and_is_no_child() -> None:
    store = Store()
    assert store.put(SERVER, make_server()) == {KIMI}
    assert (store.resources(), store.children(SERVER, KIMI)) == ([KIMI], [])


def test_an_object_without_a_server_concerns_none() -> None:
    store = Store()
    stray = stored({"kind": "Pod", "metadata": {"name": "stray"}})
    assert store.put(POD, stray) == set()
    assert deleted(store, stray) == set()


@pytest.mark.parametrize("version", [4, 5])
def test_nothing_older_or_equal_overwrites_what_is_known(version: int) -> None:
    store = filled(make_pod(version=5, phase="Running"))
    assert store.put(POD, make_pod(version=version, phase="Pending")) == set()
    assert store.children(POD, KIMI)[0]["status"] == {"phase": "Running"}


def test_versions_are_compared_as_numbers() -> None:
    store = filled(make_pod(version=9))
    assert store.put(POD, make_pod(version=10)) == {KIMI}


def test_children_come_by_name_and_of_one_kind() -> None:
    store = filled(make_pod("kimi-2"), make_pod("kimi-1"), make_pod("else", server="other"))
    store.put(DEPLOYMENT, make_deployment())
    assert names(store) == ["kimi-1", "kimi-2"]


def test_what_is_kept_can_not_be_changed_from_outside() -> None:
    pod = make_pod(phase="Running")
    store = filled(pod)
    pod["status"]["phase"] = "changed"
    store.children(POD, KIMI)[0]["status"]["phase"] = "changed"
    assert store.children(POD, KIMI)[0]["status"] == {"phase": "Running"}


def test_what_nobody_reads_is_not_kept() -> None:
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
    store = Store()
    store.put(DEPLOYMENT, deployment)
    assert store.get(DEPLOYMENT, KIMI) == deployment


def test_an_object_that_moves_to_another_server_concerns_both() -> None:
    store = filled(make_pod(version=1))
    assert store.put(POD, make_pod(version=2, server="other")) == {KIMI, OTHER}
    assert (names(store, KIMI), names(store, OTHER)) == ([], ["kimi-0"])


def test_a_deleted_object_is_gone_and_concerns_its_server() -> None:
    store = filled(make_pod(version=1))
    assert deleted(store, make_pod(version=2)) == {KIMI}
    assert (names(store), store.get(POD, POD_KEY)) == ([], None)


def test_the_deletion_of_a_predecessor_leaves_the_successor_alone() -> None:
    store = filled(make_pod(version=7))
    assert deleted(store, make_pod(version=6)) == set()
    assert versions(store) == ["7"]


def test_the_deletion_of_what_was_never_seen_concerns_none() -> None:
    assert deleted(Store(), make_pod()) == set()


def test_a_successor_of_a_deleted_object_is_kept() -> None:
    store = filled(make_pod(version=1))
    deleted(store, make_pod(version=2))
    assert store.put(POD, make_pod(version=3)) == {KIMI}


def taken(store: Store, manifests: list[Manifest], version: int, kind: Kind = POD) -> set[Key]:
    """Take over a list of everything, in one page."""
    listing = store.begin_list(kind)
    listing.take(manifests, version)
    return listing.end()


def test_what_was_deleted_while_a_list_was_read_does_not_come_back() -> None:
    store = filled(make_pod(version=1))
    listing = store.begin_list(POD)
    deleted(store, make_pod(version=5))
    listing.take([make_pod(version=4)], version=4)
    assert listing.end() == set()
    assert names(store) == []


def test_what_was_created_while_a_list_was_read_stays() -> None:
    store = Store()
    listing = store.begin_list(POD)
    store.put(POD, make_pod(version=5))
    listing.take([], version=4)
    assert listing.end() == set()
    assert names(store) == ["kimi-0"]


def test_a_list_brings_what_watches_lost_and_tells_whom_it_concerns() -> None:
    store = filled(make_pod("same", version=1), make_pod("changed", version=2), make_pod("gone", version=3))
    listed = [make_pod("same", version=1), make_pod("changed", version=8), make_pod("new", server="other", version=9)]
    assert taken(store, listed, version=10) == {KIMI, OTHER}
    assert (names(store), versions(store), names(store, OTHER)) == (["changed", "same"], ["8", "1"], ["new"])


def test_a_list_that_shows_nothing_new_concerns_none() -> None:
    store = filled(make_pod("a", version=1), make_pod("b", version=2))
    assert taken(store, [make_pod("a", version=1), make_pod("b", version=2)], version=10) == set()


def test_a_list_may_come_in_pages() -> None:
    store = filled(make_pod("a", version=1), make_pod("b", version=2), make_pod("c", version=3))
    listing = store.begin_list(POD)
    listing.take([make_pod("a", version=1)], version=10)
    listing.take([make_pod("c", version=9)], version=10)
    assert listing.end() == {KIMI}
    assert (names(store), versions(store)) == (["a", "c"], ["1", "9"])


def test_a_list_that_begins_anew_forgets_its_first_pages() -> None:
    store = filled(make_pod("a", version=1), make_pod("b", version=2))
    listing = store.begin_list(POD)
    listing.take([make_pod("a", version=1)], version=10)
    listing.take([make_pod("b", version=2)], version=20)
    assert listing.end() == {KIMI}
    assert names(store) == ["b"]


def test_a_list_of_a_namespace_drops_only_what_is_missing_there() -> None:
    elsewhere = make_pod("kimi-0", namespace="elsewhere", version=1)
    store = filled(make_pod(version=1), elsewhere)
    store.put(DEPLOYMENT, make_deployment(version=1))
    listing = store.begin_list(POD, "default")
    listing.take([], version=10)
    assert listing.end() == {KIMI}
    assert (names(store), names(store, Key("elsewhere", "kimi"))) == ([], ["kimi-0"])
    assert store.get(DEPLOYMENT, KIMI)


def test_a_list_of_one_kind_forgets_no_deletion_of_another() -> None:
    store = Store()
    listing = store.begin_list(POD)
    deleted(store, make_pod(version=5))
    taken(store, [], version=6, kind=DEPLOYMENT)
    listing.take([make_pod(version=4)], version=4)
    assert listing.end() == set()
    assert names(store) == []


def test_a_list_of_one_namespace_forgets_no_deletion_in_another() -> None:
    store = Store()
    listing = store.begin_list(POD, "default")
    deleted(store, make_pod(version=5))
    store.begin_list(POD, "elsewhere")
    listing.take([make_pod(version=4)], version=4)
    assert listing.end() == set()
    assert names(store) == []


@pytest.mark.parametrize("seen", ["a list", "an object"])
def test_a_list_that_is_older_than_what_was_seen_tells_of_a_restored_backup(seen: str) -> None:
    store = Store()
    if seen == "a list":
        taken(store, [], version=1000, kind=SERVER)
    else:
        store.put(SERVER, _at(make_server("gone"), 1000))
    listing = store.begin_list(SERVER)
    listing.take([_at(make_server("kept"), 600)], version=700)
    assert listing.is_restored
    assert Key("default", "kept") not in store.resources()
    store.clear()
    assert taken(store, [_at(make_server("kept"), 600)], version=700, kind=SERVER) == {Key("default", "kept")}
    assert store.resources() == [Key("default", "kept")]


def test_an_object_that_is_older_than_before_tells_of_a_backup_although_versions_are_newer_again() -> None:
    store = Store()
    store.put(SERVER, _at(make_server("kept"), 1000))
    listing = store.begin_list(SERVER)
    listing.take([_at(make_server("kept"), 500)], version=1200)
    assert listing.is_restored
    # What was seen after the list began says nothing.
    store.put(SERVER, _at(make_server("kept"), 1300))
    listing = Listing(store, SERVER, None, newest=0)
    listing.take([_at(make_server("kept"), 500)], version=1200)
    assert not listing.is_restored


def _at(manifest: Manifest, version: int) -> Manifest:
    return {**manifest, "metadata": {**manifest["metadata"], "resourceVersion": str(version)}}


def test_a_sight_tells_who_changed_a_server_last_status_aside() -> None:
    entries = [
        {"manager": "kubectl", "time": "2026-01-01T00:00:00Z"},
        {"manager": "argocd", "time": "2026-01-02T00:00:00Z"},
        {"manager": "kimi-linear-operator", "subresource": "status", "time": "2026-01-03T00:00:00Z"},
    ]
    server = make_server()
    server["metadata"]["managedFields"] = entries
    assert Sight.of(SERVER, server).source == "argocd"
    assert Sight.of(SERVER, make_server()).source == ""


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
        # Services count no generation: whatever changed may be what we want otherwise.
        (SERVICE, owned({"metadata": {"name": "kimi", "generation": 0}}), {}, False),
    ],
)
def test_progress_is_what_leaves_every_spec_alone(
    kind: Kind, manifest: Manifest, change: dict[str, Any], is_progress: bool
) -> None:
    store = Store()
    store.put(kind, manifest)
    assert store.is_progress(Sight.of(kind, changed(manifest, **change))) == is_progress
    assert Store().is_progress(Sight.of(kind, manifest)) == (kind == POD), "what is new is no progress, but of a pod"


def test_of_what_claims_to_be_a_servers_only_what_it_owns_is_read_if_that_is_asked_for() -> None:
    store = Store()
    own = make_deployment()
    stranger = stored({"kind": "Deployment", "metadata": {"name": "theirs", "labels": own["metadata"]["labels"]}})
    for deployment in (own, stranger):
        store.put(DEPLOYMENT, deployment)
    assert len(store.children(DEPLOYMENT, KIMI)) == 2
    (owner,) = own["metadata"]["ownerReferences"]
    assert store.children(DEPLOYMENT, KIMI, owner["uid"]) == [own]


def test_more_objects_than_a_server_can_have_get_no_attention() -> None:
    """Anybody who may make pods can give them a server's label."""
    store = Store()
    for number in range(40):
        pod = make_pod(f"kimi-{number:02}")
        store.put(POD, {**pod, "status": {**pod.get("status", {}), "message": "x" * 2**19}})
    read = store.children(POD, KIMI)
    assert 0 < len(read) * 2**19 <= MOST_CHILDREN
