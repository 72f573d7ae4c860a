"""No object that the API server stores can end the operator, or delay its work for other objects."""

import itertools
import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from control_plane import LocalCluster
from integration.client import JSON_PATCH, MERGE_PATCH, Client, path_of
from integration.hostile import DEEPEST, Hostile, deep, hostile_children, hostile_objects, hostile_text
from integration.namespace import Namespace, condition_of, server_manifest
from integration.processes_under_test import Operator
from integration.sandbox import Sandbox
from integration.waiting import wait_for
from kimi_linear_operator.benchmark.labels import BENCHMARK_LABEL
from kimi_linear_operator.benchmark.spec import BENCHMARK
from kimi_linear_operator.kubernetes.kinds import (
    AUTOSCALER,
    CONFIG_MAP,
    DEPLOYMENT,
    DISRUPTION_BUDGET,
    JOB,
    NETWORK_POLICY,
    POD_MONITOR,
    PROMETHEUS_RULE,
    REVISION,
    SCALED_OBJECT,
    SERVICE,
    Kind,
    Manifest,
)
from kimi_linear_operator.kubernetes.metadata import MANAGED_BY, MANAGER
from kimi_linear_operator.reconcile.cached_object import LARGE_CHILD
from kimi_linear_operator.reconcile.room import MOST_OF_LARGE
from kimi_linear_operator.runtime.kopf_watch import Watch
from kimi_linear_operator.server.spec import SERVER
from kimi_linear_operator.weights.spec import WEIGHTS
from passes import CHILDREN, READER

# The number of hostile objects: HOSTILE_OBJECTS=2000 takes some minutes.
# The cluster of the tests has no Prometheus operator and no KEDA. Its API server refuses autoscalers with such strings.
_KINDS = {*CHILDREN} - {AUTOSCALER, POD_MONITOR, PROMETHEUS_RULE, SCALED_OBJECT}
_COUNT = int(os.environ.get("HOSTILE_OBJECTS", "60"))
_AT_ONCE = 20
# Additional seconds that another server may need, because the API server itself is busy with megabytes.
_DELAY_SECONDS = 10.0
_LONGEST_CPU_SECONDS = "0.1"
_LARGE_OBJECTS = 60
# Benchmarks of one address, and Jobs of one benchmark.
_RIVALS = 300
_HAND_MADE_JOBS = 1000
# Objects that look like children of a server. All are deleted, and each deletion is a request.
_UNWANTED = 1500
_SECONDS_TO_DELETE = 300
# A pass over the heaviest spec takes nearly the longest allowed time. If it read all rivals, it would take seconds.
_LONGEST_AMONG_MANY = "0.5"
# Memory that a process may keep after it has read 60 objects of 1.4 MB, one after the other.
_MOST_MORE_KIB = 40 * 1024
# Servers whose children all have managed fields of 1.1 MB. Decoded, each takes 26 MiB.
_HEAVY_SERVERS = 4
_HEAVY_KINDS = (DEPLOYMENT, SERVICE, DISRUPTION_BUDGET, NETWORK_POLICY)
_WITH_MANY_CHILDREN: Manifest = {
    "suspend": True,
    "tensorParallelism": 1,
    "router": {},
    "networkPolicy": {"from": [{"podSelector": {}}]},
    "inheritedMetadata": {"annotations": {"example.com/a": "b"}},
}
_SECONDS_TO_REPAIR = 120
_MOST_MORE_KIB_OF_HEAVY = 120 * 1024


@pytest.fixture
def usual_seconds(sandbox: Sandbox) -> Iterator[float]:
    """How long a server takes to become Ready. Afterwards, the operator must still be the same process."""
    yield max(_seconds_to_ready(sandbox.namespace, f"usual-{number}") for number in range(3))
    assert sandbox.operator.is_running, sandbox.operator.told()[-3000:]


