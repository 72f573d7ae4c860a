"""Steady traffic through Contour's Envoy and SGLang's router, while replicas and routers are added, killed and removed.

One round takes about three minutes. KIMI_LINEAR_TRAFFIC_SECONDS=300 repeats rounds until five minutes are over.
"""

import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from statistics import quantiles

import pytest

import chart
import images
from binaries import EXPOSURE
from built import skip_unless_built
from e2e.arrivals import Arrivals, Outcome
from e2e.containers import restarts
from exposure.contour import INGRESS_CLASS, Contour, contour
from integration.client import Client, path_of
from integration.kubelet import is_ready
from integration.namespace import Namespace
from integration.waiting import wait_for
from kimi_linear_operator.kubernetes.kinds import POD, Manifest
from kimi_linear_operator.server.labels import ROUTER_LABEL
from kimi_linear_operator.server.spec import SERVER
from pod_cluster import PodCluster
from real_node import RealCluster

_NAME, _HOST = "busy", "busy.example.com"
_SECONDS = float(os.environ.get("KIMI_LINEAR_TRAFFIC_SECONDS", "0"))
_A_SECOND = 30.0
_SECONDS_TO_SERVE = 180
# 15 s until no more requests come, and then time for the open requests.
_SECONDS_TO_END = 90
# Envoy writes its access log every ten seconds.
_SECONDS_TO_LOG = 60
_CALM_SECONDS = 5
_SPEC = {
    "tensorParallelism": 1,
    "drain": {"timeoutSeconds": 30},
    "engine": {"extraArgs": ["--log-requests"]},
    "router": {
        "replicas": 2,
        "image": images.ROUTER.name,
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}},
    },
    # The annotations for Contour in docs/guide/expose.md.
    "service": {"annotations": {"projectcontour.io/max-retries": "1000"}},
    "ingress": {
        "className": INGRESS_CLASS,
        "hosts": [_HOST],
        "annotations": {
            "projectcontour.io/response-timeout": "infinity",
            "projectcontour.io/retry-on": "connect-failure",
            "projectcontour.io/num-retries": "10",
        },
    },
    "podTemplate": {
        "spec": {"containers": [{"name": "sglang", "env": [{"name": "STAND_IN_TOKENS_PER_EVENT", "value": "100"}]}]}
    },
}


@dataclass(frozen=True)
class Way:
    """A request in Envoy's log.

    Attributes:
        host: The pod that it was sent to last.
        began: When it came, in seconds since 1970.
        ended: When its answer was sent or failed.
    """

    host: str
    began: float
    ended: float


@dataclass(frozen=True)
class Death:
    """A container whose process was killed.

    Attributes:
        address: The address of its pod.
        began: A moment before the signal, in seconds since 1970.
        ended: A moment after the end of the process.
    """

    address: str
    began: float
    ended: float

    def meets(self, way: Way) -> bool:
        """Return whether the pod had a request when it was killed. Envoy counts in milliseconds."""
        at_this_pod = way.host.rpartition(":")[0] == self.address
        return at_this_pod and way.began <= self.ended and way.ended >= self.began - 0.001


@pytest.fixture(scope="module")
def gateway(cluster: PodCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Contour]:
    """Contour and Envoy on this machine. The machine can reach the pods of a real node."""
    if not isinstance(cluster, RealCluster):
        pytest.skip("this machine does not reach the pods of kind's nodes by their addresses")
    skip_unless_built(EXPOSURE)
    with contour(cluster.control_plane, tmp_path_factory.mktemp("contour")) as running:
        yield running


@pytest.fixture(scope="module")
def arrivals(cluster: PodCluster, gateway: Contour, models: Namespace) -> Iterator[Arrivals]:
    """Requests to a server with one replica. Envoy sends them to two pods of its router."""
    cluster.load(images.ROUTER)
    chart.install(cluster.kubeconfig, "--set=rbac.expose=true")
    models.create_server(_NAME, _SPEC)
    models.wait_until_ready(_NAME, _SECONDS_TO_SERVE)
    models.wait_for_condition(_NAME, "Exposed", "True", seconds=120)
    selector = "kimi-linear.io/router"
    wait_for(
        lambda: models.service(_NAME)["spec"]["selector"], "requests go to the router", lambda seen: selector in seen
    )
    yield Arrivals(gateway.url, _HOST, _A_SECOND)
    models.delete(SERVER, _NAME)
    wait_for(lambda: models.pods(_NAME), "the pods are gone", lambda pods: not pods, seconds=_SECONDS_TO_END)


