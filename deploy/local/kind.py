"""kind clusters, for machines with Docker: simulated GPU nodes, or pods for tests."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import machine
import processes
from binaries import binary, ensure_built, select
from choice import asked_for
from commands import LocalClusterError, run, succeeds
from images import Image, build_in_docker
from kubectl import Kubectl
from lifecycle import Lifecycle
from node_config import QUICK_RESTARTS, resolv_conf
from nodes import SIMULATED, STAGES_FILE
from pod_cluster import PodCluster


def docker_works() -> bool:
    """Whether a Docker daemon answers."""
    return succeeds(["docker", "info"])


def docker_and_kind_work() -> bool:
    """Whether a Docker daemon answers and kind is installed."""
    return bool(shutil.which("kind")) and docker_works()


def replaces_real_node() -> bool:
    """Whether tests in real pods run on kind, because somebody asks for kind or this machine cannot have a real node.

    Only on Linux: on other systems Docker runs in a virtual machine without this Python and its packages.
    """
    if sys.platform != "linux" or (asked := asked_for()) == "real":
        return False
    return asked == "kind" or (bool(machine.obstacle()) and docker_and_kind_work())


class KindCluster(Lifecycle):
    """One kind cluster. kwok runs beside it on this machine and simulates nodes.

    The variable KIMI_LINEAR_NODE_IMAGE names the image of its nodes. Without it, kind uses its own image.
    """

    description = "Kubernetes on kind, in Docker"

    def __init__(self, state: Path, name: str, workers: int = 0) -> None:
        self.state = state.resolve()
        self.name = name
        self.workers = workers
        self.kubeconfig = self.state / "kubeconfig"
        self.kubectl = Kubectl(self.state / "bin" / "kubectl", self.kubeconfig)
        self.bin = [self.kubectl.program.parent, binary("helm").parent]

    def running(self) -> bool:
        """Whether the cluster answers and kwok simulates its nodes."""
        return "kwok" in processes.of_cluster(self.state).values() and self.kubectl.answers()

    def start(self) -> None:
        """Start it, unless it runs."""
        if not docker_and_kind_work():
            raise LocalClusterError("No kind cluster can be started: kind is not on PATH, or Docker does not answer.")
        if self.running():
            return
        self.stop()
        try:
            self.state.mkdir(parents=True)
            self._create()
            self._bring_kubectl()
            self._provide_gpus()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Delete it, even if it never became ready."""
        if not self.state.exists():
            return
        processes.kill_all(self.state)
        if not self._kind("delete"):
            raise LocalClusterError(f"kind could not delete the cluster {self.name} (see above).")
        shutil.rmtree(self.state)

    def _create(self) -> None:
        configuration = self.state / "kind.json"
        configuration.write_text(json.dumps(self._configuration()))
        image = os.environ.get("KIMI_LINEAR_NODE_IMAGE")
        options = [f"--image={image}"] if image else []
        if not self._kind("create", f"--config={configuration}", "--wait=120s", *options):
            raise LocalClusterError(
                f"kind could not create the cluster {self.name} (see above). The variable KIMI_LINEAR_NODE_IMAGE names "
                "another image of its nodes, and KIMI_LINEAR_CLUSTER=kwok asks for a cluster without kind."
            )

    def _configuration(self) -> dict[str, object]:
        """https://kind.sigs.k8s.io/docs/user/configuration/."""
        nodes = [{"role": "control-plane"}, *({"role": "worker"} for _ in range(self.workers))]
        return {"kind": "Cluster", "apiVersion": "kind.x-k8s.io/v1alpha4", "nodes": nodes}

    def _kind(self, verb: str, *options: str) -> bool:
        """Run kind, and return whether it succeeded. Its output goes to the terminal."""
        command = ["kind", verb, "cluster", f"--name={self.name}", f"--kubeconfig={self.kubeconfig}", *options]
        return subprocess.run(command, stdout=sys.stderr).returncode == 0

    def _bring_kubectl(self) -> None:
        """Use the kubectl of the node, because it fits the API server and need not be built.

        It is a Linux program, so on other systems build kubectl.
        """
        program = self.kubectl.program
        program.parent.mkdir()
        if sys.platform == "linux":
            run(["docker", "cp", f"{self.name}-control-plane:/usr/bin/kubectl", program])
        else:
            ensure_built(select("kubectl"))
            program.symlink_to(binary("kubectl"))

    def _provide_gpus(self) -> None:
        """Start kwok, which simulates nodes with GPUs."""
        ensure_built(select("kwok"))
        [(key, value)] = SIMULATED.items()
        nodes = ["--manage-all-nodes=false", f"--manage-nodes-with-annotation-selector={key}={value}"]
        command = [str(binary("kwok")), f"--kubeconfig={self.kubeconfig}", f"--config={STAGES_FILE}", *nodes]
        with (self.state / "kwok.log").open("w") as log:
            subprocess.Popen(
                [*command, "--node-lease-duration-seconds=40"], stdout=log, stderr=log, start_new_session=True
            )


