"""Metrics of pods as in a cluster: a real Prometheus, and an adapter that offers its metrics to autoscalers.

Simulated nodes run nothing. So a test runs a stand-in for SGLang for each pod, on this machine, and plays the kubelet.
"""

import json
import os
import random
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import debian
from binaries import binary, cache_folder
from client.asking import ask
from client.processes import StandIn
from control_plane import LocalCluster, free_ports
from integration.kubelet import is_ready, report_ready
from integration.namespace import Namespace
from integration.waiting import wait_for
from kimi_linear_operator.kubernetes.kinds import Manifest

PROMETHEUS = debian.unpacked("prometheus", cache_folder()) / "usr/bin/prometheus"
_SCRAPE_SECONDS = 1
_REQUEST_SECONDS = 30


@dataclass(frozen=True)
class Prometheus:
    """A Prometheus only for this test. It reads its targets from a file."""

    folder: Path
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def _targets(self) -> Path:
        return self.folder / "targets.json"

    def scrape(self, targets: Sequence[tuple[str, dict[str, str]]]) -> None:
        """Scrape only these addresses, each with its labels."""
        partial = self.folder / "targets.partial"
        partial.write_text(json.dumps([{"targets": [address], "labels": labels} for address, labels in targets]))
        partial.rename(self._targets)

    def command(self) -> list[str]:
        self.scrape([])
        found = {"files": [str(self._targets)], "refresh_interval": "1s"}
        job = {"job_name": "sglang", "scrape_interval": f"{_SCRAPE_SECONDS}s", "file_sd_configs": [found]}
        (self.folder / "prometheus.yml").write_text(json.dumps({"scrape_configs": [job]}))
        return [
            str(PROMETHEUS),
            f"--config.file={self.folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={self.folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
        ]


@contextmanager
def running(command: Sequence[str], log: Path, variables: Mapping[str, str] = {}) -> Iterator[None]:
    """Run a program during the block, with additional environment variables."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=os.environ | variables)
    try:
        yield
    finally:
        process.kill()
        process.wait()


@contextmanager
def adapted_metrics(cluster: LocalCluster, folder: Path) -> Iterator[Prometheus]:
    """During the block, run Prometheus and the adapter, and offer custom metrics at the API server."""
    ports = free_ports(2)
    prometheus = Prometheus(folder, ports[0])
    adapter = [
        str(binary("metrics-adapter")),
        *adapter_arguments(cluster, ports[1]),
        f"--prometheus={prometheus.url}",
        f"--cert-dir={folder / 'certificates'}",
    ]
    with ExitStack() as stack:
        stack.enter_context(running(prometheus.command(), folder / "prometheus.log"))
        stack.enter_context(running(adapter, folder / "adapter.log"))
        stack.enter_context(registered(cluster, "custom.metrics.k8s.io", ports[1]))
        yield prometheus


def adapter_arguments(cluster: LocalCluster, port: int) -> list[str]:
    """Return the arguments that every program with the Kubernetes project's library for adapters has."""
    kubeconfigs = ("lister", "authentication", "authorization")
    return [
        *(f"--{name}-kubeconfig={cluster.kubeconfig}" for name in kubeconfigs),
        f"--secure-port={port}",
        "--bind-address=127.0.0.1",
    ]


@contextmanager
def registered(cluster: LocalCluster, group: str, port: int) -> Iterator[None]:
    """Offer an adapter's API group at the API server during the block."""
    name = f"{group.partition('.')[0]}-metrics-adapter"
    cluster.kubectl.apply(_service(name, group, port))
    try:
        available = "--for=condition=Available"
        cluster.kubectl("wait", available, f"apiservice/v1beta1.{group}", "--timeout=60s", timeout=70)
        yield
    finally:
        # While an API service does not answer, no namespace can be deleted.
        cluster.kubectl("delete", f"apiservice/v1beta1.{group}", f"service/{name}")


