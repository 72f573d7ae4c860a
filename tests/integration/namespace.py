"""A namespace for tests, and the servers in it."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from integration.client import NAMESPACE, QUOTA, REPLICA_SET, Client, path_of
from integration.waiting import PATIENCE_SECONDS, stays, wait_for
from kimi_linear_operator.kubernetes.kinds import DEPLOYMENT, EVENT, GROUP, POD, SERVICE, VERSION, Kind, Manifest
from kimi_linear_operator.server.labels import SERVER_LABEL
from kimi_linear_operator.server.spec import SERVER

Spec = dict[str, Any]

_numbers = itertools.count()


def server_manifest(name: str, namespace: str, spec: object) -> Manifest:
    """Return a KimiLinearServer as a user writes it."""
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "KimiLinearServer",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }


@dataclass(frozen=True)
class Namespace:
    """Reads and writes objects of one namespace."""

    client: Client
    name: str

    def create_server(self, name: str, spec: Spec | None = None) -> Manifest:
        return self.client.create(SERVER, server_manifest(name, self.name, spec or {}))

    def change_server(self, name: str, spec: Spec) -> Manifest:
        """Merge changes into a server's spec; None removes a field."""
        return self.client.patch(SERVER, self.name, name, {"spec": spec})

    def server(self, name: str) -> Manifest:
        return self.existing(SERVER, name)

    def replicas(self, server: str) -> int:
        """Return how many replicas the spec of a server asks for."""
        found: int = self.server(server)["spec"]["replicas"]
        return found

    def versions(self, name: str, *kinds: Kind) -> list[str]:
        """Return values that change with every write to the objects of these kinds with this name."""
        return [self.existing(kind, name)["metadata"]["resourceVersion"] for kind in kinds]

    def stays_unwritten(self, name: str, kinds: Sequence[Kind], seconds: float) -> None:
        """Check that for some seconds nobody writes the objects of these kinds with this name."""
        before = self.versions(name, *kinds)
        stays(lambda: self.versions(name, *kinds), "nothing is written at rest", before.__eq__, seconds)

    def deployment(self, name: str) -> Manifest:
        return self.existing(DEPLOYMENT, name)

    def service(self, name: str) -> Manifest:
        return self.existing(SERVICE, name)

    def existing(self, kind: Kind, name: str) -> Manifest:
        """Return an object that must exist."""
        found = self.client.get(kind, self.name, name)
        assert found is not None, f"there is no {kind.kind} {name} in {self.name}"
        return found

    def find(self, kind: Kind, name: str) -> Manifest | None:
        return self.client.get(kind, self.name, name)

    def pods(self, server: str) -> list[Manifest]:
        return self.client.list(POD, self.name, {"labelSelector": f"{SERVER_LABEL}={server}"})

    def replica_sets(self, server: str) -> list[Manifest]:
        return self.client.list(REPLICA_SET, self.name, {"labelSelector": f"{SERVER_LABEL}={server}"})

    def events(self, server: str, reason: str) -> list[Manifest]:
        """Return the events of a server for one reason."""
        query = {"fieldSelector": f"involvedObject.name={server},involvedObject.kind=KimiLinearServer,reason={reason}"}
        return self.client.list(EVENT, self.name, query)

    def set_quota(self, name: str, hard: Mapping[str, str]) -> None:
        """Create a ResourceQuota, and wait until the API server counts the limited objects."""
        metadata = {"name": name, "namespace": self.name}
        self.client.create(
            QUOTA, {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": metadata, "spec": {"hard": hard}}
        )
        wait_for(lambda: "used" in self.existing(QUOTA, name).get("status", {}), "the quota is in force")

    def edit(self, kind: Kind, name: str, patch: object) -> Manifest:
        return self.client.patch(kind, self.name, name, patch)

    def delete(self, kind: Kind, name: str) -> None:
        self.client.delete(kind, self.name, name)

    def condition(self, server: str, kind: str) -> Manifest:
        """Return a condition of a server, empty if it has none of this type."""
        return condition_of(self.server(server), kind)

    def wait_for_condition(
        self, server: str, kind: str, status: str, reason: str | None = None, seconds: float = PATIENCE_SECONDS
    ) -> Manifest:
        """Wait until a condition of the current generation has this status and reason; return it."""

        def holds(manifest: Manifest) -> bool:
            found = condition_of(manifest, kind)
            is_current = found.get("observedGeneration") == manifest["metadata"]["generation"]
            return is_current and found["status"] == status and reason in (None, found["reason"])

        expected = f"{kind} of {server} is {status}" + (f" because of {reason}" if reason else "")
        return condition_of(self._wait(server, expected, holds, seconds), kind)

    def wait_until_ready(self, server: str, seconds: float = PATIENCE_SECONDS) -> Manifest:
        """Wait until every replica of the current generation serves; return the server."""
        self.wait_for_condition(server, "Ready", "True", seconds=seconds)
        return self.server(server)

    def _wait(self, server: str, expected: str, holds: Callable[[Manifest], bool], seconds: float) -> Manifest:
        return wait_for(lambda: self.server(server), expected, holds, seconds)


@contextmanager
def temporary_namespace(client: Client) -> Iterator[Namespace]:
    """Create a namespace. Afterwards, it is deleted in the background."""
    name = f"test-{next(_numbers)}"
    client.create(NAMESPACE, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    yield Namespace(client, name)
    # The deletion of a namespace takes seconds. Its servers are deleted before that, so that their GPUs are free.
    client.request("DELETE", path_of(SERVER, name))
    client.delete(NAMESPACE, None, name)


def condition_of(manifest: Manifest, kind: str) -> Manifest:
    """Return a condition of an object, empty if it has none of this type."""
    conditions = manifest.get("status", {}).get("conditions", ())
    return next((dict(item) for item in conditions if item["type"] == kind), {})


def engine_container(deployment: Manifest) -> Manifest:
    """Return the container sglang of a Deployment."""
    containers = deployment["spec"]["template"]["spec"]["containers"]
    return next(dict(item) for item in containers if item["name"] == "sglang")
