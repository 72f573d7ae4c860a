"""The shell command that runs in a container before SGLang."""

import shlex
from collections.abc import Sequence

from kimi_linear_operator.server.sglang import inline

INSTALL = "python3 -m pip install --no-cache-dir"
EXEC = "exec"
_LAUNCHER = inline.program("launcher")


def command(packages: Sequence[str], *, emptied: str | None = None, key_file: str | None = None) -> list[str]:
    """Return the container's command: it empties a folder, installs missing packages, and executes the arguments.

    `exec` makes SGLang the container's main process. A shell would not pass on SIGTERM, and SGLang would not drain. pip
    runs only if an import fails, so with the packages in the image, no package index is needed.

    Args:
        packages: The Python packages.
        emptied: A folder to empty first, such as a memory volume, which outlives the container.
        key_file: The file with SGLang's API key.
    """
    clean = f"rm -rf {emptied}/* {emptied}/.[!.]*; " if emptied else ""
    launcher = f"python3 -c {shlex.quote(_LAUNCHER)} {key_file} " if key_file else ""
    script = f'{clean}{_installation(packages)}{EXEC} {launcher}"$@"'
    return ["/bin/sh", "-c", script, "sglang"] if emptied or packages or key_file else []


def _installation(packages: Sequence[str]) -> str:
    if not packages:
        return ""
    imports = ", ".join(_import_name(package) for package in packages)
    return f"python3 -c 'import {imports}' 2>/dev/null || {INSTALL} {shlex.join(packages)} && "


def _import_name(package: str) -> str:
    """Return the module that a requirement most likely installs.

    A wrong guess is harmless: the import fails, and pip finds the requirement satisfied without a package index.
    """
    name = package
    for separator in "[=<>~!":
        name = name.split(separator)[0]
    return name.replace("-", "_")
