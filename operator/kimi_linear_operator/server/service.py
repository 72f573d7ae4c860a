"""The Services of a server."""

from kimi_linear_operator.kubernetes import metadata
from kimi_linear_operator.kubernetes.kinds import SERVICE, Manifest
from kimi_linear_operator.server import sglang
from kimi_linear_operator.server.labels import HEADLESS_SUFFIX
from kimi_linear_operator.server.spec import KimiLinearServer


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
    name = server.metadata.name + HEADLESS_SUFFIX
    return metadata.build_manifest(server, SERVICE, name, spec={"clusterIP": "None", **_selection(server)})


def url(server: KimiLinearServer) -> str:
    """Return the server's address inside the cluster."""
    return f"http://{server.metadata.name}.{server.metadata.namespace}.svc:{server.spec.service.port}"


def _selection(server: KimiLinearServer) -> Manifest:
    port = {
        "name": sglang.PORT_NAME,
        "port": server.spec.service.port,
        "targetPort": sglang.PORT_NAME,
        "protocol": "TCP",
    }
    # An address of each family that the cluster has; SGLang listens on all of them.
    return {"ipFamilyPolicy": "PreferDualStack", "selector": metadata.selector(server), "ports": [port]}
