"""For each tool: a separate cluster, a Git repository with our examples, and the operator as a process."""

from collections.abc import Iterator

import pytest

from binaries import CHART_TOOLS, CONTROL_PLANE, GITOPS
from built import skip_unless_built
from chart import CHART, ROOT
from control_plane import LocalCluster
from gitops import folder_of_servers
from gitops.folder_of_servers import FOLDER
from gitops.git_host import Repository, git_host
from integration.client import Client
from integration.kubelet import stages_without
from integration.namespace import Namespace
from kimi_linear_operator.benchmark.labels import SUITE_LABEL
from nodes import add_local_nodes


@pytest.fixture(scope="session")
def programs() -> None:
    """The programs that read the examples. They are built before the tests."""
    skip_unless_built((*CONTROL_PLANE, *CHART_TOOLS))


@pytest.fixture(scope="session")
def tools(programs: None) -> None:
    """Argo CD and Flux, which are built before the tests, too."""
    skip_unless_built(GITOPS)


@pytest.fixture(scope="module")
def cluster(tools: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """A cluster without anything of ours; a benchmark's pods wait until a test says how they end."""
    with LocalCluster(tmp_path_factory.mktemp("cluster"), "gitops") as started:
        started.kubectl.apply(stages_without(f'.metadata.labels["{SUITE_LABEL}"]'))
        add_local_nodes(started.kubectl)
        yield started


@pytest.fixture(scope="module")
def client(cluster: LocalCluster) -> Iterator[Client]:
    opened = Client(cluster.kubeconfig)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def models(client: Client) -> Namespace:
    """The namespace of the servers in the examples."""
    return Namespace(client, folder_of_servers.NAMESPACE)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Repository]:
    """A repository with our chart and the folder of servers, not pushed yet."""
    with git_host(tmp_path_factory.mktemp("git")) as opened:
        for folder in (CHART.relative_to(ROOT), FOLDER):
            opened.copy(ROOT / folder, folder)
        yield opened
