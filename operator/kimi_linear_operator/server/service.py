"""The Services of a server."""

from typing import Literal

from kimi_linear_operator.kubernetes import metadata
from kimi_linear_operator.kubernetes.kinds import SERVICE, Manifest
from kimi_linear_operator.server import router
from kimi_linear_operator.server.autoscaler import serving
from kimi_linear_operator.server.labels import HEADLESS_SUFFIX
from kimi_linear_operator.server.sglang import command_line
from kimi_linear_operator.server.sleeping import is_woken_by_router
from kimi_linear_operator.server.spec import KimiLinearServer, ServerSpec

Backend = Literal["replicas", "router", "waking router"]
"""Where the Service leads. A waking router is not ready, because no replica serves."""


def backend(spec: ServerSpec, live_router: Manifest | None, deployment: Manifest | None) -> Backend:
    """Return where the Service must lead now.

    Args:
        spec: The server's spec.
        live_router: The live Deployment of its router, None if there is none.
        deployment: Its own live Deployment, None if there is none.
    """
    if is_woken_by_router(spec) and not serving(deployment):
        return "waking router"
    return "router" if spec.router and router.is_available(live_router) else "replicas"


def build_service(server: KimiLinearServer, leads_to: Backend) -> Manifest:
    """Return the main Service. It has the name of the server.

    Args:
        server: The server.
        leads_to: Where requests go.
    """
    options = server.spec.service
    selector = metadata.selector(server) if leads_to == "replicas" else router.selector(server)
    outside = {
        "loadBalancerClass": options.load_balancer_class,
        "externalTrafficPolicy": options.external_traffic_policy,
    }
    given = {name: value for name, value in outside.items() if value}
    unready = {"publishNotReadyAddresses": True} if leads_to == "waking router" else {}
    spec = {"type": options.type, **given, **unready, **_selector_and_port(server, selector)}
    manifest = metadata.build_manifest(server, SERVICE, server.metadata.name, spec=spec)
    for name, value in options.annotations.items():
        metadata.annotate(manifest, name, value)
    return manifest


def build_headless_service(server: KimiLinearServer) -> Manifest:
    """Return the headless Service.

    It has one DNS record for each replica, for routers that choose a replica, including ours.
    """
    name = server.metadata.name + HEADLESS_SUFFIX
    spec = {"clusterIP": "None", **_selector_and_port(server, metadata.selector(server))}
    return metadata.build_manifest(server, SERVICE, name, spec=spec)


def url(server: KimiLinearServer) -> str:
    """Return the server's address inside the cluster."""
    return f"http://{server.metadata.name}.{server.metadata.namespace}.svc:{server.spec.service.port}"


def _selector_and_port(server: KimiLinearServer, selector: dict[str, str]) -> Manifest:
    port = {
        "name": command_line.PORT_NAME,
        "port": server.spec.service.port,
        "targetPort": command_line.PORT_NAME,
        "protocol": "TCP",
    }
    # One address for each IP family of the cluster. SGLang listens on all of them.
    return {"ipFamilyPolicy": "PreferDualStack", "selector": selector, "ports": [port]}
