"""Annotations of weights and of their Jobs."""

from kimi_linear_operator.kubernetes.kinds import GROUP

FETCH_ANNOTATION = f"{GROUP}/fetch"
"""On weights.

After any change of the value, the operator asks the hub again which commit the branch names, and fetches that commit.
"""

RESULT_ANNOTATION = f"{GROUP}/result"
"""On a Job: how the program ended, in its own words. The pod may be gone later."""

INPUTS_ANNOTATION = f"{GROUP}/inputs"
"""On a Job: the part of the spec for which the Job was made."""

WISH_ANNOTATION = f"{GROUP}/wish"
"""On a Job: a hash of what the Job fetches, and to which claim."""

PROGRAM_ANNOTATION = f"{GROUP}/program"
"""On a Job: the name of the ConfigMap with the program that its pods run."""
