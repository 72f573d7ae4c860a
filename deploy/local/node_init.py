"""The first process of a real node's namespaces: it makes the network, starts all parts, and ends when a part ends.

When this process ends, the kernel ends all other processes of the namespaces, including pods.
"""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cgroups
from binaries import binary
from commands import LocalClusterError, run, say, succeeds
from control_plane import SERVICE_ADDRESSES
from node_config import CONTAINERD_SOCKET, IMAGES, NODE_NAME, PRIVATE_FOLDERS, UPLINK, Node, write_configuration

_SETTINGS = {
    "net/ipv4/ip_forward": "1",
    # Without this module, a pod gets no answer from itself or from a pod of the same node through a Service.
    "net/bridge/bridge-nf-call-iptables": "1",
}
_PATIENCE_SECONDS = 30


def main() -> int:
    """Run a node, whose number is in the file `number` of its state folder, until a part of it ends."""
    file = Path(sys.argv[1])
    node = Node(file.parent, int(file.read_text()))
    try:
        _hide_the_machine(node)
        _make_network(node)
        components = _start(node)
    except (LocalClusterError, OSError) as error:
        say(str(error))
        return 1
    say(f"{_wait_for_an_end(components)} ended.")
    return 1


def _hide_the_machine(node: Node) -> None:
    """Mount empty folders over those of the machine's own kubelet or containerd, and use the cluster's DNS."""
    for folder in PRIVATE_FOLDERS:
        run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", folder])
    # Images are in memory, because importing and removing them on a disk is slow.
    node.containerd.mkdir()
    run(["mount", "-t", "tmpfs", "tmpfs", node.containerd])
    write_configuration(node)
    run(["mount", "--bind", node.file("resolv.conf"), "/etc/resolv.conf"])
    cgroups.create(node.cgroup)


def _make_network(node: Node) -> None:
    _wait(lambda: UPLINK in (name for _, name in socket.if_nameindex()), "the node's link is there")
    # If the packet filter of bridges is a module, its settings exist only after it is loaded.
    succeeds(["modprobe", "br_netfilter"])
    for name, value in _SETTINGS.items():
        (Path("/proc/sys") / name).write_text(value)
    run(["ip", "address", "add", f"{node.address}/24", "dev", UPLINK])
    for link in ("lo", UPLINK):
        run(["ip", "link", "set", link, "up"])
    # Processes of the node use Services, too. They need a route before kube-proxy's rules see the packet.
    run(["ip", "route", "add", SERVICE_ADDRESSES, "dev", UPLINK])


def _start(node: Node) -> dict[int, str]:
    """Start all parts; return the names of our child processes by process id."""
    node.logs.mkdir()
    containerd = _spawn(node, ["containerd", f"--config={node.file('containerd.toml')}"])
    node.control_plane.start()
    _wait(lambda: _containerd_answers(containerd[0]), "containerd answers")
    for name in IMAGES:
        run(["ctr", "--namespace=k8s.io", "images", "import", node.state / f"{name}.tar"])
    commands = [
        [str(binary("coredns")), "-conf", str(node.file("Corefile"))],
        [str(binary("kube-proxy")), f"--config={node.file('kube-proxy.json')}", f"--hostname-override={NODE_NAME}"],
        [
            str(binary("kubelet")),
            f"--config={node.file('kubelet.json')}",
            f"--kubeconfig={node.control_plane.kubeconfig}",
            f"--root-dir={node.state / 'kubelet'}",
            f"--hostname-override={NODE_NAME}",
            f"--node-ip={node.address}",
        ],
    ]
    return dict([containerd, *(_spawn(node, command) for command in commands)])


def _spawn(node: Node, command: list[str]) -> tuple[int, str]:
    name = Path(command[0]).name
    with (node.logs / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    # _wait_for_an_end waits for it together with all others.
    process.returncode = 0
    return process.pid, name


def _containerd_answers(pid: int) -> bool:
    if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
        raise LocalClusterError("containerd ended while it started.")
    return succeeds(["ctr", f"--address={CONTAINERD_SOCKET}", "version"])


def _wait_for_an_end(components: dict[int, str]) -> str:
    """Wait until one of them ends. In the meantime, reap orphaned processes."""
    while True:
        pid, _ = os.wait()
        if pid in components:
            return components[pid]


def _wait(done: Callable[[], bool], expected: str) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not done():
        if time.monotonic() > deadline:
            raise LocalClusterError(f"This did not happen within {_PATIENCE_SECONDS} s: {expected}.")
        time.sleep(0.05)


if __name__ == "__main__":
    sys.exit(main())
