"""SGLang's images: which one a release and the hardware select."""

import re

from kimi_linear_operator.server.spec import ServerSpec
from kimi_linear_operator.server.spec.engine import Hardware

# The operator is written for the arguments and the behaviour of this release. Recipe 4.2.1 names it.
TESTED_RELEASES = ("v0.5.7",)
ARCHITECTURES: dict[Hardware, str] = {"mi300x": "mi30x", "mi325x": "mi30x", "mi355x": "mi35x"}
# LLVM's names of the GPU architectures. An image contains kernels for one of these (docker/rocm.Dockerfile: mi30x,
# mi35x).
GPU_ARCHITECTURES: dict[Hardware, str] = {"mi300x": "gfx942", "mi325x": "gfx942", "mi355x": "gfx950"}
_REPOSITORY = "lmsysorg/sglang"
# Published tags are irregular: the ROCm release changes, and some images are in another repository, with a date. {}
# stands for the architecture. Sources: the recipe for v0.5.7; public projects that pull the other images (InferenceX,
# Hyperloom, Infera, ROCm's documentation), as of November 2026.
PUBLISHED_IMAGES: dict[str, str] = {
    "v0.5.7": "lmsysorg/sglang:v0.5.7-rocm700-{}",
    "v0.5.8": "lmsysorg/sglang:v0.5.8-rocm700-{}",
    "v0.5.9": "lmsysorg/sglang:v0.5.9-rocm700-{}",
    "v0.5.10": "lmsysorg/sglang:v0.5.10-rocm720-{}",
    "v0.5.12.post1": "lmsysorg/sglang:v0.5.12.post1-rocm720-{}",
    "v0.5.14": "lmsysorg/sglang:v0.5.14-rocm720-{}",
    "v0.5.16": "lmsysorg/sglang:v0.5.16-rocm720-{}",
    "v0.5.18": "lmsysorg/sglang-rocm:v0.5.18-rocm724-{}-20260825",
}
GUESSED_ROCM = "rocm720"
"""The guess for a release that is not in PUBLISHED_IMAGES. Most tags since v0.5.10 contain it."""

# SGLang's ROCm images are built for this architecture only (docker/rocm.Dockerfile).
IMAGE_ARCHITECTURE = "amd64"

_RELEASE_IN_TAG = re.compile(r":(v[0-9]+\.[0-9]+\.[0-9]+[A-Za-z0-9.]*)")


def image_of(spec: ServerSpec) -> str:
    """Return the engine's image: the image in the spec, or the image that SGLang's release and the hardware select."""
    if spec.engine.image:
        return spec.engine.image
    guess = f"{_REPOSITORY}:{spec.engine.version}-{GUESSED_ROCM}-{{}}"
    return PUBLISHED_IMAGES.get(spec.engine.version, guess).format(ARCHITECTURES[spec.hardware])


def release_of(spec: ServerSpec) -> str | None:
    """Return SGLang's release, None if the spec names an image whose tag contains no release."""
    if spec.engine.image is None:
        return spec.engine.version
    match = _RELEASE_IN_TAG.search(spec.engine.image)
    return match[1] if match else None
