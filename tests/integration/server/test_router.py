"""A server with a router on a real control plane.

The tests show where its Service leads, which objects it has, and what remains without the router.
"""

import pytest

from integration.client import QUOTA
from integration.namespace import Namespace
from integration.waiting import stays, wait_for
from kimi_linear_operator.kubernetes.kinds import DEPLOYMENT, DISRUPTION_BUDGET, POD, SERVICE, Kind, Manifest
from kimi_linear_operator.server.spec import SERVER

pytestmark = pytest.mark.usefixtures("operator")

ENDPOINTS = Kind("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices")
TO_ROUTER, TO_REPLICAS = {"kimi-linear.io/router": "kimi"}, {"kimi-linear.io/server": "kimi"}
_SECONDS_AT_REST = 5


def selector(namespace: Namespace) -> dict[str, str]:
    return dict(namespace.service("kimi")["spec"]["selector"])


def wait_for_selector(namespace: Namespace, wanted: dict[str, str]) -> None:
    wait_for(lambda: selector(namespace), f"the Service leads to {wanted}", lambda seen: seen == wanted)


def router_pods(namespace: Namespace) -> list[str]:
    listed = namespace.client.list(POD, namespace.name, {"labelSelector": "kimi-linear.io/router=kimi"})
    return sorted(pod["metadata"]["name"] for pod in listed)


def behind(namespace: Namespace, service: str) -> list[str]:
    """Return the names of the pods to which a Service leads."""
    query = {"labelSelector": f"kubernetes.io/service-name={service}"}
    slices = namespace.client.list(ENDPOINTS, namespace.name, query)
    return sorted({end["targetRef"]["name"] for item in slices for end in item.get("endpoints") or ()})


def replicas(namespace: Namespace) -> list[str]:
    return sorted(pod["metadata"]["name"] for pod in namespace.pods("kimi"))


def test_the_service_leads_to_the_router_and_the_router_to_the_replicas(namespace: Namespace) -> None:
    namespace.create_server("kimi", {"replicas": 3, "router": {}})
    namespace.wait_until_ready("kimi")
    wait_for_selector(namespace, TO_ROUTER)
    routers = router_pods(namespace)
    assert len(routers) == 2
    assert not {*routers} & {*replicas(namespace)}
    wait_for(lambda: behind(namespace, "kimi"), "the Service has the routers", lambda seen: seen == routers)
    wait_for(
        lambda: behind(namespace, "kimi-headless"), "DNS has the replicas", lambda seen: seen == replicas(namespace)
    )


def test_adding_and_removing_a_router_replaces_no_replica(namespace: Namespace) -> None:
    namespace.create_server("kimi", {"replicas": 2})
    namespace.wait_until_ready("kimi")
    before, template = replicas(namespace), namespace.deployment("kimi")["spec"]["template"]
    namespace.change_server("kimi", {"router": {"replicas": 2}})
    wait_for_selector(namespace, TO_ROUTER)
    namespace.wait_until_ready("kimi")
    namespace.change_server("kimi", {"router": None})
    wait_for_selector(namespace, TO_REPLICAS)
    gone = ((DEPLOYMENT, "kimi-router"), (DISRUPTION_BUDGET, "kimi-router"), (SERVICE, "kimi-headless"))
    wait_for(
        lambda: [namespace.find(*child) for child in gone], "the router's children are gone", lambda seen: not any(seen)
    )
    wait_for(lambda: router_pods(namespace), "the router's pods are gone", lambda seen: not seen)
    assert replicas(namespace) == before
    assert namespace.deployment("kimi")["spec"]["template"] == template


def test_a_router_that_does_not_serve_is_reported_and_the_service_leads_to_the_replicas(namespace: Namespace) -> None:
    namespace.create_server("kimi")
    namespace.wait_until_ready("kimi")
    namespace.set_quota("full", {"pods": "1"})
    namespace.change_server("kimi", {"router": {"replicas": 1}})
    ready = namespace.wait_for_condition("kimi", "Ready", "False", "RouterUnavailable")
    assert ("0 of 1 pods of the router serve; until a pod serves, requests go directly to the replicas") in ready[
        "message"
    ]
    assert namespace.condition("kimi", "Available")["status"] == "True"
    assert selector(namespace) == TO_REPLICAS
    namespace.delete(QUOTA, "full")
    # The controller would try again only after a while.
    namespace.edit(DEPLOYMENT, "kimi-router", {"metadata": {"annotations": {"example.com/try": "again"}}})
    wait_for_selector(namespace, TO_ROUTER)
    namespace.wait_until_ready("kimi")


def test_a_suspended_server_has_no_router_and_nothing_is_written_at_rest(namespace: Namespace) -> None:
    namespace.create_server("kimi", {"router": {}})
    namespace.wait_until_ready("kimi")
    wait_for_selector(namespace, TO_ROUTER)

    def versions() -> list[str]:
        found = (namespace.existing(SERVER, "kimi"), namespace.existing(SERVICE, "kimi"), _router(namespace))
        return [manifest["metadata"]["resourceVersion"] for manifest in found]

    # After its last pod, the Deployment's controller writes a status.
    settled = wait_for(versions, "Kubernetes' controllers are done", lambda seen: seen == versions())
    stays(versions, "no version changes at rest", lambda seen: seen == settled, _SECONDS_AT_REST)
    namespace.change_server("kimi", {"suspend": True})
    wait_for(lambda: _router(namespace)["spec"]["replicas"], "no router runs", lambda seen: seen == 0)
    wait_for(lambda: router_pods(namespace), "the router's pods are gone", lambda seen: not seen)
    assert namespace.find(DISRUPTION_BUDGET, "kimi-router") is None
    namespace.change_server("kimi", {"suspend": False})
    namespace.wait_until_ready("kimi")


def _router(namespace: Namespace) -> Manifest:
    return namespace.existing(DEPLOYMENT, "kimi-router")
