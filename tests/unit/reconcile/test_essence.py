"""Large objects, and many of them in one namespace, do not fill the operator's memory."""

import asyncio
import itertools
import string
from collections.abc import Callable
from typing import Any

import pytest

from kimi_linear_operator import jsontext
from kimi_linear_operator.benchmark import job_status
from kimi_linear_operator.kubernetes.bounds import HEAVIEST_CHILD, LARGEST_CHILD, LARGEST_SPEC, MOST_VALUES
from kimi_linear_operator.kubernetes.conditions import LONGEST_MESSAGE
from kimi_linear_operator.kubernetes.drift import has_drifted, with_digests
from kimi_linear_operator.kubernetes.essence import essence
from kimi_linear_operator.kubernetes.kinds import (
    BENCHMARK,
    CONFIG_MAP,
    DEPLOYMENT,
    JOB,
    POD,
    REVISION,
    SERVICE,
    Kind,
    Manifest,
    kind_of,
)
from kimi_linear_operator.kubernetes.metadata import is_owned_by
from kimi_linear_operator.kubernetes.plan import Apply, step_for
from kimi_linear_operator.reconcile.cache import Cache
from kimi_linear_operator.reconcile.cached_object import LARGE_CHILD, LARGE_STATUS, Key
from kimi_linear_operator.reconcile.room import MOST_OF_LARGE
from kimi_linear_operator.server import revision
from kimi_linear_operator.server.manifests import build, build_revision
from kimi_linear_operator.server.revision import History
from kimi_linear_operator.server.spec import SERVER, KimiLinearServer
from kimi_linear_operator.server.template_choice import choose
from make import make_benchmark, make_condition, make_deployment, make_pod, make_result, make_server, owned, stored
from passes import READER, WRITTEN, Passes, check_stored, new_cache
from processor_time import cost, measured
from unit.server.test_many_unowned_fields import Cluster as FakeCluster

KIMI = Key("default", "kimi", SERVER)
# The largest essence of any object, in bytes. A pod's trimmed text is about as long.
SMALL = 3_000
TEXT = "x" * 1_400_000


