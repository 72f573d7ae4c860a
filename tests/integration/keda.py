"""KEDA as in a cluster: its operator and its metrics server, and the Prometheus that it asks."""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from binaries import binary
from control_plane import LocalCluster, free_ports
from integration.client import Client
from integration.definitions import keda, with_definitions
from integration.metrics import Prometheus, adapter_arguments, registered, running
from integration.waiting import wait_for
from kimi_linear_operator.kubernetes.kinds import SCALED_OBJECT


@contextmanager
def running_keda(cluster: LocalCluster, client: Client, folder: Path) -> Iterator[Prometheus]:
    """During the block, run KEDA with its definitions, and a Prometheus."""
    ports = free_ports(4)
    prometheus = Prometheus(folder, ports[0])
    certificates = _certificates(cluster, folder / "certificates")
    variables = {
        "KUBECONFIG": str(cluster.kubeconfig),
        "KEDA_CLUSTER_OBJECT_NAMESPACE": "default",
        "WATCH_NAMESPACE": "",  # all namespaces
    }
    operator = [
        str(binary("keda-operator")),
        "--enable-prometheus-metrics=false",
        "--health-probe-bind-address=0",
        f"--metrics-service-bind-address=127.0.0.1:{ports[1]}",
        f"--cert-dir={certificates}",
    ]
    adapter = [
        str(binary("keda-adapter")),
        *adapter_arguments(cluster, ports[2]),
        f"--port={ports[3]}",
        f"--metrics-service-address=localhost:{ports[1]}",
        f"--cert-dir={certificates}",
        f"--tls-cert-file={certificates / 'tls.crt'}",
        f"--tls-private-key-file={certificates / 'tls.key'}",
    ]
    with ExitStack() as stack:
        stack.enter_context(with_definitions(client, cluster, keda()))
        stack.enter_context(running(prometheus.command(), folder / "prometheus.log"))
        stack.enter_context(running(operator, folder / "keda-operator.log", variables))
        stack.enter_context(running(adapter, folder / "keda-adapter.log", variables))
        stack.enter_context(registered(cluster, "external.metrics.k8s.io", ports[2]))
        yield prometheus
        # KEDA's finalizer holds them, and only KEDA removes it.
        wait_for(lambda: client.list(SCALED_OBJECT, None), "no ScaledObject is left", lambda left: not left)


def _certificates(cluster: LocalCluster, folder: Path) -> Path:
    """Return a folder with the certificates by which KEDA's two programs trust each other."""
    folder.mkdir()
    for source, name in (("ca.crt", "ca.crt"), ("admin.crt", "tls.crt"), ("admin.key", "tls.key")):
        shutil.copy(cluster.pki / source, folder / name)
    return folder
