"""The registry of custom resources: a new one is a folder, and a line here."""

from collections.abc import Mapping
from typing import Any

from kimi_linear_operator.benchmark.resource_type import BENCHMARK_TYPE
from kimi_linear_operator.kubernetes.check import Checked, check_any
from kimi_linear_operator.reconcile.resource_type import Types
from kimi_linear_operator.server.resource_type import SERVER_TYPE

TYPES: Types = {found.kind: found for found in (SERVER_TYPE, BENCHMARK_TYPE)}

DEFINITIONS = tuple(found.definition for found in TYPES.values())
"""What the API server has to know of them."""

_CHECKERS = tuple(found.checker for found in TYPES.values())


def check(manifest: Mapping[str, Any]) -> Checked[Any]:
    """Check a resource of any type as it was written; never raises for what it holds."""
    return check_any(manifest, _CHECKERS)
