"""What a finished benchmark keeps and for how long, and which results it restores after a loss of its status."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from integration.audit import AuditLog
from integration.client_pods import (
    benchmark,
    benchmark_manifest,
    change_benchmark,
    create_for_endpoint,
    end_all,
    end_suite,
    left_of,
    pods_made,
    result,
    running_pod,
    wait_for_reason,
)
from integration.namespace import Namespace
from integration.processes_under_test import USER
from integration.sandbox import Sandbox
from integration.waiting import stays, wait_for
from kimi_linear_operator.benchmark.spec import BENCHMARK
from kimi_linear_operator.kubernetes.kinds import CONFIG_MAP, JOB, Manifest

LOW_AND_GSM8K = [{"name": "speed-low"}, {"name": "gsm8k"}]


def run(namespace: Namespace, name: str, **spec: Any) -> Manifest:
    """Run a benchmark with one suite until it has passed."""
    create_for_endpoint(namespace, name, **spec)
    end_suite(namespace, name, "speed-low")
    return wait_for_reason(namespace, name, "ThresholdsMet")


def wait_until_left(namespace: Namespace, name: str, *expected: str) -> None:
    said = f"of {name} is left {expected}"
    wait_for(lambda: left_of(namespace, name), said, lambda left: left == set(expected), seconds=60)


def ended_hours_ago(manifest: Manifest) -> Manifest:
    """Return the status of a benchmark as if its suites had ended two hours ago."""
    past = (datetime.now(UTC) - timedelta(hours=2)).strftime("%Y-%m-%dT%H:%M:%SZ")
    results = [{**item, "completionTime": past} for item in manifest["status"]["results"]]
    return {"status": {**manifest["status"], "results": results}}


def test_a_passed_benchmark_keeps_its_status_and_results_and_causes_no_writes(
    bare: Namespace, audit_log: AuditLog
) -> None:
    create_for_endpoint(bare, "nightly", suites=LOW_AND_GSM8K)
    end_suite(bare, "nightly", "speed-low")
    running_pod(bare, "nightly", "gsm8k")
    wait_for(lambda: left_of(bare, "nightly"), "the first Job is gone", lambda left: "speed" not in str(left))
    end_suite(bare, "nightly", "gsm8k")
    wait_for_reason(bare, "nightly", "ThresholdsMet")
    wait_until_left(bare, "nightly", "nightly-results")
    mark = audit_log.mark()
    bare.edit(BENCHMARK, "nightly", {"metadata": {"labels": {"seen": "again"}}})
    stays(lambda: audit_log.writes(mark, USER, bare.name), "the operator writes nothing", lambda writes: not writes, 4)
    assert pods_made(bare, "nightly") == 2


def test_the_job_of_a_failed_suite_is_kept_for_an_hour(bare: Namespace) -> None:
    create_for_endpoint(bare, "nightly", suites=LOW_AND_GSM8K, backoffLimit=0)
    failed = result("speed-low", outcome="Failed", message="No answer.", metrics={}, completed=0)
    end_suite(bare, "nightly", "speed-low", failed, 1)
    end_suite(bare, "nightly", "gsm8k")
    manifest = wait_for_reason(bare, "nightly", "ClientFailed")
    kept = wait_for(lambda: left_of(bare, "nightly"), "the good Job is gone", lambda left: "gsm8k" not in str(left))
    assert {name.rpartition("-")[0] for name in kept} >= {"nightly-speed-low", "nightly"}
    assert {"nightly-runner", "nightly-results"} <= kept
    bare.client.patch(BENCHMARK, bare.name, "nightly", ended_hours_ago(manifest), "status")
    wait_until_left(bare, "nightly", "nightly-results")


def test_the_job_of_invalid_numbers_is_kept_for_an_hour_too(bare: Namespace) -> None:
    create_for_endpoint(bare, "nightly")
    end_suite(bare, "nightly", "speed-low", result("speed-low", completed=9))
    wait_for_reason(bare, "nightly", "RequestsFailed")
    stays(lambda: bare.client.list(JOB, bare.name), "the Job still exists", bool, 3)


def test_a_benchmark_is_deleted_with_its_results_when_its_time_is_up(bare: Namespace) -> None:
    run(bare, "kept")
    run(bare, "nightly", ttlSecondsAfterFinished=5)
    wait_for(lambda: bare.find(BENCHMARK, "nightly"), "the benchmark is gone", lambda found: found is None)
    wait_until_left(bare, "nightly")
    assert bare.find(BENCHMARK, "kept")


def test_the_time_to_live_can_be_set_after_a_benchmark_is_complete(bare: Namespace) -> None:
    run(bare, "nightly", ttlSecondsAfterFinished=1_000_000)
    change_benchmark(bare, "nightly", ttlSecondsAfterFinished=None)
    change_benchmark(bare, "nightly", ttlSecondsAfterFinished=0)
    wait_for(lambda: bare.find(BENCHMARK, "nightly"), "the benchmark is gone", lambda found: found is None)


def test_the_time_to_live_continues_through_a_restart_of_the_operator(sandbox: Sandbox) -> None:
    run(sandbox.namespace, "nightly", ttlSecondsAfterFinished=8)
    sandbox.operator.kill()
    sandbox.restart_after_crash()
    wait_for(lambda: sandbox.namespace.find(BENCHMARK, "nightly"), "the benchmark is gone", lambda found: found is None)


def test_an_edited_config_map_is_repaired_and_keys_of_others_stay(bare: Namespace) -> None:
    run(bare, "nightly")
    before = bare.existing(CONFIG_MAP, "nightly-results")["data"]
    bare.edit(CONFIG_MAP, "nightly-results", {"data": {"results.json": "{}", "note": "theirs"}})
    wait_for(
        lambda: bare.existing(CONFIG_MAP, "nightly-results")["data"],
        "the results are as before",
        lambda data: data == {**before, "note": "theirs"},
    )


def again(namespace: Namespace, manifest: Manifest, **changes: Any) -> None:
    """Apply a benchmark again without its status, as a user or a backup does."""
    name = manifest["metadata"]["name"]
    wait_for(lambda: namespace.find(BENCHMARK, name), "the former benchmark is gone", lambda found: found is None)
    namespace.client.create(BENCHMARK, benchmark_manifest(name, namespace.name, {**manifest["spec"], **changes}))


def orphan(namespace: Namespace, name: str) -> None:
    path = f"/apis/kimi-linear.io/v1alpha1/namespaces/{namespace.name}/kimilinearbenchmarks/{name}"
    namespace.client.request("DELETE", path, {"propagationPolicy": "Orphan"})


def test_a_restored_benchmark_takes_its_results_back(bare: Namespace) -> None:
    bounds = [{"suite": "speed-low", "metric": "output_throughput", "min": 1000}]
    create_for_endpoint(bare, "nightly", thresholds=bounds)
    end_suite(bare, "nightly", "speed-low")
    before = wait_for_reason(bare, "nightly", "ThresholdMissed")
    wait_until_left(bare, "nightly", "nightly-results")
    orphan(bare, "nightly")
    again(bare, before, ttlSecondsAfterFinished=100_000)
    after = wait_for_reason(bare, "nightly", "ThresholdMissed")
    kept = ("verdict", "progress", "startTime", "completionTime", "environment", "results")
    assert {name: after["status"][name] for name in kept} == {name: before["status"][name] for name in kept}
    owners = lambda: bare.existing(CONFIG_MAP, "nightly-results")["metadata"].get("ownerReferences", [])  # noqa: E731
    wait_for(
        owners,
        "the benchmark owns its results",
        lambda found: [one["uid"] for one in found] == [after["metadata"]["uid"]],
    )
    assert pods_made(bare, "nightly") == 1


def test_a_backup_without_status_and_owners_takes_its_results_back(bare: Namespace) -> None:
    before = run(bare, "nightly")
    wait_until_left(bare, "nightly", "nightly-results")
    saved = bare.existing(CONFIG_MAP, "nightly-results")
    bare.delete(BENCHMARK, "nightly")
    wait_until_left(bare, "nightly")
    metadata = {name: saved["metadata"][name] for name in ("name", "namespace", "labels", "annotations")}
    restored = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": saved["data"]}
    bare.client.create(CONFIG_MAP, restored)
    again(bare, before)
    after = wait_for_reason(bare, "nightly", "ThresholdsMet")
    assert after["status"]["results"] == before["status"]["results"]


def test_another_spec_under_the_same_name_runs(bare: Namespace) -> None:
    before = run(bare, "nightly")
    wait_until_left(bare, "nightly", "nightly-results")
    orphan(bare, "nightly")
    again(bare, before, maxErrorRate=0.5)
    end_suite(bare, "nightly", "speed-low", result("speed-low", completed=9))
    after = wait_for_reason(bare, "nightly", "ThresholdsMet")
    stored = wait_for(
        lambda: json.loads(bare.existing(CONFIG_MAP, "nightly-results")["data"]["results.json"]),
        "the ConfigMap has the new results",
        lambda content: content["results"] == after["status"]["results"],
    )
    assert stored["verdict"] == "Passed"


def test_a_benchmark_that_is_deleted_and_applied_again_runs_again(bare: Namespace) -> None:
    before = run(bare, "nightly")
    bare.delete(BENCHMARK, "nightly")
    again(bare, before)
    end_suite(bare, "nightly", "speed-low")
    after = wait_for_reason(bare, "nightly", "ThresholdsMet")
    assert after["metadata"]["uid"] != before["metadata"]["uid"]
    assert pods_made(bare, "nightly") == 2


ODD: dict[str, Any] = {
    "conditions": [],
    "startTime": "9999-12-31T23:59:59.999999999Z",
    "progress": "\u0000",
    "failedStart": {"suite": "", "time": "0001-01-01T00:00:00Z", "reason": "", "message": ""},
    "environment": {"serverGeneration": -1},
}
ODD_RESULT: dict[str, Any] = {
    "name": "speed-low",
    "kind": "speed",
    "outcome": "Succeeded",
    "startTime": "0001-01-01T00:00:00Z",
    "completionTime": "0001-01-01T00:00:00Z",
    "metrics": {"output_throughput": -1e308, "completed": 1e308, "": 0},
}


@pytest.mark.parametrize(
    "odd",
    [
        ODD,
        {"results": [ODD_RESULT]},
        {"results": [ODD_RESULT, ODD_RESULT, ODD_RESULT]},
        {"results": [{**ODD_RESULT, "kind": "accuracy"}]},
        {"results": [{**ODD_RESULT, "name": "gsm8k"}, {**ODD_RESULT, "requested": -5, "completed": 2**62}]},
        {"results": [{**ODD_RESULT, "outcome": "Failed"}], "verdict": "Passed", "currentSuite": "nobody"},
    ],
    ids=["times", "numbers", "too many", "another kind", "another order", "a verdict"],
)
def test_a_benchmark_reaches_a_verdict_whatever_status_somebody_has_written(sandbox: Sandbox, odd: Manifest) -> None:
    namespace = sandbox.namespace
    with sandbox.operator.stopped():
        create_for_endpoint(namespace, "nightly", suites=LOW_AND_GSM8K)
        namespace.client.patch(BENCHMARK, namespace.name, "nightly", {"status": odd}, "status")

    def play() -> bool:
        end_all(namespace)
        return "completionTime" in benchmark(namespace, "nightly")["status"]

    wait_for(play, "the benchmark is complete", seconds=60)
    # Somebody has changed the results, so the verdict may be Invalid. The Jobs may then stay for an hour.
    wait_for(
        lambda: left_of(namespace, "nightly"),
        "the ConfigMap with results exists",
        lambda left: "nightly-results" in left,
    )
    assert "Traceback" not in sandbox.operator.log.read_text()
