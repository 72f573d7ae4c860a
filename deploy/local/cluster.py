"""The local cluster's command line: `cluster.py up | down | env | build | build-e2e`."""

import argparse
import json
import os
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import debian
import machine
from binaries import AUTOSCALING, E2E, E2E_ON_KIND, PROGRAMS, Program, cache_folder, ensure_built
from choice import asked_for
from commands import LocalClusterError, exit_code, say
from control_plane import LocalCluster
from existing import checked_cluster
from kind import KindCluster, docker_and_kind_work, replaces_real_node
from kubectl import Kubectl
from nodes import SIMULATED, add_local_nodes
from real_node import RealCluster

_LOCAL = Path(__file__).parents[2] / ".local"
_NAME = "kimi-linear"
_INTERRUPTED = 130
_Cluster = LocalCluster | KindCluster | RealCluster


def up() -> None:
    """Start a local cluster with simulated GPU nodes, or check the cluster of KUBECONFIG."""
    if kubeconfig := _given_kubeconfig():
        kubectl = checked_cluster(kubeconfig)
        if not kubectl.answers():
            raise LocalClusterError(f"The cluster of KUBECONFIG ({kubeconfig}) does not answer.")
        say(_description(kubectl, "already exists, so nothing was started"))
        return
    cluster = _chosen()
    what = "is already running" if cluster.running() else "is running"
    cluster.start()
    if isinstance(cluster, RealCluster):
        cluster.load_images()
    else:
        add_local_nodes(cluster.kubectl)
    say(_description(cluster.kubectl, what))
    say('Next, to point kubectl at it: eval "$(make -s cluster-env)"')


def down() -> None:
    """Stop the cluster that `up` started, and no other cluster."""
    for cluster in _own_clusters().values():
        cluster.stop()
    say("No local cluster runs.")


def env() -> None:
    """Print the variables that a shell needs to use the cluster: PATH and KUBECONFIG."""
    if kubeconfig := _given_kubeconfig():
        checked_cluster(kubeconfig)
        print(f"export KUBECONFIG={shlex.quote(kubeconfig)}")
        return
    cluster = _running()
    if not cluster:
        raise LocalClusterError("No local cluster runs. Start one: make cluster")
    folders = os.pathsep.join(map(str, (Path(sys.executable).parent, *cluster.bin)))
    print(f"export KUBECONFIG={shlex.quote(str(cluster.kubeconfig))}")
    print(f'export PATH={shlex.quote(folders)}:"$PATH"')


def build(programs: Sequence[Program]) -> None:
    """Build the programs that tests need, and install packages if this machine can have a real node."""
    ensure_built(programs)
    if {*AUTOSCALING} <= {*programs} and not debian.ensure_unpacked("prometheus", cache_folder()):
        say("Tests of autoscaling are skipped: they need Debian's package prometheus.")
    if replaces_real_node():
        say("Tests in real pods run on kind.")
    elif reason := machine.obstacle():
        say(f"Tests in real pods are skipped: {reason}.")
    else:
        machine.ensure_installed()


def build_e2e() -> None:
    """Provide the programs that tests in real pods need. With kind, only Helm is missing."""
    build(E2E_ON_KIND if replaces_real_node() else E2E)


def _own_clusters() -> dict[str, _Cluster]:
    """The possible values of KIMI_LINEAR_CLUSTER, and their clusters."""
    return {
        "kwok": LocalCluster(_LOCAL / "cluster", _NAME),
        "kind": KindCluster(_LOCAL / "kind", _NAME),
        "real": RealCluster(_LOCAL / "real"),
    }


def _running() -> _Cluster | None:
    return next((cluster for cluster in _own_clusters().values() if cluster.running()), None)


def _chosen() -> _Cluster:
    """The cluster of KIMI_LINEAR_CLUSTER, else a running one, else kind if it works on this machine, else our own."""
    clusters = _own_clusters()
    if asked := asked_for():
        return clusters[asked]
    return _running() or clusters["kind" if docker_and_kind_work() else "kwok"]


def _given_kubeconfig() -> str | None:
    """The value of KUBECONFIG. None if `env` printed it, or if KIMI_LINEAR_CLUSTER asks for a cluster of ours."""
    kubeconfig = os.environ.get("KUBECONFIG")
    own = [str(cluster.kubeconfig) for cluster in _own_clusters().values()]
    if not kubeconfig or kubeconfig in own or asked_for():
        return None
    return kubeconfig


def _description(kubectl: Kubectl, what: str) -> str:
    version = json.loads(kubectl("version", "--output=json"))["serverVersion"]["gitVersion"]
    nodes = json.loads(kubectl("get", "nodes", "--output=json"))["items"]
    return "\n".join([f"Kubernetes {version} {what}. Its nodes:", *map(_node_line, nodes)])


def _node_line(node: dict[str, Any]) -> str:
    metadata = node["metadata"]
    gpus = node["status"]["allocatable"].get("amd.com/gpu", "0")
    product = metadata["labels"].get("amd.com/gpu.product-name", "GPU")
    simulated = SIMULATED.items() <= metadata.get("annotations", {}).items()
    note = "  (simulated: pods there turn Ready, but nothing runs)" if simulated else ""
    return f"  {metadata['name']:12}  {gpus} x {product}{note}"


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


_VERBS: dict[str, Callable[[], None]] = {
    "up": up,
    "down": down,
    "env": env,
    "build": partial(build, PROGRAMS),
    "build-e2e": build_e2e,
}


def main() -> int:
    """Run one verb."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("verb", choices=_VERBS)
    verb = parser.parse_args().verb
    # CI ends its jobs with SIGTERM, and background jobs of a shell ignore SIGINT. So SIGTERM cleans up, as Ctrl-C does.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        return exit_code(_VERBS[verb])
    except KeyboardInterrupt:
        say("\nInterrupted. Everything that was started is stopped.")
        return _INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
