"""The Services of a server."""

from kimi_linear_operator.kubernetes import metadata
from kimi_linear_operator.kubernetes.kinds import SERVICE, Manifest
from kimi_linear_operator.server import router
from kimi_linear_operator.server.labels import HEADLESS_SUFFIX
from kimi_linear_operator.server.sglang import command_line
from kimi_linear_operator.server.spec import KimiLinearServer


def build_service(server: KimiLinearServer, *, is_routed: bool) -> Manifest:
    """Return the main Service. It has the name of the server.

    Args:
        server: The server.
        is_routed: Whether requests go to the router instead of the replicas.
    """
    options = server.spec.service
    selector = router.selector(server) if is_routed else metadata.selector(server)
    outside = {
        "loadBalancerClass": options.load_balancer_class,
        "externalTrafficPolicy": options.external_traffic_policy,
    }
    given = {name: value for name, value in outside.items() if value}
    spec = {"type": options.type, **given, **_selector_and_port(server, selector)}
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
