"""Owner references of any number and length take little memory, and the owners that the operator looks for are kept."""

import secrets
import tracemalloc
from collections.abc import Callable

import pytest

from kimi_linear_operator.benchmark import job
from kimi_linear_operator.benchmark.labels import BENCHMARK_LABEL, SUITE_LABEL
from kimi_linear_operator.benchmark.spec import BENCHMARK
from kimi_linear_operator.kubernetes.essence import essence
from kimi_linear_operator.kubernetes.kinds import JOB, REVISION, Kind, Manifest
from kimi_linear_operator.kubernetes.metadata import is_owned_by
from kimi_linear_operator.reconcile.cached_object import LARGE_CHILD, Key
from kimi_linear_operator.reconcile.room import MOST_OF_LARGE
from kimi_linear_operator.server.labels import AUTOMATIC_ANNOTATION, SERVER_LABEL
from kimi_linear_operator.server.spec import SERVER
from make import UID, make_deployment
from passes import READER, new_cache

COUNT = 200
# Bytes. An object with one owner takes about 2 KiB of the cache and its indexes.
MOST_OF_EACH = 4 * 2**10


def foreign(uid: str) -> Manifest:
    return {"apiVersion": "x/v", "kind": "Y", "name": "n", "uid": uid}


def made(kind: Kind, name: str, references: list[Manifest]) -> Manifest:
    """Return a Job of a benchmark, or a marked record of a server."""
    labels = {BENCHMARK_LABEL: "b", SUITE_LABEL: "s"} if kind == JOB else {SERVER_LABEL: "kimi"}
    metadata = {
        "name": name,
        "namespace": "default",
        "uid": f"uid-of-{name}",
        "resourceVersion": "1",
        "labels": labels,
        "annotations": {AUTOMATIC_ANNOTATION: "true"} if kind == REVISION else {},
        "ownerReferences": references,
    }
    content = {"revision": 1} if kind == REVISION else {}
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, **content}


def with_many_owners(kind: Kind, number: int) -> Manifest:
    return made(kind, f"x{number}", [foreign(f"{number}-{owner}") for owner in range(230)])


def with_long_owners(kind: Kind, number: int) -> Manifest:
    return made(kind, f"x{number}", [foreign(secrets.token_hex(50)) for _ in range(100)])


def with_the_name_of_its_owner(kind: Kind, number: int) -> Manifest:
    """Return an object with a very long UID of an owner, and with the name that a Job of this owner would have."""
    uid = f"{number}-" + "x" * 100_000
    return made(kind, job.name_of(uid, "b", "s"), [foreign(uid)])


@pytest.mark.parametrize("kind", [JOB, REVISION], ids=lambda kind: kind.kind)
@pytest.mark.parametrize("make", [with_many_owners, with_long_owners, with_the_name_of_its_owner])
def test_owner_references_take_little_memory(kind: Kind, make: Callable[[Kind, int], Manifest]) -> None:
    cache = new_cache()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(COUNT):
            cache.put(kind, make(kind, number))
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(cache.snapshot()) == COUNT
    assert after - before < COUNT * MOST_OF_EACH


def test_the_room_of_a_namespace_counts_everything_that_is_kept_of_a_large_job() -> None:
    cache = new_cache()
    most = MOST_OF_LARGE // (16 * LARGE_CHILD)
    tracemalloc.start()
    try:
        for number in range(most + 20):
            large = with_many_owners(JOB, number)
            large["status"] = {"x": secrets.token_hex(8 * LARGE_CHILD)}
            cache.put(JOB, large)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    counted = sum(cached.large for cached in cache.snapshot())
    assert MOST_OF_LARGE / 2 < counted <= MOST_OF_LARGE
    assert kept < counted + sum(MOST_OF_EACH if cached.large else LARGE_CHILD for cached in cache.snapshot())


@pytest.mark.parametrize("is_controller", [True, False])
@pytest.mark.parametrize("place", [0, 150, 300])
def test_our_owner_is_found_among_hundreds(place: int, *, is_controller: bool) -> None:
    deployment = make_deployment()
    ours = {**deployment["metadata"]["ownerReferences"][0], "controller": is_controller}
    references = [foreign(f"uid-{number}") for number in range(300)]
    references.insert(place, ours)
    filled = {**deployment, "metadata": {**deployment["metadata"], "ownerReferences": references}}
    cached = READER.read(JOB, filled)
    assert UID in cached.owners
    assert is_owned_by(cached.manifest(), UID)
    assert is_owned_by(essence(filled), UID)


def test_a_controller_is_kept_whatever_other_owners_pretend_to_be_ours() -> None:
    """The controller of a pod is a ReplicaSet or a Job."""
    pretended = [{**foreign(f"uid-{number}"), "apiVersion": BENCHMARK.api_version} for number in range(300)]
    references = [*pretended, {**foreign("controller"), "controller": True}]
    assert "controller" in READER.read(JOB, made(JOB, "x", references)).owners


def test_a_few_owners_are_all_kept() -> None:
    references = [foreign(f"uid-{number}") for number in range(4)]
    cache = new_cache()
    cache.put(REVISION, made(REVISION, "x", references))
    assert cache.get(Key("default", "x", REVISION)) == made(REVISION, "x", references)
    assert all(cache.children(REVISION, Key("default", "kimi", SERVER), f"uid-{number}") for number in range(4))
