"""A cluster with two nodes that run pods: where replicas run, and the effects of a lost and of a drained node."""

from collections.abc import Iterator

import pytest

import chart
from e2e.conftest import new_kind_cluster
from e2e.load import steady_load
from integration.kubelet import is_ready
from integration.namespace import Namespace
from integration.waiting import wait_for
from kimi_linear_operator.kubernetes.kinds import DEPLOYMENT, Manifest
from kind import KindPodCluster, replaces_real_node

_SECONDS_TO_SERVE = 120
# The control plane notices after 50 s that a node is lost. The rest of the time is for a machine that is busy with
# three nodes.
_SECONDS_TO_LOSE_A_NODE = 120
_SPEC = {"tensorParallelism": 1, "replicas": 2, "drain": {"timeoutSeconds": 30}}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KindPodCluster]:
    if not replaces_real_node():
        pytest.skip("there is one real node; several need Docker and kind, and KIMI_LINEAR_CLUSTER=kind")
    with new_kind_cluster(tmp_path_factory.mktemp("kind"), workers=2) as started:
        started.load_images()
        yield started


@pytest.fixture(scope="module")
def server(cluster: KindPodCluster, models: Namespace) -> Manifest:
    chart.install(cluster.kubeconfig)
    models.create_server("apart", _SPEC)
    return models.wait_until_ready("apart", _SECONDS_TO_SERVE)


def nodes_of(pods: list[Manifest]) -> list[str]:
    return sorted(pod["spec"]["nodeName"] for pod in pods if is_ready(pod))


def test_replicas_go_to_different_nodes(cluster: KindPodCluster, server: Manifest, models: Namespace) -> None:
    assert nodes_of(models.pods("apart")) == sorted(cluster.node_names)


def test_a_lost_node_is_named_while_the_replica_on_the_other_node_serves(
    cluster: KindPodCluster, server: Manifest, models: Namespace
) -> None:
    cluster.signal_kubelet("STOP")
    try:
        told = models.wait_for_condition("apart", "Ready", "False", "NodeLost", seconds=_SECONDS_TO_LOSE_A_NODE)
        assert f"its node {cluster.node_name} does not answer" in told["message"]
        assert models.condition("apart", "Available")["status"] == "True"
        assert models.existing(DEPLOYMENT, "apart")["status"]["availableReplicas"] == 1
    finally:
        cluster.signal_kubelet("CONT")
    models.wait_until_ready("apart", _SECONDS_TO_SERVE)


def test_a_drain_moves_a_replica_to_another_node_and_loses_no_request(
    cluster: KindPodCluster, server: Manifest, models: Namespace
) -> None:
    stays, drained = cluster.node_names
    drain = ["drain", drained, "--pod-selector=kimi-linear.io/server=apart", "--delete-emptydir-data"]
    with steady_load(cluster, str(server["status"]["url"])) as tally:
        try:
            cluster.kubectl(*drain, "--timeout=120s", timeout=130)
            moved = [stays, stays]
            wait_for(
                lambda: models.pods("apart"),
                "both replicas serve on the other node",
                lambda pods: nodes_of(pods) == moved,
                _SECONDS_TO_SERVE,
            )
        finally:
            cluster.kubectl("uncordon", drained)
    assert tally.failures == []
    assert tally.answered > 100
