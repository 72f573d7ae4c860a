"""Whether clients outside the cluster can reach a server, according to the reports of other controllers."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kimi_linear_operator.kubernetes.conditions import Reason, find_condition
from kimi_linear_operator.kubernetes.kinds import HTTP_ROUTE, INGRESS, SERVICE, Kind, Manifest
from kimi_linear_operator.server.spec import KimiLinearServer
from kimi_linear_operator.server.spec.status import MOST_ADDRESSES
from kimi_linear_operator.server.spec.traffic import HttpRoute, Ingress, ParentRef

LiveRoutes = Mapping[Kind, Manifest]
"""The live Service, Ingress and HTTPRoute of a server, as far as they exist."""


@dataclass(frozen=True)
class Exposure:
    """The state of the ways to a server.

    Attributes:
        addresses: Its addresses, sorted, and at most as many as the status can contain.
        problems: Why some ways do not work.
    """

    addresses: tuple[str, ...] = ()
    problems: tuple[Reason, ...] = ()

    @property
    def reason(self) -> Reason:
        """Return the reason of the condition Exposed."""
        if not self.problems:
            return Reason("Exposed", ", ".join(self.addresses) or "the controllers have accepted all routes")
        # A refusal of a gateway does not end by itself, so it comes first.
        ordered = sorted(self.problems, key=lambda problem: problem.name != "RouteRefused")
        return Reason(ordered[0].name, "; ".join(problem.message for problem in ordered))


def is_exposed(server: KimiLinearServer) -> bool:
    """Return whether the server asks for a way from outside, and a controller reports the state of this way.

    No controller reports the state of a node port.
    """
    spec = server.spec
    return spec.ingress is not None or spec.http_route is not None or spec.service.type == "LoadBalancer"


def exposure(server: KimiLinearServer, live: LiveRoutes) -> Exposure:
    """Return the state of the ways from outside to a server.

    Args:
        server: The server.
        live: The live objects that lead to the server.
    """
    found: list[str | Reason] = []
    spec = server.spec
    if spec.service.type == "LoadBalancer":
        found += _of_service(live.get(SERVICE), spec.service.port)
    if spec.ingress:
        found += _of_ingress(live.get(INGRESS), spec.ingress)
    if spec.http_route:
        found += _of_route(live.get(HTTP_ROUTE), spec.http_route, server.metadata.namespace)
    # Sort the addresses: controllers report them in any order, and each change of the status is a write.
    addresses = sorted({item for item in found if isinstance(item, str)})[:MOST_ADDRESSES]
    return Exposure(tuple(addresses), tuple(item for item in found if isinstance(item, Reason)))


def _of_service(live: Manifest | None, port: int) -> Iterator[str | Reason]:
    points = _points(live)
    if not points:
        yield Reason(
            "AddressPending", "the Service has no external address, because no load balancer was created for it yet"
        )
    yield from (f"http://{point}:{port}" for point in points)


def _of_ingress(live: Manifest | None, options: Ingress) -> Iterator[str | Reason]:
    if live is None:
        yield Reason("AddressPending", _missing("Ingress"))
        return
    points = _points(live)
    if not points:
        of_class = f"of class {options.class_name}" if options.class_name else "of the default class"
        yield Reason(
            "AddressPending", f"the Ingress has no address, because no controller {of_class} has reported one yet"
        )
        return
    scheme = "https" if options.tls_secret_name else "http"
    yield from (f"{scheme}://{host}" for host in _plain(options.hosts) or ([] if options.hosts else points))


def _of_route(live: Manifest | None, options: HttpRoute, namespace: str) -> Iterator[str | Reason]:
    if live is None:
        yield Reason("AddressPending", _missing("HTTPRoute"))
        return
    problems = [_parent_problem(live, parent, namespace) for parent in options.parent_refs]
    yield from (problem for problem in problems if problem)
    if not all(problems):
        path = "" if options.path == "/" else options.path
        yield from (f"{options.scheme}://{host}{path}" for host in _plain(options.hostnames))


def _missing(kind: str) -> str:
    return f"the {kind} does not exist; if it could not be written, the condition Synced says why"


def _parent_problem(live: Manifest, parent: ParentRef, namespace: str) -> Reason | None:
    """Return why a Gateway does not forward requests to the server, None if it does."""
    title = f"Gateway {parent.namespace or namespace}/{parent.name}"
    reports = [report for report in live.get("status", {}).get("parents", ()) if _is_of(report, parent, namespace)]
    told = [find_condition(report, kind) for kind in ("Accepted", "ResolvedRefs") for report in reports]
    current = [entry for entry in told if entry.get("observedGeneration", 0) >= live["metadata"]["generation"]]
    if refused := next((entry for entry in current if entry["status"] == "False"), None):
        return Reason("RouteRefused", f"{title}: {refused['reason']}: {refused['message'].rstrip('.')}")
    if not any((entry["type"], entry["status"]) == ("Accepted", "True") for entry in current):
        return Reason("AddressPending", f"{title}: no controller has handled the HTTPRoute yet")
    return None


def _is_of(report: Manifest, parent: ParentRef, namespace: str) -> bool:
    """Return whether a controller's report is about a Gateway."""
    reference: Manifest = report["parentRef"]
    return (
        reference["name"] == parent.name
        and reference.get("namespace", namespace) == (parent.namespace or namespace)
        and reference.get("sectionName") == parent.section_name
    )


def _points(live: Manifest | None) -> list[str]:
    """Return the addresses that a controller reports for a Service or an Ingress."""
    entries: Sequence[Any] = (live or {}).get("status", {}).get("loadBalancer", {}).get("ingress") or ()
    hosts = (entry.get("hostname") or entry.get("ip", "") for entry in entries)
    return [f"[{host}]" if ":" in host else host for host in hosts if host]


def _plain(hosts: Sequence[str]) -> list[str]:
    """Return the names that can be addresses. A name with `*` cannot be one."""
    return [host for host in hosts if not host.startswith("*")]
