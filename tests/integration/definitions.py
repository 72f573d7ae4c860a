"""CRDs of others: the CRDs of the Gateway API, and how a test removes a CRD."""

from collections.abc import Iterator
from contextlib import contextmanager

import yaml

from binaries import CONTOUR, source_of
from control_plane import LocalCluster
from integration.client import DEFINITION, Client
from integration.waiting import wait_for
from kimi_linear_operator.kubernetes.kinds import HTTP_ROUTE, Manifest

ROUTES = f"{HTTP_ROUTE.plural}.{HTTP_ROUTE.group}"
"""The name of the definition of HTTPRoute."""


def gateway_api(channel: str = "standard") -> list[Manifest]:
    """Return the definitions of the Gateway API, in the release that the tests' gateway supports."""
    files = sorted((source_of(CONTOUR, "sigs.k8s.io/gateway-api") / "config/crd" / channel).glob("*.yaml"))
    documents = (document for file in files for document in yaml.safe_load_all(file.read_text()))
    return [document for document in documents if document and document.get("kind") == DEFINITION.kind]


@contextmanager
def without_definition(client: Client, cluster: LocalCluster, name: str) -> Iterator[None]:
    """Remove a CRD and all its objects."""
    definition = client.get(DEFINITION, None, name)
    assert definition
    client.delete(DEFINITION, None, name)
    wait_for(lambda: client.get(DEFINITION, None, name), f"{name} is gone", lambda found: not found)
    try:
        yield
    finally:
        kept = {key: definition["metadata"].get(key) for key in ("name", "labels", "annotations")}
        client.create(DEFINITION, {**definition, "metadata": kept, "status": None})
        cluster.kubectl.wait_until_served(name)
