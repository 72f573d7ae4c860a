"""Benchmarks on a real control plane. The tests play the kubelet of their pods, and everything else is real."""

import functools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from operator import eq

import pytest

from control_plane import LocalCluster
from integration.audit import AuditLog
from integration.client import Client
from integration.client_pods import (
    LOW,
    benchmark,
    change_benchmark,
    create_benchmark,
    end_suite,
    jobs,
    pods_made,
    result,
    running_pod,
    wait_for_reason,
)
from integration.faults import Fault, delay, refuse
from integration.kubelet import HELD_SPEC, held_pod, report_ready
from integration.namespace import Namespace, condition_of, temporary_namespace
from integration.processes_under_test import USER, Operator
from integration.sandbox import Sandbox
from integration.waiting import stays, wait_for
from kimi_linear_operator.benchmark.labels import BENCHMARK_LABEL
from kimi_linear_operator.benchmark.spec import BENCHMARK
from kimi_linear_operator.kubernetes.kinds import CONFIG_MAP, EVENT, JOB, POD, Manifest
from kimi_linear_operator.server.spec import SERVER

SUITES = ("speed-low", "speed-medium", "speed-high", "gsm8k")
LOW_AND_GSM8K = [{"name": "speed-low"}, {"name": "gsm8k"}]


@pytest.fixture
def ready(operator: Operator, namespace: Namespace) -> Namespace:
    """A namespace with a server that is Ready."""
    namespace.create_server("kimi")
    namespace.wait_until_ready("kimi")
    return namespace


def row(cluster: LocalCluster, namespace: Namespace, name: str) -> list[str]:
    """The row of a benchmark in `kubectl get`, without its age."""
    words = cluster.kubectl("get", "klb", name, "--namespace", namespace.name, "--no-headers").split()
    return words[:-1]


def findings(manifest: Manifest, suite: str) -> list[Manifest]:
    [found] = [item for item in manifest["status"]["results"] if item["name"] == suite]
    return [item for item in found["findings"] if not item["passed"]]


def test_the_recipes_suites_run_in_order_and_pass(cluster: LocalCluster, ready: Namespace) -> None:
    bounds = [{"suite": "gsm8k", "metric": "accuracy", "min": 0.64}]
    create_benchmark(ready, "nightly", thresholds=bounds, baseline={"maxRegressionPercent": 5})
    for number, suite in enumerate(SUITES):
        running_pod(ready, "nightly", suite)
        wait_for(
            lambda: row(cluster, ready, "nightly"),
            f"the columns show {suite}",
            lambda words, expected=["nightly", "kimi", suite, f"{number}/4", "Starting"]: words == expected,  # type: ignore[misc]
        )
        wait_for(lambda: set(jobs(ready, "nightly")), "only one suite has a Job", functools.partial(eq, {suite}))
        end_suite(ready, "nightly", suite)
    manifest = wait_for_reason(ready, "nightly", "ThresholdsMet")
    assert row(cluster, ready, "nightly") == ["nightly", "kimi", "4/4", "Passed", "ThresholdsMet"]
    status = manifest["status"]
    assert {item["type"]: item["status"] for item in status["conditions"]} == {
        "Accepted": "True",
        "TargetReady": "True",
        "Complete": "True",
        "Succeeded": "True",
        "Reconciling": "False",
        "Stalled": "False",
    }
    assert [item["name"] for item in status["results"]] == list(SUITES)
    assert status["results"][3]["metrics"] == status["results"][3]["baseline"]
    assert status["environment"]["serverGeneration"] == 1
    assert status["startTime"] <= status["results"][0]["completionTime"] <= status["completionTime"]
    cluster.kubectl("wait", "klb/nightly", "--for=condition=Succeeded", "--timeout=30s", "--namespace", ready.name)
    stored = json.loads(ready.existing(CONFIG_MAP, "nightly-results")["data"]["results.json"])
    assert (stored["verdict"], stored["results"]) == ("Passed", status["results"])


