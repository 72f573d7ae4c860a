"""Benchmarks whose pods are refused, queued, suspended or ignored by their node soon say why, and let others run."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import NamedTuple

import pytest

from integration.client import NAMESPACE, QUOTA, Client
from integration.client_pods import (
    LOW,
    benchmark,
    create_benchmark,
    create_for_endpoint,
    end_suite,
    ended_client,
    jobs,
    left_of,
    report,
    running_pod,
    wait_for_reason,
)
from integration.namespace import Namespace, condition_of, temporary_namespace
from integration.processes_under_test import Operator
from integration.waiting import stays, wait_for
from kimi_linear_operator.benchmark import job
from kimi_linear_operator.benchmark.labels import BENCHMARK_LABEL
from kimi_linear_operator.benchmark.spec import KimiLinearBenchmark
from kimi_linear_operator.kubernetes.kinds import EVENT, JOB, Kind, Manifest
from kimi_linear_operator.kubernetes.metadata import MANAGED_BY, MANAGER

LIMITS = Kind("", "v1", "LimitRange", "limitranges")
# A user would wait this long before searching for the cause.
A_MINUTE = 75
PAUSE_SECONDS = 0.1


def words(manifest: Manifest) -> str:
    return str(condition_of(manifest, "Succeeded")["message"])


def restrict(namespace: Namespace, kind: Kind, spec: Manifest) -> None:
    metadata = {"name": "narrow", "namespace": namespace.name}
    namespace.client.create(kind, {"apiVersion": "v1", "kind": kind.kind, "metadata": metadata, "spec": spec})


def allow_no_pod(namespace: Namespace) -> None:
    namespace.set_quota("narrow", {"pods": "0"})
    create_for_endpoint(namespace, "nightly")


def limit_below_requests(namespace: Namespace) -> None:
    restrict(namespace, LIMITS, {"limits": [{"type": "Container", "default": {"cpu": "500m", "memory": "1Gi"}}]})
    create_for_endpoint(namespace, "nightly")


def admit_restricted_pods_only(namespace: Namespace) -> None:
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    namespace.client.patch(NAMESPACE, None, namespace.name, {"metadata": {"labels": labels}})
    create_for_endpoint(namespace, "nightly")


def gate(namespace: Namespace) -> None:
    create_for_endpoint(
        namespace, "nightly", podTemplate={"spec": {"schedulingGates": [{"name": "tests.example.com/queue"}]}}
    )


def name_no_scheduler(namespace: Namespace) -> None:
    create_for_endpoint(namespace, "nightly", podTemplate={"spec": {"schedulerName": "nobody"}})


def suspend_job(namespace: Namespace) -> None:
    create_for_endpoint(namespace, "nightly", timeoutSeconds=10)
    namespace.edit(JOB, job_of(namespace), {"spec": {"suspend": True}})


def job_of(namespace: Namespace) -> str:
    """Wait for exactly one Job and return its name."""
    [found] = wait_for(lambda: namespace.client.list(JOB, namespace.name), "there is a Job")
    return str(found["metadata"]["name"])


class Trouble(NamedTuple):
    """An obstacle that keeps a benchmark from running, and the expected reason."""

    begin: Callable[[Namespace], None]
    reason: str


TROUBLES = {
    "quota": Trouble(allow_no_pod, "PodCreationFailed"),
    "limits": Trouble(limit_below_requests, "PodCreationFailed"),
    "pod security": Trouble(admit_restricted_pods_only, "PodCreationFailed"),
    "gate": Trouble(gate, "Queued"),
    "scheduler": Trouble(name_no_scheduler, "NotScheduled"),
    "suspended": Trouble(suspend_job, "JobSuspended"),
}


class Held(NamedTuple):
    """A place where a benchmark cannot run, and the benchmark's message within about a minute.

    The message is empty if the reason is not the expected one.
    """

    namespace: Namespace
    told: str


@pytest.fixture(scope="module")
def held(operator_process: Operator, client: Client) -> Iterator[dict[str, Held]]:
    """Benchmarks that cannot run. They exist at the same time, each in its own namespace."""
    operator_process.start()
    with ExitStack() as opened:
        places = {trouble: opened.enter_context(temporary_namespace(client)) for trouble in TROUBLES}
        for trouble, namespace in places.items():
            TROUBLES[trouble].begin(namespace)
        told = told_within_a_minute(places)
        yield {trouble: Held(namespace, told.get(trouble, "")) for trouble, namespace in places.items()}


def told_within_a_minute(places: dict[str, Namespace]) -> dict[str, str]:
    """Return the messages of the benchmarks as soon as they give their reason."""
    deadline = time.monotonic() + A_MINUTE
    told: dict[str, str] = {}
    while len(told) < len(places) and time.monotonic() < deadline:
        for trouble in places.keys() - told:
            found = condition_of(benchmark(places[trouble], "nightly"), "Succeeded")
            if found.get("reason") == TROUBLES[trouble].reason:
                told[trouble] = found["message"]
        time.sleep(PAUSE_SECONDS)
    return told


def test_a_job_that_somebody_suspends_is_left_alone(held: dict[str, Held]) -> None:
    namespace, told = held["suspended"]
    assert "the time limit is 10 s (spec.timeoutSeconds)" in told
    name = job_of(namespace)
    stays(lambda: namespace.existing(JOB, name)["spec"]["suspend"], "the Job stays suspended", bool, 3)


def test_a_quota_that_refuses_the_pod_is_quoted_and_the_suite_continues_without_it(held: dict[str, Held]) -> None:
    namespace, told = held["quota"]
    assert "suite speed-low: exceeded quota: narrow, requested: pods=1, used: pods=0, limited: pods=0" in told
    assert "raise the quota" in told
    assert "the time limit is 7200 s (spec.timeoutSeconds)" in told
    namespace.delete(QUOTA, "narrow")
    running_pod(namespace, "nightly", "speed-low", seconds=120)
    wait_for_reason(namespace, "nightly", "Starting", seconds=90)
    end_suite(namespace, "nightly", "speed-low")
    wait_for_reason(namespace, "nightly", "ThresholdsMet")


def test_a_limit_range_that_makes_the_pod_invalid_is_named(held: dict[str, Held]) -> None:
    assert "must be less than or equal to" in held["limits"].told
    assert "LimitRange" in held["limits"].told


def test_pod_security_that_refuses_the_pod_is_named(held: dict[str, Held]) -> None:
    assert 'violates PodSecurity "restricted' in held["pod security"].told
    assert "enforce=baseline" in held["pod security"].told


def test_scheduling_gates_are_named(held: dict[str, Held]) -> None:
    assert "tests.example.com/queue" in held["gate"].told


def test_a_scheduler_that_does_not_exist_is_named(held: dict[str, Held]) -> None:
    assert "scheduler nobody has not handled it" in held["scheduler"].told


NOW = "2026-11-24T09:30:00Z"
SCHEDULED = {"type": "PodScheduled", "status": "True", "lastTransitionTime": NOW}
UNREADY = {"type": "Ready", "status": "False", "lastTransitionTime": NOW}
CLIENT: Manifest = {"name": "client", "image": "sglang", "imageID": "", "restartCount": 0}
RUNS: Manifest = {**CLIENT, "ready": True, "state": {"running": {"startedAt": NOW}}}


def test_a_lost_node_is_named(bare: Namespace) -> None:
    create_for_endpoint(bare, "nightly")
    pod = running_pod(bare, "nightly", "speed-low")
    # The status that the node controller writes for a pod whose kubelet is silent.
    report(bare, pod, {"phase": "Running", "conditions": [SCHEDULED, UNREADY], "containerStatuses": [RUNS]})
    told = words(wait_for_reason(bare, "nightly", "NodeLost"))
    assert pod["spec"]["nodeName"] in told


def test_a_missing_volume_is_named_until_it_is_mounted(bare: Namespace) -> None:
    create_for_endpoint(bare, "nightly", datasets={"gsm8k": {"configMap": "typo", "path": "x"}})
    pod = running_pod(bare, "nightly", "speed-low")
    waits = {**CLIENT, "ready": False, "state": {"waiting": {"reason": "ContainerCreating"}}}
    waiting = {"phase": "Pending", "startTime": NOW, "containerStatuses": [waits]}
    unmounted, mounted = ({**SCHEDULED, "type": "PodReadyToStartContainers", "status": it} for it in ("False", "True"))
    report(bare, pod, {**waiting, "conditions": [SCHEDULED, UNREADY, unmounted]})
    message = 'MountVolume.SetUp failed for volume "dataset-gsm8k" : configmap "typo" not found'
    for number in range(9):  # Users can write Events about the pod, more than fit on a page.
        tell(bare, pod, f"BackOff{number}", "x" * 1_000_000, "2026-11-24T09:30:00Z")
    tell(bare, pod, "FailedMount", message, "2026-11-24T09:30:10Z")
    wait_for_reason(bare, "nightly", "VolumeNotMounted", A_MINUTE)
    wait_for(  # Until the operator next reads Events, the message does not contain the kubelet's words.
        lambda: words(benchmark(bare, "nightly")),
        "the volume's problem is quoted",
        lambda told: 'configmap "typo" not found' in told,
        A_MINUTE,
    )
    report(bare, pod, {**waiting, "conditions": [SCHEDULED, UNREADY, mounted]})
    tell(bare, pod, "Pulling", "", "2026-11-24T09:31:00Z")
    wait_for_reason(bare, "nightly", "Starting", A_MINUTE)


def tell(namespace: Namespace, pod: Manifest, reason: str, message: str, time: str) -> None:
    """Record an Event of a pod as the kubelet does."""
    metadata = pod["metadata"]
    involved = {"kind": "Pod", **{name: metadata[name] for name in ("name", "namespace", "uid")}}
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{metadata['name']}.{reason.lower()}", "namespace": namespace.name},
        "involvedObject": involved,
        "reason": reason,
        "message": message,
        "type": "Warning",
        "firstTimestamp": time,
        "lastTimestamp": time,
        "count": 1,
    }
    namespace.client.create(EVENT, event)


def test_a_running_sidecar_does_not_delay_a_finished_result(bare: Namespace) -> None:
    sidecar = {"name": "proxy", "image": "proxy"}
    template = {"metadata": {"annotations": {"tests/held": "true"}}, "spec": {"containers": [sidecar]}}
    create_for_endpoint(bare, "nightly", suites=[*LOW, {"name": "gsm8k"}], podTemplate=template)
    for suite in ("speed-low", "gsm8k"):
        pod = running_pod(bare, "nightly", suite)
        goes_on = {**RUNS, "name": "proxy"}
        report(bare, pod, {"phase": "Running", "containerStatuses": [ended_client(suite), goes_on]})
    manifest = wait_for_reason(bare, "nightly", "ThresholdsMet")
    assert [item["outcome"] for item in manifest["status"]["results"]] == ["Succeeded", "Succeeded"]
    left = lambda: left_of(bare, "nightly")  # noqa: E731
    wait_for(left, "Jobs and pods are gone", lambda found: found == {"nightly-results"}, seconds=60)


def test_a_quota_on_jobs_of_one_tenant_does_not_delay_another_tenant(
    bare: Namespace, other_namespace: Namespace
) -> None:
    shared = {"endpoint": {"url": f"http://shared.{bare.name}.example.com"}}
    bare.set_quota("narrow", {"count/jobs.batch": "0"})
    create_for_endpoint(bare, "first", **shared)
    told = words(wait_for_reason(bare, "first", "ApplyFailed"))
    assert "exceeded quota" in told
    create_for_endpoint(other_namespace, "second", **shared)
    end_suite(other_namespace, "second", "speed-low")
    wait_for_reason(other_namespace, "second", "ThresholdsMet")


WEEK = 604_800


def run_suite(namespace: Namespace, name: str) -> None:
    end_suite(namespace, name, "speed-low")
    wait_for_reason(namespace, name, "ThresholdsMet")


def test_no_suite_of_another_namespace_holds_a_benchmark_of_the_servers_own(
    bare: Namespace, other_namespace: Namespace
) -> None:
    bare.create_server("kimi")
    bare.wait_until_ready("kimi")
    endpoint = {"url": f"http://kimi.{bare.name}.svc:30000"}
    create_benchmark(other_namespace, "guest", suites=LOW, serverRef=None, endpoint=endpoint, timeoutSeconds=WEEK)
    running_pod(other_namespace, "guest", "speed-low")
    create_benchmark(bare, "mine", suites=LOW)
    run_suite(bare, "mine")
    run_suite(other_namespace, "guest")


@pytest.mark.parametrize("host", ["x.{}.example.com", "{}.com", "vllm.{}.svc"])
def test_no_suite_of_one_namespace_holds_a_benchmark_of_another_at_an_address_that_is_no_server(
    bare: Namespace, other_namespace: Namespace, host: str
) -> None:
    shared = {"endpoint": {"url": f"http://{host.format(bare.name)}"}}
    create_for_endpoint(other_namespace, "evil", **shared, timeoutSeconds=WEEK)
    running_pod(other_namespace, "evil", "speed-low")
    create_for_endpoint(bare, "mine", **shared)
    run_suite(bare, "mine")
    assert jobs(other_namespace, "evil")


def test_a_hand_made_job_of_one_tenant_does_not_hold_the_server_of_another(
    bare: Namespace, other_namespace: Namespace
) -> None:
    bare.create_server("kimi")
    bare.wait_until_ready("kimi")
    endpoint = {"url": f"http://kimi.{bare.name}.svc:30000"}
    evil = create_benchmark(other_namespace, "evil", suites=LOW, serverRef=None, endpoint=endpoint, suspend=True)
    make_job(other_namespace, evil, "of-no-suite")
    # A user with permission to read the benchmark can compute the Job's name.
    known = KimiLinearBenchmark.model_validate(evil)
    make_job(other_namespace, evil, job.name(known, known.spec.suites[0]))
    create_benchmark(bare, "mine", suites=LOW)
    end_suite(bare, "mine", "speed-low")
    wait_for_reason(bare, "mine", "ThresholdsMet")


def make_job(namespace: Namespace, benchmark: Manifest, name: str) -> None:
    """Create a Job that never runs, with the labels and the owner of a benchmark's Job."""
    owner = {"apiVersion": benchmark["apiVersion"], "kind": benchmark["kind"]}
    owner |= {key: benchmark["metadata"][key] for key in ("name", "uid")}
    labels = {MANAGED_BY: MANAGER, BENCHMARK_LABEL: benchmark["metadata"]["name"]}
    metadata = {"name": name, "namespace": namespace.name, "labels": labels, "ownerReferences": [owner]}
    pod = {"restartPolicy": "Never", "containers": [{"name": "client", "image": "sglang"}]}
    manifest = {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata}
    namespace.client.create(JOB, {**manifest, "spec": {"suspend": True, "template": {"spec": pod}}})


