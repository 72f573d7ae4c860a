"""Flux itself installs servers from Git, with our example. It waits for them, fails early, repairs and prunes."""

from collections.abc import Iterator

import pytest

import chart
from control_plane import LocalCluster
from gitops.controllers import GITOPS, TOOL_SECONDS, example, running_operator
from gitops.flux import Kustomization, flux
from gitops.folder_of_servers import change_everything, change_kimi, end_gate, wait_until_pruned, wait_until_repaired
from gitops.git_host import Repository
from integration.client import Client
from integration.namespace import Namespace
from integration.waiting import wait_for
from kimi_linear_operator.benchmark.spec import BENCHMARK
from kimi_linear_operator.server.spec import SERVER


@pytest.fixture(scope="module")
def tool(cluster: LocalCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with flux(cluster, tmp_path_factory.mktemp("flux")):
        yield


@pytest.fixture(scope="module")
def operator(cluster: LocalCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    chart.install(cluster.kubeconfig, "--set=replicas=0")
    with running_operator(cluster, tmp_path_factory.mktemp("operator") / "log"):
        yield


@pytest.fixture(scope="module")
def servers(tool: None, operator: None, cluster: LocalCluster, client: Client, repository: Repository) -> Kustomization:
    """The example's Kustomization. In these tests, no controller handles HelmReleases."""
    repository.push("A server and a gate")
    [source, _] = example(GITOPS / "flux/operator.yaml", repository)
    [namespace, kustomization] = example(GITOPS / "flux/servers.yaml", repository)
    cluster.kubectl.apply([source, namespace, kustomization])
    return Kustomization(client, kustomization["metadata"]["name"], source["metadata"]["name"])


def measure_again(servers: Kustomization, models: Namespace, **metrics: float) -> None:
    """Let Flux create the gate again, and let its clients end with these metrics."""
    models.delete(BENCHMARK, "gate")
    servers.reconcile()
    end_gate(models, **metrics)


def test_a_kustomization_is_ready_when_the_server_is_and_the_gate_has_passed(
    servers: Kustomization, models: Namespace, repository: Repository
) -> None:
    wait_for(lambda: models.find(SERVER, "kimi"), "the server is there", seconds=TOOL_SECONDS)
    models.wait_until_ready("kimi", TOOL_SECONDS)
    assert servers.ready()["status"] == "Unknown"
    end_gate(models)
    servers.wait_until("True", "ReconciliationSucceeded", repository.head())


def test_a_kustomization_fails_as_soon_as_the_gate_has_failed(
    servers: Kustomization, models: Namespace, repository: Repository
) -> None:
    measure_again(servers, models, output_throughput=1)
    failed = servers.wait_until("False", "HealthCheckFailed", repository.head())
    assert "KimiLinearBenchmark/inference/gate status: 'Failed'" in failed["message"]
    measure_again(servers, models)
    servers.wait_until("True", "ReconciliationSucceeded", repository.head())


def test_a_reconciliation_keeps_scaled_replicas_and_repairs_everything_else(
    servers: Kustomization, models: Namespace, cluster: LocalCluster, repository: Repository
) -> None:
    cluster.kubectl("scale", "kimilinearserver/kimi", "--replicas=2", f"--namespace={models.name}")
    models.change_server("kimi", {"hardware": "mi325x"})
    servers.reconcile()
    wait_until_repaired(models)
    servers.wait_until("True", "ReconciliationSucceeded", repository.head())
    assert models.server("kimi")["spec"]["replicas"] == 2


def test_a_server_that_is_suspended_on_purpose_is_healthy(
    servers: Kustomization, models: Namespace, repository: Repository
) -> None:
    commit = change_kimi(repository, spec={"suspend": True})
    servers.reconcile()
    servers.wait_until("True", "ReconciliationSucceeded", commit)
    assert models.condition("kimi", "Ready")["reason"] == "Suspended"


def test_a_refusal_of_the_api_server_is_reported_and_changes_nothing(
    servers: Kustomization, models: Namespace, repository: Repository
) -> None:
    before = models.server("kimi")
    commit = change_kimi(repository, spec={"tensorParallelism": 3})
    servers.reconcile()
    failed = servers.wait_until("False", "ReconciliationFailed", commit)
    assert "tensorParallelism" in failed["message"]
    assert models.server("kimi")["metadata"]["generation"] == before["metadata"]["generation"]


def test_objects_removed_from_git_are_pruned(servers: Kustomization, models: Namespace, repository: Repository) -> None:
    commit = change_everything(repository, "other")
    servers.reconcile()
    servers.wait_until("True", "ReconciliationSucceeded", commit)
    assert models.condition("other", "Ready")["status"] == "True"
    wait_until_pruned(models, "kimi")
