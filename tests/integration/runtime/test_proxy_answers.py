"""A proxy in front of the API server answers writes. Its answers say nothing about what the API server has done."""

from collections.abc import Iterator
from functools import partial

import pytest

from control_plane import LocalCluster
from integration.client import Client
from integration.client_pods import create_for_endpoint, end_suite
from integration.definitions import scaled_object, with_definitions
from integration.faults import Matches, answer, page
from integration.namespace import Namespace
from integration.sandbox import Sandbox, Sandboxes
from integration.waiting import stays, wait_for
from kimi_linear_operator.benchmark.spec import BENCHMARK
from kimi_linear_operator.kubernetes.kinds import AUTOSCALER, DEPLOYMENT, SCALED_OBJECT, Kind

SCALED = {
    "tensorParallelism": 1,
    "autoscaling": {"minReplicas": 1, "maxReplicas": 4, "keda": {"prometheusAddress": "http://prometheus:9090"}},
}
MAINTENANCE = answer({"status": "maintenance"})
# The operator tries again after half a minute at most. The rest of the time is for a busy machine.
_RETURN_SECONDS = 60.0
# Several attempts that fail in a row, but fewer than the status reports.
_PAGE_SECONDS = 4.0


def _has(namespace: Namespace, replicas: int) -> bool:
    return namespace.replicas("kimi") == replicas


def _deletions(kind: Kind, name: str) -> Matches:
    return lambda call: call.method == "DELETE" and call.concerns(kind, name)


@pytest.fixture
def sandbox(sandboxes: Sandboxes, client: Client, cluster: LocalCluster) -> Iterator[Sandbox]:
    """An operator of a namespace in a cluster with KEDA's definition. KEDA itself does not run."""
    with with_definitions(client, cluster, scaled_object()), sandboxes.open() as opened:
        opened.operator.start()
        yield opened


def test_an_object_is_deleted_at_last_although_a_proxy_answered_that_all_is_well(sandbox: Sandbox) -> None:
    namespace, proxy = sandbox.namespace, sandbox.proxy
    namespace.create_server("kimi", SCALED)
    namespace.create_server("routed", {"tensorParallelism": 1, "router": {}})
    create_for_endpoint(namespace, "nightly", ttlSecondsAfterFinished=3)
    wait_for(lambda: namespace.find(SCALED_OBJECT, "kimi"), "there is a ScaledObject", seconds=_RETURN_SECONDS)
    wait_for(lambda: namespace.find(DEPLOYMENT, "routed-router"), "there is a router")
    ended = ((SCALED_OBJECT, "kimi"), (DEPLOYMENT, "routed-router"), (BENCHMARK, "nightly"))
    for kind, name in ended:
        proxy.begin(MAINTENANCE, _deletions(kind, name))
    namespace.change_server("kimi", {"autoscaling": {"keda": None}})
    namespace.change_server("routed", {"router": None})
    end_suite(namespace, "nightly", "speed-low")
    wait_for(lambda: all(proxy.count(_deletions(*each)) for each in ended), "all are to be deleted")
    assert all(namespace.find(*each) for each in ended)
    proxy.heal()
    wait_for(lambda: not any(namespace.find(*each) for each in ended), "all are gone", seconds=_RETURN_SECONDS)
    wait_for(lambda: namespace.find(AUTOSCALER, "kimi"), "the other autoscaler", seconds=_RETURN_SECONDS)


def test_no_error_of_a_proxy_makes_a_server_stalled_or_not_ready(sandboxes: Sandboxes) -> None:
    with sandboxes.open() as box:
        namespace = box.namespace
        box.operator.start()
        namespace.create_server("kimi", {"tensorParallelism": 1})
        namespace.wait_until_ready("kimi")

        def states() -> tuple[str, ...]:
            return tuple(namespace.condition("kimi", kind)["status"] for kind in ("Accepted", "Stalled", "Ready"))

        for number, status in enumerate((400, 403, 409, 410, 413, 415, 422)):
            replicas = 2 - number % 2
            fault = page(status, f"<html><body><h1>{status}: request is too large</h1></body></html>")
            with box.proxy.fault(fault, lambda call: call.method == "PATCH" and call.concerns(DEPLOYMENT, "kimi")):
                namespace.change_server("kimi", {"replicas": replicas})
                stays(
                    states, "the spec counts as valid", lambda found: found == ("True", "False", "True"), _PAGE_SECONDS
                )
            wait_for(partial(_has, namespace, replicas), "the change is applied", seconds=_RETURN_SECONDS)
            namespace.wait_until_ready("kimi")