def _seconds_to_ready(namespace: Namespace, name: str) -> float:
    begin = time.monotonic()
    namespace.create_server(name, {"tensorParallelism": 1})
    namespace.wait_until_ready(name)
    return time.monotonic() - begin


def _cache(namespace: Namespace, hostile: Hostile) -> bool:
    """Store an object. Return whether the API server accepted it."""
    client, collection = namespace.client, path_of(hostile.kind, namespace.name)
    if client.send("POST", collection, hostile.text).status != 201:
        return False
    if hostile.status is not None:
        path = f"{collection}/{hostile.name}/status"
        client.send("PATCH", path, hostile.status, content_type="application/merge-patch+json")
    return True


def _wait_until_reported(namespace: Namespace, stored: list[Hostile]) -> None:
    """Wait until the operator has written a status for each object, except for benchmarks that claim to be complete."""
    for hostile in stored:
        wait_for(
            lambda hostile=hostile: namespace.existing(hostile.kind, hostile.name),  # type: ignore[misc]
            f"{hostile.name} has a status",
            lambda found: _is_reported(found) or condition_of(found, "Complete").get("status") == "True",
        )


def _is_reported(found: Manifest) -> bool:
    return bool(condition_of(found, "Accepted").get("observedGeneration") == found["metadata"]["generation"])


@pytest.mark.parametrize("kind", [SERVER, BENCHMARK, WEIGHTS], ids=["server", "benchmark", "weights"])
def test_a_spec_of_the_greatest_storable_depth_is_refused_and_disturbs_no_other_object(
    sandbox: Sandbox, usual_seconds: float, kind: Kind
) -> None:
    namespace, operator = sandbox.namespace, sandbox.operator
    text = hostile_text(kind, "deep", namespace.name, deep(DEEPEST))
    assert namespace.client.send("POST", path_of(kind, namespace.name), text).status == 201
    accepted = wait_for(
        lambda: condition_of(namespace.existing(kind, "deep"), "Accepted"),
        "the spec is refused",
        lambda found: found.get("reason") == "InvalidSpec",
    )
    assert "spec.podTemplate: nested deeper than 64 levels" in accepted["message"]
    assert _seconds_to_ready(namespace, "another") < usual_seconds + _DELAY_SECONDS
    # A status write is a change of the object, which the watch shows, too.
    assert "Watching ended" not in operator.told()
    # The next operator gets this object after its first list.
    assert operator.stop() == 0
    operator.start()
    assert _seconds_to_ready(namespace, "after-the-restart") < usual_seconds + _DELAY_SECONDS


