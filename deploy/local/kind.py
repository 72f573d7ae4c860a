"""A kind cluster with simulated GPU nodes, for machines with Docker. Not run by this project's CI."""

import shutil
import subprocess
import sys
from pathlib import Path

import processes
from binaries import binary, ensure_built, select
from commands import LocalClusterError, succeeds
from kubectl import Kubectl
from nodes import SIMULATED, STAGES_FILE


def docker_and_kind_work() -> bool:
    """Whether a Docker daemon answers and kind is installed."""
    return bool(shutil.which("kind")) and succeeds(["docker", "info"])


class KindCluster:
    """One kind cluster, with kwok beside it on this machine for the simulated nodes."""

    def __init__(self, state: Path, name: str) -> None:
        self.state = state.resolve()
        self.name = name
        self.kubeconfig = self.state / "kubeconfig"
        self.kubectl = Kubectl(binary("kubectl"), self.kubeconfig)

    @property
    def bin(self) -> list[Path]:
        """The folder with kubectl, to be put on PATH."""
        return [binary("kubectl").parent]

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
            self._start_kwok()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Delete it, whether or not it ever was ready."""
        if not self.state.exists():
            return
        processes.kill_all(self.state)
        self._kind("delete")
        shutil.rmtree(self.state)

    def _kind(self, verb: str, *options: str) -> None:
        command = ["kind", verb, "cluster", f"--name={self.name}", f"--kubeconfig={self.kubeconfig}", *options]
        if subprocess.run(command, stdout=sys.stderr).returncode:
            raise LocalClusterError(f"kind could not {verb} the cluster {self.name} (see above).")

    def _start_kwok(self) -> None:
        [(key, value)] = SIMULATED.items()
        nodes = ["--manage-all-nodes=false", f"--manage-nodes-with-annotation-selector={key}={value}"]
        command = [str(binary("kwok")), f"--kubeconfig={self.kubeconfig}", f"--config={STAGES_FILE}", *nodes]
        with (self.state / "kwok.log").open("w") as log:
            subprocess.Popen(
                [*command, "--node-lease-duration-seconds=40"], stdout=log, stderr=log, start_new_session=True
            )
