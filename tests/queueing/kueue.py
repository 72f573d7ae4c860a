"""Kueue as a process, with the objects of its Helm chart, and the queues of the guide."""

import base64
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from binaries import KUEUE, binary, source_of
from chart import ROOT, helm
from control_plane import LocalCluster, free_ports
from gitops.controllers import controller
from integration.client import SECRET, Client
from integration.namespace import Namespace
from integration.waiting import wait_for
from kimi_linear_operator.kubernetes.kinds import Kind, Manifest

_GROUP, _VERSION = "kueue.x-k8s.io", "v1beta2"
FLAVOR = Kind(_GROUP, _VERSION, "ResourceFlavor", "resourceflavors")
CLUSTER_QUEUE = Kind(_GROUP, _VERSION, "ClusterQueue", "clusterqueues")
LOCAL_QUEUE = Kind(_GROUP, _VERSION, "LocalQueue", "localqueues")
WORKLOAD = Kind(_GROUP, _VERSION, "Workload", "workloads")

_GUIDE = ROOT / "docs/guide/isolate.md"
_ADDRESS = "127.0.0.1"
_NAMESPACE, _ACCOUNT = "kueue-system", "kueue-controller-manager"
_WEBHOOKS, _CERTIFICATE = "kueue-webhook-service", "kueue-webhook-server-cert"
# Kueue runs as a process, and without its API for pending workloads, which writes into a fixed folder.
_LEFT_OUT = ("APIService", "Deployment")
# While it gets its certificate, Kueue waits with a back-off.
_START_SECONDS = 120


@contextmanager
def running_kueue(cluster: LocalCluster, state: Path) -> Iterator[None]:
    """Run Kueue as the service account of its chart, with the integrations that the guide names."""
    webhooks, health = free_ports(2)
    cluster.kubectl.apply(_objects(webhooks))
    certificates = state / "certificates"
    certificates.mkdir()
    configuration = state / "kueue.yaml"
    configuration.write_text(yaml.safe_dump(_configuration(certificates, webhooks, health)))
    environment = {"KUBECONFIG": str(cluster.kubeconfig_of(_ACCOUNT, _NAMESPACE))}
    with controller([binary("kueue"), f"--config={configuration}"], state / "kueue.log", environment):
        _mount_certificate(cluster, certificates)
        wait_for(lambda: _is_ready(health), "Kueue is ready", seconds=_START_SECONDS)
        yield


def _objects(port: int) -> list[Manifest]:
    """Return the objects of Kueue's chart. The API server finds its webhooks at a port of this machine."""
    source = source_of(KUEUE, "sigs.k8s.io/kueue") / "charts/kueue"
    rendered = yaml.load_all(helm("template", "kueue", source, f"--namespace={_NAMESPACE}"), yaml.CSafeLoader)
    objects = [item for item in rendered if item and item["kind"] not in _LEFT_OUT]
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": _NAMESPACE}}
    return [namespace, *(_at_port(item, port) for item in objects)]


def _at_port(manifest: Manifest, port: int) -> Manifest:
    """Return an object in which the Service of the webhooks leads to a port of this machine."""
    if manifest["kind"] == "Service" and manifest["metadata"]["name"] == _WEBHOOKS:
        return {**manifest, "spec": {"type": "ExternalName", "externalName": "localhost"}}
    for client in _webhook_clients(manifest):
        client["service"]["port"] = port
    return manifest


def _webhook_clients(manifest: Manifest) -> Iterator[Manifest]:
    """Yield how the API server reaches the webhooks of an object: those for requests, and those for conversions."""
    yield from (webhook["clientConfig"] for webhook in manifest.get("webhooks", ()))
    conversion = manifest.get("spec", {}).get("conversion", {}) if manifest["kind"].endswith("Definition") else {}
    if webhook := conversion.get("webhook"):
        yield webhook["clientConfig"]


def _configuration(certificates: Path, webhooks: int, health: int) -> Manifest:
    return {
        "apiVersion": "config.kueue.x-k8s.io/v1beta2",
        "kind": "Configuration",
        "health": {"healthProbeBindAddress": f"{_ADDRESS}:{health}"},
        "metrics": {"bindAddress": "0"},
        "webhook": {"host": _ADDRESS, "port": webhooks, "certDir": str(certificates)},
        "leaderElection": {"leaderElect": False},
        "integrations": {"frameworks": ["batch/job", "deployment"]},
        "featureGates": {"VisibilityOnDemand": False},
    }


def _mount_certificate(cluster: LocalCluster, folder: Path) -> None:
    """Play the kubelet, which mounts the Secret into which Kueue writes its certificate."""
    client = Client(cluster.kubeconfig)
    files: dict[str, Any] = wait_for(
        lambda: (client.get(SECRET, _NAMESPACE, _CERTIFICATE) or {}).get("data", {}),
        "Kueue has made its certificate",
        lambda data: "tls.crt" in data,
        _START_SECONDS,
    )
    client.close()
    # Kueue waits for the certificate, so its key must be there first.
    for name in ("tls.key", "tls.crt"):
        (folder / name).write_bytes(base64.b64decode(files[name]))


def _is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://{_ADDRESS}:{port}/readyz", timeout=10) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def create_queues(namespace: Namespace) -> None:
    """Create the objects that the guide shows, with a ClusterQueue only for this namespace."""
    for kind, manifest in zip((FLAVOR, CLUSTER_QUEUE, LOCAL_QUEUE), _queues_of_the_guide(), strict=True):
        if kind == LOCAL_QUEUE:
            manifest["metadata"]["namespace"] = namespace.name
            manifest["spec"]["clusterQueue"] = namespace.name
        if kind == CLUSTER_QUEUE:
            manifest["metadata"]["name"] = namespace.name
        namespace.client.apply(kind, manifest, "tests")


def _queues_of_the_guide() -> list[Manifest]:
    [block] = re.findall(r"```yaml\n(apiVersion: kueue\.x-k8s\.io/.*?)```", _GUIDE.read_text(), re.DOTALL)
    return list(yaml.safe_load_all(block))


def add_local_queue(namespace: Namespace, name: str) -> None:
    """Create another LocalQueue for the ClusterQueue of this namespace."""
    metadata = {"name": name, "namespace": namespace.name}
    manifest = {"apiVersion": f"{_GROUP}/{_VERSION}", "kind": LOCAL_QUEUE.kind, "metadata": metadata}
    namespace.client.create(LOCAL_QUEUE, {**manifest, "spec": {"clusterQueue": namespace.name}})


def set_quota(namespace: Namespace, resource: str, amount: int) -> None:
    """Change the quota of a resource in the ClusterQueue of this namespace."""
    queue = namespace.client.get(CLUSTER_QUEUE, None, namespace.name)
    assert queue
    [group] = queue["spec"]["resourceGroups"]
    [flavor] = group["flavors"]
    for item in flavor["resources"]:
        item["nominalQuota"] = amount if item["name"] == resource else item["nominalQuota"]
    namespace.client.patch(CLUSTER_QUEUE, None, namespace.name, {"spec": {"resourceGroups": [group]}})


def why_pending(namespace: Namespace) -> list[str]:
    """Return why Kueue does not admit its Workloads, as `kubectl describe workloads` shows it."""
    found = namespace.client.list(WORKLOAD, namespace.name)
    conditions = [item for workload in found for item in workload.get("status", {}).get("conditions", ())]
    return [item["message"] for item in conditions if item["type"] == "QuotaReserved" and item["status"] == "False"]