def test_a_missed_threshold_and_a_regression_fail(ready: Namespace) -> None:
    bounds = [{"suite": "speed-low", "metric": "output_throughput", "min": 200}]
    create_benchmark(ready, "bounded", suites=LOW, thresholds=bounds)
    end_suite(ready, "bounded", "speed-low")
    manifest = wait_for_reason(ready, "bounded", "ThresholdMissed")
    assert (manifest["status"]["verdict"], condition_of(manifest, "Succeeded")["status"]) == ("Failed", "False")
    assert condition_of(manifest, "Stalled")["status"] == "True"
    assert condition_of(manifest, "Succeeded")["message"] == "speed-low: output_throughput is 176.86, min 200"
    compared = {"source": "benchmark", "benchmark": "bounded", "maxRegressionPercent": 10}
    create_benchmark(ready, "later", suites=LOW, baseline=compared)
    end_suite(ready, "later", "speed-low", result("speed-low", {"output_throughput": 150}))
    manifest = wait_for_reason(ready, "later", "Regressed")
    [finding] = findings(manifest, "speed-low")
    assert (finding["metric"], finding["value"], finding["limit"]) == ("output_throughput", 150, 159.174)


@pytest.mark.parametrize(
    ("message", "exit_code", "reason", "words"),
    [
        (result("speed-low", completed=9, message="1 of 10 requests failed, the first with: no answer."), 0,
         "RequestsFailed", "9 of 10 requests were completed (1 of 10 requests failed, the first with: no answer)"),
        ("Killed --api-key planted-key", 137, "ClientFailed", "exit code 137 (Error): Killed --api-key [redacted]"),
        ("", 0, "NoResult", "the result of the pod cannot be read"),
    ],
    ids=["some fail", "killed", "no message"],
)  # fmt: skip
def test_numbers_that_do_not_count_make_a_benchmark_invalid(
    ready: Namespace, message: str, exit_code: int, reason: str, words: str
) -> None:
    create_benchmark(ready, "nightly", suites=LOW, backoffLimit=0)
    end_suite(ready, "nightly", "speed-low", message, exit_code)
    manifest = wait_for_reason(ready, "nightly", reason)
    assert manifest["status"]["verdict"] == "Invalid"
    assert words in condition_of(manifest, "Succeeded")["message"]


def test_a_failed_attempt_is_repeated(ready: Namespace) -> None:
    create_benchmark(ready, "nightly", suites=LOW, backoffLimit=1)
    end_suite(ready, "nightly", "speed-low", result("speed-low", outcome="Failed", message="No answer.", metrics={}), 1)
    end_suite(ready, "nightly", "speed-low")
    assert wait_for_reason(ready, "nightly", "ThresholdsMet")["status"]["verdict"] == "Passed"


def test_a_suite_that_takes_too_long_is_ended(ready: Namespace) -> None:
    create_benchmark(ready, "nightly", suites=LOW, timeoutSeconds=10)
    running_pod(ready, "nightly", "speed-low")
    manifest = wait_for_reason(ready, "nightly", "TimedOut", seconds=40)
    message = condition_of(manifest, "Succeeded")["message"]
    assert message == "speed-low: not done within 10 s (spec.timeoutSeconds)"


def test_a_benchmark_waits_for_its_server(operator: Operator, namespace: Namespace) -> None:
    create_benchmark(namespace, "nightly", suites=LOW)
    manifest = wait_for_reason(namespace, "nightly", "ServerMissing")
    assert condition_of(manifest, "TargetReady")["status"] == "False"
    namespace.create_server("kimi", HELD_SPEC)
    wait_for_reason(namespace, "nightly", "ServerUnready")
    assert jobs(namespace, "nightly") == {}
    change_benchmark(namespace, "nightly", timeoutSeconds=100)  # the spec can change before the first suite
    report_ready(namespace, held_pod(namespace))
    namespace.wait_until_ready("kimi")
    running_pod(namespace, "nightly", "speed-low")
    wait_for_reason(namespace, "nightly", "ServerReady", kind="TargetReady")


