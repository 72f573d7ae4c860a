"""etcd is restored from a backup while two replicas run. After that, only the state in the backup counts."""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

import chart
from control_plane import LocalCluster
from integration.client import Client
from integration.namespace import Namespace, engine_container, temporary_namespace
from integration.processes_under_test import Operator, operator_of_release
from integration.waiting import stays, wait_for
from kimi_linear_operator.kubernetes.kinds import DEPLOYMENT, Manifest
from kimi_linear_operator.server.spec import SERVER
from nodes import add_nodes, gpu_node

_QUIET_SECONDS = 10.0


@dataclass(frozen=True)
class Place:
    cluster: LocalCluster
    namespace: Namespace
    replicas: tuple[Operator, Operator]

    @property
    def told(self) -> str:
        return "".join(replica.told() for replica in self.replicas)


@pytest.fixture
def place(programs: None, tmp_path: Path) -> Iterator[Place]:
    with ExitStack() as opened:
        cluster = opened.enter_context(LocalCluster(tmp_path / "cluster", "restored"))
        chart.install(cluster.kubeconfig, "--set=replicas=0")
        cluster.kubectl.wait_until_served(*chart.DEFINITIONS)
        add_nodes(cluster.kubectl, [gpu_node("mi300x", "MI300X", gpus=64)])
        client = Client(cluster.kubeconfig)
        opened.callback(client.close)
        replicas = tuple(operator_of_release(cluster, tmp_path / f"{name}.log") for name in ("leader", "standby"))
        for replica in replicas:
            opened.callback(replica.kill)
        leader, standby = replicas
        leader.start()
        standby.launch()
        wait_for(standby.told, "the second replica waits", lambda text: "Waiting:" in text)
        namespace = opened.enter_context(temporary_namespace(client))
        yield Place(cluster, namespace, (leader, standby))


def _template(namespace: Namespace, name: str) -> tuple[str, int, int]:
    """Return values that change with every write of a Deployment's spec."""
    deployment: Manifest = namespace.deployment(name)
    return deployment["metadata"]["uid"], deployment["metadata"]["generation"], deployment["spec"]["replicas"]


def test_after_a_restore_of_etcd_the_backup_counts_and_reconciliation_continues(place: Place, tmp_path: Path) -> None:
    namespace, names = place.namespace, ("kept", "scaled", "deleted")
    for name in names:
        namespace.create_server(name)
    for name in names:
        namespace.wait_until_ready(name)
    before = {name: _template(namespace, name) for name in names}
    with place.cluster.ended() as etcd:
        shutil.copytree(etcd, tmp_path / "backup")

    namespace.change_server("scaled", {"replicas": 3, "toolCallParser": "enabled"})
    namespace.wait_until_ready("scaled")
    namespace.delete(SERVER, "deleted")
    wait_for(
        lambda: namespace.find(DEPLOYMENT, "deleted"),
        "the deleted server's Deployment is gone",
        lambda found: not found,
    )
    namespace.create_server("later")
    namespace.wait_until_ready("later")
    with place.cluster.ended() as etcd:
        shutil.rmtree(etcd)
        shutil.copytree(tmp_path / "backup", etcd)

    # Changes from after the backup are not written again.
    stays(
        lambda: {name: _template(namespace, name) for name in names},
        "the Deployments are as in the backup",
        before.__eq__,
        _QUIET_SECONDS,
    )
    assert namespace.find(DEPLOYMENT, "later") is None
    # Later changes are applied, so watches work and the cache is current.
    namespace.change_server("scaled", {"replicas": 2})
    namespace.change_server("deleted", {"toolCallParser": "enabled"})
    namespace.create_server("later", {"tensorParallelism": 8})
    for name in (*names, "later"):
        namespace.wait_until_ready(name)
    assert namespace.deployment("scaled")["spec"]["replicas"] == 2
    assert "--tool-call-parser" in engine_container(namespace.deployment("deleted"))["args"]
    assert all(replica.is_running for replica in place.replicas)
    assert [replica.stop() for replica in place.replicas] == [0, 0]
