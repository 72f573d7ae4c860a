"""The children of weights. Pure functions build them from the spec and the existing Job."""

from collections.abc import Iterable, Sequence

from kimi_linear_operator.kubernetes import metadata
from kimi_linear_operator.kubernetes.kinds import CLAIM, CONFIG_MAP, JOB, Manifest
from kimi_linear_operator.weights import claim, job, progress
from kimi_linear_operator.weights.labels import PROGRAM_ANNOTATION, WISH_ANNOTATION
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
    return [*build_claims(weights), *build_fetch(weights, claim_uid, live)]


def build_claims(weights: KimiLinearWeights) -> list[Manifest]:
    """Return the claim; an empty list if the spec names an existing claim."""
    manifest = claim.build_claim(weights)
    return [metadata.with_fingerprint(manifest)] if manifest else []


def build_fetch(weights: KimiLinearWeights, claim_uid: str, live: Sequence[Manifest]) -> list[Manifest]:
    """Return the ConfigMap with the program, and the Job that fetches the weights to this claim.

    A Job that stays keeps the ConfigMap with its program, even if another version made that ConfigMap.
    """
    program = metadata.with_fingerprint(job.build_program(weights))
    kept = kept_job(weights, claim_uid, (child for child in live if child["kind"] == JOB.kind))
    if kept is None:
        return [program, metadata.with_fingerprint(job.build_job(weights, claim_uid))]
    used = metadata.annotations(kept).get(PROGRAM_ANNOTATION)
    if used == program["metadata"]["name"]:
        return [program, kept]
    return [*(child for child in live if (child["kind"], child["metadata"]["name"]) == (CONFIG_MAP.kind, used)), kept]


def kept_job(weights: KimiLinearWeights, claim_uid: str, jobs: Iterable[Manifest]) -> Manifest | None:
    """Return the Job that stays: a Job that has fetched the wanted commit, else the Job for this pod."""
    own = [item for item in jobs if metadata.is_owned_by(item, weights.metadata.uid)]
    wish, name = job.wish(weights, claim_uid), job.job_name(weights, claim_uid)
    done = [item for item in own if metadata.annotations(item).get(WISH_ANNOTATION) == wish and _is_done(item)]
    return next(iter([*done, *(item for item in own if item["metadata"]["name"] == name)]), None)


def _is_done(item: Manifest) -> bool:
    result = progress.result_of(item)
    return result is not None and result.is_complete and "deletionTimestamp" not in item["metadata"]
