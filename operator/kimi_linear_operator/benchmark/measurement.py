"""A benchmark in a pass, and what it measures."""

from dataclasses import dataclass

from kimi_linear_operator.benchmark.spec import KimiLinearBenchmark
from kimi_linear_operator.benchmark.target_state import TargetState
from kimi_linear_operator.reconcile.cached_object import Key


@dataclass(frozen=True)
class Measurement:
    """A benchmark and its target.

    Attributes:
        key: The key of the benchmark.
        benchmark: The benchmark.
        target_state: Whether its target is ready.
    """

    key: Key
    benchmark: KimiLinearBenchmark
    target_state: TargetState
