"""A fresh control plane for every measurement: etcd, the API server, and the contender.

Kubernetes' own controllers run only in measurements of the whole life, because the Deployment controller makes at most
20 requests a second: other measurements would only show this limit. Each measurement has a control plane of its own, so
nothing is left over from the
one before.
"""

import asyncio
import http.client
import math
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvloop
from prometheus_client.parser import text_string_to_metric_families

import processes
from benchmarks import measure
from benchmarks.connection import Access
from benchmarks.figures import LIMIT, OURS, PLAIN
from benchmarks.load import Load
from benchmarks.manifests import NAMESPACE, README
from benchmarks.measure import Ledger, Memory
from benchmarks.waiting import BenchmarkError, wait_until
from chart import DEFINITIONS
from control_plane import LocalCluster
from integration.client import Client
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.server.spec import SERVER
from nodes import add_nodes, gpu_node

_HERE = Path(__file__).parent
_ROOT = _HERE.parents[1]
# With files in memory, other programs' use of the disk has no effect.
_MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of a name of its own is made there
_WARM_UP = 50
# A node takes 110 pods.
_NODES = 3
_START_SECONDS = 120.0
_STOP_SECONDS = 30.0
_ANSWER_SECONDS = 10.0
_QUIET_SERVER_PERCENT = 15.0


@dataclass(frozen=True)
class Contender:
    """A program that creates children for servers."""

    command: list[str]
    account: str

    @property
    def user(self) -> str:
        """Return its name in the audit log."""
        return f"system:serviceaccount:kube-system:{self.account}"


_BIN = Path(sys.executable).parent
CONTENDERS = {
    OURS: Contender([str(_BIN / "kimi-linear"), "run", "--listen=127.0.0.1:0"], "kimi-linear-operator"),
    LIMIT: Contender([sys.executable, "-m", "benchmarks.baseline"], "limit"),
    PLAIN: Contender([str(_BIN / "kopf"), "run", "--all-namespaces", str(_HERE / "plain_kopf.py")], "plain-kopf"),
}


@dataclass
class Running:
    """A contender's process."""

    name: str
    contender: Contender
    process: subprocess.Popen[bytes]
    log: Path

    def cpu_seconds(self) -> float:
        return measure.cpu_seconds(self.process.pid)

    def memory(self) -> Memory:
        return measure.memory(self.process.pid)

    def is_ready(self) -> bool:
        """Return whether the operator reports that it is ready."""
        return self._get("/readyz") is not None

    def loop_lag_seconds(self) -> float:
        """Return the longest delay of the operator's event loop.

        It is an upper bound, because the histogram has buckets.
        """
        counts = {
            float(sample.labels["le"]): sample.value
            for family in text_string_to_metric_families(self._get("/metrics") or "")
            for sample in family.samples
            if sample.name == "kimi_linear_operator_event_loop_lag_seconds_bucket"
        }
        return min((bound for bound, count in counts.items() if count == max(counts.values())), default=math.nan)

    def _get(self, path: str) -> str | None:
        """Return the operator's answer, None without an answer or if the status is not 200."""
        listening = re.search(r"Listening on 127\.0\.0\.1:(\d+)", self.log.read_text())
        if not listening:
            return None
        connection = http.client.HTTPConnection("127.0.0.1", int(listening[1]), timeout=_ANSWER_SECONDS)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.read().decode() if response.status == http.HTTPStatus.OK else None
        finally:
            connection.close()

    def check(self) -> None:
        """Raise a BenchmarkError if the process has ended."""
        if self.process.poll() is not None:
            raise BenchmarkError(f"{self.contender.command[0]} ended:\n{self.log.read_text()[-3000:]}")

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@dataclass
class Stage:
    """A control plane with an empty namespace, its audit log, and the spec of the later servers."""

    cluster: LocalCluster
    access: Access
    ledger: Ledger
    client: Client
    spec: Manifest = field(default_factory=lambda: README)
    _kubeconfigs: dict[str, Path] = field(default_factory=dict)

    def load(self) -> Load:
        """Return the object that creates its servers."""
        return Load(self.access, self.spec)

    def server_cpu_seconds(self) -> float:
        """Return the processor time of API server and etcd."""
        return sum(map(measure.cpu_seconds, processes.of_cluster(self.cluster.state)))

    @contextmanager
    def running(self, name: str) -> Iterator[Running]:
        """Start a contender and wait until it watches servers. End it at the end of the block."""
        running = self.start(name)
        try:
            self.wait_until_watching(running)
            yield running
        finally:
            running.stop()

    def start(self, name: str) -> Running:
        """Start a contender with its own user."""
        contender = CONTENDERS[name]
        kubeconfig = self._kubeconfig(contender.account)
        log = self.cluster.state / f"{contender.account}.log"
        paths = os.pathsep.join(map(str, (_ROOT / "tests", _ROOT / "deploy" / "local")))
        environment = {**os.environ, "KUBECONFIG": str(kubeconfig), "PYTHONPATH": paths}
        with log.open("wb") as output:
            process = subprocess.Popen(
                contender.command, stdout=output, stderr=output, env=environment, start_new_session=True
            )
        return Running(name, contender, process, log)

    def wait_until_watching(self, running: Running) -> None:
        """Wait until a contender's watch of the servers has begun."""

        def is_watching() -> bool:
            running.check()
            self.ledger.collect()
            watches = [item for item in self.ledger.of(running.contender.user) if item.verb == "watch"]
            return any(item.resource == SERVER.plural for item in watches)

        wait_until(is_watching, f"{running.contender.account} watches servers", _START_SECONDS)

    def _kubeconfig(self, account: str) -> Path:
        if account not in self._kubeconfigs:
            self._kubeconfigs[account] = self.cluster.kubeconfig_for(account, "cluster-admin")
        return self._kubeconfigs[account]