class Disturbance:
    """The disturbances of a server. It remembers which requests may fail because of them."""

    def __init__(self, cluster: PodCluster, client: Client, models: Namespace) -> None:
        self._cluster, self._client, self._models = cluster, client, models
        self.held: set[int] = set()
        """The open requests of killed replicas."""
        self.killed_routers: list[Death] = []

    def go_through_a_round(self) -> None:
        """Scale up, evict and kill a replica, evict and kill a router, and scale down."""
        self._scale(3)
        self._evict(self._replicas)
        self._kill_a_replica()
        self._evict(self._routers)
        self._kill_a_router()
        self._scale(1)

    def _replicas(self) -> list[Manifest]:
        return self._models.pods(_NAME)

    def _routers(self) -> list[Manifest]:
        return self._client.list(POD, self._models.name, {"labelSelector": f"{ROUTER_LABEL}={_NAME}"})

    def _scale(self, replicas: int) -> None:
        self._cluster.kubectl("scale", f"kls/{_NAME}", f"--replicas={replicas}")
        self._wait_until_settled(self._replicas, replicas)

    def _evict(self, look: Callable[[], list[Manifest]]) -> None:
        """Evict a pod like `kubectl drain`, and wait until another pod has replaced it."""
        pods = look()
        name = pods[0]["metadata"]["name"]
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
        self._client.request("POST", f"{path_of(POD, self._models.name, name)}/eviction", eviction)
        wait_for(lambda: _names(look()), f"{name} is gone", lambda names: name not in names, seconds=_SECONDS_TO_END)
        self._wait_until_settled(look, len(pods))

    def _kill_a_replica(self) -> None:
        pod = self._replicas()[0]
        self._kill(pod)
        self._wait_until_settled(self._replicas, 3)
        log = self._cluster.kubectl("logs", pod["metadata"]["name"], "--container=sglang", "--previous")
        self.held |= unfinished(log)

    def _kill_a_router(self) -> None:
        self.killed_routers.append(self._kill(self._routers()[0]))
        self._wait_until_settled(self._routers, 2)

    def _kill(self, pod: Manifest) -> Death:
        """Kill the only container's process, and wait until it runs again."""
        pid, address = self._process(pod), pod["status"]["podIP"]
        began = time.time()
        self._cluster.on_node("sh", "-c", f"kill -KILL {pid}; while kill -0 {pid} 2>/dev/null; do sleep 0.01; done")
        death, name = Death(address, began, time.time()), pod["metadata"]["name"]
        wait_for(
            lambda: restarts(self._models.existing(POD, name)),
            f"{name} starts again",
            lambda seen: seen > restarts(pod),
            _SECONDS_TO_SERVE,
        )
        return death

    def _process(self, pod: Manifest) -> str:
        container = pod["status"]["containerStatuses"][0]["containerID"].removeprefix("containerd://")
        [line] = [line for line in self._cluster.containerd("tasks", "list").splitlines() if line.startswith(container)]
        return line.split()[1]

    def _wait_until_settled(self, look: Callable[[], list[Manifest]], number: int) -> None:
        wait_for(look, f"{number} pods serve", lambda pods: _all_serve(pods, number), _SECONDS_TO_SERVE)
        self._models.wait_until_ready(_NAME, _SECONDS_TO_SERVE)
        time.sleep(_CALM_SECONDS)


def _names(pods: list[Manifest]) -> set[str]:
    return {pod["metadata"]["name"] for pod in pods}


def _all_serve(pods: list[Manifest], number: int) -> bool:
    return len(pods) == number and all(is_ready(pod) and "deletionTimestamp" not in pod["metadata"] for pod in pods)


def unfinished(log: str) -> set[int]:
    """Return the numbers of the requests that were open at the end of a replica's log."""
    received = dict(re.findall(r"Receive: obj=GenerateReqInput\(rid='(\w+)', text='.*?request (\d+) ", log))
    for rid in re.findall(r"Finish: obj=GenerateReqInput\(rid='(\w+)'", log):
        received.pop(rid, None)
    return set(map(int, received.values()))


def ways(gateway: Contour) -> dict[int, Way]:
    """Return the result of each request, by its number."""
    entries = [json.loads(line) for line in gateway.access_log.read_text().splitlines()]
    found = {}
    for entry in entries:
        if (number := entry["number"]) is not None:
            began = datetime.fromisoformat(entry["start_time"]).timestamp()
            found[int(number)] = Way(str(entry["upstream_host"]), began, began + entry["duration"] / 1000)
    return found


def test_only_requests_that_a_killed_pod_was_answering_fail(
    cluster: PodCluster, gateway: Contour, arrivals: Arrivals, client: Client, models: Namespace
) -> None:
    disturbance = Disturbance(cluster, client, models)
    began = time.monotonic()
    with arrivals.arriving():
        disturbance.go_through_a_round()
        while time.monotonic() - began < _SECONDS:
            disturbance.go_through_a_round()
        seconds = time.monotonic() - began
    outcomes, deaths = arrivals.outcomes, disturbance.killed_routers
    seen = wait_for(
        lambda: ways(gateway), "Envoy has logged all requests", lambda seen: len(seen) >= len(outcomes), _SECONDS_TO_LOG
    )
    at_routers = {number for number, way in seen.items() if any(death.meets(way) for death in deaths)}
    _report(outcomes, seconds, at_replicas=disturbance.held, at_routers=at_routers)
    # The router sends a request again if no part of the answer has gone to the client. This is true for answers that
    # are not streamed.
    cut_off = {outcome.number for outcome in outcomes if outcome.streamed and outcome.number in disturbance.held}
    assert [failure for failure in arrivals.failures if failure.number not in cut_off | at_routers] == []
    assert len(outcomes) == pytest.approx(_A_SECOND * seconds, rel=0.02)


def _report(outcomes: list[Outcome], seconds: float, *, at_replicas: set[int], at_routers: set[int]) -> None:
    """Print the numbers, which `pytest -rP` shows."""
    failed = [outcome for outcome in outcomes if outcome.problem]
    streams = [outcome for outcome in outcomes if outcome.streamed]
    took = [outcome.seconds for outcome in outcomes]
    sys.stdout.write(
        f"{len(outcomes)} requests in {seconds:.0f} s, {len(streams)} of them streams: {len(failed)} failed.\n"
        f"When they were killed, replicas had {len(at_replicas)} requests, and routers {len(at_routers)}.\n"
        f"99 of 100 answers took up to {quantiles(took, n=100)[-1]:.1f} s, the slowest {max(took):.1f} s.\n"
    )
    for outcome in failed:
        sys.stdout.write(f"{outcome}\n")
