"""The place of the model in a server's pods.

The place is the volume of a KimiLinearWeights, or an image. A model from the hub has no location.
"""

from collections.abc import Sequence
from typing import Any

from kimi_linear_operator.kubernetes.conditions import Reason
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.server.revision import Revision
from kimi_linear_operator.server.sglang.running import command_line_in, value_of
from kimi_linear_operator.server.spec import ServerSpec
from kimi_linear_operator.weights.definition import CHECKER
from kimi_linear_operator.weights.location import (
    MODELS,
    MOUNT_PATH,
    Location,
    claim_name,
    location_in,
    location_of,
    on_claim,
)
from kimi_linear_operator.weights.readiness import readiness_of
from kimi_linear_operator.weights.spec import KimiLinearWeights


class WeightsUnreadyError(Exception):
    """A server needs a new pod template, but its weights have never been complete.

    Attributes:
        reason: The reason of the server's conditions.
    """

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.message)
        self.reason = reason


def located(spec: ServerSpec, location: Location) -> ServerSpec:
    """Return a spec with the model in a folder. A model without a name in the spec keeps its name on the hub."""
    served_name = spec.model.served_name or MODELS[spec.model.variant]
    update = {"path": location.folder, "served_name": served_name, "weights": None, "image": None}
    return spec.model_copy(update={"model": spec.model.model_copy(update=update)})


def in_image(spec: ServerSpec) -> Location | None:
    """Return where an image with the model is mounted, None if the spec names no image."""
    return Location({"image": {"reference": spec.model.image}}, MOUNT_PATH) if spec.model.image else None


def find(spec: ServerSpec, weights: Manifest | None, revisions: Sequence[Revision]) -> Location | None:
    """Return where a server's model is, None if it is neither on the volume of a KimiLinearWeights nor in an image.

    If the weights are gone or not ready, the result is the location in the newest pods. So running pods stay, and a
    change of the spec rolls out with the same commit.

    Args:
        spec: The server's spec.
        weights: The KimiLinearWeights that it names, None if there is none.
        revisions: The server's kept pod templates.

    Raises:
        WeightsUnreadyError: No commit is known.
    """
    name = spec.model.weights
    if name is None:
        return in_image(spec)
    found = _complete(weights) or _kept(name, revisions)
    if found is None:
        raise WeightsUnreadyError(_reason(name, weights))
    return found


def preview(spec: ServerSpec, weights: KimiLinearWeights | None, revisions: Sequence[Revision]) -> Location | None:
    """Return where a server's model will be. If the commit is not known yet, the path contains the revision instead."""
    name = spec.model.weights
    if name is None or weights is None:
        return in_image(spec)
    source = weights.spec.source
    unknown = on_claim(claim_name(weights), source.variant, source.revision)
    return location_of(weights) or _kept(name, revisions) or unknown


def of_pods(spec: ServerSpec, template: Manifest | None) -> Location | None:
    """Return where the pods of a template find the model, None if it comes from the hub or from a mounted folder."""
    if template is None or not (spec.model.weights or spec.model.image):
        return None
    return location_in(template, value_of("--model-path", command_line_in(template)))


def _complete(manifest: Manifest | None) -> Location | None:
    """Return where the complete commit is, None if there is none."""
    weights = CHECKER.read_stored(manifest) if manifest else None
    return location_of(weights) if weights else None


def _kept(name: str, revisions: Sequence[Revision]) -> Location | None:
    """Return where the newest kept template finds these weights, None if it does not use them."""
    newest = max(revisions, key=lambda revision: revision.number, default=None)
    model: Any = newest.inputs.get("model") if newest else None
    if newest is None or not isinstance(model, dict) or model.get("weights") != name:
        return None
    return location_in(newest.template, value_of("--model-path", command_line_in(newest.template)))


def _reason(name: str, manifest: Manifest | None) -> Reason:
    """Return why no commit is complete yet."""
    if manifest is None:
        remedy = "create it, or correct spec.model.weights"
        return Reason("WeightsMissing", f"there is no KimiLinearWeights {name} in this namespace ({remedy})")
    readiness = readiness_of(manifest)
    cause = f"weights {name}: {readiness.cause}"
    return Reason("WeightsUnready" if readiness.is_stalled else "WeightsDownloading", cause)
