"""The real node itself. It starts and ends, and leaves nothing on the machine after any kind of end."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import cgroups
import processes
from commands import LocalClusterError
from integration.waiting import wait_for
from node_config import PAUSE_IMAGE, Node
from real_node import RealCluster

pytestmark = pytest.mark.usefixtures("real_node_possible")

_POD: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "waits", "namespace": "default"},
    "spec": {
        "containers": [{"name": "waits", "image": PAUSE_IMAGE, "resources": {"limits": {"amd.com/gpu": 8}}}],
        "volumes": [{"name": "memory", "emptyDir": {"medium": "Memory"}}],
    },
}
_UNTIL_KILLED = """
import sys, time
from pathlib import Path
from real_node import RealCluster
RealCluster(Path(sys.argv[1]), bound_to_us=True).start()
print("started", flush=True)
time.sleep(120)
"""


@dataclass(frozen=True)
class Traces:
    """Everything that a node could leave on the machine."""

    node: Node
    network: str
    """The identity of its network namespace. Pods have their own, but their first processes began in this one."""

    def links(self) -> list[str]:
        return [name for _, name in socket.if_nameindex() if name == self.node.link]

    def cgroups(self) -> list[Path]:
        return cgroups.left(self.node.cgroup)

    def mounts(self) -> list[str]:
        return [line for line in Path("/proc/self/mounts").read_text().splitlines() if str(self.node.state) in line]

    def processes(self) -> list[str]:
        inside = [folder for folder in Path("/proc").glob("[0-9]*") if _network_of(folder) == self.network]
        return [*processes.of_cluster(self.node.state).values(), *(folder.name for folder in inside)]


def traces_of(cluster: RealCluster) -> Traces:
    [keeper] = [pid for pid, name in processes.of_cluster(cluster.state).items() if name == "unshare"]
    return Traces(cluster.node, _network_of(Path(f"/proc/{keeper}")))


def run_a_pod(cluster: RealCluster) -> None:
    """Run a pod that takes all GPUs, which makes mounts, links and control groups."""
    cluster.kubectl.apply([_POD])
    cluster.kubectl("wait", "--for=condition=Ready", "--timeout=120s", "pod/waits", timeout=130)


def test_a_stopped_node_leaves_nothing_on_the_machine(tmp_path: Path) -> None:
    with RealCluster(tmp_path / "node", bound_to_us=True) as cluster:
        run_a_pod(cluster)
        traces = traces_of(cluster)
        assert traces.links()
        assert traces.cgroups()
        assert traces.processes()
    _assert_nothing_runs(traces)
    assert not traces.mounts()
    assert not traces.cgroups()
    assert not cluster.state.exists()


def _assert_nothing_runs(traces: Traces) -> None:
    """Wait until the kernel has ended all processes in the node's namespaces."""
    wait_for(traces.processes, "no process is left", lambda left: not left)
    wait_for(traces.links, "no network link is left", lambda left: not left)


def test_a_node_ends_with_the_process_that_started_it_even_if_that_is_killed(tmp_path: Path) -> None:
    cluster = RealCluster(tmp_path / "node")
    with _started_by_another_process(cluster.state) as process:
        run_a_pod(cluster)
        traces = traces_of(cluster)
        process.send_signal(signal.SIGKILL)
    _assert_nothing_runs(traces)
    assert not traces.mounts()
    # Only empty control groups and files remain until the next start or stop.
    cluster.stop()
    assert not traces.cgroups()
    assert not cluster.state.exists()


def test_two_nodes_run_side_by_side(tmp_path: Path) -> None:
    with RealCluster(tmp_path / "one", bound_to_us=True) as one, RealCluster(tmp_path / "two", bound_to_us=True) as two:
        run_a_pod(one)
        assert one.node.address != two.node.address
        assert one.kubectl("get", "pods", "--output=name") == "pod/waits\n"
        assert two.kubectl("get", "pods", "--output=name") == ""


def test_a_part_that_does_not_start_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "bin"
    broken.mkdir()
    (broken / "containerd").write_text("#!/bin/sh\necho 'no space left'; exit 1\n")
    (broken / "containerd").chmod(0o755)
    monkeypatch.setenv("PATH", f"{broken}:{os.environ['PATH']}")
    cluster = RealCluster(tmp_path / "node", bound_to_us=True)
    with pytest.raises(LocalClusterError, match=r"(?s)did not start.*containerd\.log:\n +no space left"):
        cluster.start()
    assert not cluster.state.exists()


@contextmanager
def _started_by_another_process(state: Path) -> Iterator[subprocess.Popen[str]]:
    local = Path(sys.modules["real_node"].__file__ or "").parent
    process = subprocess.Popen(
        [sys.executable, "-c", _UNTIL_KILLED, str(state)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(local)},
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def _network_of(process: Path) -> str:
    try:
        return str((process / "ns" / "net").readlink())
    except (FileNotFoundError, PermissionError, ProcessLookupError):
        return ""
