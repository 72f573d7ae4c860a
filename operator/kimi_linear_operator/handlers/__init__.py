"""The running operator: kopf's watches on one side, workers on the other, a queue between them."""

from kimi_linear_operator.handlers.endpoints import AddressError
from kimi_linear_operator.handlers.operator import Settings, serve

__all__ = ["AddressError", "Settings", "serve"]
