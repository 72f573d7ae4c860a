"""Many objects of any size, in one namespace or in many, do not fill the operator's memory."""

import random
import string
from pathlib import Path

import pytest
import yaml

from kimi_linear_operator.benchmark.spec import BENCHMARK
from kimi_linear_operator.kubernetes.kinds import DEPLOYMENT, JOB, POD, REVISION, Manifest, kind_of
from kimi_linear_operator.reconcile import room
from kimi_linear_operator.reconcile.cache import Cache
from kimi_linear_operator.reconcile.cached_object import LARGE_CHILD, Key
from kimi_linear_operator.server.spec import SERVER
from kimi_linear_operator.weights.spec import WEIGHTS
from make import make_condition, make_pod, make_server, owned
from passes import READER, check_stored, new_cache
from unit.reconcile.test_essence import SMALL

GOLDEN = Path(__file__).parents[2] / "golden"
SIZE = LARGE_CHILD - 1_000
MOST = 90 * SIZE
# The first group can take two thirds of two thirds.
MOST_OF_FIRST = MOST * 4 // 9


@pytest.fixture(autouse=True)
def little_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "MOST_OF_ALL", MOST)
    monkeypatch.setattr(room, "RESERVED", 2 * SIZE)


def record(number: int, version: int = 1, namespace: str = "default") -> Manifest:
    """Return a child below the length of a large one. Its random text cannot be packed."""
    text = "".join(random.Random(number).choices(string.ascii_letters + string.digits, k=SIZE))  # noqa: S311
    metadata = {"name": f"r{number:03}", "resourceVersion": str(version), "namespace": namespace}
    content = {"apiVersion": "apps/v1", "kind": "ControllerRevision", "metadata": metadata, "revision": 1}
    return owned({**content, "data": {"x": text}})


def held(cache: Cache, namespace: str = "default") -> int:
    return sum(len(cached.text.content) for cached in cache.snapshot() if cached.key.namespace == namespace)


def is_whole(cache: Cache, number: int, namespace: str = "default") -> bool:
    return "data" in (cache.get(Key(namespace, f"r{number:03}", REVISION)) or {})


def put(cache: Cache, numbers: range, namespace: str = "default") -> None:
    for number in numbers:
        cache.put(REVISION, record(number, namespace=namespace))


def test_many_small_children_take_a_limited_part_of_the_memory() -> None:
    cache = new_cache()
    put(cache, range(200))
    assert MOST_OF_FIRST / 2 < held(cache) < MOST_OF_FIRST + 200 * SMALL
    assert is_whole(cache, 0)
    assert not is_whole(cache, 199)
    put(cache, range(1), namespace="other")
    assert is_whole(cache, 0, "other")


def signs(number: int) -> str:
    return "".join(random.Random(number).choices(string.ascii_letters, k=55))  # noqa: S311


def with_rich_metadata(number: int) -> Manifest:
    """Return a child with as much of what is essential as the API server accepts."""
    child = record(number)
    prefix = f"kimi-linear.io/{signs(number)}"
    owner = {"apiVersion": "v1", "kind": "K", "name": "x" * 250, "uid": signs(number) * 4}
    about = {
        "labels": child["metadata"]["labels"] | {f"{prefix}{n}": signs(n) for n in range(16)},
        "annotations": {f"{prefix}{n}": signs(n) * 4 for n in range(32)},
        "ownerReferences": [owner] * 4,
    }
    return {**child, "data": {"x": 1}, "metadata": {**child["metadata"], **about}}


def test_children_with_much_essential_metadata_take_a_limited_part_of_the_memory() -> None:
    cache = new_cache()
    for number in range(400):
        cache.put(REVISION, with_rich_metadata(number))
    assert MOST_OF_FIRST / 2 < held(cache) < MOST_OF_FIRST + 400 * 4_000


