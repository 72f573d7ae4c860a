"""SGLang's router in real pods, with the cluster's DNS: what happens to requests when pods end."""

import time
from collections.abc import Callable, Iterator

import pytest

import chart
import images
from e2e.load import steady_load
from integration.client import Client
from integration.namespace import Namespace
from integration.waiting import wait_for
from kimi_linear_operator.kubernetes.kinds import POD, SERVICE, Manifest
from kimi_linear_operator.server.spec import SERVER
from pod_cluster import PodCluster

_SECONDS_TO_SERVE = 180
# 15 s until no more requests come, and then time for the open requests.
_SECONDS_TO_END = 90
_SECONDS_OF_LOAD = 5
_ROUTER = {
    "replicas": 2,
    "image": images.ROUTER.name,
    "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}},
}
_SPEC = {"tensorParallelism": 1, "replicas": 3, "drain": {"timeoutSeconds": 30}, "router": _ROUTER}


@pytest.fixture(scope="module")
def url(cluster: PodCluster, models: Namespace) -> Iterator[str]:
    """The address of a server with three replicas behind two pods of its router."""
    cluster.load(images.ROUTER)
    chart.install(cluster.kubeconfig)
    models.create_server("routed", _SPEC)
    ready = models.wait_until_ready("routed", _SECONDS_TO_SERVE)
    wait_for(lambda: _selector(models), "the router gets the requests", lambda seen: "kimi-linear.io/router" in seen)
    yield ready["status"]["url"]
    models.delete(SERVER, "routed")
    wait_for(lambda: models.pods("routed"), "the pods are gone", lambda pods: not pods, seconds=_SECONDS_TO_END)


def test_draining_a_replica_and_a_router_loses_no_request(
    cluster: PodCluster, url: str, models: Namespace, client: Client
) -> None:
    replica, router = models.pods("routed")[0], routers(client, models)[0]
    with steady_load(cluster, url) as tally:
        time.sleep(_SECONDS_OF_LOAD)
        for pod in (replica, router):
            models.delete(POD, pod["metadata"]["name"])
        for name, look in (("replica", lambda: models.pods("routed")), ("router", lambda: routers(client, models))):
            wait_until_gone(name, look, {replica["metadata"]["uid"], router["metadata"]["uid"]})
        models.wait_until_ready("routed", _SECONDS_TO_SERVE)
    assert tally.failures == []
    assert tally.answered > 40


def routers(client: Client, models: Namespace) -> list[Manifest]:
    return client.list(POD, models.name, {"labelSelector": "kimi-linear.io/router=routed"})


def wait_until_gone(name: str, look: Callable[[], list[Manifest]], uids: set[str]) -> None:
    def left() -> set[str]:
        return uids & {pod["metadata"]["uid"] for pod in look()}

    wait_for(left, f"the {name} is gone", lambda seen: not seen, seconds=_SECONDS_TO_END)


def _selector(models: Namespace) -> Manifest:
    return dict(models.existing(SERVICE, "routed")["spec"]["selector"])
