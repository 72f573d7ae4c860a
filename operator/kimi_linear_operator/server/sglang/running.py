"""The image and the arguments of a running SGLang, read from a pod template of any version of the operator."""

import shlex
from collections.abc import Sequence
from itertools import pairwise

from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.pod_template import ENGINE_CONTAINER
from kimi_linear_operator.server.sglang.entrypoint import EXEC, INSTALL

# In characters. A spec has at most 16 packages of 128 characters. Anybody can write a longer command into a Deployment,
# and `shlex` needs a microsecond for each character.
_LONGEST_PACKAGES = 8192


def image_in(template: Manifest) -> str | None:
    """Return the engine's image in a pod template, None if it has none."""
    return _engine_in(template).get("image")


def command_line_in(template: Manifest) -> list[str]:
    """Return SGLang's command line in a pod template of any version of the operator; empty if it has none."""
    return [word for word in _engine_in(template).get("args") or () if isinstance(word, str)]


def value_of(flag: str, words: Sequence[str]) -> str | None:
    """Return the value of a flag on a command line that the operator built, None if the flag is missing."""
    return next((value for name, value in pairwise(words) if name == flag), None)


def packages_in(template: Manifest) -> list[str] | None:
    """Return the Python packages that a pod template installs, None if they cannot be read."""
    container = _engine_in(template)
    script = " ".join(map(str, container.get("command") or ()))
    packages, has_ended, _ = script.partition(f"{INSTALL} ")[2].partition(f" && {EXEC} ")
    if not container or (not has_ended and "pip" in script):
        return None
    return _split(packages)


def _split(text: str) -> list[str] | None:
    try:
        return shlex.split(text) if len(text) <= _LONGEST_PACKAGES else None
    except ValueError:
        return None


def _engine_in(template: Manifest) -> Manifest:
    """Return the engine's container in a pod template, empty if there is none."""
    containers = template.get("spec", {}).get("containers", ())
    return next((dict(container) for container in containers if container.get("name") == ENGINE_CONTAINER), {})
