"""CRDs of others: of the Gateway API, the Prometheus operator and KEDA. How a test installs and removes a CRD."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import yaml

from binaries import CONTOUR, KEDA, Module, source_of
from control_plane import LocalCluster
from integration.client import DEFINITION, Client
from integration.waiting import wait_for
from kimi_linear_operator.kubernetes.kinds import (
    HTTP_ROUTE,
    POD_MONITOR,
    PROMETHEUS_RULE,
    SCALED_OBJECT,
    Kind,
    Manifest,
)

ROUTES = f"{HTTP_ROUTE.plural}.{HTTP_ROUTE.group}"
"""The name of the definition of HTTPRoute."""


def gateway_api(channel: str = "standard") -> list[Manifest]:
    """Return the definitions of the Gateway API, in the release that the tests' gateway supports."""
    return _in_module(CONTOUR, "sigs.k8s.io/gateway-api", f"config/crd/{channel}")


def keda() -> list[Manifest]:
    """Return KEDA's definitions."""
    return _in_module(KEDA, "github.com/kedacore/keda/v2", "config/crd/bases")


def scaled_object() -> list[Manifest]:
    """Return KEDA's definition of ScaledObject."""
    name = f"{SCALED_OBJECT.plural}.{SCALED_OBJECT.group}"
    return [definition for definition in keda() if definition["metadata"]["name"] == name]


def _in_module(module: Module, path: str, folder: str) -> list[Manifest]:
    """Return the definitions in a folder of a Go module that our module requires."""
    files = sorted((source_of(module, path) / folder).glob("*.yaml"))
    documents = (document for file in files for document in yaml.safe_load_all(file.read_text()))
    return [document for document in documents if document and document.get("kind") == DEFINITION.kind]


def prometheus_operator() -> list[Manifest]:
    """Return CRDs for the Prometheus operator's kinds. They accept any spec.

    No available Go module contains the real CRDs. tests/gitops checks a server's objects with the Prometheus operator's
    own types.
    """
    return [_that_accepts_any_spec(kind) for kind in (POD_MONITOR, PROMETHEUS_RULE)]


def _that_accepts_any_spec(kind: Kind) -> Manifest:
    schema = {
        "type": "object",
        "properties": {"spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
    }
    version = {"name": kind.version, "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    names = {"kind": kind.kind, "plural": kind.plural, "singular": kind.kind.lower()}
    spec = {"group": kind.group, "scope": "Namespaced", "names": names, "versions": [version]}
    metadata = {"name": f"{kind.plural}.{kind.group}"}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": metadata,
        "spec": spec,
    }


@contextmanager
def with_definitions(client: Client, cluster: LocalCluster, definitions: Sequence[Manifest]) -> Iterator[None]:
    """Install definitions during the block."""
    for definition in definitions:
        client.create(DEFINITION, definition)
    names = [definition["metadata"]["name"] for definition in definitions]
    cluster.kubectl.wait_until_served(*names)
    try:
        yield
    finally:
        for name in names:
            client.delete(DEFINITION, None, name)
            wait_for(lambda name=name: client.get(DEFINITION, None, name), f"{name} is gone", lambda found: not found)  # type: ignore[misc]


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
