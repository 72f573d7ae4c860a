"""The disruption budget of a server: how many replicas a drain or an autoscaler may take at a time."""

from kimi_linear_operator.kubernetes import metadata
from kimi_linear_operator.kubernetes.kinds import DISRUPTION_BUDGET, Manifest
from kimi_linear_operator.server.deployment import wanted_replicas
from kimi_linear_operator.server.spec import KimiLinearServer


def needs_disruption_budget(server: KimiLinearServer) -> bool:
    """Return whether evictions can leave a replica: a budget for one alone would only keep its node from draining."""
    return wanted_replicas(server.spec) > 1


def build_disruption_budget(server: KimiLinearServer) -> Manifest:
    """Return the PodDisruptionBudget, named like the server.

    A replica that does not serve may always go: it can be the very node that is drained that keeps it from serving.
    """
    spec = {
        "maxUnavailable": 1,
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
        "selector": {"matchLabels": metadata.selector(server)},
    }
    return metadata.build_manifest(server, DISRUPTION_BUDGET, server.metadata.name, spec=spec)