def child(kind: Kind, name: str = "kimi", version: int = 1, labels: Manifest | None = None, **content: Any) -> Manifest:
    metadata = {"name": name, "resourceVersion": str(version), "labels": labels or {}}
    return owned({"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, **content})


def template(**fields: Any) -> Manifest:
    return {"template": {"spec": {"containers": [{"name": "sglang", **fields}]}}}


NAMES = ["".join(signs) for signs in itertools.islice(itertools.product(string.ascii_letters, repeat=3), 75_000)]
OWNERS = [{"apiVersion": "v1", "kind": "K", "name": "x", "uid": f"uid-{number}"} for number in range(18_000)]
# Created only when needed. Otherwise Python's garbage collector would visit a million values in all other tests.
LARGE: dict[str, Callable[[], Manifest]] = {
    "a text": lambda: child(DEPLOYMENT, spec=template(env=[{"name": "a", "value": TEXT}])),
    "variables": lambda: child(DEPLOYMENT, spec=template(env=[{"name": "a"}] * 100_000)),
    "labels": lambda: child(DEPLOYMENT, labels=dict.fromkeys(NAMES, "v")),
    "keys": lambda: child(CONFIG_MAP, data=dict.fromkeys(NAMES, "")),
    "lists": lambda: child(REVISION, revision=1, data={"x": [[]] * 400_000}),
    "ports": lambda: child(SERVICE, spec={"ports": [{"port": port, "protocol": "TCP"} for port in range(30_000)]}),
    "volumes": lambda: child(
        POD, spec={"volumes": [{"name": f"v{number}", "emptyDir": {}} for number in range(30_000)]}
    ),
    "owners": lambda: child(JOB, metadata={**child(JOB)["metadata"], "ownerReferences": OWNERS}),
    "an owner": lambda: child(
        JOB, metadata={**child(JOB)["metadata"], "ownerReferences": [{**OWNERS[0], "uid": TEXT, "name": "x"}]}
    ),
    "labels of a server": lambda: {**make_server(), "metadata": {**make_server()["metadata"], "labels": {TEXT: "v"}}},
}


def test_many_labels_take_little_memory_and_our_annotations_are_kept() -> None:
    labels = {f"{'p' * 240}.x/{number}": "v" * 60 for number in range(2400)}
    ours = {"kimi-linear.io/rollout": "now"}
    server = make_server()
    large = {
        **server,
        "metadata": {**server["metadata"], "labels": labels, "annotations": {"x": TEXT[:200_000], **ours}},
    }
    kept = READER.read(SERVER, large)
    assert kept.text.size < LARGE_CHILD
    assert kept.manifest()["metadata"]["annotations"] == ours
    assert kept.manifest()["spec"] == server["spec"]
    usual = {**server, "metadata": {**server["metadata"], "labels": {"team": "a"}}}
    assert READER.read(SERVER, usual).manifest()["metadata"]["labels"] == {"team": "a"}


@pytest.mark.parametrize("make", LARGE.values(), ids=LARGE)
def test_only_the_essence_of_an_object_that_is_too_large_is_cached(make: Callable[[], Manifest]) -> None:
    manifest = make()
    kind = next(kind for kind in (SERVER, POD, *WRITTEN) if kind.kind == manifest["kind"])
    sight = READER.read(kind, manifest)
    assert cost(lambda: READER.read(kind, manifest)) < 20
    assert sight.text.size + sum(map(len, sight.owners)) < SMALL
    kept = sight.manifest()
    given = manifest["metadata"]
    for name in ("name", "namespace", "uid", "resourceVersion", "generation"):
        assert kept["metadata"][name] == given[name]
    if len(given.get("ownerReferences", ())) == 1 and len(given["ownerReferences"][0]["uid"]) < 100:
        assert is_owned_by(kept, given["ownerReferences"][0]["uid"])


def servers() -> list[KimiLinearServer]:
    """Return servers with the largest specs that are not refused."""
    specs: list[Manifest] = [
        {"podTemplate": {"spec": {"x": ["x" * (LARGEST_SPEC - 200)]}}},
        {"podTemplate": {"spec": {"x": [[]] * (MOST_VALUES - 100)}}},
        {"podTemplate": {"spec": {"x": [{"a": 1}] * (MOST_VALUES // 3 - 50)}}},
        {"inheritedMetadata": {"annotations": {f"example.com/x{n}": "x" * 4096 for n in range(30)}}},
    ]
    return [KimiLinearServer.model_validate(make_server(**spec)) for spec in specs]


@pytest.mark.parametrize("server", servers(), ids=["text", "lists", "objects", "annotations"])
def test_objects_built_from_the_largest_spec_are_cached_whole(server: KimiLinearServer) -> None:
    kept = choose(server, History()).current
    made = [*build(server), revision.build_revision(server, kept)]
    for manifest in made:
        sight = READER.read(kind_of(manifest), stored(manifest))
        assert not has_drifted(sight.manifest(), manifest)
        assert "status" not in sight.manifest(), "the essence would have a status"


def test_a_child_that_somebody_has_filled_is_repaired() -> None:
    server = KimiLinearServer.model_validate(make_server())
    for wanted in build(server):
        live = READER.read(kind_of(wanted), stored({**wanted, "status": {"x": TEXT}})).manifest()
        step = step_for(server, wanted, live)
        assert isinstance(step, Apply)
        assert step.is_repair, "later repairs wait longer and longer"


def test_a_child_with_filled_metadata_still_counts_as_wanted() -> None:
    """Most importantly, the record of a pod template still contains the template."""
    server = KimiLinearServer.model_validate(make_server())
    record = build_revision(server, choose(server, History()).current)
    for wanted in (*build(server), record):
        metadata = {**wanted["metadata"], "finalizers": [f"example.com/{number}" for number in range(60_000)]}
        sight = READER.read(kind_of(wanted), stored({**wanted, "metadata": metadata}))
        assert sight.text.size < LARGE_CHILD
        assert step_for(server, wanted, sight.manifest()) is None


def test_a_filled_deployment_still_shows_its_replicas_and_status() -> None:
    deployment = make_deployment(readyReplicas=1, observedGeneration=1)
    spec = {"replicas": 1, **template(env=[{"name": "a", "value": TEXT}])}
    kept = READER.read(DEPLOYMENT, {**deployment, "spec": spec}).manifest()
    assert (kept["spec"], kept["status"]) == ({"replicas": 1}, deployment["status"])


def test_a_config_map_with_very_many_keys_has_one_digest() -> None:
    many = child(CONFIG_MAP, data=dict.fromkeys(NAMES, ""))
    changed = child(CONFIG_MAP, data={**dict.fromkeys(NAMES, ""), NAMES[0]: "x"})
    assert len(with_digests(many)["data"]) == 1
    assert with_digests(with_digests(many)) == with_digests(many)
    assert not has_drifted(with_digests(many), many)
    assert has_drifted(with_digests(changed), many)
    assert has_drifted(many, child(CONFIG_MAP, data={NAMES[0]: ""}))


def medium(number: int, version: int = 1) -> Manifest:
    return child(DEPLOYMENT, f"d{number:03}", version, spec=template(image="x" * (LARGEST_CHILD - 2_000)))


MOST = MOST_OF_LARGE // LARGEST_CHILD


def kept_bytes(cache: Cache) -> int:
    return sum(sight.text.size for sight in cache.snapshot())


def test_large_objects_fill_only_the_room_of_their_own_namespace() -> None:
    cache = new_cache()
    for number in range(MOST + 20):
        cache.put(DEPLOYMENT, medium(number))
    assert MOST_OF_LARGE / 2 < kept_bytes(cache) < MOST_OF_LARGE + 20 * SMALL
    usual = child(DEPLOYMENT, "usual", spec=template(image="x" * (LARGE_CHILD - 2_000)))
    cache.put(DEPLOYMENT, usual)
    assert cache.get(Key("default", "usual", DEPLOYMENT)) == usual
    elsewhere = {**medium(0), "metadata": {**medium(0)["metadata"], "namespace": "other"}}
    cache.put(DEPLOYMENT, elsewhere)
    assert cache.get(Key("other", "d000", DEPLOYMENT)) == elsewhere


def large_server(number: int, version: int = 1, size: int = LARGEST_SPEC - 2_000) -> Manifest:
    spec = {"podTemplate": {"spec": {"x": "x" * size}}}
    about = {"name": f"s{number:03}", "resourceVersion": str(version), "generation": 1}
    return stored({**make_server(), "metadata": {**make_server()["metadata"], **about}, "spec": spec})


MOST_SERVERS = MOST_OF_LARGE // LARGEST_SPEC


def problem_of(cache: Cache, number: int) -> str:
    return check_stored(cache.get(Key("default", f"s{number:03}", SERVER)) or {}).message


def test_large_specs_without_room_in_their_namespace_are_refused_with_the_reason() -> None:
    cache = new_cache()
    for number in range(MOST_SERVERS + 50):
        cache.put(SERVER, large_server(number))
    assert MOST_OF_LARGE / 2 < kept_bytes(cache) < MOST_OF_LARGE + 50 * SMALL
    assert problem_of(cache, 0) == ""
    refused = problem_of(cache, MOST_SERVERS + 40)
    assert refused.startswith("spec: too large for this namespace")
    assert refused.endswith("The largest resources are s000 (254 KiB), s001 (254 KiB), s002 (254 KiB)")
    usual = make_server("usual", tensorParallelism=8)
    elsewhere = {**large_server(0), "metadata": {**large_server(0)["metadata"], "namespace": "other"}}
    for server in (usual, elsewhere):
        cache.put(SERVER, server)
        about = server["metadata"]
        kept = cache.get(Key(about["namespace"], about["name"], SERVER)) or {}
        assert kept["spec"] == server["spec"]
    # Each other kind has its own room. So a user who may only write benchmarks cannot make servers invalid.
    benchmark = make_benchmark("large", podTemplate={"spec": {"x": "x" * LARGE_CHILD}})
    cache.put(BENCHMARK, benchmark)
    assert (cache.get(Key("default", "large", BENCHMARK)) or {})["spec"] == benchmark["spec"]
    cache.put(DEPLOYMENT, medium(0))
    assert cache.get(Key("default", "d000", DEPLOYMENT)) == medium(0)


def test_a_spec_in_a_full_room_can_become_smaller_and_makes_room_for_others() -> None:
    cache = new_cache()
    for number in range(MOST_SERVERS + 2):
        cache.put(SERVER, large_server(number))
    last = MOST_SERVERS + 1
    assert problem_of(cache, last)
    for number in range(2):
        cache.put(SERVER, large_server(number, version=2, size=LARGEST_SPEC // 4))
        assert problem_of(cache, number) == ""
    cache.put(SERVER, large_server(last))
    assert problem_of(cache, last) == ""
    cache.put(SERVER, large_server(last, version=2, size=LARGE_CHILD // 2))
    assert problem_of(cache, last) == ""


def test_a_refused_spec_gives_the_same_reason_until_it_changes() -> None:
    """Otherwise the operator would write its status each time that another object changes."""
    cache = new_cache()
    for number in range(MOST_SERVERS + 2):
        cache.put(SERVER, large_server(number))
    last = MOST_SERVERS + 1
    refused = problem_of(cache, last)
    seen = cache.get(Key("default", f"s{last:03}", SERVER)) or {}
    cache.put(SERVER, large_server(0, version=2, size=LARGEST_SPEC // 2))
    cache.put(SERVER, {**seen, "metadata": {**seen["metadata"], "resourceVersion": "2"}, "status": {"image": "x"}})
    assert problem_of(cache, last) == refused


def test_a_spec_without_room_comes_back_with_a_list_once_there_is_room() -> None:
    cache = new_cache()
    for number in range(MOST_SERVERS + 2):
        cache.put(SERVER, large_server(number))
    last = MOST_SERVERS + 1
    # A pass writes a status, and caches what it has read with it.
    seen = cache.get(Key("default", f"s{last:03}", SERVER)) or {}
    about = {**seen["metadata"], "resourceVersion": "2"}
    cache.put(SERVER, {**seen, "metadata": about, "status": {"observedGeneration": 1}})
    assert problem_of(cache, last)
    listed = {**large_server(last, version=2), "status": {"observedGeneration": 1}}
    cache.put(SERVER, listed)
    assert problem_of(cache, last), "there is no room yet"
    for number in range(2):
        cache.take(READER.read(SERVER, large_server(number, version=3), is_deleted=True))
    assert cache.put(SERVER, listed) == {Key("default", f"s{last:03}", SERVER)}
    assert problem_of(cache, last) == ""
    assert cache.put(SERVER, listed) == set()


def filled(number: int, **status: Any) -> Manifest:
    """Return a complete benchmark with a status that the operator did not write."""
    complete = make_condition("Complete", "True", "SuitesEnded", "")
    benchmark = make_benchmark(f"b{number:03}")
    about = {"resourceVersion": str(number + 1), "generation": 1, "uid": f"uid-{number}"}
    conditions = [complete, *status.pop("conditions", ())]
    return {
        **benchmark,
        "metadata": {**benchmark["metadata"], **about},
        "status": {**status, "conditions": conditions},
    }


INVENTED = [make_condition(f"C{number}" + "x" * 300, "True", "r" * 1000, "m" * 30_000) for number in range(31)]
STATUSES: dict[str, Manifest] = {
    "conditions": {"conditions": INVENTED},
    "a text": {"progress": "x" * 1_000_000},
    "a field of another version": {"newer": {"x": "x" * 1_000_000}},
    "results": {"results": [{"name": "x" * 60_000}] * 16},
    "an environment": {"environment": {"command": "x" * 1_000_000}},
}


@pytest.mark.parametrize("status", STATUSES.values(), ids=STATUSES)
def test_large_statuses_fill_only_the_room_of_their_own_namespace(status: Manifest) -> None:
    cache, many = new_cache(), 1000 if "conditions" in status else 150
    for number in range(many):
        cache.put(BENCHMARK, filled(number, **status))
    assert LARGE_STATUS < kept_bytes(cache) < MOST_OF_LARGE + many * LARGE_STATUS
    kept = [cached for cached in cache.snapshot() if not cached.large]
    assert len(kept) > many / 10
    assert sum(cached.text.size + len(repr(cached.facts)) + len(repr(cached.conditions)) for cached in kept) < 2 * sum(
        LARGE_CHILD for _ in kept
    )
    assert all(cached.conditions == (("Complete", "True", "SuitesEnded"),) for cached in cache.snapshot())


def test_a_message_that_begins_like_ours_still_differs_from_it() -> None:
    ours = "x" * LONGEST_MESSAGE
    longer = filled(0, conditions=[make_condition("Accepted", "True", "SpecValid", ours + "y" * 10_000)])
    kept = READER.read(BENCHMARK, longer).manifest()["status"]["conditions"][1]["message"]
    assert kept.startswith(ours)
    assert LONGEST_MESSAGE < len(kept) < LONGEST_MESSAGE + 10


def full() -> Cache:
    """Return a cache without room for a large status."""
    cache = new_cache()
    for number in range(100, 100 + MOST_OF_LARGE // 1_000_000 + 1):
        cache.put(BENCHMARK, filled(number, progress="x" * 1_000_000))
    return cache


class Patched(FakeCluster):
    """A cluster that notes the patches of statuses."""

    def __init__(self) -> None:
        super().__init__([])
        self.patches: list[Manifest] = []

    async def patch_status(
        self, kind: Kind, manifest: Manifest, status: Manifest, *, if_unchanged: bool = False
    ) -> Manifest:
        self.patches.append({**manifest["status"], **status})
        return await super().patch_status(kind, manifest, status, if_unchanged=if_unchanged)


@pytest.mark.parametrize("is_complete", [True, False])
def test_no_result_is_lost_when_there_is_no_room_for_a_large_status(*, is_complete: bool) -> None:
    cache, cluster = full(), Patched()
    given = filled(1, results=[make_result("gsm8k", {"accuracy": 1}, message="x" * 1_000_000)])
    if not is_complete:
        given["status"]["conditions"] = []
    cache.put(BENCHMARK, cluster.store(given))
    key = Key("default", "b001", BENCHMARK)
    assert "results" not in (cache.get(key) or {})["status"]
    asyncio.run(Passes(cluster, cache).reconcile(key))
    # The pass starts no suite again, and writes no ConfigMap without the results.
    assert {kind for kind, _ in cluster.objects} <= {BENCHMARK.kind, "Event"}
    assert [patch for patch in cluster.patches if "results" in patch] == []
    assert bool(cluster.patches) != is_complete


def test_a_list_brings_large_objects_back_whole_once_there_is_room() -> None:
    cache = new_cache()
    for number in range(MOST + 2):
        cache.put(DEPLOYMENT, medium(number))
    last = medium(MOST + 1)
    assert cache.get(Key("default", last["metadata"]["name"], DEPLOYMENT)) != last
    assert cache.put(DEPLOYMENT, last) == set(), "there is no room yet"
    # An object that does not grow stays completely cached. A deleted object frees its room.
    cache.put(DEPLOYMENT, medium(0, version=2))
    assert cache.get(Key("default", "d000", DEPLOYMENT)) == medium(0, version=2)
    cache.take(READER.read(DEPLOYMENT, medium(0, version=3), is_deleted=True))
    assert cache.put(DEPLOYMENT, last) == {KIMI}
    assert cache.get(Key("default", last["metadata"]["name"], DEPLOYMENT)) == last
    assert cache.put(DEPLOYMENT, last) == set()


@pytest.mark.parametrize("kind", [POD, REVISION])
@pytest.mark.parametrize("fill", [[], {}, [[]], [[[[[]]]]], {"a": {}}, {"name": "a"}, 1], ids=str)
def test_a_pass_reads_little_of_many_heavy_objects_in_little_time(kind: Kind, fill: Any) -> None:
    cache = new_cache()
    each = HEAVIEST_CHILD // (jsontext.weight(jsontext.encode(fill)) + 1) - 100
    for number in range(30):
        content = {"status": {"filled": [fill] * each}} if kind == POD else {"data": [fill] * each}
        cache.put(kind, child(kind, f"x{number:02}", **content))
    with measured() as done:
        found = cache.children(kind, KIMI)
    assert done.cost < 20
    assert 0 < len(found) < 30


@pytest.mark.parametrize("name", ["volumes", "containers", "schedulingGates", "readinessGates"])
def test_a_pod_with_thousands_of_parts_does_not_lengthen_a_pass(name: str) -> None:
    """Users with permission to create pods can create these, with any label and any number of parts."""
    cache = new_cache()
    part = {"name": "v", "startupProbe": {"periodSeconds": 10}}
    cache.put(POD, child(POD, "x", spec={name: [part] * 13_000}))
    [found] = cache.children(POD, KIMI)
    assert 0 < len(found["spec"][name]) <= 64


def test_a_thousand_pods_are_all_read() -> None:
    cache = new_cache()
    conditions = [{"type": f"C{n}", "status": "False", "lastTransitionTime": "2026-11-24T09:30:00Z"} for n in range(5)]
    mounts = [{"name": f"v{n}", "mountPath": "/x", "readOnly": True} for n in range(6)]
    statuses = [{"name": "sglang", "state": {"running": {}}, "lastState": {}, "volumeMounts": mounts}]
    volumes = [{"name": f"v{n}", "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}} for n in range(6)]
    for number in range(1000):
        pod = make_pod(f"kimi-{number}", conditions=conditions, containerStatuses=statuses, podIPs=[{"ip": "10.0.0.1"}])
        cache.put(POD, {**pod, "spec": {"nodeName": "a", "volumes": volumes}})
    assert len(cache.children(POD, KIMI)) == 1000


def test_long_strings_do_not_count_towards_the_weight_of_a_text() -> None:
    assert jsontext.weight(b'{"a":1,"b":[1,2]}') == 7
    assert jsontext.weight(b'{"a":"' + b',[{\\"' * 1000 + b'","b":[1,2]}') == 7


def test_a_status_that_is_too_large_counts_as_empty() -> None:
    pod = essence(make_pod(phase="Failed", message="x" * 2**20))
    assert pod["status"] == {}
    assert job_status.is_running(pod), "without a status, the pod may still run"
