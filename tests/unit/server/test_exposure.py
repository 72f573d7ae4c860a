"""The addresses of a server outside the cluster, according to load balancers, ingress controllers and gateways."""

from typing import Any

import pytest

from kimi_linear_operator.kubernetes.conditions import Reason
from kimi_linear_operator.kubernetes.kinds import HTTP_ROUTE, INGRESS, SERVICE, Kind, Manifest
from kimi_linear_operator.server.exposure import Exposure, exposure, is_exposed
from kimi_linear_operator.server.spec import KimiLinearServer
from kimi_linear_operator.server.spec.status import ServerStatus
from make import make_server

ROUTE = {"parentRefs": [{"name": "public", "namespace": "gateways"}], "hostnames": ["kimi.example.com"]}
PENDING = "no controller has handled the HTTPRoute yet"


def server(**spec: Any) -> KimiLinearServer:
    return KimiLinearServer.model_validate(make_server(**spec))


def with_points(kind: Kind, *points: Manifest) -> dict[Kind, Manifest]:
    return {kind: {"metadata": {"generation": 1}, "status": {"loadBalancer": {"ingress": [*points]}}}}


def told(accepted: str, resolved: str = "True", *, generation: int = 1, **parent: str) -> dict[Kind, Manifest]:
    """Return an HTTPRoute with this report of a gateway."""
    conditions = [
        {
            "type": kind,
            "status": status,
            "reason": f"{kind}Why",
            "message": "because.",
            "observedGeneration": generation,
        }
        for kind, status in (("Accepted", accepted), ("ResolvedRefs", resolved))
    ]
    reference = {"name": "public", "namespace": "gateways", **parent}
    reports = [{"controllerName": "example.com/gateway", "parentRef": reference, "conditions": conditions}]
    return {HTTP_ROUTE: {"metadata": {"generation": 1}, "status": {"parents": reports}}}


@pytest.mark.parametrize("spec", [{}, {"service": {"type": "NodePort"}}])
def test_a_server_without_outside_access_is_not_exposed(spec: Manifest) -> None:
    assert not is_exposed(server(**spec))


def test_a_load_balancer_is_reached_at_its_addresses_and_the_services_port() -> None:
    wanted = server(service={"type": "LoadBalancer", "port": 80})
    assert is_exposed(wanted)
    assert exposure(wanted, {}).reason.name == "AddressPending"
    live = with_points(SERVICE, {"ip": "192.0.2.7"}, {"ip": "2001:db8::7"}, {"hostname": "lb.example.com"})
    assert exposure(wanted, live).addresses == (
        "http://192.0.2.7:80",
        "http://[2001:db8::7]:80",
        "http://lb.example.com:80",
    )


def test_a_status_has_a_bounded_number_of_addresses_in_a_stable_order() -> None:
    """The API server would refuse the whole status."""
    wanted, points = server(service={"type": "LoadBalancer"}), [{"ip": f"192.0.2.{number}"} for number in range(200)]
    found = exposure(wanted, with_points(SERVICE, *points)).addresses
    assert ServerStatus(addresses=[*found]).addresses == sorted(found)
    assert len(found) == 64
    assert exposure(wanted, with_points(SERVICE, *reversed(points))).addresses == found


@pytest.mark.parametrize(
    ("ingress", "addresses"),
    [
        ({}, ("http://192.0.2.7",)),
        ({"hosts": ["a.example", "*.b.example"]}, ("http://a.example",)),
        ({"hosts": ["*.b.example"]}, ()),
        ({"hosts": ["a.example"], "tlsSecretName": "tls"}, ("https://a.example",)),
    ],
)
def test_an_ingress_is_reached_at_its_hosts_once_a_controller_has_accepted_it(
    ingress: Manifest, addresses: tuple[str, ...]
) -> None:
    wanted = server(ingress=ingress)
    message = "the Ingress has no address, because no controller of the default class has reported one yet"
    assert exposure(wanted, with_points(INGRESS)) == Exposure(problems=(Reason("AddressPending", message),))
    assert exposure(wanted, with_points(INGRESS, {"ip": "192.0.2.7"})) == Exposure(addresses)


def test_a_route_is_reached_at_its_hostnames_and_path_once_its_gateway_accepts_it() -> None:
    found = exposure(server(httpRoute={**ROUTE, "path": "/kimi"}), told("True"))
    assert found == Exposure(("https://kimi.example.com/kimi",))
    assert found.reason == Reason("Exposed", "https://kimi.example.com/kimi")
    assert exposure(server(httpRoute={**ROUTE, "scheme": "http"}), told("True")).addresses == (
        "http://kimi.example.com",
    )


@pytest.mark.parametrize(
    ("live", "reason"),
    [
        (
            {HTTP_ROUTE: {"metadata": {"generation": 1}}},
            Reason("AddressPending", f"Gateway gateways/public: {PENDING}"),
        ),
        (told("Unknown"), Reason("AddressPending", f"Gateway gateways/public: {PENDING}")),
        (told("True", generation=0), Reason("AddressPending", f"Gateway gateways/public: {PENDING}")),
        (told("True", namespace="elsewhere"), Reason("AddressPending", f"Gateway gateways/public: {PENDING}")),
        (told("True", sectionName="http"), Reason("AddressPending", f"Gateway gateways/public: {PENDING}")),
        (told("False"), Reason("RouteRefused", "Gateway gateways/public: AcceptedWhy: because")),
        (told("True", "False"), Reason("RouteRefused", "Gateway gateways/public: ResolvedRefsWhy: because")),
    ],
)
def test_a_route_that_leads_nowhere_is_reported_in_the_gateways_words(
    live: dict[Kind, Manifest], reason: Reason
) -> None:
    found = exposure(server(httpRoute=ROUTE), live)
    assert (found.addresses, found.reason) == ((), reason)


def test_one_accepting_gateway_of_two_gives_an_address_and_a_problem() -> None:
    parents = [{"name": "private"}, {"name": "public", "namespace": "gateways"}]
    route = {**ROUTE, "parentRefs": parents}
    found = exposure(server(httpRoute=route), told("True"))
    assert found.addresses == ("https://kimi.example.com",)
    assert found.reason == Reason("AddressPending", f"Gateway default/private: {PENDING}")


@pytest.mark.parametrize(("spec", "kind"), [({"httpRoute": ROUTE}, "HTTPRoute"), ({"ingress": {}}, "Ingress")])
def test_a_way_that_does_not_exist_is_reported_as_such(spec: Manifest, kind: str) -> None:
    message = f"the {kind} does not exist; if it could not be written, the condition Synced says why"
    assert exposure(server(**spec), {}) == Exposure(problems=(Reason("AddressPending", message),))


def test_a_refused_route_is_reported_before_a_pending_address() -> None:
    found = exposure(server(httpRoute=ROUTE, ingress={}), {**told("False"), **with_points(INGRESS)})
    assert found.reason.name == "RouteRefused"
    assert "the Ingress has no address" in found.reason.message
