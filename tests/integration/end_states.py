"""The final states by which two runs are compared: objects without the fields that differ in each run."""

from collections.abc import Collection
from typing import Any

from integration.namespace import Namespace
from kimi_linear_operator.kubernetes.kinds import Manifest


def without(value: Any, fields: Collection[str]) -> Any:
    """Return JSON without these fields, at any depth."""
    if isinstance(value, dict):
        return {key: without(item, fields) for key, item in value.items() if key not in fields}
    return [without(item, fields) for item in value] if isinstance(value, list | tuple) else value


def rollouts(namespace: Namespace, server: str) -> Manifest:
    """Return how often a server's Deployment was changed and rolled out."""
    metadata = namespace.deployment(server)["metadata"]
    return {
        "generation": metadata["generation"],
        "revision": metadata["annotations"]["deployment.kubernetes.io/revision"],
        "replicaSets": len(namespace.replica_sets(server)),
    }
