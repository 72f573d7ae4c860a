"""What users write: the resources as typed values, and what every resource of ours shares."""

from kimi_linear_operator.api.base import (
    GROUP,
    VERSION,
    Condition,
    Manifest,
    Model,
    ObjectMeta,
)
from kimi_linear_operator.api.benchmark import BenchmarkSpec, BenchmarkStatus, KimiLinearBenchmark
from kimi_linear_operator.api.server import KimiLinearServer, ServerSpec, ServerStatus

Resource = KimiLinearServer | KimiLinearBenchmark

__all__ = [
    "GROUP",
    "VERSION",
    "BenchmarkSpec",
    "BenchmarkStatus",
    "Condition",
    "KimiLinearBenchmark",
    "KimiLinearServer",
    "Manifest",
    "Model",
    "ObjectMeta",
    "Resource",
    "ServerSpec",
    "ServerStatus",
]
