"""The PersistentVolumeClaim that the operator makes for weights."""

from kimi_linear_operator.kubernetes import metadata
from kimi_linear_operator.kubernetes.kinds import CLAIM, Manifest
from kimi_linear_operator.weights.location import claim_name
from kimi_linear_operator.weights.spec import KimiLinearWeights


def build_claim(weights: KimiLinearWeights) -> Manifest | None:
    """Return the claim, None if the spec names an existing one.

    A claim that outlives the weights has no owner, so the garbage collector does not delete it.
    """
    volume = weights.spec.volume
    if volume.existing_claim:
        return None
    storage = {"storageClassName": volume.storage_class_name} if volume.storage_class_name else {}
    spec = {"accessModes": list(volume.access_modes), **storage, "resources": {"requests": {"storage": volume.size}}}
    manifest = metadata.build_manifest(weights, CLAIM, claim_name(weights), spec=spec)
    if volume.deletion_policy == "Keep":
        manifest["metadata"].pop("ownerReferences", None)
    return manifest
