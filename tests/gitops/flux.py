"""Flux.

Only its controllers for sources and for Kustomizations run: the one for Helm releases is in no Go module.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from binaries import FLUX, binary, source_of
from control_plane import LocalCluster, free_ports
from gitops.controllers import TOOL_SECONDS, controller
from integration.client import Client
from integration.namespace import condition_of
from integration.waiting import wait_for
from kimi_linear_operator.kubernetes.kinds import Kind, Manifest

NAMESPACE = "flux-system"
_KUSTOMIZATION = Kind("kustomize.toolkit.fluxcd.io", "v1", "Kustomization", "kustomizations")
_SOURCE = Kind("source.toolkit.fluxcd.io", "v1", "GitRepository", "gitrepositories")


@dataclass(frozen=True)
class Kustomization:
    """An applied Kustomization, and its source."""

    client: Client
    name: str
    source: str

    def ready(self) -> Manifest:
        """Return its Ready condition of the newest generation, and the revisions that it tried and applied."""
        found = self.client.get(_KUSTOMIZATION, NAMESPACE, self.name)
        assert found is not None, f"there is no Kustomization {self.name}"
        condition = condition_of(found, "Ready")
        if condition.get("observedGeneration") != found["metadata"]["generation"]:
            return {}
        return {**condition, **found["status"]}

    def reconcile(self) -> None:
        """Let Flux read Git and apply everything at once, like `flux reconcile kustomization --with-source`."""
        annotations = {"reconcile.fluxcd.io/requestedAt": str(time.time_ns())}
        for kind, name in ((_SOURCE, self.source), (_KUSTOMIZATION, self.name)):
            self.client.patch(kind, NAMESPACE, name, {"metadata": {"annotations": annotations}})

    def wait_until(self, status: str, reason: str, commit: str) -> Manifest:
        """Wait until Flux has tried this commit with this result; return the value of `ready`."""

        def matches(seen: Manifest) -> bool:
            tried = str(seen.get("lastAttemptedRevision", ""))
            return (seen.get("status"), seen.get("reason")) == (status, reason) and tried.endswith(commit)

        expected = f"{self.name} is Ready={status} because of {reason} at {commit}"
        return wait_for(self.ready, expected, matches, TOOL_SECONDS)


@contextmanager
def flux(cluster: LocalCluster, state: Path) -> Iterator[None]:
    """Run Flux, with a separate folder for the files that it fetches and unpacks."""
    _install(cluster)
    storage, *ports = free_ports(5)
    environment = {"KUBECONFIG": str(cluster.kubeconfig), "RUNTIME_NAMESPACE": NAMESPACE, "TMPDIR": str(state)}
    served = f"127.0.0.1:{storage}"
    store = (f"--storage-path={state}", f"--storage-addr={served}", f"--storage-adv-addr={served}")
    sources = (*store, *_listening(*ports[:2]))
    with (
        _running("source-controller", sources, state, environment),
        _running("kustomize-controller", _listening(*ports[2:]), state, environment),
    ):
        yield


def _running(
    name: str, options: Sequence[str], state: Path, environment: Mapping[str, str]
) -> AbstractContextManager[None]:
    return controller([binary(name), *options], state / f"{name}.log", environment)


def _install(cluster: LocalCluster) -> None:
    for name in ("source-controller", "kustomize-controller"):
        definitions = source_of(FLUX, f"github.com/fluxcd/{name}") / "config/crd/bases"
        cluster.kubectl("apply", "--server-side", f"--filename={definitions}")
    # A controller ends if a kind that it watches does not exist.
    sources = ("gitrepositories", "ocirepositories", "helmrepositories", "helmcharts", "buckets")
    cluster.kubectl.wait_until_served(
        *(f"{kind}.source.toolkit.fluxcd.io" for kind in sources), "kustomizations.kustomize.toolkit.fluxcd.io"
    )
    cluster.kubectl("create", "namespace", NAMESPACE)


def _listening(metrics: int, health: int) -> tuple[str, str]:
    return (f"--metrics-addr=127.0.0.1:{metrics}", f"--health-addr=127.0.0.1:{health}")