def test_a_server_that_becomes_unready_delays_the_next_suite(ready: Namespace) -> None:
    create_benchmark(ready, "nightly", suites=LOW_AND_GSM8K)
    running_pod(ready, "nightly", "speed-low")
    ready.change_server("kimi", {"suspend": True})
    ready.wait_for_condition("kimi", "Ready", "False", "Suspended")
    end_suite(ready, "nightly", "speed-low")
    manifest = wait_for_reason(ready, "nightly", "ServerUnready")
    assert manifest["status"]["progress"] == "1/2"
    ready.change_server("kimi", {"suspend": False})
    end_suite(ready, "nightly", "gsm8k")
    manifest = wait_for_reason(ready, "nightly", "ServerChanged")
    assert manifest["status"]["verdict"] == "Invalid"
    assert (
        "the server's spec changed during the suite (generation 1, then 2)"
        in condition_of(manifest, "Succeeded")["message"]
    )
    told = [finding["message"] for finding in findings(manifest, "gsm8k")]
    assert told == ["the server's spec changed between suites (generation 1, then 3)"]


def test_a_server_whose_pod_restarts_invalidates_the_suite(operator: Operator, namespace: Namespace) -> None:
    namespace.create_server("kimi", HELD_SPEC)
    pod = held_pod(namespace)
    report_ready(namespace, pod)
    namespace.wait_until_ready("kimi")
    create_benchmark(namespace, "nightly", suites=LOW)
    running_pod(namespace, "nightly", "speed-low")
    [container] = namespace.existing(POD, pod["metadata"]["name"])["status"]["containerStatuses"]
    restarted = {"status": {"containerStatuses": [container | {"restartCount": 1}]}}
    namespace.client.patch(POD, namespace.name, pod["metadata"]["name"], restarted, "status")
    end_suite(namespace, "nightly", "speed-low")
    manifest = wait_for_reason(namespace, "nightly", "ServerChanged")
    assert (
        f"pod {pod['metadata']['name']} of the server was restarted" in condition_of(manifest, "Succeeded")["message"]
    )


def test_two_benchmarks_never_run_on_one_server_at_the_same_time(ready: Namespace) -> None:
    create_benchmark(ready, "first", suites=LOW_AND_GSM8K)
    running_pod(ready, "first", "speed-low")
    create_benchmark(ready, "another", suites=LOW)
    manifest = wait_for_reason(ready, "another", "WaitingForTurn")
    expected = "benchmark first goes first on kimi: this benchmark waits until that one is done"
    assert condition_of(manifest, "TargetReady")["message"] == expected
    end_suite(ready, "first", "speed-low")
    running_pod(ready, "first", "gsm8k")
    assert jobs(ready, "another") == {}
    end_suite(ready, "first", "gsm8k")
    end_suite(ready, "another", "speed-low")
    wait_for_reason(ready, "another", "ThresholdsMet")


def test_a_deleted_benchmark_makes_room_only_when_its_client_has_gone(ready: Namespace) -> None:
    create_benchmark(ready, "first", suites=LOW)
    pod = running_pod(ready, "first", "speed-low")
    # The pod stays, as if its node did not answer.
    ready.edit(POD, pod["metadata"]["name"], {"metadata": {"finalizers": ["tests/stay"]}})
    create_benchmark(ready, "second", suites=LOW)
    wait_for_reason(ready, "second", "WaitingForTurn")
    ready.delete(BENCHMARK, "first")
    stays(lambda: jobs(ready, "second"), "the second benchmark does not run", lambda found: not found, 4)
    ready.edit(POD, pod["metadata"]["name"], {"metadata": {"finalizers": None}})
    running_pod(ready, "second", "speed-low")


