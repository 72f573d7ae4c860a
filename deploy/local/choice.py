"""The local cluster that the variable KIMI_LINEAR_CLUSTER asks for."""

import os

from commands import LocalClusterError

NAMES = ("kwok", "kind", "real")


def asked_for() -> str | None:
    """One of NAMES, or None if the variable is not set; LocalClusterError if it is something else."""
    name = os.environ.get("KIMI_LINEAR_CLUSTER")
    if name and name not in NAMES:
        raise LocalClusterError(f"KIMI_LINEAR_CLUSTER is {name}; it can be {', '.join(NAMES)}.")
    return name or None
