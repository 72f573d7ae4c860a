"""Argo CD itself installs the operator and servers from Git, with our examples. It waits, gates, repairs and prunes."""

from collections.abc import Iterator

import pytest

from chart import NAMESPACE, RELEASE
from control_plane import LocalCluster
from gitops.argo_cd import RESYNC_SECONDS, Application, argo_cd
from gitops.controllers import GITOPS, TOOL_SECONDS, example, running_operator
from gitops.folder_of_servers import change_everything, change_kimi, end_gate, wait_until_pruned, wait_until_repaired
from gitops.git_host import Repository
from integration.client import Client
from integration.namespace import Namespace
from integration.waiting import stays
from kimi_linear_operator.kubernetes.kinds import GROUP, Manifest

RETRIES = 2


@pytest.fixture(scope="module")
def tool(cluster: LocalCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with argo_cd(cluster, tmp_path_factory.mktemp("argocd")):
        yield


@pytest.fixture(scope="module")
def operator_application(tool: None, cluster: LocalCluster, client: Client, repository: Repository) -> Application:
    repository.push("The operator and a server")
    cluster.kubectl.apply(example(GITOPS / "argocd/operator.yaml", repository))
    return Application(client, RELEASE)


@pytest.fixture(scope="module")
def operator(
    operator_application: Application,
    cluster: LocalCluster,
    repository: Repository,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[None]:
    operator_application.wait_until("Synced", "Healthy", repository.head())
    with running_operator(cluster, tmp_path_factory.mktemp("operator") / "log"):
        yield


@pytest.fixture(scope="module")
def servers_application(operator: None, cluster: LocalCluster, client: Client, repository: Repository) -> Application:
    """The example's Application, without pauses between retries."""
    [application] = example(GITOPS / "argocd/servers.yaml", repository)
    retry = application["spec"]["syncPolicy"]["retry"]
    assert retry["limit"] == RETRIES
    retry["backoff"] = {"duration": "1s"}
    cluster.kubectl.apply([application])
    return Application(client, application["metadata"]["name"])


@pytest.fixture(scope="module")
def gated_sync(servers_application: Application, models: Namespace, repository: Repository) -> Manifest:
    """The sync that has passed the gate.

    Its state is read at once: a later sync, which only repairs, runs no gate and replaces this state.
    """
    end_gate(models)
    return servers_application.wait_for_operation(repository.head(), "Succeeded")


@pytest.fixture(scope="module")
def servers(servers_application: Application, gated_sync: Manifest) -> Application:
    """The Application when it has passed its gate once."""
    return servers_application


def told(operation: Manifest) -> dict[str, tuple[str, str]]:
    """Return the phase and the message of a sync for each server and benchmark."""
    resources = operation["syncResult"]["resources"]
    return {item["name"]: (item.get("hookPhase", ""), item["message"]) for item in resources if item["group"] == GROUP}


def test_the_operator_is_installed(
    operator_application: Application, repository: Repository, cluster: LocalCluster
) -> None:
    operator_application.wait_until("Synced", "Healthy", repository.head())
    where = f"--namespace={NAMESPACE}"
    assert cluster.kubectl("get", "deployment", RELEASE, where, "--output=jsonpath={.status.readyReplicas}") == "2"
    level = "--output=jsonpath={.metadata.labels.pod-security\\.kubernetes\\.io/enforce}"
    assert cluster.kubectl("get", "namespace", NAMESPACE, level) == "restricted"


def test_a_sync_succeeds_when_the_gate_has_passed(
    servers: Application, gated_sync: Manifest, repository: Repository
) -> None:
    assert told(gated_sync) == {
        "kimi": ("Succeeded", "AllReplicasServe: 1 of 1 replicas serve"),
        "gate": ("Succeeded", "ThresholdsMet: All 2 suites are valid, and all 2 checks of numbers passed"),
    }
    servers.wait_until("Synced", "Healthy", repository.head())


def test_a_sync_keeps_scaled_replicas_and_repairs_everything_else(
    servers: Application, models: Namespace, cluster: LocalCluster, repository: Repository
) -> None:
    cluster.kubectl("scale", "kimilinearserver/kimi", "--replicas=2", f"--namespace={models.name}")
    models.change_server("kimi", {"hardware": "mi325x"})
    wait_until_repaired(models)
    servers.wait_until("Synced", "Healthy", repository.head())
    stays(
        lambda: models.server("kimi")["spec"]["replicas"], "two replicas", lambda count: count == 2, 2 * RESYNC_SECONDS
    )


def test_a_sync_fails_when_the_gate_has_failed_and_each_retry_measures_again(
    servers: Application, models: Namespace, repository: Repository
) -> None:
    commit = change_kimi(repository, metadata={"labels": {"release": "slow"}})
    servers.refresh()
    for _ in range(1 + RETRIES):
        end_gate(models, output_throughput=1)
    failed = servers.wait_for_operation(commit, "Failed")
    assert told(failed)["gate"] == ("Failed", "ThresholdMissed: speed-low: output_throughput is 1, min 150")
    assert models.condition("kimi", "Ready")["status"] == "True"


def test_a_refusal_of_the_api_server_is_reported_and_changes_nothing(
    servers: Application, models: Namespace, repository: Repository
) -> None:
    before = models.server("kimi")
    commit = change_kimi(repository, spec={"tensorParallelism": 3})
    servers.refresh()
    failed = servers.wait_for_operation(commit, "Failed")
    assert "tensorParallelism" in told(failed)["kimi"][1]
    assert models.server("kimi")["metadata"]["generation"] == before["metadata"]["generation"]


def test_objects_removed_from_git_are_pruned(servers: Application, models: Namespace, repository: Repository) -> None:
    commit = change_everything(repository, "other")
    servers.refresh()
    servers.wait_until("Synced", "Healthy", commit)
    models.wait_until_ready("other", TOOL_SECONDS)
    wait_until_pruned(models, "kimi")


def test_a_server_that_is_suspended_on_purpose_is_healthy(
    servers: Application, models: Namespace, repository: Repository
) -> None:
    commit = change_everything(repository, "other", suspend=True)
    servers.refresh()
    servers.wait_until("Synced", "Healthy", commit)
    assert models.condition("other", "Ready")["reason"] == "Suspended"


def test_the_operator_is_synced_only_once_during_these_tests(
    operator_application: Application, servers: Application
) -> None:
    commit = servers.status()["sync"]["revision"]
    operator_application.refresh()
    operator_application.wait_until("Synced", "Healthy", commit)
    assert len(operator_application.status()["history"]) == 1