def server(number: int, namespace: str = "default") -> Manifest:
    """Return a server with a spec and metadata below the length of large ones."""
    text = record(number)["data"]["x"]
    about = {"name": f"s{number:03}", "namespace": namespace, "annotations": {"x": text[:-1000]}}
    metadata = make_server()["metadata"] | about
    return {**make_server(), "metadata": metadata, "spec": {"podTemplate": {"metadata": {"annotations": {"x": text}}}}}


def test_many_small_resources_take_a_limited_part_of_the_memory() -> None:
    cache = new_cache()
    for number in range(200):
        cache.put(SERVER, server(number))
    assert MOST_OF_FIRST / 2 < held(cache) < MOST_OF_FIRST + 200 * SMALL
    kept = cache.get(Key("default", "s000", SERVER))
    assert kept
    assert kept["spec"] == server(0)["spec"]
    problem = check_stored(cache.get(Key("default", "s199", SERVER)) or {}).message
    assert problem.startswith("spec: too large for this namespace")


def test_a_user_who_fills_the_room_of_one_kind_leaves_room_for_the_other_kinds_of_the_namespace() -> None:
    cache = new_cache()
    put(cache, range(200))
    cache.put(SERVER, server(0))
    kept = cache.get(Key("default", "s000", SERVER))
    assert kept
    assert kept["spec"] == server(0)["spec"]


def test_all_namespaces_together_take_a_limited_part_of_the_memory() -> None:
    cache = new_cache()
    for name in "abcdef":
        put(cache, range(80), namespace=name)
        for number in range(80):
            cache.put(SERVER, server(number, namespace=name))
        assert is_whole(cache, 0, name)
    assert sum(held(cache, name) for name in "abcdef") < MOST + 12 * room.RESERVED + 960 * SMALL


def test_one_namespace_leaves_a_third_of_the_room_to_the_others() -> None:
    """It fills the room of its children first, and then the rooms of its servers, benchmarks and weights."""
    cache = new_cache()
    put(cache, range(150))
    for number in range(80):
        resource = server(number)
        for kind in (SERVER, BENCHMARK, WEIGHTS):
            cache.put(kind, {**resource, "kind": kind.kind})
    left = 240 * SMALL + 150 * 500 + 4 * room.RESERVED  # what is not whole, and what is reserved
    assert held(cache) < MOST * 2 / 3 + left
    put(cache, range(6), namespace="other")
    assert is_whole(cache, 5, "other")


@pytest.mark.parametrize("case", ["keda", "everything-set", "router"])
def test_an_object_for_which_there_is_still_no_room_causes_no_pass(case: str) -> None:
    """Most children of the operator are not longer than what the cache needs for an object besides its text."""
    cache = new_cache()
    put(cache, range(200))
    for number in range(200, 240):
        cache.put(REVISION, {**record(number), "data": {"x": "y" * 100}})
    for child in yaml.safe_load_all((GOLDEN / case / "objects.yaml").read_text()):
        about = {"namespace": "default", "resourceVersion": "1", "uid": child["metadata"]["name"]}
        manifest = {**child, "metadata": {**child["metadata"], **about}}
        cache.put(kind_of(child), manifest)
        assert cache.put(kind_of(child), manifest) == set()


def test_an_object_that_does_not_grow_stays_whole_when_other_namespaces_come() -> None:
    cache = new_cache()
    put(cache, range(30))
    for name in "abcdef":
        put(cache, range(80), namespace=name)
    cache.put(REVISION, record(20, version=2))
    assert is_whole(cache, 20)


