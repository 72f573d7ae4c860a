"""The packages that a real node needs on the machine, such as Debian's container runtime.

They are installed with apt.
"""

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
# Creates new namespaces for network, mounts and process ids. A container without privileges is not allowed to create
# them.
_UNSHARE = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "true"]


def obstacle() -> str | None:
    """Why this machine cannot run a real node; None if it can."""
    if sys.platform != "linux":
        return "a real node needs Linux"
    if os.geteuid():
        return "a real node needs root, because the kernel lets only root create its network and mounts"
    if not succeeds(_UNSHARE):
        return (
            "a real node needs its own network and mount namespaces, and `unshare` is not allowed to create them on "
            "this machine"
        )
    if missing_packages() and not debian.find("apt-get"):
        return f"a real node needs {', '.join(missing_packages())}, and this script can install them only with apt"
    return None


def missing_packages() -> list[str]:
    """The Debian packages that are not installed yet."""
    return debian.missing(_PACKAGES)


def ensure_installed() -> None:
    """Install missing packages. Raises LocalClusterError with the remedy if this machine does not allow it."""
    if reason := obstacle():
        raise LocalClusterError(f"This machine cannot have a real node: {reason}.")
    debian.ensure_installed(_PACKAGES)
