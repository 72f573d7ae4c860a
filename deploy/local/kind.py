"""kind clusters, for machines with Docker: simulated GPU nodes, or pods for tests. Not run by this project's CI."""

import shutil
import subprocess
import sys
from pathlib import Path

import machine
import processes
from binaries import binary, ensure_built, select
from commands import LocalClusterError, run, succeeds
from images import Image, build_in_docker
from kubectl import Kubectl
from lifecycle import Lifecycle
from node_config import resolv_conf
from nodes import SIMULATED, STAGES_FILE
from pod_cluster import PodCluster


def docker_and_kind_work() -> bool:
    """Whether a Docker daemon answers and kind is installed."""
    return bool(shutil.which("kind")) and succeeds(["docker", "info"])


def replaces_real_node() -> bool:
    """Whether tests in real pods run on kind: if this machine cannot have a real node, and Docker shares its files."""
    return sys.platform == "linux" and bool(machine.obstacle()) and docker_and_kind_work()


class KindCluster(Lifecycle):
    """One kind cluster, with kwok beside it on this machine for the simulated nodes."""

    def __init__(self, state: Path, name: str) -> None:
        self.state = state.resolve()
        self.name = name
        self.kubeconfig = self.state / "kubeconfig"
        self.kubectl = Kubectl(binary("kubectl"), self.kubeconfig)
        self.bin = [binary("kubectl").parent]

    def running(self) -> bool:
        """Whether the cluster answers and kwok simulates its nodes."""
        return bool(processes.of_cluster(self.state)) and self.kubectl.answers()

    def start(self) -> None:
        """Start it, unless it runs."""
        if not docker_and_kind_work():
            raise LocalClusterError("No kind cluster can be started: kind is not on PATH, or Docker does not answer.")
        ensure_built(select("kwok", "kubectl"))
        if self.running():
            return
        self.stop()
        try:
            self.state.mkdir(parents=True)
            self._kind("create", "--wait=120s")
            self._provide_gpus()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Delete it, even if it never became ready."""
        if not self.state.exists():
            return
        processes.kill_all(self.state)
        self._kind("delete")
        shutil.rmtree(self.state)

    def _kind(self, verb: str, *options: str) -> None:
        command = ["kind", verb, "cluster", f"--name={self.name}", f"--kubeconfig={self.kubeconfig}", *options]
        if subprocess.run(command, stdout=sys.stderr).returncode:
            raise LocalClusterError(f"kind could not {verb} the cluster {self.name} (see above).")

    def _provide_gpus(self) -> None:
        """Start kwok, which simulates nodes with GPUs."""
        [(key, value)] = SIMULATED.items()
        nodes = ["--manage-all-nodes=false", f"--manage-nodes-with-annotation-selector={key}={value}"]
        command = [str(binary("kwok")), f"--kubeconfig={self.kubeconfig}", f"--config={STAGES_FILE}", *nodes]
        with (self.state / "kwok.log").open("w") as log:
            subprocess.Popen(
                [*command, "--node-lease-duration-seconds=40"], stdout=log, stderr=log, start_new_session=True
            )


class KindNode(KindCluster, PodCluster):
    """A kind cluster of one node with GPUs, in place of a real node. Pods run there; nothing is simulated."""

    def __init__(self, state: Path, name: str) -> None:
        super().__init__(state, name)
        self.node_name = f"{name}-control-plane"

    def running(self) -> bool:
        """Whether the cluster answers."""
        return self.kubectl.answers()

    def enter(self, *command: str) -> list[str]:
        """Return a command that runs this machine's command in the node's network, with the cluster's DNS.

        The command needs Python and packages that the node lacks. So it runs in a container in the node's network that
        sees this machine's files read-only. /run is hidden, because its sockets resolve names outside the cluster.
        """
        dns = ["service/kube-dns", "--namespace=kube-system", "--output=jsonpath={.spec.clusterIP}"]
        resolver = self.state / "resolv.conf"
        resolver.write_text(resolv_conf(self.kubectl("get", *dns)))
        # The node's image has chroot, and is already on this machine.
        image = run(["docker", "inspect", "--format={{.Image}}", self.node_name]).strip()
        # Often a link to a file in /run.
        replaced = Path("/etc/resolv.conf").resolve()
        files = ["--volume=/:/machine:ro", "--tmpfs=/machine/run", f"--volume={resolver}:/machine{replaced}:ro"]
        options = ["--rm", "--interactive", f"--network=container:{self.node_name}", *files, "--entrypoint=chroot"]
        return ["docker", "run", *options, image, "/machine", *command]

    def containerd(self, *arguments: str, timeout: float = 60) -> str:
        """The output of containerd's own command line, `ctr`."""
        return run(["docker", "exec", self.node_name, "ctr", "--namespace=k8s.io", *arguments], timeout=timeout)

    def _load(self, image: Image) -> None:
        built = build_in_docker(image)
        run(["kind", "load", "docker-image", built, f"--name={self.name}"], timeout=300)
        self.tag_image(built, image.name)

    def _provide_gpus(self) -> None:
        self._add_gpus()
