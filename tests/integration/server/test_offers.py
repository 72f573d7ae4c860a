"""A newer version offers different pods.

The tests show which changes take the offer, and which leave a server's pods as they are.
"""

import json
from collections.abc import Iterator
from typing import NamedTuple

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
from integration.sandbox import Sandbox, Sandboxes
from integration.versions import create_servers, go_on_as, has_other_pods, records, running, wait_for_offer
from integration.waiting import stays, wait_for
from kimi_linear_operator.kubernetes.kinds import DEPLOYMENT, REVISION, Manifest
from kimi_linear_operator.server.labels import ROLLOUT_ANNOTATION
from kimi_linear_operator.server.spec import SERVER

# More servers than there are tests that use one.
_SERVERS = [f"kimi-{number:02}" for number in range(12)]
_OTHER = "other"


class Offered(NamedTuple):
    """A server to which another version offers a pod template, and the server's namespace."""

    namespace: Namespace
    server: str


@pytest.fixture(scope="module")
def offers(sandboxes: Sandboxes) -> Iterator[Iterator[Offered]]:
    """Servers with an offer, one after the other, and another server that no test changes."""
    with sandboxes.open() as sandbox:
        sandbox.operator.start()
        create_servers(sandbox.namespace, [*_SERVERS, _OTHER])
        go_on_as(sandbox, OTHER_VERSION)
        wait_for_offer(sandbox.namespace, [*_SERVERS, _OTHER], "False")
        yield iter([Offered(sandbox.namespace, server) for server in _SERVERS])


@pytest.fixture
def offered(offers: Iterator[Offered]) -> Offered:
    """A server that no other test uses."""
    return next(offers)


def test_the_annotation_takes_the_new_pods_for_one_server(offered: Offered) -> None:
    namespace, server = offered
    before = running(namespace, _OTHER)
    for value in ("2026-11-28", "again"):
        namespace.edit(SERVER, server, {"metadata": {"annotations": {ROLLOUT_ANNOTATION: value}}})
        namespace.wait_for_condition(server, "TemplateCurrent", "True")
        namespace.wait_until_ready(server)
        assert has_other_pods(namespace, server)
        # The second time, there is no new template to take.
        wait_for(lambda: len(running(namespace, server)["replicaSets"]), "one rollout has happened", (2).__eq__)
    assert running(namespace, _OTHER) == before
    namespace.edit(SERVER, server, {"metadata": {"annotations": {ROLLOUT_ANNOTATION: None}}})
    generation = namespace.deployment(server)["metadata"]["generation"]
    stays(lambda: namespace.deployment(server)["metadata"]["generation"], "no rollout", generation.__eq__, 0.5)


def test_a_change_of_the_spec_takes_the_new_pods(offered: Offered) -> None:
    namespace, server = offered
    namespace.change_server(server, {"engine": {"contextLength": 4096}})
    namespace.wait_for_condition(server, "TemplateCurrent", "True")
    assert has_other_pods(namespace, server)
    assert not has_other_pods(namespace, _OTHER)


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
def test_a_change_that_affects_no_pod_takes_no_new_pods(offered: Offered, change: Spec) -> None:
    namespace, server = offered
    before = namespace.deployment(server)["spec"]["template"]
    namespace.change_server(server, change)
    namespace.wait_for_condition(server, "Reconciling", "False")
    assert namespace.deployment(server)["spec"]["template"] == before
    namespace.wait_for_condition(server, "TemplateCurrent", "False")


def test_drift_is_repaired_to_the_kept_pods(offered: Offered) -> None:
    namespace, server = offered
    before = namespace.deployment(server)["spec"]["template"]
    containers = [{**before["spec"]["containers"][0], "image": "example.com/other:v1"}]
    namespace.edit(DEPLOYMENT, server, {"spec": {"template": {"spec": {"containers": containers}}}})
    wait_for(lambda: namespace.deployment(server)["spec"]["template"], "the pod template is repaired", before.__eq__)


def test_a_deleted_deployment_is_created_again_with_the_kept_pods(offered: Offered) -> None:
    namespace, server = offered
    before = namespace.deployment(server)
    namespace.delete(DEPLOYMENT, server)
    wait_for(lambda: namespace.find(DEPLOYMENT, server), "the Deployment exists again")
    again = namespace.deployment(server)
    assert again["metadata"]["uid"] != before["metadata"]["uid"]
    assert again["spec"]["template"] == before["spec"]["template"]


def test_a_deleted_record_is_created_again_from_the_running_pods(offered: Offered) -> None:
    namespace, server = offered
    before = running(namespace, server)["replicaSets"]
    namespace.delete(REVISION, f"{server}-1")
    [record] = records(namespace, server)
    assert not is_built_by_other(record["data"]["template"])
    namespace.wait_for_condition(server, "TemplateCurrent", "False")
    namespace.wait_until_ready(server)
    assert running(namespace, server)["replicaSets"] == before


def test_a_benchmark_whose_server_gets_other_pods_between_two_suites_is_invalid(offered: Offered) -> None:
    namespace, server = offered
    suites = [{"name": "speed-low"}, {"name": "gsm8k"}]
    create_benchmark(namespace, "nightly", serverRef={"name": server}, suites=suites)
    end_suite(namespace, "nightly", "speed-low")
    running_pod(namespace, "nightly", "gsm8k")
    change_benchmark(namespace, "nightly", suspend=True)
    wait_for_reason(namespace, "nightly", "Suspended")
    namespace.edit(SERVER, server, {"metadata": {"annotations": {ROLLOUT_ANNOTATION: "now"}}})
    namespace.wait_for_condition(server, "TemplateCurrent", "True")
    namespace.wait_until_ready(server)
    change_benchmark(namespace, "nightly", suspend=False)
    end_suite(namespace, "nightly", "gsm8k")
    wait_for(
        lambda: benchmark(namespace, "nightly")["status"].get("verdict", ""), "the verdict is Invalid", "Invalid".__eq__
    )
    [valid, invalid] = benchmark(namespace, "nightly")["status"]["results"]
    assert valid["outcome"] == invalid["outcome"] == "Succeeded"
    assert "the server got other pods between suites" in str(invalid["findings"])
    assert "other pods" not in str(valid["findings"])


def test_diff_shows_the_kept_pods_and_the_changes_that_an_offer_would_bring(
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
