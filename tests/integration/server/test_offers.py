"""Other pods that a newer version offers: what takes them, and what leaves a server's pods as they are."""

import json

import pytest

from control_plane import LocalCluster
from integration.client_pods import (
    benchmark,
    change_benchmark,
    create_benchmark,
    end_suite,
    running_pod,
    wait_for_reason,
)
from integration.namespace import Namespace, Spec, server_manifest
from integration.other_version import MARK, is_built_by_other
from integration.processes_under_test import OTHER_VERSION, run_command
from integration.sandbox import Sandbox
from integration.versions import create_servers, go_on_as, has_other_pods, records, running, wait_for_offer
from integration.waiting import stays, wait_for
from kimi_linear_operator.kubernetes.kinds import DEPLOYMENT, REVISION, Manifest
from kimi_linear_operator.server.labels import ROLLOUT_ANNOTATION
from kimi_linear_operator.server.spec import SERVER


@pytest.fixture
def offered(sandbox: Sandbox) -> Namespace:
    """A namespace with a server to which another version offers its pods."""
    create_servers(sandbox.namespace, ["kimi", "other"])
    go_on_as(sandbox, OTHER_VERSION)
    wait_for_offer(sandbox.namespace, ["kimi", "other"], "False")
    return sandbox.namespace


def test_the_annotation_takes_the_new_pods_for_one_server(offered: Namespace) -> None:
    before = running(offered, "other")
    for value in ("2026-11-28", "again"):
        offered.edit(SERVER, "kimi", {"metadata": {"annotations": {ROLLOUT_ANNOTATION: value}}})
        offered.wait_for_condition("kimi", "TemplateCurrent", "True")
        offered.wait_until_ready("kimi")
        assert has_other_pods(offered, "kimi")
        # There is nothing new to take the second time.
        wait_for(lambda: len(running(offered, "kimi")["replicaSets"]), "one rollout", (2).__eq__)
    assert running(offered, "other") == before
    offered.edit(SERVER, "kimi", {"metadata": {"annotations": {ROLLOUT_ANNOTATION: None}}})
    stays(lambda: offered.deployment("kimi")["metadata"]["generation"], "no rollout", lambda _: True, 0.5)


def test_a_change_of_the_spec_takes_the_new_pods(offered: Namespace) -> None:
    offered.change_server("kimi", {"engine": {"contextLength": 4096}})
    offered.wait_for_condition("kimi", "TemplateCurrent", "True")
    assert has_other_pods(offered, "kimi")
    assert not has_other_pods(offered, "other")


@pytest.mark.parametrize(
    "change",
    [
        {"replicas": 2},
        {"suspend": True},
        {"service": {"port": 8000, "headless": True}},
        {"rollout": {"strategy": "Surge"}},
    ],
    ids=str,
)
def test_what_concerns_no_pod_takes_no_new_pods(offered: Namespace, change: Spec) -> None:
    before = offered.deployment("kimi")["spec"]["template"]
    offered.change_server("kimi", change)
    offered.wait_for_condition("kimi", "Reconciling", "False")
    assert offered.deployment("kimi")["spec"]["template"] == before
    offered.wait_for_condition("kimi", "TemplateCurrent", "False")


def test_drift_is_repaired_to_the_kept_pods(offered: Namespace) -> None:
    before = offered.deployment("kimi")["spec"]["template"]
    containers = [{**before["spec"]["containers"][0], "image": "example.com/other:v1"}]
    offered.edit(DEPLOYMENT, "kimi", {"spec": {"template": {"spec": {"containers": containers}}}})
    wait_for(lambda: offered.deployment("kimi")["spec"]["template"], "it is repaired", before.__eq__)


def test_a_deployment_that_was_deleted_comes_back_with_the_kept_pods(offered: Namespace) -> None:
    before = offered.deployment("kimi")
    offered.delete(DEPLOYMENT, "kimi")
    wait_for(lambda: offered.find(DEPLOYMENT, "kimi"), "it is there again")
    again = offered.deployment("kimi")
    assert again["metadata"]["uid"] != before["metadata"]["uid"]
    assert again["spec"]["template"] == before["spec"]["template"]


def test_a_record_that_was_deleted_is_made_of_what_runs(offered: Namespace) -> None:
    before = running(offered, "kimi")["replicaSets"]
    offered.delete(REVISION, "kimi-1")
    [record] = records(offered, "kimi")
    assert not is_built_by_other(record["data"]["template"])
    offered.wait_for_condition("kimi", "TemplateCurrent", "False")
    offered.wait_until_ready("kimi")
    assert running(offered, "kimi")["replicaSets"] == before


def test_diff_shows_the_kept_pods_and_what_taking_new_ones_would_change(
    sandbox: Sandbox, cluster: LocalCluster
) -> None:
    namespace = sandbox.namespace
    go_on_as(sandbox, OTHER_VERSION)
    namespace.create_server("kimi")
    namespace.wait_until_ready("kimi")
    written = server_manifest("kimi", namespace.name, {})
    assert _diff(cluster, written) == (0, "")
    code, text = _diff(cluster, {**written, "spec": {"service": {"headless": True}}})
    assert (code, "kimi-headless" in text, MARK in text) == (1, True, False)
    for taking in (
        {**written, "metadata": {**written["metadata"], "annotations": {ROLLOUT_ANNOTATION: "now"}}},
        {**written, "spec": {"engine": {"contextLength": 4096}}},
    ):
        code, text = _diff(cluster, taking)
        assert (code, f"-        - name: {MARK}" in text) == (1, True)


def _diff(cluster: LocalCluster, manifest: Manifest) -> tuple[int, str]:
    """Ask this version what applying a server would change."""
    done = run_command(cluster.kubeconfig, "diff", "--filename=-", stdin=json.dumps(manifest))
    assert done.stderr == ""
    return done.returncode, done.stdout


def test_a_benchmark_whose_server_gets_other_pods_between_two_suites_is_invalid(offered: Namespace) -> None:
    create_benchmark(offered, "nightly", suites=[{"name": "speed-low"}, {"name": "gsm8k"}])
    end_suite(offered, "nightly", "speed-low")
    running_pod(offered, "nightly", "gsm8k")
    change_benchmark(offered, "nightly", suspend=True)
    wait_for_reason(offered, "nightly", "Suspended")
    offered.edit(SERVER, "kimi", {"metadata": {"annotations": {ROLLOUT_ANNOTATION: "now"}}})
    offered.wait_for_condition("kimi", "TemplateCurrent", "True")
    offered.wait_until_ready("kimi")
    change_benchmark(offered, "nightly", suspend=False)
    end_suite(offered, "nightly", "gsm8k")
    wait_for(lambda: benchmark(offered, "nightly")["status"].get("verdict", ""), "it is judged", "Invalid".__eq__)
    [valid, invalid] = benchmark(offered, "nightly")["status"]["results"]
    assert valid["outcome"] == invalid["outcome"] == "Succeeded"
    assert "the server got other pods between suites" in str(invalid["findings"])
    assert "other pods" not in str(valid["findings"])