def test_hostile_objects_neither_end_the_operator_nor_delay_other_servers(
    sandbox: Sandbox, usual_seconds: float
) -> None:
    namespace, operator = sandbox.namespace, sandbox.operator
    process = operator.process
    stored = 0
    for seed in range(_COUNT // _AT_ONCE):
        batch = [hostile for hostile in hostile_objects(seed, _AT_ONCE, namespace.name) if _cache(namespace, hostile)]
        stored += len(batch)
        assert _seconds_to_ready(namespace, f"other-{seed}") < usual_seconds + _DELAY_SECONDS
        _wait_until_reported(namespace, batch)
        namespace.delete(SERVER, f"other-{seed}")
    assert stored > _COUNT * 0.8, "the API server refused too many hostile objects"
    assert (operator.process, operator.is_running) == (process, True)
    _assert_passes_are_cheap_and_succeed(operator)


def test_children_with_invalid_utf_8_affect_no_other_namespace(
    operator: Operator, cluster: LocalCluster, namespace: Namespace, other_namespace: Namespace
) -> None:
    usual = max(_seconds_to_ready(other_namespace, f"usual-{number}") for number in range(3))
    process = operator.process
    children = [child for seed in range(3) for child in hostile_children(seed, namespace.name)]
    stored = [child for child in children if _cache(namespace, child)]
    assert {child.kind for child in stored} == _KINDS
    assert _given_back_as_they_are(namespace) >= {REVISION, CONFIG_MAP}
    with _changing(cluster, namespace, stored):
        for number in range(3):
            assert _seconds_to_ready(other_namespace, f"meanwhile-{number}") < usual + _DELAY_SECONDS
    assert (operator.process, operator.is_running) == (process, True)
    assert "degraded" not in operator.ask("/readyz")[1]
    # The next operator gets these objects in its first list.
    assert operator.stop() == 0
    operator.start()
    assert _seconds_to_ready(other_namespace, "after-the-restart") < usual + _DELAY_SECONDS
    assert operator.ask("/readyz") == (200, "ok\n")


def _given_back_as_they_are(namespace: Namespace) -> set[Kind]:
    """Return the kinds for which the API server returns invalid UTF-8."""
    texts = {kind: str(namespace.client.list(kind, namespace.name)) for kind in _KINDS}
    return {kind for kind, text in texts.items() if re.search("(?<!\ufffd)\ufffd(?!\ufffd)", text)}


@contextmanager
def _changing(cluster: LocalCluster, namespace: Namespace, stored: list[Hostile]) -> Iterator[None]:
    """Change one object after the other all the time."""
    done = threading.Event()

    def change() -> None:
        client = Client(cluster.kubeconfig)
        for number, child in enumerate(itertools.cycle(stored)):
            if done.wait(0.02):
                break
            patch = {"metadata": {"annotations": {"changed": str(number)}}}
            client.send("PATCH", path_of(child.kind, namespace.name, child.name), patch, content_type=MERGE_PATCH)
        client.close()

    with ThreadPoolExecutor(1) as clients:
        changes = clients.submit(change)
        try:
            yield
        finally:
            done.set()
            changes.result()


def _assert_passes_are_cheap_and_succeed(operator: Operator, seconds: str = _LONGEST_CPU_SECONDS) -> None:
    text = operator.ask("/metrics")[1]
    passes = re.search(r"reconcile_cpu_seconds_count (\S+)", text)
    cheap = re.search(rf'reconcile_cpu_seconds_bucket{{le="{seconds}"}} (\S+)', text)
    assert passes
    assert cheap
    slowest = "\n".join(re.findall(r"reconcile_cpu_seconds_bucket.*", text))
    assert passes[1] == cheap[1], slowest
    assert 'reconciles_total{result="failed"}' not in text, operator.told()[-5000:]


def test_large_objects_with_our_label_take_no_memory(sandbox: Sandbox, usual_seconds: float) -> None:
    namespace, operator = sandbox.namespace, sandbox.operator
    before = _resident_kib(operator)
    for number in range(_LARGE_OBJECTS):
        namespace.client.create(DEPLOYMENT, _large_deployment(f"large-{number}", namespace.name))
    assert _seconds_to_ready(namespace, "another") < usual_seconds + _DELAY_SECONDS
    assert _resident_kib(operator) - before < _MOST_MORE_KIB
    # The next operator gets these objects in its first list.
    assert operator.stop() == 0
    operator.start()
    assert _seconds_to_ready(namespace, "after-the-restart") < usual_seconds + _DELAY_SECONDS
    namespace.client.request("DELETE", path_of(DEPLOYMENT, namespace.name))


def test_children_with_heavy_managed_fields_are_repaired_with_little_memory(sandbox: Sandbox) -> None:
    """The operator's own name in the fields makes it merge them, and all children are repaired at the same time."""
    namespace, operator = sandbox.namespace, sandbox.operator
    client = namespace.client
    for number in range(_HEAVY_SERVERS):
        namespace.create_server(f"heavy-{number}", _WITH_MANY_CHILDREN)
    names = wait_for(
        lambda: [
            (kind, item["metadata"]["name"]) for kind in _HEAVY_KINDS for item in client.list(kind, namespace.name)
        ],
        "the children exist",
        lambda found: len(found) >= 5 * _HEAVY_SERVERS,
    )
    time.sleep(3)
    assert operator.stop() == 0
    operator.start()
    namespace.wait_for_condition("heavy-0", "Accepted", "True")
    usual = _resident_kib(operator, "VmHWM")
    assert operator.stop() == 0
    before = {address: client.get(address[0], namespace.name, address[1]) or {} for address in names}
    for (kind, name), live in before.items():
        _make_heavy(client, kind, namespace.name, name, live["metadata"]["managedFields"])
    operator.start()
    for kind, name in names:
        wait_for(
            lambda kind=kind, name=name: namespace.existing(kind, name)["metadata"]["managedFields"],  # type: ignore[misc]
            f"the managed fields of {kind.kind} {name} are light",
            lambda found: not _is_patched_by_us(found),
            seconds=_SECONDS_TO_REPAIR,
        )
    assert _resident_kib(operator, "VmHWM") - usual < _MOST_MORE_KIB_OF_HEAVY
    for (kind, name), live in before.items():
        after = namespace.existing(kind, name)
        assert (after.get("spec"), after["metadata"]["labels"]) == (live.get("spec"), live["metadata"]["labels"])
        assert len(str(after["metadata"]["managedFields"])) < 100_000
    # The operator's next apply still removes what it no longer wants.
    namespace.change_server("heavy-0", {"inheritedMetadata": None})
    wait_for(
        lambda: [namespace.existing(kind, name) for kind, name in names if name.startswith("heavy-0")],
        "the children have lost the annotation",
        lambda found: not any("example.com/a" in item["metadata"].get("annotations", {}) for item in found),
    )


def _is_patched_by_us(managed_fields: list[Manifest]) -> bool:
    ours = (item for item in managed_fields if item["manager"] == MANAGER and not item.get("subresource"))
    return any(item["operation"] == "Update" for item in ours)


def _make_heavy(client: Client, kind: Kind, namespace: str, name: str, managed_fields: list[Manifest]) -> None:
    """Add managed fields of 1.1 MB, as if the operator had patched the object."""
    digits = "0123456789abcdefghijklmnopqrstuvwxyz"
    keys = ("".join(key) for key in itertools.product(digits, repeat=4))
    fields: Manifest = {"f:metadata": {"f:annotations": {f"f:{key}": {} for key in itertools.islice(keys, 95_000)}}}
    entry = {"manager": MANAGER, "operation": "Update", "apiVersion": kind.api_version, "fieldsType": "FieldsV1"}
    value = [{**entry, "fieldsV1": fields}, *managed_fields]
    text = json.dumps([{"op": "replace", "path": "/metadata/managedFields", "value": value}], separators=(",", ":"))
    client.request("PATCH", path_of(kind, namespace, name), text.encode(), {"fieldManager": "somebody"}, JSON_PATCH)


def test_a_large_server_serves_and_changes_although_other_objects_fill_the_room_of_its_namespace(
    sandbox: Sandbox, cluster: LocalCluster
) -> None:
    namespace = sandbox.namespace
    for number, size in ((MOST_OF_LARGE // 1_000_000 + 1, 1_000_000), (60, 2 * LARGE_CHILD)):
        _create_many(cluster, DEPLOYMENT, number, lambda one, size=size: _filler(one, size, namespace.name))  # type: ignore[misc]
    notes = {"example.com/notes": "x" * 3 * LARGE_CHILD}
    namespace.create_server("kimi", {"tensorParallelism": 1, "podTemplate": {"metadata": {"annotations": notes}}})
    namespace.wait_until_ready("kimi")
    namespace.change_server("kimi", {"replicas": 2})
    wait_for(
        lambda: namespace.deployment("kimi").get("status", {}).get("readyReplicas"),
        "the changed server has two replicas",
        lambda ready: ready == 2,
    )
    namespace.wait_until_ready("kimi")
    records = namespace.client.list(REVISION, namespace.name)
    assert [record["metadata"]["name"] for record in records] == ["kimi-1"], "the pod template is recorded once"


def _filler(number: int, size: int, namespace: str) -> Manifest:
    return _large_deployment(f"filler-{size}-{number}", namespace, size)


def test_hundreds_of_benchmarks_of_one_address_disturb_no_other_object(
    sandbox: Sandbox, cluster: LocalCluster, usual_seconds: float
) -> None:
    namespace, operator = sandbox.namespace, sandbox.operator
    heavy: Manifest = {"podTemplate": {"spec": {"x": [[]] * 4600}}}
    _create_many(cluster, BENCHMARK, _RIVALS, lambda number: _benchmark(f"b{number}", namespace.name, **heavy))
    assert _seconds_to_ready(namespace, "another") < usual_seconds + _DELAY_SECONDS
    for number in (0, _RIVALS - 1):
        wait_for(
            lambda number=number: namespace.existing(BENCHMARK, f"b{number}"),  # type: ignore[misc]
            "every benchmark has a status",
            _is_reported,
        )
    _assert_passes_are_cheap_and_succeed(operator, _LONGEST_AMONG_MANY)
    assert "no longer leads" not in operator.told()


def test_a_thousand_hand_made_jobs_of_one_benchmark_disturb_no_other_object(
    sandbox: Sandbox, cluster: LocalCluster, usual_seconds: float
) -> None:
    namespace, operator = sandbox.namespace, sandbox.operator
    owner = namespace.client.create(BENCHMARK, _benchmark("a", namespace.name, suspend=True))
    _create_many(cluster, JOB, _HAND_MADE_JOBS, lambda number: _hand_made_job(f"made-{number}", owner))
    namespace.client.create(BENCHMARK, _benchmark("b", namespace.name))
    waits = wait_for(
        lambda: condition_of(namespace.existing(BENCHMARK, "b"), "TargetReady"),
        "the benchmark waits for its turn",
        lambda found: found.get("reason") == "WaitingForTurn",
    )
    assert waits["message"].startswith("benchmark a goes first")
    assert _seconds_to_ready(namespace, "another") < usual_seconds + _DELAY_SECONDS
    _assert_passes_are_cheap_and_succeed(operator, _LONGEST_AMONG_MANY)
    assert "no longer leads" not in operator.told()


def test_thousands_of_fake_children_of_a_server_disturb_no_other_object(
    operator: Operator, cluster: LocalCluster, namespace: Namespace, other_namespace: Namespace
) -> None:
    usual = max(_seconds_to_ready(other_namespace, f"usual-{number}") for number in range(3))
    owner = namespace.create_server("kimi", {"tensorParallelism": 1})
    namespace.wait_until_ready("kimi")
    # While its spec is refused, nothing is deleted.
    namespace.change_server("kimi", {"podTemplate": {"spec": {"hostPID": True}}})
    namespace.wait_for_condition("kimi", "Accepted", "False")
    labels = namespace.deployment("kimi")["metadata"]["labels"]
    _create_many(
        cluster, DISRUPTION_BUDGET, _UNWANTED, lambda number: _unwanted_budget(f"made-{number}", owner, labels)
    )
    begin = len(operator.told())
    namespace.change_server("kimi", {"podTemplate": None})
    namespace.wait_for_condition("kimi", "Accepted", "True")
    assert _seconds_to_ready(other_namespace, "meanwhile") < usual + _DELAY_SECONDS
    wait_for(
        lambda: namespace.client.list(DISRUPTION_BUDGET, namespace.name),
        "all fake children are gone",
        lambda found: not found,
        seconds=_SECONDS_TO_DELETE,
    )
    assert "no longer leads" not in operator.told()[begin:]


def test_no_object_can_have_the_finalizer_that_kopf_would_remove(namespace: Namespace) -> None:
    """kopf would remove it from every object that it sees, also in replicas that do not lead."""
    settings = Watch([], (), READER, lambda _: None, lambda _: None)._settings()
    metadata = {"name": "held", "labels": {MANAGED_BY: MANAGER}, "finalizers": [settings.persistence.finalizer]}
    for manifest in ({"apiVersion": "v1", "kind": "ConfigMap"}, server_manifest("held", namespace.name, {})):
        kind = CONFIG_MAP if manifest["kind"] == "ConfigMap" else SERVER
        answer = namespace.client.send("POST", path_of(kind, namespace.name), {**manifest, "metadata": metadata})
        assert (answer.status, "finalizers" in answer.message) == (422, True)


def _unwanted_budget(name: str, owner: Manifest, labels: Manifest) -> Manifest:
    """Return a disruption budget that claims to be a server's."""
    metadata = owner["metadata"]
    named = {name: metadata[name] for name in ("name", "uid")}
    return {
        "apiVersion": DISRUPTION_BUDGET.api_version,
        "kind": DISRUPTION_BUDGET.kind,
        "metadata": {
            "name": name,
            "namespace": metadata["namespace"],
            "labels": labels,
            "ownerReferences": [{"apiVersion": SERVER.api_version, "kind": SERVER.kind, **named}],
        },
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"app": "nothing"}}},
    }