@contextmanager
def fresh_stage(*, controllers: bool = False) -> Iterator[Stage]:
    """Start a control plane with our CRDs. At the end, it is removed with all its files.

    Args:
        controllers: Whether Kubernetes' own controllers, its scheduler and simulated nodes are there, too.
    """
    with (
        tempfile.TemporaryDirectory(prefix="kimi-linear-", dir=_MEMORY if _MEMORY.is_dir() else None) as folder,
        LocalCluster(Path(folder) / "cluster", "benchmark", controllers=controllers) as cluster,
    ):
        if controllers:
            add_nodes(cluster.kubectl, [gpu_node(f"mi300x-{number}", "MI300X", gpus=440) for number in range(_NODES)])
        _prepare(cluster)
        client = Client(cluster.kubeconfig)
        try:
            yield Stage(cluster, Access.of(cluster.kubeconfig), Ledger(cluster.audit_log), client)
        finally:
            client.close()


def run(work: Coroutine[Any, Any, Any]) -> Any:
    """Run asynchronous work to its end."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


def _prepare(cluster: LocalCluster) -> None:
    """Install our CRDs, create a namespace in which pods can be created, and wait until the API server is idle."""
    cluster.kubectl("apply", "--server-side", f"--filename={_ROOT / 'crds'}")
    cluster.kubectl.wait_until_served(*DEFINITIONS)
    account = {"kind": "ServiceAccount", "metadata": {"name": "default", "namespace": NAMESPACE}}
    cluster.kubectl.apply(
        [
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
            {"apiVersion": "v1", **account},
        ]
    )
    run(Load(Access.of(cluster.kubeconfig)).warm_up(_WARM_UP))
    wait_until(lambda: _is_quiet(cluster), "the API server is idle after its start", _START_SECONDS)


def _is_quiet(cluster: LocalCluster) -> bool:
    before, began = sum(map(measure.cpu_seconds, processes.of_cluster(cluster.state))), time.monotonic()
    time.sleep(1)
    used = sum(map(measure.cpu_seconds, processes.of_cluster(cluster.state))) - before
    return used / (time.monotonic() - began) * 100 < _QUIET_SERVER_PERCENT
