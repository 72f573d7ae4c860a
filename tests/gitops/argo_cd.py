"""Argo CD without its API server and user interface: its application controller, its repo server and their cache."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from binaries import ARGO_CD, binary, source_of
from commands import run
from control_plane import LocalCluster, free_ports
from gitops.controllers import GITOPS, TOOL_SECONDS, controller
from integration.client import Client
from integration.waiting import wait_for
from kimi_linear_operator.kubernetes.kinds import Kind, Manifest

APPLICATION = Kind("argoproj.io", "v1alpha1", "Application", "applications")
NAMESPACE = "argocd"
# By default, Argo CD takes two minutes. It loses events of the cluster that come while it compares.
RESYNC_SECONDS = 5


@dataclass(frozen=True)
class Application:
    """An applied Application."""

    client: Client
    name: str

    def status(self) -> Manifest:
        found = self.client.get(APPLICATION, NAMESPACE, self.name)
        assert found is not None, f"there is no Application {self.name}"
        return dict(found.get("status", {}))

    def refresh(self) -> None:
        """Make Argo CD read Git at once, like its webhook."""
        annotations = {"argocd.argoproj.io/refresh": "normal"}
        self.client.patch(APPLICATION, NAMESPACE, self.name, {"metadata": {"annotations": annotations}})

    def wait_until(self, sync: str, health: str, revision: str) -> Manifest:
        """Wait until Argo CD has compared this commit with the cluster, with these results."""

        def matches(status: Manifest) -> bool:
            compared = status.get("sync", {})
            return (compared.get("status"), compared.get("revision")) == (sync, revision) and (
                status.get("health", {}).get("status") == health
            )

        expected = f"{self.name} is {sync} and {health} at {revision}"
        return wait_for(self.status, expected, matches, TOOL_SECONDS)

    def wait_for_operation(self, revision: str, phase: str) -> Manifest:
        """Wait until the sync to a commit is in this phase. Return its state."""

        def state() -> dict[str, Any]:
            return dict(self.status().get("operationState", {}))

        def matches(state: dict[str, Any]) -> bool:
            return state.get("phase") == phase and state.get("syncResult", {}).get("revision") == revision

        return wait_for(state, f"the sync of {self.name} to {revision} is {phase}", matches, TOOL_SECONDS)


@contextmanager
def argo_cd(cluster: LocalCluster, state: Path) -> Iterator[None]:
    """Run Argo CD with our health checks in its configuration, as docs/gitops.md says."""
    _install(cluster, state)
    redis, repo_server, *metrics = free_ports(4)
    environment = _environment(cluster, state)
    cache = f"--redis=127.0.0.1:{redis}"
    with ExitStack() as stack:
        stack.enter_context(controller([binary("redis"), f"127.0.0.1:{redis}"], state / "redis.log"))
        listening = ["--address=127.0.0.1", f"--port={repo_server}", "--metrics-address=127.0.0.1"]
        options = [cache, *listening, f"--metrics-port={metrics[0]}", "--disable-tls"]
        _start(stack, "argocd-repo-server", options, state, environment)
        server = [f"--repo-server=127.0.0.1:{repo_server}", "--repo-server-plaintext"]
        resync = [f"--app-resync={RESYNC_SECONDS}", "--app-resync-jitter=0"]
        options = [cache, *server, *resync, f"--metrics-port={metrics[1]}", f"--namespace={NAMESPACE}"]
        _start(stack, "argocd-application-controller", options, state, environment)
        yield


def _start(stack: ExitStack, name: str, options: list[str], state: Path, environment: dict[str, str]) -> None:
    """Start one of Argo CD's programs. All programs are one binary, and the name selects the program."""
    log = state / f"{name}.log"
    stack.enter_context(controller([binary("argocd"), *options], log, environment | {"ARGOCD_BINARY_NAME": name}))


def _install(cluster: LocalCluster, state: Path) -> None:
    manifests = source_of(ARGO_CD, "github.com/argoproj/argo-cd/v3") / "manifests"
    for name in ("application", "appproject"):
        cluster.kubectl("apply", "--server-side", f"--filename={manifests / f'crds/{name}-crd.yaml'}")
    cluster.kubectl.wait_until_served("applications.argoproj.io", "appprojects.argoproj.io")
    cluster.kubectl("create", "namespace", NAMESPACE)
    everything = [{"group": "*", "kind": "*"}]
    project = {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "AppProject",
        "metadata": {"name": "default", "namespace": NAMESPACE},
        "spec": {
            "sourceRepos": ["*"],
            "destinations": [{"server": "*", "namespace": "*"}],
            "clusterResourceWhitelist": everything,
        },
    }
    cluster.kubectl.apply([*_configuration(manifests, state), project])


def _configuration(manifests: Path, state: Path) -> list[Manifest]:
    """Return Argo CD's own configuration with our health checks, from our Kustomize component."""
    names = [f"argocd-{name}.yaml" for name in ("cm", "secret")]
    for name in names:
        (state / name).write_text((manifests / "base/config" / name).read_text())
    component = Path("../" * len(state.resolve().parts[1:]), *GITOPS.parts[1:], "argocd/health")
    kustomization = {"namespace": NAMESPACE, "resources": names, "components": [str(component)]}
    (state / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    return list(yaml.safe_load_all(run([binary("kubectl"), "kustomize", state])))


def _environment(cluster: LocalCluster, state: Path) -> dict[str, str]:
    """The environment in which the programs work outside a cluster and write only into their own folder."""
    temporary = state / "tmp"
    temporary.mkdir()
    programs = [str(binary(name).parent) for name in ("kustomize", "helm")]
    return {
        "KUBECONFIG": str(cluster.kubeconfig),
        "ARGOCD_FAKE_IN_CLUSTER": "true",
        "ARGOCD_GPG_ENABLED": "false",
        "ARGOCD_TLS_DATA_PATH": str(temporary),
        "ARGOCD_SSH_DATA_PATH": str(temporary),
        "ARGOCD_PLUGINSOCKFILEPATH": str(temporary),
        "ARGOCD_ASK_PASS_SOCK": str(temporary / "ask-pass.sock"),
        "TMPDIR": str(temporary),
        "PATH": os.pathsep.join([*programs, os.environ["PATH"]]),
    }