def test_suspending_stops_the_running_suite_and_keeps_finished_results(ready: Namespace) -> None:
    create_benchmark(ready, "nightly", suites=LOW_AND_GSM8K)
    end_suite(ready, "nightly", "speed-low")
    stopped = running_pod(ready, "nightly", "gsm8k")
    before = jobs(ready, "nightly")
    change_benchmark(ready, "nightly", suspend=True)
    manifest = wait_for_reason(ready, "nightly", "Suspended")
    assert (manifest["status"]["progress"], "currentSuite" in manifest["status"]) == ("1/2", False)
    wait_for(lambda: ready.find(POD, stopped["metadata"]["name"]), "the pod is gone", lambda pod: pod is None)
    # In the meantime, another benchmark can run.
    create_benchmark(ready, "other", suites=LOW)
    end_suite(ready, "other", "speed-low")
    wait_for_reason(ready, "other", "ThresholdsMet")
    change_benchmark(ready, "nightly", suspend=False)
    end_suite(ready, "nightly", "gsm8k")
    wait_for_reason(ready, "nightly", "ThresholdsMet")
    assert "gsm8k" in before
    assert pods_made(ready, "nightly") == 3


def test_a_crash_between_or_during_suites_repeats_nothing(sandbox: Sandbox) -> None:
    namespace = sandbox.namespace
    namespace.create_server("kimi")
    namespace.wait_until_ready("kimi")
    create_benchmark(namespace, "nightly", suites=[{"name": name} for name in SUITES[:3]])
    running_pod(namespace, "nightly", "speed-low")
    sandbox.operator.kill()  # during the first suite, which continues
    end_suite(namespace, "nightly", "speed-low")
    sandbox.restart_after_crash()
    running_pod(namespace, "nightly", "speed-medium")
    sandbox.operator.kill()
    sandbox.restart_after_crash()
    end_suite(namespace, "nightly", "speed-medium")
    running_pod(namespace, "nightly", "speed-high")
    with sandbox.operator.stopped():
        end_suite(namespace, "nightly", "speed-high")
    manifest = wait_for_reason(namespace, "nightly", "ThresholdsMet")
    assert manifest["status"]["verdict"] == "Passed"
    assert pods_made(namespace, "nightly") == 3


def test_nothing_is_written_while_nothing_happens(ready: Namespace, audit_log: AuditLog) -> None:
    mark = audit_log.mark()
    create_benchmark(ready, "done", suites=LOW)
    end_suite(ready, "done", "speed-low")
    wait_for_reason(ready, "done", "ThresholdsMet")
    create_benchmark(ready, "runs", suites=LOW)
    running_pod(ready, "runs", "speed-low")
    wait_for_reason(ready, "runs", "Starting")
    create_benchmark(ready, "waits", suites=LOW)
    wait_for_reason(ready, "waits", "WaitingForTurn")
    audit_log.wait_until_quiet(mark, USER, ready.name)
    written = [item for item in audit_log.writes(mark, USER, ready.name) if item.name == "done-results"]
    assert len(written) == 1
    mark = audit_log.mark()
    ready.edit(BENCHMARK, "done", {"metadata": {"labels": {"seen": "again"}}})
    ready.edit(BENCHMARK, "runs", {"metadata": {"labels": {"seen": "again"}}})
    stays(lambda: audit_log.writes(mark, USER, ready.name), "the operator writes nothing", lambda writes: not writes, 4)


@contextmanager
def judged_despite(sandbox: Sandbox, fault: Fault) -> Iterator[Namespace]:
    """A namespace with a benchmark that gets its verdict while every write of its results fails in this way."""
    namespace = sandbox.namespace
    with sandbox.proxy.fault(fault, lambda call: call.is_write and call.concerns(CONFIG_MAP, "nightly-results")):
        create_benchmark(namespace, "nightly", serverRef=None, endpoint={"url": "http://elsewhere"}, suites=LOW)
        end_suite(namespace, "nightly", "speed-low")
        wait_for_reason(namespace, "nightly", "ThresholdsMet")
        yield namespace


