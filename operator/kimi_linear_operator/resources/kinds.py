"""The Kubernetes kinds that the operator reads or writes."""

from dataclasses import dataclass

from kimi_linear_operator.api import GROUP, VERSION


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


SERVER = Kind(GROUP, VERSION, "KimiLinearServer", "kimilinearservers")
BENCHMARK = Kind(GROUP, VERSION, "KimiLinearBenchmark", "kimilinearbenchmarks")
RESOURCES = (SERVER, BENCHMARK)
"""The kinds that users write."""

DEPLOYMENT = Kind("apps", "v1", "Deployment", "deployments")
REVISION = Kind("apps", "v1", "ControllerRevision", "controllerrevisions")
SERVICE = Kind("", "v1", "Service", "services")
JOB = Kind("batch", "v1", "Job", "jobs")
CONFIG_MAP = Kind("", "v1", "ConfigMap", "configmaps")
DISRUPTION_BUDGET = Kind("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets")
POD = Kind("", "v1", "Pod", "pods")
NEEDED = {
    SERVER: (SERVER, REVISION, DEPLOYMENT, SERVICE, DISRUPTION_BUDGET, POD),
    BENCHMARK: (BENCHMARK, CONFIG_MAP, JOB, POD),
}
"""What must have been read in a namespace before a resource there may be looked after."""

EVENT = Kind("", "v1", "Event", "events")
LEASE = Kind("coordination.k8s.io", "v1", "Lease", "leases")