def test_a_full_room_hides_no_state_of_a_pod_or_job() -> None:
    """No pass reads a whole pod or Job instead."""
    cache = new_cache()
    put(cache, range(200))
    gate = {"conditionType": "kimi-linear.io/verified"}
    pod = make_pod("kimi-0", phase="Running", conditions=[make_condition("ContainersReady", "True", "", "")])
    pod["metadata"]["labels"] |= {"kimi-linear.io/template": "abc"}
    pod["metadata"]["resourceVersion"] = "7"
    pod["spec"] = {"readinessGates": [gate], "schedulingGates": [{"name": "kueue.x-k8s.io/admission"}]}
    ended = {"conditions": [make_condition("Complete", "True", "", "")], "succeeded": 1}
    about = {"name": "suite", "namespace": "default", "resourceVersion": "8"}
    job = owned({"apiVersion": "batch/v1", "kind": "Job", "metadata": about, "spec": {}, "status": ended})
    for kind, manifest in ((POD, pod), (JOB, job)):
        whole = READER.read(kind, manifest).manifest()
        cache.put(kind, manifest)
        cached = cache.find(Key("default", manifest["metadata"]["name"], kind))
        assert cached
        assert cached.cut
        kept = cached.manifest()
        assert (kept["spec"], kept["status"]) == (whole["spec"], whole["status"])
        assert (
            kept["metadata"]["labels"].items()
            >= {
                name: value
                for name, value in manifest["metadata"]["labels"].items()
                if name.startswith("kimi-linear.io/")
            }.items()
        )


def test_a_full_room_hides_neither_the_progress_of_a_deployment_nor_our_annotations() -> None:
    """Whoever reads children outside of a pass depends on these, for example the automatic rollout."""
    cache = new_cache()
    put(cache, range(200))
    progress = make_condition("Progressing", "False", "ProgressDeadlineExceeded", "")
    about = {"name": "kimi", "namespace": "default", "resourceVersion": "7", "annotations": {"kimi-linear.io/x": "y"}}
    spec = {"replicas": 2, "progressDeadlineSeconds": 600, "template": {"spec": {"containers": [{"name": "a"}]}}}
    status = {"observedGeneration": 1, "conditions": [progress]}
    child = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": about, "spec": spec, "status": status}
    cache.put(DEPLOYMENT, owned(child))
    cached = cache.find(Key("default", "kimi", DEPLOYMENT))
    assert cached
    assert cached.is_least
    kept = cached.manifest()
    assert kept["spec"] == {"replicas": 2, "progressDeadlineSeconds": 600}
    assert kept["status"] == status
    assert kept["metadata"]["annotations"] == about["annotations"]


def test_a_new_state_of_a_whole_child_stays_whole_and_a_deleted_child_leaves_its_room() -> None:
    cache = new_cache()
    put(cache, range(40))
    assert is_whole(cache, 20)
    for version in (2, 3):
        cache.put(REVISION, record(20, version=version))
        assert is_whole(cache, 20)
    put(cache, range(100, 200))
    assert not is_whole(cache, 199)
    cache.end_list(REVISION, None, {Key("default", "r199", REVISION)}, 9)
    cache.put(REVISION, record(199))
    assert is_whole(cache, 199)
    cache.clear()
    put(cache, range(30))
    assert is_whole(cache, 29)


def test_a_large_child_whose_metadata_is_left_out_takes_room_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its metadata, it is no large child any more."""
    monkeypatch.setattr(room, "MOST_OF_LARGE", 0)
    cache = new_cache()
    for number in range(200):
        child = record(number)
        cache.put(REVISION, {**child, "metadata": {**child["metadata"], "annotations": {"x": "y" * 2_000}}})
    assert MOST_OF_FIRST / 2 < held(cache) < MOST_OF_FIRST + 200 * SMALL


def test_the_children_of_a_usual_large_namespace_have_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """300 servers have 25 children each, and each child takes 15 KiB before it is packed."""
    monkeypatch.undo()
    cache = new_cache()
    for child in yaml.safe_load_all((GOLDEN / "keda" / "objects.yaml").read_text()):
        about = {"namespace": "default", "resourceVersion": "1", "uid": child["metadata"]["name"]}
        cache.put(kind_of(child), {**child, "metadata": {**child["metadata"], **about}})
    share = held(cache) / sum(cached.text.size for cached in cache.snapshot())
    assert 300 * 25 * (15 * 1024 * share + 1024) < room.MOST_OF_ALL * 4 / 9
