"""Where the weights are: the volume, and the folder on it."""

import re
from dataclasses import dataclass
from typing import Any

from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.weights.spec import KimiLinearWeights, Variant

_COMMIT = re.compile(r"[0-9a-f]{40}")

MODELS: dict[Variant, str] = {"instruct": "moonshotai/Kimi-Linear-48B-A3B-Instruct"}
"""Names of the models on the hub. Recipe, deployment generator."""

MOUNT_PATH = "/weights"
"""Where the volume is mounted in every pod."""

VOLUME = "weights"
"""Name of the volume in every pod."""


@dataclass(frozen=True)
class Location:
    """A model on a volume.

    Attributes:
        source: The source of the volume, as a pod's spec has it.
        folder: The model's folder in the container.
    """

    source: Manifest
    folder: str

    @property
    def volume(self) -> Manifest:
        """Return the volume of a pod."""
        return {"name": VOLUME, **self.source}


MOUNT: Manifest = {"name": VOLUME, "mountPath": MOUNT_PATH, "readOnly": True}
"""The mount of a container that reads the weights."""


def is_commit(value: Any) -> bool:
    """Return whether a value is the name of a commit. The value can come from anybody."""
    return isinstance(value, str) and bool(_COMMIT.fullmatch(value))


def claim_name(weights: KimiLinearWeights) -> str:
    """Return the name of the claim that holds the weights."""
    return weights.spec.volume.existing_claim or weights.metadata.name


def on_claim(claim: str, variant: Variant, commit: str) -> Location:
    """Return the path of a commit on a claim, in the layout of the hub's own cache."""
    folder = f"{MOUNT_PATH}/models--{MODELS[variant].replace('/', '--')}/snapshots/{commit}"
    return Location({"persistentVolumeClaim": {"claimName": claim}}, folder)


def location_of(weights: KimiLinearWeights) -> Location | None:
    """Return where the complete commit is, None if there is none yet."""
    claim, commit = claim_name(weights), weights.status.get("commit")
    if not is_commit(commit) or weights.status.get("claim") != claim:
        return None
    return on_claim(claim, weights.spec.source.variant, str(commit))


def location_in(template: Manifest, folder: str | None) -> Location | None:
    """Return where the pods of a template find their weights, None if the weights are not on a volume.

    Args:
        template: A pod template that any version of the operator has built.
        folder: The model's folder on the command line, None without one.
    """
    volumes: Any = template.get("spec", {}).get("volumes")
    sources = [item for item in volumes or () if isinstance(item, dict) and item.get("name") == VOLUME]
    if folder is None or not sources or not f"{folder}/".startswith(f"{MOUNT_PATH}/"):
        return None
    return Location({key: value for key, value in sources[0].items() if key != "name"}, folder)
