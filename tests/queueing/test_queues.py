"""Servers and benchmarks in queues of Kueue, which runs beside a real control plane. Its nodes are simulated."""

import pytest

from integration.audit import AuditLog
from integration.client import Client
from integration.client_pods import LOW, create_benchmark, end_suite, wait_for_reason
from integration.namespace import Namespace, Spec, condition_of
from integration.processes_under_test import USER
from integration.waiting import stays, wait_for
from kimi_linear_operator.kubernetes.kinds import DEPLOYMENT, JOB, Kind, Manifest
from kimi_linear_operator.kubernetes.queueing import QUEUE_LABEL
from kimi_linear_operator.server.spec import SERVER
from queueing.kueue import add_local_queue, set_quota, why_pending

PRIORITY_CLASS = Kind("scheduling.k8s.io", "v1", "PriorityClass", "priorityclasses")
URGENT = "urgent"
# The GPUs of one such server are the quota of the guide's queue.
SPEC: Spec = {"tensorParallelism": 8}
QUEUED: Spec = {**SPEC, "queueName": "inference"}
_QUIET_SECONDS = 10


@pytest.fixture(scope="module")
def urgent(client: Client) -> Spec:
    """A server of a higher priority, in the same queue."""
    manifest = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": URGENT}}
    client.create(PRIORITY_CLASS, {**manifest, "value": 1000})
    return {**QUEUED, "podTemplate": {"spec": {"priorityClassName": URGENT}}}


def wait_until_queued(namespace: Namespace, server: str, queue: str = "inference") -> Manifest:
    ready = namespace.wait_for_condition(server, "Ready", "False", "Queued")
    assert f"waits in Kueue's queue {queue}: `kubectl describe workloads`" in ready["message"]
    return ready


def wait_until_kueue_says(namespace: Namespace, cause: str) -> None:
    wait_for(lambda: why_pending(namespace), f"Kueue gives the cause: {cause}", lambda told: cause in str(told))


def pods(namespace: Namespace, server: str) -> set[str]:
    return {pod["metadata"]["uid"] for pod in namespace.pods(server)}


def queues_of_pods(namespace: Namespace, server: str) -> list[str | None]:
    return [pod["metadata"]["labels"].get(QUEUE_LABEL) for pod in namespace.pods(server)]


def expect_no_write(namespace: Namespace, audit_log: AuditLog) -> None:
    """Expect that the operator writes nothing: it neither changes anything, nor undoes what Kueue has changed."""
    audit_log.wait_until_quiet(0, USER, namespace.name)
    mark = audit_log.mark()
    stays(
        lambda: audit_log.writes(mark, USER, namespace.name),
        "the operator writes nothing",
        lambda seen: not seen,
        _QUIET_SECONDS,
    )
    for server in namespace.client.list(SERVER, namespace.name):
        assert condition_of(server, "Synced")["reason"] == "Undisputed"


def test_a_server_waits_in_its_queue_until_the_quota_is_free(namespace: Namespace, audit_log: AuditLog) -> None:
    namespace.create_server("first", QUEUED)
    namespace.wait_until_ready("first")
    namespace.create_server("second", QUEUED)
    wait_until_queued(namespace, "second")
    assert namespace.condition("second", "Stalled")["status"] == "False"
    wait_until_kueue_says(namespace, "insufficient unused quota for amd.com/gpu")
    expect_no_write(namespace, audit_log)
    namespace.change_server("first", {"suspend": True})
    namespace.wait_until_ready("second")
    namespace.change_server("first", {"suspend": False})
    wait_until_queued(namespace, "first")
    namespace.change_server("first", {"suspend": True})
    namespace.wait_for_condition("first", "Ready", "False", "Suspended")
    wait_for(lambda: namespace.pods("first"), "no pod waits any more", lambda found: not found)


def test_a_server_that_kueue_preempts_waits_in_its_queue_again(
    namespace: Namespace, audit_log: AuditLog, urgent: Spec
) -> None:
    namespace.create_server("kimi", QUEUED)
    namespace.wait_until_ready("kimi")
    generation = namespace.deployment("kimi")["metadata"]["generation"]
    namespace.create_server("urgent", urgent)
    namespace.wait_until_ready("urgent")
    wait_until_queued(namespace, "kimi")
    expect_no_write(namespace, audit_log)
    namespace.delete(SERVER, "urgent")
    namespace.wait_until_ready("kimi")
    assert namespace.deployment("kimi")["metadata"]["generation"] == generation


def test_a_rollout_waits_for_the_quota_of_the_old_pods(namespace: Namespace, audit_log: AuditLog) -> None:
    namespace.create_server("kimi", QUEUED)
    namespace.wait_until_ready("kimi")
    before = pods(namespace, "kimi")
    namespace.change_server("kimi", {"toolCallParser": "enabled"})
    namespace.wait_until_ready("kimi")
    assert not pods(namespace, "kimi") & before
    expect_no_write(namespace, audit_log)


def test_a_server_joins_changes_and_leaves_its_queue(namespace: Namespace) -> None:
    add_local_queue(namespace, "other")
    namespace.create_server("kimi", SPEC)
    namespace.wait_until_ready("kimi")
    for queue in ("inference", "other"):
        before = pods(namespace, "kimi")
        namespace.change_server("kimi", {"queueName": queue})
        told = namespace.wait_for_condition("kimi", "Ready", "False", "ApplyFailed")
        assert "field is immutable" in told["message"]
        assert pods(namespace, "kimi") == before
        namespace.change_server("kimi", {"suspend": True})
        namespace.wait_for_condition("kimi", "Ready", "False", "Suspended")
        namespace.change_server("kimi", {"suspend": False})
        namespace.wait_until_ready("kimi")
        assert queues_of_pods(namespace, "kimi") == [queue]
    namespace.change_server("kimi", {"queueName": None})
    told = namespace.wait_for_condition("kimi", "Ready", "False", "ApplyFailed")
    assert "field is immutable" in told["message"]
    namespace.delete(DEPLOYMENT, "kimi")
    namespace.wait_until_ready("kimi")
    wait_for(lambda: queues_of_pods(namespace, "kimi"), "the pods are in no queue", lambda found: found == [None])
    assert QUEUE_LABEL not in namespace.deployment("kimi")["metadata"]["labels"]


def test_the_job_of_a_benchmark_waits_in_its_queue_until_the_quota_is_free(
    namespace: Namespace, audit_log: AuditLog
) -> None:
    namespace.create_server("kimi", SPEC)
    namespace.wait_until_ready("kimi")
    set_quota(namespace, "cpu", 0)
    create_benchmark(namespace, "nightly", suites=LOW, queueName="inference")
    waits = wait_for_reason(namespace, "nightly", "JobSuspended")
    message = condition_of(waits, "Succeeded")["message"]
    assert "waits in Kueue's queue inference: `kubectl describe workloads`" in message
    wait_until_kueue_says(namespace, "insufficient quota for cpu")
    expect_no_write(namespace, audit_log)
    set_quota(namespace, "cpu", 64)
    wait_for_reason(namespace, "nightly", "Running")
    [job] = namespace.client.list(JOB, namespace.name)
    assert job["spec"]["suspend"] is False
    end_suite(namespace, "nightly", LOW[0]["name"])
    wait_for_reason(namespace, "nightly", "ThresholdsMet")
