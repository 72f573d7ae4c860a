"""A real node beside a control plane, for root on Linux: pods run, behind real probes, Services and DNS."""

import fcntl
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

import cgroups
import device_plugin
import machine
import processes
from archive import write_archive
from binaries import CONTROL_PLANE, REAL_NODE, binary, cache_folder, ensure_built
from commands import LocalClusterError, last_lines, run, succeeds
from images import Image, build
from node_config import IMAGES, NODE_NAME, PRIVATE_FOLDERS, UPLINK, Node, control_plane
from pod_cluster import GPUS, PodCluster

_INIT = Path(__file__).parent / "node_init.py"
_NAMESPACES = ("--net", "--mount", "--pid")
_NUMBERS = range(200)
_START_SECONDS = 120


class RealCluster(PodCluster):
    """A control plane and one node, started by this project.

    All its processes are in separate namespaces. When the first process ends, the kernel ends the others and removes
    mounts, links and packet filters. With `bound_to_us`, this also happens when this process ends, for any reason.
    """

    has_devices = True

    def __init__(self, state: Path, *, bound_to_us: bool = False) -> None:
        self.state = state.resolve()
        self.bound_to_us = bound_to_us
        self.control_plane = control_plane(self.state)
        self.kubeconfig = self.control_plane.kubeconfig
        self.kubectl = self.control_plane.kubectl
        self.bin = self.control_plane.bin
        self.node_names = [NODE_NAME]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def node(self) -> Node:
        """The node that was started last."""
        return Node(self.state, int(self._number.read_text()))

    def running(self) -> bool:
        """Whether the control plane and the node run."""
        return self._number.exists() and bool(self._unshare()) and self.control_plane.running()

    def start(self) -> None:
        """Start it, unless it runs. First remove the remains of an earlier one."""
        machine.ensure_installed()
        ensure_built((*CONTROL_PLANE, *REAL_NODE))
        if self.running():
            return
        self.stop()
        try:
            self._create()
            self._wait_until_ready()
            self._add_gpus()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End all of it, even if it never became ready, and remove its remains."""
        processes.kill_all(self.state)
        if self._process:
            self._process.wait()
        if self._number.exists():
            _remove_rest(self.node)
        shutil.rmtree(self.state, ignore_errors=True)

    @property
    def machine_address(self) -> str:
        """This machine's address, as pods reach it: its end of the node's link."""
        return self.node.host_address

    def on_node(self, *command: str) -> str:
        """The output of a command on the node."""
        return run(self.enter(*command))

    def enter(self, *command: str) -> list[str]:
        """Return a command that runs a command on the node: in its network, with its mounts and the cluster's DNS."""
        pid = self._unshare()
        if not pid:
            raise LocalClusterError("The real node does not run.")
        spaces = {"net": "net", "mount": "mnt", "pid": "pid_for_children"}
        # The command starts in the root folder, because the current folder may be below a mount of the node, and would
        # be refused.
        return ["nsenter", *(f"--{name}=/proc/{pid}/ns/{file}" for name, file in spaces.items()), "--wd=/", *command]

    def containerd(self, *arguments: str, timeout: float = 60) -> str:
        """The output of containerd's own command line, `ctr`."""
        return run(self.enter("ctr", "--namespace=k8s.io", *arguments), timeout=timeout)

    def signal_kubelet(self, signal: str) -> None:
        """Send the kubelet a signal, for example STOP."""
        self.on_node("sh", "-c", f"kill -{signal} $(pidof kubelet)")

    def load(self, image: Image) -> None:
        """Build an image, unless it exists, and load it into the node."""
        self.containerd("images", "import", str(build(image)), timeout=300)

    def _offer_gpus(self) -> None:
        self.kubectl.apply([device_plugin.daemon_set()])
        self.wait_for_gpus(len(GPUS))

    def wait_for_gpus(self, number: int) -> None:
        """Wait until the kubelet offers this number of GPUs to pods."""
        offered = f"--for=jsonpath={{.status.allocatable.amd\\.com/gpu}}={number}"
        self.kubectl("wait", f"node/{self.node_name}", offered, "--timeout=60s", timeout=70)

    @property
    def _number(self) -> Path:
        return self.state / "number"

    def _unshare(self) -> int | None:
        """Start the process that keeps the namespaces."""
        return next((pid for pid, name in processes.of_cluster(self.state).items() if name == "unshare"), None)

    def _create(self) -> None:
        self.state.mkdir(parents=True)
        lock, number = _take_number()
        with lock:
            self._number.write_text(str(number))
            _remove_rest(self.node)
            for name, image in IMAGES.items():
                write_archive(self.state / f"{name}.tar", image, {name: binary(name)}, [f"/{name}"])
            for folder in PRIVATE_FOLDERS:
                folder.mkdir(parents=True, exist_ok=True)
            self._process = self._spawn(lock)
        _connect(self.node, self._process)

    def _spawn(self, lock: IO[str]) -> subprocess.Popen[bytes]:
        bound = ["setpriv", "--pdeathsig=KILL"] if self.bound_to_us else []
        unshare = ["unshare", *_NAMESPACES, "--fork", "--kill-child", "--mount-proc", "--propagation=private"]
        command = [*bound, *unshare, sys.executable, str(_INIT), str(self._number)]
        with self._log.open("wb") as log:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                # The number is in use as long as the namespaces exist.
                pass_fds=[lock.fileno()],
                env=os.environ | {"PATH": f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"},
            )

    @property
    def _log(self) -> Path:
        return self.state / "init.log"

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not self._is_ready():
            if not self._unshare() or time.monotonic() > deadline:
                raise LocalClusterError(f"The real node did not start. {self._last_words()}")
            time.sleep(0.1)
        self.kubectl("wait", "--timeout=60s", "--for=create", "serviceaccount/default", "--namespace=default")

    def _is_ready(self) -> bool:
        if not self.kubeconfig.exists():
            return False
        ready = ["get", "node", NODE_NAME, "--output=jsonpath={.status.conditions[?(@.type=='Ready')].status}"]
        try:
            return run([binary("kubectl"), f"--kubeconfig={self.kubeconfig}", *ready], timeout=10) == "True"
        except LocalClusterError:
            return False

    def _last_words(self) -> str:
        logs = [self._log, *(sorted((self.state / "logs").glob("*.log")))]
        return "\n".join(f"{log.name}:\n{last_lines(log.read_text(errors='replace'))}" for log in logs if log.exists())


