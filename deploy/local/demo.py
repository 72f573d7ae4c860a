"""`make demo`: from an empty machine to a Ready server, and what happens after a mistake."""

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from choice import asked_for
from commands import LocalClusterError, end_group, last_lines
from control_plane import LocalCluster
from kind import KindCluster, docker_and_kind_work
from nodes import add_local_nodes

_ROOT = Path(__file__).parents[2]
_LOCAL = _ROOT / ".local"
_REPAIR_SECONDS = 10.0
# Kubernetes' garbage collector looks for new kinds every 30 seconds, and the demo's kinds are new.
_COLLECTION_SECONDS = 60.0
_INTERRUPTED = 130
_Cluster = LocalCluster | KindCluster

# A selection that the recipe's generator refuses, too.
_REJECTED = """\
apiVersion: kimi-linear.io/v1alpha1
kind: KimiLinearServer
metadata:
  name: rejected
spec:
  reasoningParser: enabled
"""
_DRIFT = '[{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "somebody/else:latest"}]'
_CHILDREN = "kubectl get deployments,services,pods -l kimi-linear.io/server=kimi"
_IMAGE = "jsonpath={.spec.template.spec.containers[0].image}"


@dataclass(frozen=True)
class Shell:
    """Runs commands as a person would type them, and shows them."""

    cluster: _Cluster

    def __call__(self, command: str, stdin: str = "", fails: bool = False) -> None:
        """Run a command and show its output. Raises LocalClusterError if the command does not end as expected."""
        print(f"\n  $ {command}", flush=True)
        done = self._run(command, stdin)
        print("".join(f"    {line}\n" for line in done.stdout.splitlines()), end="", flush=True)
        if bool(done.returncode) != fails:
            raise LocalClusterError(f"This command should not end with exit code {done.returncode}.")

    def output(self, command: str) -> str:
        """Run a command without showing it. The output is empty if it fails."""
        return self._run(command, "").stdout.strip()

    @property
    def environment(self) -> dict[str, str]:
        """The environment with kubectl, kimi-linear and the kubeconfig of the demo's cluster."""
        folders = [str(Path(sys.executable).parent), *map(str, self.cluster.bin), os.environ["PATH"]]
        return os.environ | {"KUBECONFIG": str(self.cluster.kubeconfig), "PATH": os.pathsep.join(folders)}

    def _run(self, command: str, stdin: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            shlex.split(command),
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=_ROOT,
            env=self.environment,
            timeout=120,
        )


def demo(cluster: _Cluster) -> None:
    """Run all steps of the demo."""
    began = time.monotonic()
    _step(
        f"1. A cluster: {cluster.description}. AMD GPU nodes are simulated: their pods become Ready, but nothing runs"
    )
    cluster.start()
    add_local_nodes(cluster.kubectl)
    shell = Shell(cluster)
    shell("kubectl get nodes -L amd.com/gpu.product-name")
    operator = _install(shell)
    try:
        _serve(shell)
        _refuse(shell)
        _repair(shell)
        _remove(shell)
    finally:
        end_group(operator)
    _step(f"Done in {time.monotonic() - began:.0f} seconds. The demo's cluster is removed now.")
    print('    Next: make cluster, eval "$(make -s cluster-env)", and docs/guide/README.md')


def _install(shell: Shell) -> subprocess.Popen[bytes]:
    _step("2. The operator: its resource definitions, and the operator itself")
    shell("kubectl apply --server-side -f crds/")
    print("\n  $ kimi-linear run --listen=127.0.0.1:0 &", flush=True)
    log = (shell.cluster.state / "operator.log").open("w")
    return subprocess.Popen(
        ["kimi-linear", "run", "--listen=127.0.0.1:0"],
        stdout=log,
        stderr=log,
        env=shell.environment,
        start_new_session=True,
    )


def _serve(shell: Shell) -> None:
    _step("3. A server: kubectl apply, and wait")
    shell("kubectl apply -f deploy/samples/kimi.yaml")
    shell("kubectl wait kls/kimi --for=condition=Ready --timeout=60s")
    shell("kubectl get kls")
    shell(_CHILDREN)
    shell("kimi-linear status kimi")


def _refuse(shell: Shell) -> None:
    _step("4. A mistake: the API server refuses it, and kimi-linear validate finds it without a cluster")
    shell("kubectl apply -f -", stdin=_REJECTED, fails=True)
    shell("kimi-linear validate -f -", stdin=_REJECTED, fails=True)


def _repair(shell: Shell) -> None:
    _step("5. Drift: somebody changes the Deployment's image and deletes the Service")
    began = time.monotonic()
    shell(f"kubectl patch deployment kimi --type=json -p {shlex.quote(_DRIFT)}")
    shell("kubectl delete service kimi")
    _wait(_REPAIR_SECONDS, lambda: "sglang" in shell.output(f"kubectl get deployment kimi -o {_IMAGE}"))
    _wait(_REPAIR_SECONDS, lambda: bool(shell.output("kubectl get service kimi -o name --ignore-not-found")))
    print(f"\n    Both were repaired {time.monotonic() - began:.1f} s after the first change:")
    shell(f"kubectl get deployment kimi -o {_IMAGE}")
    shell("kubectl get service kimi")


def _remove(shell: Shell) -> None:
    _step("6. The end: deleting a server deletes everything that belongs to it")
    shell("kubectl delete kls kimi")
    print("\n    Kubernetes deletes the rest; in a new cluster this takes up to half a minute ...", flush=True)
    _wait(_COLLECTION_SECONDS, lambda: not shell.output("kubectl get deployments,pods -o name"))
    shell("kubectl get kls")
    shell(_CHILDREN)


def _step(title: str) -> None:
    print(f"\n=== {title}", flush=True)


def _wait(seconds: float, done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            raise LocalClusterError(f"The expected change did not happen within {seconds:.0f} s.")
        time.sleep(0.05)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> int:
    """Run the demo in a cluster of its own, and remove the cluster."""
    # Clean up as after Ctrl-C when a job or a terminal is closed.
    for number in (signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        return _run(_cluster())
    except LocalClusterError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return _INTERRUPTED


def _cluster() -> _Cluster:
    """The cluster of KIMI_LINEAR_CLUSTER.

    Without it, kind if it works on this machine, because little must be built. Otherwise our own cluster.
    """
    asked = asked_for()
    if asked == "kind" or (not asked and docker_and_kind_work()):
        return KindCluster(_LOCAL / "demo-kind", "kimi-linear-demo")
    return LocalCluster(_LOCAL / "demo", "demo")


def _run(cluster: _Cluster) -> int:
    try:
        demo(cluster)
    except LocalClusterError as error:
        log = cluster.state / "operator.log"
        text = last_lines(log.read_text()) if log.exists() else ""
        print(f"\n{error}\nThe last lines of the operator's log:\n{text}", file=sys.stderr)
        return 1
    finally:
        cluster.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
