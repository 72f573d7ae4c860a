"""Kinds of Kubernetes objects, and the resource name of GPUs."""

from dataclasses import dataclass
from typing import Any

GROUP = "kimi-linear.io"
VERSION = "v1alpha1"

GPU_RESOURCE = "amd.com/gpu"
"""The name under which AMD's device plugin announces GPUs."""

Manifest = dict[str, Any]
"""A Kubernetes object as JSON, with camelCase keys."""


@dataclass(frozen=True)
class Kind:
    """A kind of objects and its path at the API server.

    Attributes:
        group: API group, empty for the core group.
        version: API version.
        kind: Name of the kind in manifests.
        plural: Name of the kind in paths.
        source: The add-on that installs the definition of the kind, in words; empty if every cluster has the kind.
    """

    group: str
    version: str
    kind: str
    plural: str
    source: str = ""

    def __hash__(self) -> int:
        """Return a hash of the name alone.

        Every key in the cache contains a kind, and this halves the time to hash a key.
        """
        return hash(self.kind)

    @property
    def api_version(self) -> str:
        """Return the value of `apiVersion` in manifests."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def resource(self) -> str:
        """Return the plural with the group, as kubectl and the API server's messages name the kind."""
        return f"{self.plural}.{self.group}" if self.group else self.plural


DEPLOYMENT = Kind("apps", "v1", "Deployment", "deployments")
REVISION = Kind("apps", "v1", "ControllerRevision", "controllerrevisions")
SERVICE = Kind("", "v1", "Service", "services")
JOB = Kind("batch", "v1", "Job", "jobs")
CONFIG_MAP = Kind("", "v1", "ConfigMap", "configmaps")
CLAIM = Kind("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims")
DISRUPTION_BUDGET = Kind("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets")
INGRESS = Kind("networking.k8s.io", "v1", "Ingress", "ingresses")
HTTP_ROUTE = Kind("gateway.networking.k8s.io", "v1", "HTTPRoute", "httproutes", "the Gateway API")
AUTOSCALER = Kind("autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers")
SCALED_OBJECT = Kind("keda.sh", "v1alpha1", "ScaledObject", "scaledobjects", "KEDA")
NETWORK_POLICY = Kind("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies")
POD_MONITOR = Kind("monitoring.coreos.com", "v1", "PodMonitor", "podmonitors", "the Prometheus operator")
PROMETHEUS_RULE = Kind("monitoring.coreos.com", "v1", "PrometheusRule", "prometheusrules", "the Prometheus operator")
POD = Kind("", "v1", "Pod", "pods")

BENCHMARK = Kind(GROUP, VERSION, "KimiLinearBenchmark", "kimilinearbenchmarks")
"""A benchmark that verifies a server is a child of this server, so this kind is shared.

All other kinds of ours are only in the folders of their resources.
"""

EVENT = Kind("", "v1", "Event", "events")
LEASE = Kind("coordination.k8s.io", "v1", "Lease", "leases")


def kind_of(manifest: Manifest) -> Kind:
    """Return the kind of a child that the operator has built."""
    return _CHILD_KINDS[manifest["kind"]]


_CHILD_KINDS = {
    kind.kind: kind
    for kind in (
        REVISION,
        DEPLOYMENT,
        SERVICE,
        DISRUPTION_BUDGET,
        AUTOSCALER,
        SCALED_OBJECT,
        NETWORK_POLICY,
        INGRESS,
        HTTP_ROUTE,
        POD_MONITOR,
        PROMETHEUS_RULE,
        CONFIG_MAP,
        JOB,
        CLAIM,
        BENCHMARK,
    )
}
