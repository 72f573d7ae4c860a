"""The children of weights. Pure functions build them from the spec and the existing Job."""

from collections.abc import Sequence

from kimi_linear_operator.kubernetes import metadata
from kimi_linear_operator.kubernetes.kinds import CLAIM, CONFIG_MAP, JOB, Manifest
from kimi_linear_operator.weights import claim, job
from kimi_linear_operator.weights.kept_job import Wanted, kept_job
from kimi_linear_operator.weights.labels import PROGRAM_ANNOTATION
from kimi_linear_operator.weights.spec import KimiLinearWeights

CHILDREN = (CLAIM, CONFIG_MAP, JOB)
"""The kinds of the children."""


def build(weights: KimiLinearWeights, claim_uid: str = "", live: Sequence[Manifest] = ()) -> list[Manifest]:
    """Return all children. Existing children that must stay are returned as they are.

    Args:
        weights: The weights.
        claim_uid: The UID of the claim that the operator has made, empty if there is none yet.
        live: The children that exist.
    """
    return [*build_claims(weights), *build_fetch(Wanted(weights, claim_uid), live)]


def build_claims(weights: KimiLinearWeights) -> list[Manifest]:
    """Return the claim; an empty list if the spec names an existing claim."""
    manifest = claim.build_claim(weights)
    return [metadata.with_fingerprint(manifest)] if manifest else []


def build_fetch(wanted: Wanted, live: Sequence[Manifest]) -> list[Manifest]:
    """Return the ConfigMap with the program, and the Job that fetches the weights to the claim.

    A Job that stays keeps the ConfigMap with its program, even if another version made that ConfigMap.
    """
    program = metadata.with_fingerprint(job.build_program(wanted.weights))
    kept = kept_job(wanted, (child for child in live if child["kind"] == JOB.kind))
    if kept is None:
        return [program, metadata.with_fingerprint(job.build_job(wanted.weights, wanted.claim_uid))]
    used = metadata.annotations(kept).get(PROGRAM_ANNOTATION)
    if used == program["metadata"]["name"]:
        return [program, kept]
    return [*(child for child in live if (child["kind"], child["metadata"]["name"]) == (CONFIG_MAP.kind, used)), kept]
