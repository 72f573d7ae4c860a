"""A cluster with a gateway in front, and an operator that may expose servers."""

from collections.abc import Iterator

import pytest

from binaries import CONTROL_PLANE, EXPOSURE, select
from built import skip_unless_built
from control_plane import LocalCluster
from exposure.contour import Contour, contour
from gitops.controllers import running_operator
from integration.client import Client
from integration.held_pods import cluster_of_held_pods
from integration.namespace import Namespace, temporary_namespace
from nodes import add_local_nodes


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """A cluster in which a test plays the kubelet of held pods."""
    skip_unless_built((*CONTROL_PLANE, *select("helm"), *EXPOSURE))
    with cluster_of_held_pods(tmp_path_factory.mktemp("cluster"), "exposure", "--set=rbac.expose=true") as started:
        add_local_nodes(started.kubectl)
        yield started


@pytest.fixture(scope="module")
def client(cluster: LocalCluster) -> Iterator[Client]:
    opened = Client(cluster.kubeconfig)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def gateway(cluster: LocalCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Contour]:
    with contour(cluster, tmp_path_factory.mktemp("contour")) as running:
        yield running


@pytest.fixture(scope="module")
def operator(cluster: LocalCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with running_operator(cluster, tmp_path_factory.mktemp("operator") / "log"):
        yield


@pytest.fixture
def namespace(client: Client) -> Iterator[Namespace]:
    with temporary_namespace(client) as opened:
        yield opened