class KindPodCluster(KindCluster, PodCluster):
    """A kind cluster in place of a real node. Its workers offer GPUs. Pods really run; nothing is simulated.

    The control plane has a separate node. Its parts request 850m of a CPU (kubeadm, Kubernetes 1.37), so on a machine
    with two CPUs a benchmark would not fit on the same node.
    """

    def __init__(self, state: Path, name: str, workers: int = 1) -> None:
        super().__init__(state, name, workers)
        self.node_names = [f"{name}-worker", *(f"{name}-worker{number}" for number in range(2, workers + 1))]

    def _configuration(self) -> dict[str, object]:
        patch = {"kind": "KubeletConfiguration", **QUICK_RESTARTS}
        return super()._configuration() | {"kubeadmConfigPatches": [json.dumps(patch)]}

    def running(self) -> bool:
        """Whether the cluster answers."""
        return self.kubectl.answers()

    @property
    def machine_address(self) -> str:
        """This machine's address for pods: the gateway of the nodes' network."""
        gateway = "--format={{range .NetworkSettings.Networks}}{{.Gateway}}{{end}}"
        return run(["docker", "inspect", gateway, self.node_name]).strip()

    def on_node(self, *command: str) -> str:
        """The output of a command in the node's container."""
        return run(["docker", "exec", self.node_name, *command])

    def enter(self, *command: str) -> list[str]:
        """Return a command that runs this machine's command in the node's network, with the cluster's DNS.

        The node lacks Python and packages that the command needs. So the command runs in a container in the node's
        network, with this machine's files mounted read-only. /run is hidden, because programs would use its sockets to
        resolve names outside the cluster.
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
        return self._containerd_of(self.node_name, *arguments, timeout=timeout)

    def tag_image(self, name: str, other: str) -> None:
        """Give an image on the nodes a second name."""
        for node in self.node_names:
            self._containerd_of(node, "images", "tag", "--force", name, other)

    def signal_kubelet(self, signal: str) -> None:
        """Send the kubelet a signal, for example STOP."""
        self.on_node("pkill", f"--signal={signal}", "--exact", "kubelet")

    def _containerd_of(self, node: str, *arguments: str, timeout: float = 60) -> str:
        return run(["docker", "exec", node, "ctr", "--namespace=k8s.io", *arguments], timeout=timeout)

    def load(self, image: Image) -> None:
        """Build an image, unless it exists, and load it into the node."""
        built = build_in_docker(image)
        options = [f"--name={self.name}", f"--nodes={','.join(self.node_names)}"]
        run(["kind", "load", "docker-image", built, *options], timeout=600)
        self.tag_image(built, image.name)

    def _provide_gpus(self) -> None:
        # kind itself waits for the control plane's node only.
        self.kubectl("wait", "--for=condition=Ready", "--timeout=110s", "node", "--all", timeout=120)
        self._add_gpus()
