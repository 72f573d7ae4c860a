"""A cluster with Kueue, and the operator with the chart's default rights."""

from collections.abc import Iterator

import pytest

from binaries import CONTROL_PLANE, QUEUEING, select
from built import skip_unless_built
from control_plane import LocalCluster
from gitops.controllers import running_operator
from integration.audit import AuditLog
from integration.client import Client
from integration.held_pods import cluster_of_held_pods
from integration.namespace import Namespace, temporary_namespace
from nodes import add_nodes, gpu_node
from queueing.kueue import create_queues, running_kueue


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """A cluster with more GPUs than the quotas of the queues; a test plays the kubelet of held pods."""
    skip_unless_built((*CONTROL_PLANE, *select("helm"), *QUEUEING))
    with cluster_of_held_pods(tmp_path_factory.mktemp("cluster"), "queueing") as started:
        add_nodes(started.kubectl, [gpu_node("mi300x-0", "MI300X", gpus=64)])
        yield started


@pytest.fixture(scope="module")
def client(cluster: LocalCluster) -> Iterator[Client]:
    opened = Client(cluster.kubeconfig)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def audit_log(cluster: LocalCluster) -> AuditLog:
    return AuditLog(cluster.audit_log)


@pytest.fixture(scope="module")
def kueue(cluster: LocalCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with running_kueue(cluster, tmp_path_factory.mktemp("kueue")):
        yield


@pytest.fixture(scope="module")
def operator(cluster: LocalCluster, kueue: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with running_operator(cluster, tmp_path_factory.mktemp("operator") / "log"):
        yield


@pytest.fixture
def namespace(client: Client, operator: None) -> Iterator[Namespace]:
    """A namespace only for this test, with the queue of the guide."""
    with temporary_namespace(client) as opened:
        create_queues(opened)
        yield opened
