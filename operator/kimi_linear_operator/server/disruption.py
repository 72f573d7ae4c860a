"""The PodDisruptionBudget of a server. It limits how many replicas can be evicted at the same time."""

from kimi_linear_operator.kubernetes import metadata
from kimi_linear_operator.kubernetes.kinds import DISRUPTION_BUDGET, Manifest
from kimi_linear_operator.server.deployment import wanted_replicas
from kimi_linear_operator.server.spec import KimiLinearServer


def needs_disruption_budget(server: KimiLinearServer) -> bool:
    """Return whether a server has several replicas.

    A budget for a single replica would only block drains of its node.
    """
    return wanted_replicas(server.spec) > 1


def build_disruption_budget(server: KimiLinearServer) -> Manifest:
    """Return the PodDisruptionBudget. It has the name of the server.

    A replica that does not serve can always be evicted. Perhaps its node is broken, and is drained for this reason.
    """
    spec = {
        "maxUnavailable": 1,
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
        "selector": {"matchLabels": metadata.selector(server)},
    }
    return metadata.build_manifest(server, DISRUPTION_BUDGET, server.metadata.name, spec=spec)
