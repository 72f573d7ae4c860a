"""What users write: the resources as typed values, and what every resource of ours shares."""

from kimi_linear_operator.api.base import (
    GROUP,
    VERSION,
    Condition,
    Manifest,
    Model,
    ObjectMeta,
)
from kimi_linear_operator.api.server import KimiLinearServer, ServerSpec, ServerStatus

__all__ = [
    "GROUP",
    "VERSION",
    "Condition",
    "KimiLinearServer",
    "Manifest",
    "Model",
    "ObjectMeta",
    "ServerSpec",
    "ServerStatus",
]