def test_benchmarks_by_address_and_by_reference_take_turns_on_one_server(
    bare: Namespace, other_namespace: Namespace
) -> None:
    bare.create_server("kimi")
    bare.wait_until_ready("kimi")
    create_benchmark(bare, "near", suites=LOW)
    running_pod(bare, "near", "speed-low")
    url = f"http://kimi.{bare.name}.svc.cluster.local:30000"
    create_benchmark(other_namespace, "far", suites=LOW, serverRef=None, endpoint={"url": url})
    manifest = wait_for_reason(other_namespace, "far", "WaitingForTurn")
    assert f"benchmark near of namespace {bare.name} goes first" in words(manifest)
    assert jobs(other_namespace, "far") == {}
    end_suite(bare, "near", "speed-low")
    end_suite(other_namespace, "far", "speed-low")
    wait_for_reason(other_namespace, "far", "ThresholdsMet")


def test_the_time_limit_of_a_suspended_job_still_applies(held: dict[str, Held]) -> None:
    """This comes last, two minutes after the limit, because a running Job would end by itself before that."""
    namespace, _ = held["suspended"]
    manifest = wait_for_reason(namespace, "nightly", "TimedOut", seconds=180)
    assert "not done within 10 s (spec.timeoutSeconds); last seen: JobSuspended" in words(manifest)
    wait_for(lambda: jobs(namespace, "nightly"), "the Job is gone", lambda found: not found)
