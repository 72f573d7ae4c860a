"""Kinds of Kubernetes objects, and what the GPUs are called that pods ask for."""

from dataclasses import dataclass
from typing import Any

GROUP = "kimi-linear.io"
VERSION = "v1alpha1"

GPU_RESOURCE = "amd.com/gpu"
"""As AMD's device plugin announces them."""

Manifest = dict[str, Any]
"""A Kubernetes object as the API server takes it: camelCase keys, JSON values."""


@dataclass(frozen=True)
class Kind:
    """A kind and where the API server keeps it.

    Attributes:
        group: API group, empty for the core group.
        version: API version.
        kind: Name of the kind, as manifests write it.
        plural: Name of the kind, as paths write it.
    """

    group: str
    version: str
    kind: str
    plural: str

    def __hash__(self) -> int:
        """Return a hash of the name alone: kinds are in every key of the store, and this takes half of the time."""
        return hash(self.kind)

    @property
    def api_version(self) -> str:
        """Return group and version, as manifests write them."""
        return f"{self.group}/{self.version}" if self.group else self.version


DEPLOYMENT = Kind("apps", "v1", "Deployment", "deployments")
REVISION = Kind("apps", "v1", "ControllerRevision", "controllerrevisions")
SERVICE = Kind("", "v1", "Service", "services")
JOB = Kind("batch", "v1", "Job", "jobs")
CONFIG_MAP = Kind("", "v1", "ConfigMap", "configmaps")
DISRUPTION_BUDGET = Kind("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets")
POD = Kind("", "v1", "Pod", "pods")

EVENT = Kind("", "v1", "Event", "events")
LEASE = Kind("coordination.k8s.io", "v1", "Lease", "leases")


def kind_of(manifest: Manifest) -> Kind:
    """Return the kind of an object that the operator has built."""
    return _BUILT[manifest["kind"]]


_BUILT = {kind.kind: kind for kind in (REVISION, DEPLOYMENT, SERVICE, DISRUPTION_BUDGET, CONFIG_MAP, JOB)}
