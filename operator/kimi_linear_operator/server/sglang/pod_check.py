"""Checks quickly whether a pod has what SGLang needs. Runs in the init container preflight.

    python3 -c TEXT-OF-THIS-FILE --gpus=4 --architecture=gfx942 --shared-memory-mib=64

The container ends with an error only if SGLang is certain to fail. The termination message then contains the reason. If
something cannot be read, the log contains a line about it. The program uses only the standard library of Python 3.10.
It contains no single quotes and no dollar signs, because the shell and Kubernetes would make them hard to read.
"""

import argparse
import errno
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

# Errors of open() that SGLang would get, too. Other errors may end by themselves: the driver is busy while it resets a
# GPU.
LASTING = (errno.EACCES, errno.ENODEV, errno.ENOENT, errno.ENXIO, errno.EPERM)
# If one of these variables is set, the weights are in another place.
ELSEWHERE = ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "SGLANG_USE_MODELSCOPE")


class UnfitError(Exception):
    """SGLang cannot run in this pod."""


class UnknownError(Exception):
    """It cannot be told."""


def driver(given: argparse.Namespace) -> str:
    """Check that the driver of the GPUs can be opened."""
    return opened(given, "kfd")


def gpus(given: argparse.Namespace) -> str:
    """Check that the pod has enough GPUs, and that they can be opened. ROCm opens them by these names."""
    names = render_nodes(given)
    if len(names) < given.gpus:
        raise UnfitError(f"the pod has {len(names)} of {given.gpus} GPUs (/dev/dri/renderD*)")
    return ", ".join(opened(given, f"dri/{name}") for name in names)


def architecture(given: argparse.Namespace) -> str:
    """Check that the image has kernels for the GPUs.

    Linux shows a container only the container's own GPUs, if it shows any.
    """
    minors = {name[len("renderD") :] for name in render_nodes(given)}
    found: set[str] = set()
    for file in sorted((given.sys / "class/kfd/kfd/topology/nodes").glob("*/properties")):
        try:
            facts = dict(re.findall(r"^(\w+) (\d+)", file.read_text(), re.MULTILINE))
        except OSError:
            continue
        if facts.get("drm_render_minor") in minors and int(facts.get("gfx_target_version", 0)):
            found.add(gfx(int(facts["gfx_target_version"])))
    if not found:
        raise UnknownError("no properties of these GPUs in /sys/class/kfd")
    if others := sorted(found - {given.architecture}):
        raise UnfitError(f"a GPU is {others[0]}, but the image for spec.hardware is made for {given.architecture}")
    return ", ".join(found)


def shared_memory(given: argparse.Namespace) -> str:
    """Check that a pod with several GPUs has more shared memory than a container's default, which is soon full."""
    size = mebibytes(given.dev / "shm", "f_blocks")
    if given.gpus > 2 and size <= given.shared_memory_mib:
        raise UnfitError(
            f"shared memory has only {given.shared_memory_mib} MiB or less: mount a larger volume dshm (podTemplate)"
        )
    return f"{size} MiB"


def disk(given: argparse.Namespace) -> str:
    """Check that the missing part of the weights fits on the disk."""
    if not given.weights:
        return "no weights are downloaded to the disk of the node"
    if named := [name for name in ELSEWHERE if name in os.environ]:
        raise UnknownError(f"{named[0]} is set: the weights are elsewhere")
    there = sum(item.lstat().st_blocks for item in given.weights.rglob("*")) * 512 // 2**20
    free = mebibytes(given.weights, "f_bavail")
    if there + free < given.weights_gib * 1024:
        raise UnfitError(
            f"the disk of the node has less than the {given.weights_gib} GiB free that the weights take: free space "
            "there, or keep the weights on a volume (podTemplate, volume cache)"
        )
    return f"{free} MiB are free, {there} MiB are there"


def opened(given: argparse.Namespace, name: str) -> str:
    """Open a device as ROCm does, and return its name."""
    try:
        os.close(os.open(given.dev / name, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        message = f"/dev/{name} cannot be opened ({error.strerror})"
        raise (UnfitError if error.errno in LASTING else UnknownError)(message) from error
    return name


def render_nodes(given: argparse.Namespace) -> list[str]:
    """Return the names of the GPUs that the pod has."""
    try:
        return sorted(path.name for path in (given.dev / "dri").iterdir() if path.name.startswith("renderD"))
    except FileNotFoundError:
        return []


def gfx(version: int) -> str:
    """Return the name of an architecture: 90402 is gfx942."""
    return f"gfx{version // 10000}{version // 100 % 100:x}{version % 100:x}"


def mebibytes(path: Path, blocks: str) -> int:
    """Return how many MiB the blocks of this kind in a file system have."""
    status = os.statvfs(path)
    return int(getattr(status, blocks)) * status.f_frsize // 2**20


CHECKS: tuple[Callable[[argparse.Namespace], str], ...] = (driver, gpus, architecture, shared_memory, disk)


def main(arguments: list[str]) -> int:
    """Run all checks and return the exit code: 1 if SGLang cannot run in this pod."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--gpus", type=int)
    parser.add_argument("--architecture")
    parser.add_argument("--shared-memory-mib", type=int)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--weights-gib", type=int)
    for option, path in (("--dev", "/dev"), ("--sys", "/sys"), ("--message", "/dev/termination-log")):
        parser.add_argument(option, type=Path, default=Path(path))
    given = parser.parse_args(arguments)
    unfit = []
    for check in CHECKS:
        try:
            said = f"ok: {check(given)}"
        except UnfitError as error:
            unfit.append(str(error))
            said = f"unfit: {error}"
        # An error of the check itself must not stop a server.
        except Exception as error:
            said = f"not checked: {error}"
        print(f"{check.__name__}: {said}", flush=True)
    if unfit:
        given.message.write_text("; ".join(unfit))
    return 1 if unfit else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
