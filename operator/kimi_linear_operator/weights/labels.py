"""Annotations of weights and their Jobs."""

from kimi_linear_operator.kubernetes.kinds import GROUP

FETCH_ANNOTATION = f"{GROUP}/fetch"
"""On weights: any new value makes the operator ask the hub again which commit the branch names, and fetch what is new.
"""

RESULT_ANNOTATION = f"{GROUP}/result"
"""On a Job: how it ended, as its pod said. The pod may be gone later."""
