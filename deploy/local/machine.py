"""What a real node needs from the machine: Debian's container runtime and its like, installed with apt."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from commands import LocalClusterError, say, succeeds

# A program of each package, to see whether it is there. /usr/lib/cni is where Debian keeps the plugins.
_PACKAGES = {
    "containerd": "containerd",
    "runc": "runc",
    "/usr/lib/cni/bridge": "containernetworking-plugins",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "ip": "iproute2",
    "debootstrap": "debootstrap",
    "buildah": "buildah",
}
_INSTALL_SECONDS = 600
# A new network namespace, mounts and process ids: what a container without privileges may not make.
_UNSHARE = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "true"]


def obstacle() -> str | None:
    """Why this machine cannot be made to run a real node; None if it can."""
    if sys.platform != "linux":
        return "a real node needs Linux"
    if os.geteuid():
        return "a real node needs root: its network and mounts are made by the kernel for root only"
    if not succeeds(_UNSHARE):
        return "a real node needs network and mount namespaces of its own, and `unshare` may not make them here"
    if missing_packages() and not shutil.which("apt-get"):
        return f"a real node needs {', '.join(missing_packages())}, and only apt is known to install them"
    return None


def missing_packages() -> list[str]:
    """The Debian packages that are not there yet."""
    return sorted(package for program, package in _PACKAGES.items() if not _find(program))


def ensure_installed() -> None:
    """Install what is missing; LocalClusterError with the remedy if this machine does not let us."""
    if reason := obstacle():
        raise LocalClusterError(f"There can be no real node on this machine: {reason}.")
    if not (packages := missing_packages()):
        return
    say(f"Installing Debian packages for the real node: {', '.join(packages)} ...")
    _apt("update")
    _apt("install", "--yes", "--no-install-recommends", *packages)


def _find(program: str) -> bool:
    # Root's PATH does not always have sbin.
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
    return bool(shutil.which(program, path=path)) if "/" not in program else Path(program).exists()


def _apt(*arguments: str) -> None:
    command = ["apt-get", "--quiet=2", *arguments]
    # What stdout says is for programs (see `cluster.py env`), so apt's talk goes to stderr.
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(command, env=environment, stdout=sys.stderr, timeout=_INSTALL_SECONDS)
    if done.returncode:
        raise LocalClusterError(f"`{' '.join(command)}` failed (see above). Install the packages yourself, then retry.")
