"""The packages that a real node needs from the machine, such as Debian's container runtime, installed with apt."""

import os
import sys

import debian
from commands import LocalClusterError, succeeds

# A program of each package shows whether the package is installed. Debian keeps the plugins in /usr/lib/cni.
_PACKAGES = {
    "containerd": "containerd",
    "runc": "runc",
    "/usr/lib/cni/bridge": "containernetworking-plugins",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "ip": "iproute2",
}
# New namespaces for network, mounts and process ids. A container without privileges may not create them.
_UNSHARE = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "true"]


def obstacle() -> str | None:
    """Why this machine cannot run a real node; None if it can."""
    if sys.platform != "linux":
        return "a real node needs Linux"
    if os.geteuid():
        return "a real node needs root: its network and mounts are made by the kernel for root only"
    if not succeeds(_UNSHARE):
        return "a real node needs network and mount namespaces of its own, and `unshare` may not make them here"
    if missing_packages() and not debian.find("apt-get"):
        return f"a real node needs {', '.join(missing_packages())}, and only apt is known to install them"
    return None


def missing_packages() -> list[str]:
    """The Debian packages that are not installed yet."""
    return debian.missing(_PACKAGES)


def ensure_installed() -> None:
    """Install what is missing; LocalClusterError with the remedy if this machine does not let us."""
    if reason := obstacle():
        raise LocalClusterError(f"There can be no real node on this machine: {reason}.")
    debian.ensure_installed(_PACKAGES)
