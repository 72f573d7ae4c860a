"""The ways from outside the cluster to the Service of a server: an Ingress and an HTTPRoute."""

from collections.abc import Iterator

from kimi_linear_operator.kubernetes import metadata
from kimi_linear_operator.kubernetes.kinds import HTTP_ROUTE, INGRESS, Manifest
from kimi_linear_operator.server.spec import KimiLinearServer
from kimi_linear_operator.server.spec.traffic import HttpRoute, Ingress, ParentRef

# In the Gateway API, this means "no time limit" (GEP-1742). Without it, gateways use their own limits: Envoy ends a
# response after 15 s.
_NO_LIMIT = "0s"


def build_routes(server: KimiLinearServer) -> Iterator[Manifest]:
    """Yield the Ingress and the HTTPRoute that a spec asks for."""
    if server.spec.ingress:
        yield build_ingress(server, server.spec.ingress)
    if server.spec.http_route:
        yield build_http_route(server, server.spec.http_route)


def build_ingress(server: KimiLinearServer, options: Ingress) -> Manifest:
    """Return the Ingress to the main Service. It has the name of the server."""
    port = {"number": server.spec.service.port}
    backend = {"service": {"name": server.metadata.name, "port": port}}
    http = {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}
    spec: Manifest = {"rules": [{"host": host, "http": http} for host in options.hosts] or [{"http": http}]}
    if options.class_name:
        spec["ingressClassName"] = options.class_name
    if options.tls_secret_name:
        spec["tls"] = [{"hosts": options.hosts, "secretName": options.tls_secret_name}]
    manifest = metadata.build_manifest(server, INGRESS, server.metadata.name, spec=spec)
    for name, value in options.annotations.items():
        metadata.annotate(manifest, name, value)
    return manifest


def build_http_route(server: KimiLinearServer, options: HttpRoute) -> Manifest:
    """Return the HTTPRoute to the main Service. It has the name of the server."""
    service = {"group": "", "kind": "Service", "name": server.metadata.name, "port": server.spec.service.port}
    rule: Manifest = {
        "matches": [{"path": {"type": "PathPrefix", "value": options.path}}],
        "backendRefs": [{**service, "weight": 1}],
        "timeouts": {"request": _NO_LIMIT, "backendRequest": _NO_LIMIT},
    }
    if options.path != "/":
        rewritten = {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/"}
        rule["filters"] = [{"type": "URLRewrite", "urlRewrite": {"path": rewritten}}]
    spec: Manifest = {"parentRefs": [_parent(parent) for parent in options.parent_refs], "rules": [rule]}
    if options.hostnames:
        spec["hostnames"] = options.hostnames
    return metadata.build_manifest(server, HTTP_ROUTE, server.metadata.name, spec=spec)


def _parent(parent: ParentRef) -> Manifest:
    named = parent.model_dump(by_alias=True, exclude_none=True)
    return {"group": HTTP_ROUTE.group, "kind": "Gateway", **named}
