"""The preview of weights on the command line, before they are applied."""

from collections.abc import Sequence

from kimi_linear_operator.kubernetes import metadata
from kimi_linear_operator.kubernetes.kinds import CLAIM, JOB, Manifest
from kimi_linear_operator.kubernetes.plan import Apply, Delete, Step, plan
from kimi_linear_operator.reconcile.resource_type import Preview, Referenced
from kimi_linear_operator.weights import manifests
from kimi_linear_operator.weights.location import claim_name
from kimi_linear_operator.weights.spec import KimiLinearWeights


def _build(weights: KimiLinearWeights, _: Referenced) -> list[Manifest]:
    return manifests.build(weights)


def _as_stored(weights: KimiLinearWeights, stored: Manifest | None) -> KimiLinearWeights:
    """Return weights from a file as the API server would store them: with the UID and all annotations."""
    if stored is None:
        return weights
    annotations = {**metadata.annotations(stored), **weights.metadata.annotations}
    update = {"uid": stored["metadata"]["uid"], "annotations": annotations}
    return weights.model_copy(update={"metadata": weights.metadata.model_copy(update=update)})


def _desired(weights: KimiLinearWeights, live: Sequence[Manifest], _: Referenced) -> list[Manifest]:
    return manifests.build(weights, claim_uid_in(weights, live), live)


def claim_uid_in(weights: KimiLinearWeights, live: Sequence[Manifest]) -> str:
    """Return the UID of the claim that the operator has made, empty if it is not among these objects."""
    name = None if weights.spec.volume.existing_claim else claim_name(weights)
    claims = (item["metadata"] for item in live if item["kind"] == CLAIM.kind)
    return next((str(claim["uid"]) for claim in claims if claim["name"] == name), "")


def _plan(weights: KimiLinearWeights, wanted: Sequence[Manifest], live: Sequence[Manifest]) -> list[Step]:
    """Return the steps for the children. An existing Job does not change, and no claim is deleted."""
    return [step for step in plan(weights, wanted, live) if not _is_left_out(step)]


def _is_left_out(step: Step) -> bool:
    is_kept_job = isinstance(step, Apply) and step.wanted["kind"] == JOB.kind
    return is_kept_job or (isinstance(step, Delete) and step.live["kind"] == CLAIM.kind)


PREVIEW = Preview(build=_build, as_stored=_as_stored, desired=_desired, plan=_plan)
