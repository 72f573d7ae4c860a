"""The inputs of a Job: the part of the spec that decides which Job fetches the weights, recorded on the Job."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from kimi_linear_operator.kubernetes import metadata, record_text, stored
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.stored import FieldPath
from kimi_linear_operator.reconcile.decoded import once
from kimi_linear_operator.weights.labels import FETCH_ANNOTATION, INPUTS_ANNOTATION
from kimi_linear_operator.weights.spec import KimiLinearWeights, WeightsSpec

_INPUTS: Mapping[str, Any] = {"source": True, "image": True, "pod_template": True, "volume": {"existing_claim"}}
# Characters of the annotation. All annotations of an object together can have 256 KiB. Only a large podTemplate needs
# more. A Job without the annotation is replaced when its name changes.
_LONGEST_RECORD = 65_536


@dataclass(frozen=True)
class Recorded:
    """What a Job was made for.

    Attributes:
        generation: The generation of the spec.
        fetch: The value of the annotation that asks for another look at the hub.
        claim: The UID of the claim that the operator has made, empty if the spec names another one.
        inputs: The inputs that were in the spec.
    """

    generation: int
    fetch: str
    claim: str
    inputs: Manifest


def record(weights: KimiLinearWeights, claim_uid: str) -> str:
    """Return the text of the annotation of a new Job, empty if it is too large."""
    content = {
        "generation": weights.metadata.generation,
        "fetch": fetch_of(weights),
        "claim": claim_uid,
        "inputs": weights.spec.model_dump(by_alias=True, exclude_unset=True, include=dict(_INPUTS)),
    }
    text = json.dumps(content, sort_keys=True)
    return text if record_text.fits(text, _LONGEST_RECORD) else ""


def read(job: Manifest) -> Recorded | None:
    """Return what a Job was made for, None if its annotation is missing, too large or cannot be read.

    Within a pass, each Job is read once.
    """
    return once(_read, (job,))


def _read(jobs: tuple[Manifest, ...]) -> Recorded | None:
    [job] = jobs
    content = record_text.decode(metadata.annotations(job).get(INPUTS_ANNOTATION, ""), _LONGEST_RECORD)
    types = {"generation": int, "fetch": str, "claim": str, "inputs": dict}
    is_readable = isinstance(content, dict) and all(isinstance(content.get(key), kind) for key, kind in types.items())
    return Recorded(**{key: content[key] for key in types}) if is_readable else None


def fetch_of(weights: KimiLinearWeights) -> str:
    """Return the value of the annotation that asks for another look at the hub, empty if there is none."""
    return weights.metadata.annotations.get(FETCH_ANNOTATION, "")


def inputs_of(spec: WeightsSpec) -> Manifest:
    """Return the inputs in a spec, with all defaults. The nulls of podTemplate stay, because each removes a field."""
    inputs = spec.model_dump(by_alias=True, exclude_none=True, include=dict(_INPUTS))
    return inputs | ({"podTemplate": spec.pod_template.changes()} if spec.pod_template else {})


def without_refused(recorded: Manifest, refused: Mapping[FieldPath, Any]) -> Manifest:
    """Return recorded inputs without the values that nobody asked for and that this version refuses."""
    return stored.without_all(recorded, stored.unchanged(recorded, refused))


def spec_of(recorded: Manifest) -> WeightsSpec | None:
    """Return the spec with these inputs of any version, without unknown fields; None if they cannot be read."""
    try:
        return WeightsSpec.model_validate(stored.without_unknown_fields(recorded, WeightsSpec))
    except ValidationError:
        return None