def _service(name: str, group: str, port: int) -> list[Manifest]:
    """Return the registration of an adapter that runs on the same machine as the API server."""
    service = {"namespace": "default", "name": name, "port": port}
    spec = {
        "group": group,
        "version": "v1beta1",
        "service": service,
        "insecureSkipTLSVerify": True,
        "groupPriorityMinimum": 100,
        "versionPriority": 100,
    }
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"type": "ExternalName", "externalName": "localhost"},
        },
        {
            "apiVersion": "apiregistration.k8s.io/v1",
            "kind": "APIService",
            "metadata": {"name": f"v1beta1.{group}"},
            "spec": spec,
        },
    ]


@dataclass
class ServingPods:
    """The held pods of a server, each with a stand-in that answers for it."""

    namespace: Namespace
    server: str
    prometheus: Prometheus
    may_start: bool = True
    """Whether new pods become Ready."""
    _stack: ExitStack = field(default_factory=ExitStack)
    _engines: dict[str, StandIn] = field(default_factory=dict)
    _others: dict[str, str] = field(default_factory=dict)

    def __enter__(self) -> "ServingPods":
        return self

    def __exit__(self, *_error: object) -> None:
        self._stack.close()

    @property
    def names(self) -> list[str]:
        return list(self._engines)

    @property
    def urls(self) -> list[str]:
        return [engine.url for engine in self._engines.values()]

    def scrape_also(self, pod: str, address: str) -> None:
        """Let Prometheus scrape this address as the address of another pod."""
        self._others[pod] = address
        self._tell_prometheus()

    def tend(self) -> list[Manifest]:
        """Play the kubelets: start engines of new pods, and end engines of deleted pods. Return the pods."""
        pods = [pod for pod in self.namespace.pods(self.server) if "deletionTimestamp" not in pod["metadata"]]
        names = {pod["metadata"]["name"] for pod in pods}
        for gone in self._engines.keys() - names:
            self._engines.pop(gone).stop()
            self._tell_prometheus()
        for pod in pods:
            if self.may_start and "nodeName" in pod["spec"] and not is_ready(pod):
                self._start(pod)
        return pods

    def _start(self, pod: Manifest) -> None:
        name = pod["metadata"]["name"]
        behaviour = {"seconds_per_token": 0.005}
        log = self.prometheus.folder / f"{name}.log"
        engine = StandIn(["--max-running-requests=2", "--enable-metrics"], behaviour, log)
        self._engines[name] = self._stack.enter_context(engine)
        assert engine.url
        report_ready(self.namespace, pod)
        self._tell_prometheus()

    def _tell_prometheus(self) -> None:
        engines = {name: engine.url.removeprefix("http://") for name, engine in self._engines.items()}
        self.prometheus.scrape(
            [
                (address, {"namespace": self.namespace.name, "pod": pod})
                for pod, address in {**self._others, **engines}.items()
            ]
        )


@contextmanager
def load(pods: ServingPods, users: int) -> Iterator[None]:
    """Let users send requests to any serving pod, as through the Service.

    Each user waits for the last answer before the next request.
    """
    ended = threading.Event()
    threads = [threading.Thread(target=_ask_until, args=(ended, pods)) for _ in range(users)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def _ask_until(ended: threading.Event, pods: ServingPods) -> None:
    body = {"text": "x", "sampling_params": {"max_new_tokens": 100, "ignore_eos": True}}
    while not ended.is_set():
        # A replica that was deleted in the meantime does not answer.
        with suppress(TimeoutError):
            ask(f"{random.choice(pods.urls)}/generate", body, seconds=_REQUEST_SECONDS)  # noqa: S311 - no secret


def wait_for_pods(pods: ServingPods, number: int, seconds: float) -> None:
    """Play the kubelets until there is this number of pods. If pods may start, all must be Ready."""
    wait_for(
        pods.tend,
        f"{number} pods",
        lambda found: len(found) == number and (not pods.may_start or all(map(is_ready, found))),
        seconds,
    )
