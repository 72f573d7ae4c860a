"""The Job that stays. A Job is replaced only if a user asks for a change.

Another version of the operator, or a default of that version, replaces no Job. The operator compares the weights with
the inputs for which the Job was made, as this version reads these inputs.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from heapq import nlargest
from itertools import chain
from typing import Any

from pydantic import ValidationError

from kimi_linear_operator.kubernetes import metadata, ownership
from kimi_linear_operator.kubernetes.conditions import ready_condition
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.stored import FieldPath, changed_fields
from kimi_linear_operator.kubernetes.unrequested import (
    Answers,
    UncertainFields,
    Writes,
    added,
    complete_until,
    find,
    known_until,
    recorded_again,
    reported_at,
)
from kimi_linear_operator.reasons import REASONS
from kimi_linear_operator.weights import job, job_inputs, progress
from kimi_linear_operator.weights.job_inputs import Recorded
from kimi_linear_operator.weights.labels import FETCH_ANNOTATION, WISH_ANNOTATION
from kimi_linear_operator.weights.spec import KimiLinearWeights, WeightsSpec

# Ready has one of these reasons if the status does not show that there was a Job for the spec.
_NOT_APPLIED = ("ApplyFailed", "InvalidSpec", "NameConflict", "Replacing", "Starting")

# Weights have one Job, and another one while the first is being deleted. Users can make many similar Jobs, and the
# record of each can take a hundredth of a second.
_MOST_READ = 4


@dataclass(frozen=True)
class Wanted:
    """What is wanted on the volume.

    Attributes:
        weights: The weights, without defaults that nobody asked for.
        claim_uid: The UID of the claim that the operator has made, empty if there is none yet.
        refused: Values that were removed from the spec, because nobody asked for them and this version refuses them.
    """

    weights: KimiLinearWeights
    claim_uid: str = ""
    refused: Mapping[FieldPath, Any] = field(default_factory=dict)

    @property
    def wish(self) -> str:
        """Return the hash of what is fetched."""
        return job.wish(self.weights, self.claim_uid)

    @property
    def name(self) -> str:
        """Return the name of a new Job."""
        return job.job_name(self.weights, self.claim_uid)

    def as_of(self, item: Manifest) -> "Wanted | None":
        """Return what was wanted when a Job was made, None if this was not recorded or cannot be read."""
        recorded = job_inputs.read(item)
        if recorded is None:
            return None
        weights = self.weights
        # While the generation is the same, nobody has changed the spec.
        is_same = recorded.generation == weights.metadata.generation
        inputs = job_inputs.without_refused(recorded.inputs, self.refused)
        spec = weights.spec if is_same else job_inputs.spec_of(inputs)
        annotations = {**weights.metadata.annotations, FETCH_ANNOTATION: recorded.fetch}
        update = {"spec": spec, "metadata": weights.metadata.model_copy(update={"annotations": annotations})}
        return Wanted(weights.model_copy(update=update), recorded.claim) if spec else None


def kept_job(wanted: Wanted, jobs: Iterable[Manifest]) -> Manifest | None:
    """Return the Job that stays: a Job that has fetched the wanted commit, else the Job for this pod."""
    wish, name = wanted.wish, wanted.name
    own = [(item, wanted.as_of(item)) for item in _newest_own(wanted.weights, jobs, name)]
    done = (item for item, made_for in own if _is_done(item) and _wish_of(item, made_for) == wish)
    return next(chain(done, (item for item, made_for in own if _name_of(item, made_for) == name)), None)


def _newest_own(weights: KimiLinearWeights, jobs: Iterable[Manifest], name: str = "") -> list[Manifest]:
    """Return the newest Jobs of these weights, the newest first. A Job with this name goes before all others."""
    prefix, uid = job.name_prefix(weights), weights.metadata.uid
    own = [item for item in jobs if metadata.is_owned_by(item, uid) and item["metadata"]["name"].startswith(prefix)]
    return nlargest(_MOST_READ, own, lambda item: (item["metadata"]["name"] == name, _created(item)))


def _is_done(item: Manifest) -> bool:
    result = progress.result_of(item)
    return result is not None and result.is_complete and not metadata.is_being_deleted(item)


def _wish_of(item: Manifest, made_for: Wanted | None) -> str:
    """Return the wish for which a Job was made, as this version computes it."""
    return made_for.wish if made_for else metadata.annotations(item).get(WISH_ANNOTATION, "")


def _name_of(item: Manifest, made_for: Wanted | None) -> str:
    """Return the name that this version would give to a Job."""
    return made_for.name if made_for else str(item["metadata"]["name"])


def newest(weights: KimiLinearWeights, jobs: Iterable[Manifest]) -> tuple[Manifest, Recorded] | None:
    """Return the newest Job with a readable record of its inputs, and this record; None if there is none.

    Jobs that are being deleted are left out, because they were made for older specs.
    """
    staying = [item for item in _newest_own(weights, jobs) if not metadata.is_being_deleted(item)]
    found = [(item, recorded) for item in staying if (recorded := job_inputs.read(item))]
    return max(found, key=lambda pair: (_created(pair[0]), pair[1].generation), default=None)


def _created(item: Manifest) -> str:
    return str(item["metadata"].get("creationTimestamp", ""))


def uncertain_fields(weights: KimiLinearWeights, item: Manifest, recorded: Manifest, now: str) -> UncertainFields:
    """Return the fields that are in the spec but were not when a Job was made. Perhaps nobody asked for them.

    Args:
        weights: The weights.
        item: The Job.
        recorded: The inputs for which it was made.
        now: The time as RFC 3339.
    """
    before, inputs = job_inputs.spec_of(recorded), job_inputs.inputs_of(weights.spec)
    changed = changed_fields(job_inputs.inputs_of(before) if before else recorded, inputs)
    return UncertainFields(added(changed, recorded), recorded, complete_until(_created(item), now))


def unrequested(uncertain: UncertainFields, live: Manifest, seen: Mapping[FieldPath, Any], now: str) -> Answers:
    """Return the uncertain fields that nobody asked for.

    Args:
        uncertain: The uncertain fields.
        live: The weights, with their managed fields. Without these, everything counts as asked for.
        seen: Fields of earlier answers, with their values.
        now: The time as RFC 3339.
    """
    managed_fields = live["metadata"].get("managedFields", ())
    if not managed_fields:
        return {}
    ready = ready_condition(live.get("status", {})).get("reason")
    has_job = ready in REASONS and ready not in _NOT_APPLIED
    known = known_until(reported_at(managed_fields), now) if has_job else ""
    newer = ownership.written_after(managed_fields, max(uncertain.recorded_until, known))
    return find(uncertain, live.get("spec", {}), Writes(managed_fields, newer, seen))


def without(weights: KimiLinearWeights, answers: Answers, recorded: Manifest) -> KimiLinearWeights:
    """Return weights with the recorded values of the fields that nobody asked for."""
    spec = recorded_again(weights.spec.model_dump(by_alias=True, exclude_unset=True), answers, recorded)
    try:
        return weights.model_copy(update={"spec": WeightsSpec.model_validate(spec)})
    except ValidationError:
        return weights  # Somebody has edited the record.
