"""Contour and Envoy send real requests to a server, by its Ingress and by its HTTPRoute.

A long stream stays complete.
"""

import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import pytest

from chart import ROOT
from commands import end_group
from exposure.contour import GATEWAY, INGRESS_CLASS, NAMESPACE, Contour
from integration.kubelet import HELD_SPEC, held_pod, report_ready
from integration.namespace import Namespace
from integration.waiting import wait_for
from kimi_linear_operator.kubernetes.kinds import HTTP_ROUTE, INGRESS, POD, Manifest
from kimi_linear_operator.server.sglang.command_line import PORT

MODEL = "moonshotai/Kimi-Linear-48B-A3B-Instruct"
BY_INGRESS, BY_ROUTE = "ingress.example.com", "route.example.com"
# Longer than the minute after which ingress controllers usually end a response.
TOKENS = 65
SECONDS_PER_TOKEN = 1.0
PARENT = {"name": GATEWAY, "namespace": NAMESPACE}
ROUTE = {"parentRefs": [PARENT], "hostnames": [BY_ROUTE], "path": "/kimi", "scheme": "http"}
# The annotations for Contour in docs/guide/expose.md.
ENTRY = {
    "className": INGRESS_CLASS,
    "hosts": [BY_INGRESS],
    "annotations": {"projectcontour.io/response-timeout": "infinity"},
}
EXPOSED = {**HELD_SPEC, "tensorParallelism": 1, "ingress": ENTRY, "httpRoute": ROUTE}

pytestmark = pytest.mark.usefixtures("operator")


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The stand-in for SGLang, which makes a token per second, and its address, which a pod could have."""
    address = _own_address()
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]),
        "STAND_IN_SECONDS_PER_TOKEN": str(SECONDS_PER_TOKEN),
        "STAND_IN_TOKENS_PER_EVENT": "1",
        "STAND_IN_LOAD_SECONDS": "0",
        "STAND_IN_WARM_UP_SECONDS": "0",
    }
    command = [sys.executable, "-m", "stand_in", "--model-path", MODEL, "--trust-remote-code"]
    log = tmp_path_factory.mktemp("engine") / "log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [*command, f"--host={address}", f"--port={PORT}"],
            env=environment,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    try:
        wait_for(lambda: _is_open(address, process, log), "the engine answers", seconds=120)
        yield address
    finally:
        end_group(process)


def _own_address() -> str:
    """Return an address of this machine that is not a loopback address, because Kubernetes refuses these for pods."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            pytest.skip("the machine has no network interface whose address a pod could have")
        return str(probe.getsockname()[0])


def _is_open(address: str, process: subprocess.Popen[bytes], log: Path) -> bool:
    assert process.poll() is None, log.read_text()
    with socket.socket() as probe:
        return probe.connect_ex((address, PORT)) == 0


@pytest.fixture
def exposed(namespace: Namespace, gateway: Contour, engine: str) -> Namespace:
    """A server whose pod has the engine's address, and both ways to it."""
    namespace.create_server("kimi", EXPOSED)
    pod = held_pod(namespace)
    name = pod["metadata"]["name"]
    address = {"podIP": engine, "podIPs": [{"ip": engine}]}
    namespace.client.patch(POD, namespace.name, name, {"status": address}, "status")
    report_ready(namespace, pod)
    namespace.wait_until_ready("kimi")
    namespace.wait_for_condition("kimi", "Exposed", "True", seconds=120)
    return namespace


def test_long_streams_arrive_token_by_token_through_ingress_and_route(exposed: Namespace, gateway: Contour) -> None:
    status = exposed.server("kimi")["status"]
    assert status["addresses"] == [f"http://{BY_INGRESS}", f"http://{BY_ROUTE}/kimi"]
    ways = ((BY_INGRESS, ""), (BY_ROUTE, "/kimi"))
    for host, path in ways:
        assert (
            wait_for(lambda host=host, path=path: _models(gateway, host, path), "the address leads to the server")
            == MODEL
        )  # type: ignore[misc]
    with ThreadPoolExecutor(len(ways)) as streams:
        arrivals = list(streams.map(lambda way: _stream(gateway, *way), ways))
    for times in arrivals:
        assert len(times) >= TOKENS
        assert times[-1] - times[0] > 60
        pauses = [later - earlier for earlier, later in pairwise(times)]
        assert max(pauses) < 20 * SECONDS_PER_TOKEN, "a buffer holds the tokens back"
    written = {kind: exposed.existing(kind, "kimi")["metadata"]["generation"] for kind in (INGRESS, HTTP_ROUTE)}
    assert written == {INGRESS: 1, HTTP_ROUTE: 1}, "the operator had to repair an object"


def test_a_gateway_that_refuses_the_route_is_quoted(namespace: Namespace, gateway: Contour) -> None:
    route = {**ROUTE, "parentRefs": [{**PARENT, "sectionName": "https"}]}
    namespace.create_server("kimi", {"tensorParallelism": 1, "httpRoute": route})
    told = namespace.wait_for_condition("kimi", "Exposed", "False", "RouteRefused", 120)
    assert told["message"].startswith(f"Gateway {NAMESPACE}/{GATEWAY}: NoMatchingParent: ")
    namespace.change_server("kimi", {"httpRoute": {**ROUTE, "hostnames": ["other.example.com"]}})
    namespace.wait_for_condition("kimi", "Exposed", "True", seconds=120)
    assert namespace.server("kimi")["status"]["addresses"] == ["http://other.example.com/kimi"]


def _models(gateway: Contour, host: str, path: str) -> str:
    """Return the model of the server behind a name, empty if the name does not lead to a server yet."""
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=30)
    try:
        connection.request("GET", f"{path}/v1/models", headers={"Host": host})
        answer = connection.getresponse()
        content: Manifest = json.loads(answer.read()) if answer.status == 200 else {"data": [{"id": ""}]}
    except OSError:
        return ""
    finally:
        connection.close()
    return str(content["data"][0]["id"])


def _stream(gateway: Contour, host: str, path: str) -> list[float]:
    """Return when each event of a streamed answer arrived."""
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=120)
    question = {"model": MODEL, "prompt": "Are you there?", "max_tokens": TOKENS, "stream": True, "ignore_eos": True}
    headers = {"Host": host, "Content-Type": "application/json"}
    connection.request("POST", f"{path}/v1/completions", json.dumps(question), headers)
    answer = connection.getresponse()
    assert answer.status == 200, answer.read()
    lines = [(line, time.monotonic()) for line in answer if line.startswith(b"data: ")]
    connection.close()
    assert lines[-1][0] == b"data: [DONE]\n"
    return [arrived for _, arrived in lines]
