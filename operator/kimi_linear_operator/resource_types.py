"""The registry of custom resources. A new resource is one folder and one entry here; CONTRIBUTING.md lists the rest."""

from collections.abc import Mapping
from typing import Any

from kimi_linear_operator.benchmark.resource_type import BENCHMARK_TYPE
from kimi_linear_operator.kubernetes.check import Checked, check_any
from kimi_linear_operator.reconcile.resource_type import Types
from kimi_linear_operator.server.resource_type import SERVER_TYPE
from kimi_linear_operator.weights.resource_type import WEIGHTS_TYPE

TYPES: Types = {resource_type.kind: resource_type for resource_type in (SERVER_TYPE, BENCHMARK_TYPE, WEIGHTS_TYPE)}

DEFINITIONS = tuple(resource_type.definition for resource_type in TYPES.values())
"""The sources of the CustomResourceDefinitions."""

_CHECKERS = tuple(resource_type.checker for resource_type in TYPES.values())


def check(manifest: Mapping[str, Any]) -> Checked[Any]:
    """Check a resource of any type as a user wrote it. This never raises, whatever the manifest contains."""
    return check_any(manifest, _CHECKERS)
