"""The children of weights, each a pure function of their spec."""

from kimi_linear_operator.kubernetes import metadata
from kimi_linear_operator.kubernetes.kinds import CLAIM, CONFIG_MAP, JOB, Manifest
from kimi_linear_operator.weights import claim, job
from kimi_linear_operator.weights.spec import KimiLinearWeights

CHILDREN = (CLAIM, CONFIG_MAP, JOB)
"""The kinds of the children."""


def build(weights: KimiLinearWeights, claim_uid: str = "") -> list[Manifest]:
    """Return all children.

    Args:
        weights: The weights.
        claim_uid: The UID of the claim that the operator has made, empty if there is none yet.
    """
    return [*build_claims(weights), build_program(weights), build_job(weights, claim_uid)]


def build_claims(weights: KimiLinearWeights) -> list[Manifest]:
    """Return the claim, none if the spec names an existing one."""
    manifest = claim.build_claim(weights)
    return [metadata.with_fingerprint(manifest)] if manifest else []


def build_program(weights: KimiLinearWeights) -> Manifest:
    """Return the ConfigMap with the program that fetches."""
    return metadata.with_fingerprint(job.build_program(weights))


def build_job(weights: KimiLinearWeights, claim_uid: str) -> Manifest:
    """Return the Job that fetches to this claim."""
    return metadata.with_fingerprint(job.build_job(weights, claim_uid))