def _take_number() -> tuple[IO[str], int]:
    """A number that no other node of this machine uses, and the lock that reserves it."""
    for number in _NUMBERS:
        lock = (cache_folder() / f"node-{number}.lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
        else:
            return lock, number
    raise LocalClusterError(f"{len(_NUMBERS)} real nodes already run on this machine, which is the maximum.")


def _connect(node: Node, unshare: subprocess.Popen[bytes]) -> None:
    """Create the link between the machine and the node's network."""
    deadline = time.monotonic() + _START_SECONDS
    own, its = Path("/proc/self/ns/net"), Path(f"/proc/{unshare.pid}/ns/net")
    while own.readlink() == its.readlink():
        if unshare.poll() is not None or time.monotonic() > deadline:
            raise LocalClusterError("The namespaces of the real node could not be made.")
        time.sleep(0.01)
    peer = ["peer", "name", UPLINK, "netns", str(unshare.pid)]
    run(["ip", "link", "add", node.link, "type", "veth", *peer])
    run(["ip", "address", "add", f"{node.host_address}/24", "dev", node.link])
    run(["ip", "link", "set", node.link, "up"])
    # Pods get answers only from this machine, and from no other address outside the node.
    run(["ip", "route", "add", node.pod_addresses, "via", node.address, "dev", node.link])


def _remove_rest(node: Node) -> None:
    """Remove parts that outlive the processes, also after a node was killed."""
    cgroups.remove(node.cgroup)
    # The kernel removes the link with the node's network, a moment after the last process has ended.
    succeeds(["ip", "link", "delete", node.link])