def test_a_verdict_appears_only_after_the_results_are_written(sandbox: Sandbox) -> None:
    with judged_despite(sandbox, delay(2)) as namespace:
        assert namespace.find(CONFIG_MAP, "nightly-results")


def test_results_that_cannot_be_written_do_not_delay_the_verdict(sandbox: Sandbox) -> None:
    with judged_despite(sandbox, refuse(503)) as namespace:
        assert namespace.find(CONFIG_MAP, "nightly-results") is None
    wait_for(lambda: namespace.find(CONFIG_MAP, "nightly-results"), "the ConfigMap with results exists")


def test_jobs_pods_and_results_are_deleted_with_a_benchmark(ready: Namespace) -> None:
    create_benchmark(ready, "nightly", suites=LOW_AND_GSM8K)
    end_suite(ready, "nightly", "speed-low")
    running_pod(ready, "nightly", "gsm8k")
    assert "finalizers" not in benchmark(ready, "nightly")["metadata"]
    ready.delete(BENCHMARK, "nightly")
    query = {"labelSelector": f"{BENCHMARK_LABEL}=nightly"}
    wait_for(
        lambda: [item for kind in (JOB, POD, CONFIG_MAP) for item in ready.client.list(kind, ready.name, query)],
        "nothing of the benchmark is left",
        lambda left: not left,
        seconds=60,
    )


def test_the_spec_is_fixed_once_the_first_suite_has_started(ready: Namespace, client: Client) -> None:
    create_benchmark(ready, "nightly", suites=LOW)
    running_pod(ready, "nightly", "speed-low")
    wait_for(lambda: benchmark(ready, "nightly")["status"].get("startTime"), "it has started")
    with pytest.raises(Exception, match="cannot change after the first suite has started"):
        change_benchmark(ready, "nightly", maxErrorRate=0.5)
    assert benchmark(ready, "nightly")["spec"]["maxErrorRate"] == 0


@pytest.fixture
def with_key(operator: Operator, client: Client) -> Iterator[tuple[Namespace, str]]:
    """A namespace with a server that needs an API key, and the key."""
    key = "planted-4f1c9a"
    with temporary_namespace(client) as namespace:
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "key"}, "stringData": {"token": key}}
        client.request("POST", f"/api/v1/namespaces/{namespace.name}/secrets", secret)
        namespace.create_server("kimi", {"auth": {"apiKeySecretRef": {"name": "key"}}})
        namespace.wait_until_ready("kimi")
        yield namespace, key


def test_statuses_events_logs_and_objects_contain_no_secret(
    with_key: tuple[Namespace, str], operator: Operator
) -> None:
    namespace, key = with_key
    create_benchmark(namespace, "nightly", suites=LOW, backoffLimit=0)
    pod = running_pod(namespace, "nightly", "speed-low")
    [container] = pod["spec"]["containers"]
    expected = {"name": "OPENAI_API_KEY", "valueFrom": {"secretKeyRef": {"name": "key", "key": "token"}}}
    assert expected in container["env"]
    assert pod["spec"]["automountServiceAccountToken"] is False
    # The most dangerous output of a client: the server's settings, which contain the key.
    end_suite(namespace, "nightly", "speed-low", f'Traceback: server_info: {{"api_key": "{key}"}}', 1)
    manifest = wait_for_reason(namespace, "nightly", "ClientFailed")
    assert "[redacted]" in condition_of(manifest, "Succeeded")["message"]
    assert namespace.find(CONFIG_MAP, "nightly-results")
    seen = [
        item for kind in (BENCHMARK, JOB, CONFIG_MAP, SERVER) for item in namespace.client.list(kind, namespace.name)
    ]
    events = namespace.client.list(EVENT, namespace.name)
    assert key not in json.dumps([seen, events])
    assert key not in operator.log.read_text()
