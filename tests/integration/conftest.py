"""A control plane and an operator for all tests in this folder, and a namespace for each test."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import chart
from binaries import CHART_TOOLS, CONTROL_PLANE
from built import skip_unless_built
from control_plane import LocalCluster
from integration.asked import asked_in, keep
from integration.audit import AuditLog
from integration.client import Client
from integration.definitions import ROUTES, gateway_api
from integration.held_pods import cluster_of_held_pods
from integration.namespace import Namespace, temporary_namespace
from integration.permissions import EVERY_PERMISSION, lasting_permissions
from integration.processes_under_test import Operator, log_for_failures, operator_of_release
from integration.sandbox import Sandbox, Sandboxes
from integration.waiting import wait_for
from kimi_linear_operator.kubernetes.kinds import POD
from nodes import add_nodes, gpu_node

LAST_MODULE = "test_permissions"
logger = logging.getLogger(__name__)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the test of permissions last: it compares the operators' rights with all their requests."""
    here = Path(__file__).parent
    ours = [item for item in items if item.path.is_relative_to(here)]
    ordered = iter(sorted(ours, key=lambda item: item.path.stem == LAST_MODULE))
    items[:] = [next(ordered) if item.path.is_relative_to(here) else item for item in items]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Let a second attempt create its module's fixtures again, so that it uses no leftovers of the first one."""
    if isinstance(item, pytest.Function) and getattr(item, "execution_count", 1) > 1:
        request: Any = item._request
        defined = item._fixtureinfo.name2fixturedefs.values()
        for fixture in (fixture for same_name in defined for fixture in same_name if fixture.scope == "module"):
            try:
                fixture.finish(request)
            except (Exception, pytest.fail.Exception):
                # The first attempt has already failed.
                logger.exception("Its fixture %s did not end well", fixture.argname)


@pytest.fixture(scope="session")
def programs() -> None:
    """The programs of the local cluster, which are built before the tests."""
    skip_unless_built((*CONTROL_PLANE, *CHART_TOOLS))


@pytest.fixture(scope="session")
def cluster(
    programs: None, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[LocalCluster]:
    """A separate cluster with simulated GPU nodes, our CRDs, and the chart's service account and roles.

    The release has no replicas: the tests start their own.
    Plenty of MI300X for all tests; exactly one node of eight MI325X, for the tests about scarcity.
    """
    with cluster_of_held_pods(tmp_path_factory.mktemp("cluster"), "integration", *EVERY_PERMISSION) as started:
        roomy = [gpu_node(f"mi300x-{number}", "MI300X", gpus=128) for number in range(2)]
        started.kubectl.apply(lasting_permissions())
        add_nodes(started.kubectl, [*roomy, gpu_node("mi325x-0", "MI325X")])
        started.kubectl.apply(gateway_api())
        started.kubectl.wait_until_served(*chart.DEFINITIONS, ROUTES)
        yield started
        if folder := request.config.getoption("asked"):
            keep(folder, asked_in(request.session, AuditLog(started.audit_log)))


@pytest.fixture(scope="session")
def client(cluster: LocalCluster) -> Iterator[Client]:
    opened = Client(cluster.kubeconfig)
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def audit_log(cluster: LocalCluster) -> AuditLog:
    return AuditLog(cluster.audit_log)


@pytest.fixture(scope="session")
def operator_process(cluster: LocalCluster) -> Iterator[Operator]:
    """The operator as a process with its own user, not started yet. It must exit with code 0 after SIGTERM."""
    process = operator_of_release(cluster, cluster.state / "operator.log")
    yield process
    assert process.stop() == 0, f"the operator's exit code after SIGTERM:\n{process.log.read_text()[-3000:]}"


@pytest.fixture
def operator(operator_process: Operator) -> Iterator[Operator]:
    """The running operator. All tests that do not stop it share it."""
    operator_process.start()
    with log_for_failures(operator_process.log):
        yield operator_process


@pytest.fixture
def no_operator(operator_process: Operator) -> None:
    operator_process.stop()


@pytest.fixture(scope="session")
def sandboxes(cluster: LocalCluster, client: Client, operator_process: Operator) -> Sandboxes:
    return Sandboxes(cluster, client, operator_process)


@pytest.fixture
def sandbox(sandboxes: Sandboxes) -> Iterator[Sandbox]:
    """A running operator only for this test, behind a proxy, with the namespace that it watches."""
    with sandboxes.open() as opened:
        opened.operator.start()
        yield opened


@pytest.fixture
def namespace(client: Client) -> Iterator[Namespace]:
    """A namespace only for this test. After the test, it is deleted in the background."""
    with temporary_namespace(client) as opened:
        yield opened


@pytest.fixture(scope="module")
def shared_namespace(client: Client) -> Iterator[Namespace]:
    """A namespace for the tests of one module that can share objects."""
    with temporary_namespace(client) as opened:
        yield opened


@pytest.fixture
def other_namespace(client: Client) -> Iterator[Namespace]:
    with temporary_namespace(client) as opened:
        yield opened


@pytest.fixture
def scarce(client: Client) -> str:
    """Hardware for which there is one node with eight free GPUs."""
    wait_for(
        lambda: [
            f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
            for pod in client.list(POD)
            if pod["spec"].get("nodeName") == "mi325x-0" and pod["status"]["phase"] not in ("Succeeded", "Failed")
        ],
        "the MI325X node is empty",
        lambda pods: not pods,
    )
    return "mi325x"
