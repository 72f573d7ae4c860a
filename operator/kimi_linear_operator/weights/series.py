"""Metrics about weights."""

from collections.abc import Iterator, Sequence

from kimi_linear_operator.reconcile.cached_object import CachedObject
from kimi_linear_operator.reconcile.series import by_condition
from kimi_linear_operator.weights.spec import WEIGHTS


def series(objects: Sequence[CachedObject], _: str) -> Iterator[str]:
    """Yield the metric lines about weights: how many have each condition."""
    weights = [cached for cached in objects if cached.key.kind == WEIGHTS]
    yield from by_condition("kimi_linear_weights", "Weights by condition", weights)
