"""Metrics about weights."""

from collections.abc import Iterator, Sequence

from kimi_linear_operator.reconcile.cached_object import CachedObject
from kimi_linear_operator.reconcile.series import CONDITION_LABELS, ResourceMetric, by_condition
from kimi_linear_operator.weights.spec import WEIGHTS

_BY_CONDITION = ResourceMetric("kimi_linear_weights", "Weights on volumes by condition", CONDITION_LABELS)
RESOURCE_METRICS = (_BY_CONDITION,)
"""All metrics about weights."""


def series(objects: Sequence[CachedObject], _: str) -> Iterator[str]:
    """Yield the metric lines about weights: how many have each condition."""
    weights = [cached for cached in objects if cached.key.kind == WEIGHTS]
    yield from by_condition(_BY_CONDITION, weights)
