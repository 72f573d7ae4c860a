"""An isolated server in real pods: packets that its NetworkPolicies do not allow are dropped."""

import socket
from collections.abc import Iterator

import pytest

import chart
import images
from e2e.containers import python
from e2e.enforcing import enforced_policies
from integration.client import Client
from integration.kubelet import is_ready
from integration.namespace import Namespace
from integration.waiting import wait_for
from kimi_linear_operator.kubernetes import metadata
from kimi_linear_operator.kubernetes.kinds import POD, Manifest
from kimi_linear_operator.server.labels import ROUTER_LABEL
from kimi_linear_operator.server.sglang.command_line import PORT
from kimi_linear_operator.server.spec import SERVER
from pod_cluster import PodCluster
from real_node import RealCluster

_NAME = "alone"
_SECONDS_TO_SERVE = 180
_SECONDS_TO_END = 90
# Of a pod with a server of its own, which the engine must not reach.
_OTHER_PORT = 8080
_ROUTER = {
    "replicas": 1,
    "image": images.ROUTER.name,
    "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}},
}
_SPEC = {"tensorParallelism": 1, "drain": {"timeoutSeconds": 0}, "router": _ROUTER}
_FRIEND, _STRANGER = {"app": "friend"}, {"app": "stranger"}
_BENCHMARK = {metadata.MANAGED_BY: metadata.MANAGER, "app.kubernetes.io/component": "benchmark"}
_POLICY = {"from": [{"podSelector": {"matchLabels": _FRIEND}}]}
# A packet that is dropped has no answer; a port at which nobody listens has one.
_CONNECT = """
import socket
try:
    socket.create_connection(({host!r}, {port}), 3).close()
    print("connected")
except TimeoutError:
    print("dropped")
"""


@pytest.fixture(scope="module")
def node(cluster: PodCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCluster]:
    if not isinstance(cluster, RealCluster):
        pytest.skip("on kind, its own network enforces policies in another way")
    with enforced_policies(cluster, tmp_path_factory.mktemp("enforcing")):
        yield cluster


@pytest.fixture(scope="module")
def pods(node: RealCluster, models: Namespace, client: Client) -> Iterator[dict[str, Manifest]]:
    """A server with a router, not isolated yet, and others in its namespace, each with a port of its own."""
    node.load(images.ROUTER)
    chart.install(node.kubeconfig)
    others = {"friend": _FRIEND, "stranger": _STRANGER, "benchmark": _BENCHMARK}
    for name, labels in others.items():
        client.create(POD, _other(name, models.name, labels))
    models.create_server(_NAME, _SPEC)
    models.wait_until_ready(_NAME, _SECONDS_TO_SERVE)
    for name in others:
        wait_for(lambda name=name: is_ready(models.existing(POD, name)), f"{name} runs", seconds=60)  # type: ignore[misc]
    [router] = client.list(POD, models.name, {"labelSelector": f"{ROUTER_LABEL}={_NAME}"})
    [engine] = models.pods(_NAME)
    yield {**{name: models.existing(POD, name) for name in others}, "router": router, "engine": engine}
    for name in others:
        models.delete(POD, name)
    models.delete(SERVER, _NAME)
    wait_for(lambda: models.pods(_NAME), "the pods are gone", lambda found: not found, seconds=_SECONDS_TO_END)


def _other(name: str, namespace: str, labels: dict[str, str]) -> Manifest:
    command = ["python3", "-m", "http.server", str(_OTHER_PORT)]
    container = {"name": "sglang", "image": images.STAND_IN.name, "command": command}
    spec = {"containers": [container], "terminationGracePeriodSeconds": 0}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": spec,
    }


def test_only_allowed_clients_reach_the_engine_and_the_engine_reaches_nothing(
    node: RealCluster, models: Namespace, pods: dict[str, Manifest]
) -> None:
    with socket.create_server((node.machine_address, 0)) as outside:
        port = int(outside.getsockname()[1])

        def connections() -> dict[str, str]:
            """Return the result of each attempt to connect; the server's name leads to its router."""
            engine, router = (pods[name]["status"]["podIP"] for name in ("engine", "router"))
            tried = [
                *((who, where, PORT) for who in ("friend", "stranger", "benchmark") for where in (_NAME, engine)),
                ("router", engine, PORT),
                ("router", pods["stranger"]["status"]["podIP"], _OTHER_PORT),
                ("engine", router, PORT),
                ("engine", pods["friend"]["status"]["podIP"], _OTHER_PORT),
                ("engine", node.machine_address, port),
            ]
            names = {engine: "engine", router: "router", _NAME: "service", node.machine_address: "outside"}
            return {
                f"{who} to {names.get(where, 'other pod')}": _connect(node, pods[who], where, at)
                for who, where, at in tried
            }

        assert set(connections().values()) == {"connected"}
        models.change_server(_NAME, {"networkPolicy": _POLICY})
        wait_for(connections, "policies are enforced", lambda seen: seen == _ENFORCED)
        assert _asked(node, pods["friend"]) == "200"


_ENFORCED = {
    "friend to service": "connected",
    "friend to engine": "connected",
    "stranger to service": "dropped",
    "stranger to engine": "dropped",
    "benchmark to service": "connected",
    "benchmark to engine": "connected",
    "router to engine": "connected",
    "router to other pod": "dropped",
    "engine to router": "dropped",
    "engine to other pod": "dropped",
    "engine to outside": "dropped",
}


def _connect(node: RealCluster, pod: Manifest, host: str, port: int) -> str:
    program = _CONNECT.format(host=host, port=port)
    if pod["metadata"]["labels"].get(ROUTER_LABEL):
        return node.kubectl("exec", pod["metadata"]["name"], "--", "python3", "-c", program).strip()
    return python(node, pod, program)


def _asked(node: RealCluster, pod: Manifest) -> str:
    """Return the status of an answer of the server, which its router passes on."""
    url = f"http://{_NAME}:{PORT}/v1/models"
    return python(node, pod, f"import urllib.request; print(urllib.request.urlopen({url!r}, timeout=10).status)")
