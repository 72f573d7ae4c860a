"""A node that runs pods, with our images and an installed operator."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import chart
from binaries import E2E, E2E_ON_KIND
from built import skip_unless_built
from e2e import recording
from integration.client import Client
from integration.namespace import Namespace
from kind import KindPodCluster, replaces_real_node
from machine import missing_packages, obstacle
from pod_cluster import PodCluster
from real_node import RealCluster

# The tests of this module end with an empty cluster, and must begin with one.
_FIRST_ON_SHARED_NODE = "test_operator"


@pytest.fixture(scope="session")
def real_node_possible() -> None:
    """If this machine cannot run a real node, skip with the reason. In CI, fail if the machine should be able to."""
    if reason := "tests run on kind" if replaces_real_node() else obstacle():
        pytest.skip(reason)
    skip_unless_built(E2E, missing_packages())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run modules that share a node last, so that it is then the only node.

    The first of them is the life of an installation.
    """
    here = Path(__file__).parent
    ours = [item for item in items if item.path.is_relative_to(here)]
    ordered = iter(sorted(ours, key=lambda item: (_is_on_shared_node(item), item.path.stem != _FIRST_ON_SHARED_NODE)))
    items[:] = [next(ordered) if item.path.is_relative_to(here) else item for item in items]


def _is_on_shared_node(item: pytest.Item) -> bool:
    return isinstance(item, pytest.Function) and "shared_node" in item.fixturenames


@pytest.fixture(scope="session")
def shared_node(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PodCluster]:
    """A node with two images: the operator's, and the stand-in's under the name of SGLang's image.

    Importing these images takes longer than starting the node.
    """
    with _new_cluster(request, tmp_path_factory.mktemp("real")) as started:
        started.load_images()
        yield started


@pytest.fixture(scope="module")
def cluster(shared_node: PodCluster) -> PodCluster:
    """The shared node of all modules that do not start their own. Each module installs the operator."""
    return shared_node


def _new_cluster(request: pytest.FixtureRequest, state: Path) -> PodCluster:
    """A real node, or kind if it is requested or is the only possibility. Otherwise skip with the reason."""
    if replaces_real_node():
        return new_kind_cluster(state)
    request.getfixturevalue("real_node_possible")
    return RealCluster(state, bound_to_us=True)


def new_kind_cluster(state: Path, workers: int = 1) -> KindPodCluster:
    skip_unless_built(E2E_ON_KIND)
    return KindPodCluster(state, f"kimi-linear-{os.getpid()}", workers)


@pytest.fixture(scope="module")
def client(cluster: PodCluster) -> Iterator[Client]:
    opened = Client(cluster.kubeconfig)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def models(client: Client) -> Namespace:
    """The namespace of the servers."""
    return Namespace(client, "default")


@pytest.fixture(scope="module")
def before(cluster: PodCluster) -> set[str]:
    """The names of all objects before the first test creates any."""
    return everything(cluster)


@pytest.fixture(scope="module")
def recorded(cluster: PodCluster, before: set[str]) -> str:
    """The terminal's output of the walkthrough: the operator is installed, the sample serves and is measured.

    The operator's namespace admits restricted pods only.
    """
    cluster.kubectl("create", "namespace", chart.NAMESPACE)
    cluster.kubectl("label", "namespace", chart.NAMESPACE, "pod-security.kubernetes.io/enforce=restricted")
    return recording.record(cluster, "stand-in")


def everything(cluster: PodCluster) -> set[str]:
    """Return the names of all objects of all kinds, without events."""
    kinds = cluster.kubectl("api-resources", "--verbs=list", "--output=name").split()
    # API services follow definitions, some seconds later.
    left_out = ("events", "events.events.k8s.io", "componentstatuses", "apiservices.apiregistration.k8s.io")
    listed = ",".join(kind for kind in kinds if kind not in left_out)
    return set(cluster.kubectl("get", listed, "--all-namespaces", "--output=name").split())