def _create_many(cluster: LocalCluster, kind: Kind, count: int, build: Callable[[int], Manifest]) -> None:
    """Create objects as fast as the API server takes them from four clients."""

    def create(part: int) -> None:
        client = Client(cluster.kubeconfig)
        for number in range(part, count, 4):
            client.create(kind, build(number))
        client.close()

    with ThreadPoolExecutor(4) as clients:
        list(clients.map(create, range(4)))


def _benchmark(name: str, namespace: str, **spec: object) -> Manifest:
    """Return a benchmark of an address at which no server answers."""
    return {
        "apiVersion": BENCHMARK.api_version,
        "kind": BENCHMARK.kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"endpoint": {"url": "http://10.0.0.1:30000"}, "suites": [{"name": "speed-low"}], **spec},
    }


def _hand_made_job(name: str, owner: Manifest) -> Manifest:
    """Return a Job that claims to be a benchmark's, and will never run."""
    metadata = owner["metadata"]
    reference = {"apiVersion": BENCHMARK.api_version, "kind": BENCHMARK.kind}
    return {
        "apiVersion": JOB.api_version,
        "kind": JOB.kind,
        "metadata": {
            "name": name,
            "namespace": metadata["namespace"],
            "labels": {MANAGED_BY: MANAGER, BENCHMARK_LABEL: metadata["name"]},
            "ownerReferences": [{**reference, "name": metadata["name"], "uid": metadata["uid"]}],
        },
        "spec": {
            "suspend": True,
            "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "a", "image": "a"}]}},
        },
    }


def _large_deployment(name: str, namespace: str, size: int = 1_400_000) -> Manifest:
    pods = {"app": name}
    container = {"name": "a", "image": "a", "env": [{"name": "a", "value": "x" * size}]}
    return {
        "apiVersion": DEPLOYMENT.api_version,
        "kind": DEPLOYMENT.kind,
        "metadata": {"name": name, "namespace": namespace, "labels": {MANAGED_BY: MANAGER}},
        "spec": {
            "replicas": 0,
            "paused": True,
            "selector": {"matchLabels": pods},
            "template": {"metadata": {"labels": pods}, "spec": {"containers": [container]}},
        },
    }


def _resident_kib(operator: Operator, value: str = "VmRSS") -> int:
    assert operator.process
    found = re.search(rf"{value}:\s+(\d+)", Path(f"/proc/{operator.process.pid}/status").read_text(encoding="utf-8"))
    assert found
    return int(found[1])
