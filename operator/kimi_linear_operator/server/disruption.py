"""The PodDisruptionBudget of a server: how many replicas may be evicted at the same time."""

from kimi_linear_operator.kubernetes import metadata
from kimi_linear_operator.kubernetes.kinds import DISRUPTION_BUDGET, Manifest
from kimi_linear_operator.server.deployment import wanted_replicas
from kimi_linear_operator.server.spec import KimiLinearServer


def needs_disruption_budget(server: KimiLinearServer) -> bool:
    """Return whether a server has several replicas: a budget for a single one would only block drains of its node."""
    return wanted_replicas(server.spec) > 1


def build_disruption_budget(server: KimiLinearServer) -> Manifest:
    """Return the PodDisruptionBudget, named like the server.

    A replica that does not serve may always be evicted: perhaps its node is broken, and is drained for that reason.
    """
    spec = {
        "maxUnavailable": 1,
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
        "selector": {"matchLabels": metadata.selector(server)},
    }
    return metadata.build_manifest(server, DISRUPTION_BUDGET, server.metadata.name, spec=spec)
