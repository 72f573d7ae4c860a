"""The running operator: kopf's watches on one side, workers on the other, a queue between them."""

from kimi_linear_operator.handlers.operator import serve

__all__ = ["serve"]
