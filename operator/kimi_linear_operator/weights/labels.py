"""Annotations of weights and of their Jobs."""

from kimi_linear_operator.kubernetes.kinds import GROUP

FETCH_ANNOTATION = f"{GROUP}/fetch"
"""On weights: any new value makes the operator ask the hub again which commit the branch names, and fetch what is new.
"""

RESULT_ANNOTATION = f"{GROUP}/result"
"""On a Job: how it ended, as its pod said. The pod may be gone later."""

WISH_ANNOTATION = f"{GROUP}/wish"
"""On a Job: a hash of what it fetches, and to which claim."""

PROGRAM_ANNOTATION = f"{GROUP}/program"
"""On a Job: the ConfigMap with the program that its pods run."""
