"""The Services of a server."""

from kimi_linear_operator import engine
from kimi_linear_operator.api import KimiLinearServer, Manifest
from kimi_linear_operator.resources import metadata
from kimi_linear_operator.resources.kinds import SERVICE


def build_service(server: KimiLinearServer) -> Manifest:
    """Return the main Service, named like the server."""
    wanted = server.spec.service
    spec = {"type": wanted.type, **_selection(server)}
    manifest = metadata.build_manifest(server, SERVICE, server.metadata.name, spec=spec)
    for annotation in wanted.annotations.items():
        metadata.annotate(manifest, *annotation)
    return manifest


def build_headless_service(server: KimiLinearServer) -> Manifest:
    """Return the headless Service: one DNS record a replica, for routers that choose among them."""
    name = server.metadata.name + metadata.HEADLESS_SUFFIX
    return metadata.build_manifest(server, SERVICE, name, spec={"clusterIP": "None", **_selection(server)})


def url(server: KimiLinearServer) -> str:
    """Return the server's address inside the cluster."""
    return f"http://{server.metadata.name}.{server.metadata.namespace}.svc:{server.spec.service.port}"


def _selection(server: KimiLinearServer) -> Manifest:
    port = {
        "name": engine.PORT_NAME,
        "port": server.spec.service.port,
        "targetPort": engine.PORT_NAME,
        "protocol": "TCP",
    }
    # An address of each family that the cluster has; SGLang listens on all of them.
    return {"ipFamilyPolicy": "PreferDualStack", "selector": metadata.selector(server), "ports": [port]}
