"""kind in place of a real node. Stand-ins for docker, kind and kubectl record their calls."""

import json
import os
import sys
from pathlib import Path

import pytest

import demo
import images
import kind
import machine
from binaries import binary
from commands import LocalClusterError
from images import Image
from kind import KindCluster, KindPodCluster

_STAND_IN = """\
#!/bin/sh
echo "${0##*/} $*" >> "$CALLS"
case "$*" in
    *readyz*) exit 1 ;;
    *kube-dns*) printf 10.96.0.10 ;;
    inspect*Gateway*) echo 172.18.0.1 ;;
    inspect*) echo sha256:node ;;
    *"${FAILS:-nothing fails}"*) echo 'no space left' >&2; exit 1 ;;
    build*) for context; do :; done; ls "$context" >> "$CALLS"; echo "$BUILDX_NO_DEFAULT_ATTESTATIONS" >> "$CALLS" ;;
    cp*) for target; do :; done; cp "$0" "$target" ;;
esac
"""


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of all calls, one per line."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    for variable in ("KIMI_LINEAR_CLUSTER", "KIMI_LINEAR_NODE_IMAGE"):
        monkeypatch.delenv(variable, raising=False)
    for file in (tmp_path / "bin/docker", tmp_path / "bin/kind", binary("kwok")):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(_STAND_IN)
        file.chmod(0o755)
    return tmp_path / "calls"


@pytest.fixture
def pods(calls: Path, tmp_path: Path) -> KindPodCluster:
    return KindPodCluster(tmp_path / "state", "tests")


@pytest.fixture
def image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Image:
    monkeypatch.setattr(images, "_ROOT", tmp_path)
    (tmp_path / "code.py").touch()
    (tmp_path / "Dockerfile").touch()
    (tmp_path / "Dockerfile.dockerignore").write_text("*\n!code.py\n")
    return Image("docker.io/lmsysorg/sglang:1", tmp_path / "Dockerfile", {"VERSION": "2"})


def test_a_cluster_starts_with_gpus_and_is_deleted_at_the_end(pods: KindPodCluster, calls: Path) -> None:
    cluster = f"cluster --name=tests --kubeconfig={pods.kubeconfig}"
    with pods:
        assert roles(pods) == ["control-plane", "worker"]
    kubectl = f"kubectl --kubeconfig={pods.kubeconfig}"
    told = calls.read_text().splitlines()
    labelled, patched, applied = told.pop(4), told.pop(4), told.pop(4)
    assert told == [
        "docker info",
        f"kind create {cluster} --config={pods.state}/kind.json --wait=120s",
        f"docker cp tests-control-plane:/usr/bin/kubectl {pods.state}/bin/kubectl",
        f"{kubectl} wait --for=condition=Ready --timeout=110s node --all",
        f"kind delete {cluster}",
    ]
    assert labelled.startswith(f"{kubectl} label node tests-worker --overwrite ")
    assert "amd.com/gpu.product-name=AMD_Instinct_MI300X_OAM" in labelled
    assert patched.startswith(f"{kubectl} patch node tests-worker --subresource=status ")
    assert '"allocatable": {"amd.com/gpu": "8"}' in patched
    assert applied.startswith(f"{kubectl} apply --server-side ")
    assert not pods.state.exists()


def roles(cluster: KindCluster) -> list[str]:
    """The nodes in kind's configuration."""
    return [node["role"] for node in json.loads((cluster.state / "kind.json").read_text())["nodes"]]


@pytest.mark.parametrize("workers", [1, 3])
def test_kind_creates_one_control_plane_and_the_workers(calls: Path, tmp_path: Path, workers: int) -> None:
    with KindPodCluster(tmp_path / "state", "tests", workers) as cluster:
        written = json.loads((cluster.state / "kind.json").read_text())
    nodes = [{"role": "control-plane"}, *[{"role": "worker"}] * workers]
    patch = {"kind": "KubeletConfiguration", "crashLoopBackOff": {"maxContainerRestartPeriod": "5s"}}
    assert [json.loads(text) for text in written.pop("kubeadmConfigPatches")] == [patch]
    # https://kind.sigs.k8s.io/docs/user/configuration/#getting-started
    assert written == {"kind": "Cluster", "apiVersion": "kind.x-k8s.io/v1alpha4", "nodes": nodes}


def test_several_nodes_can_have_gpus(calls: Path, tmp_path: Path) -> None:
    with KindPodCluster(tmp_path / "state", "tests", workers=3) as cluster:
        assert roles(cluster) == ["control-plane", "worker", "worker", "worker"]
    # As kind names them.
    assert cluster.node_names == ["tests-worker", "tests-worker2", "tests-worker3"]
    told = calls.read_text()
    assert [name for name in cluster.node_names if f"patch node {name} --subresource=status" in told] == (
        cluster.node_names
    )


def test_a_variable_names_the_image_of_the_nodes(
    pods: KindPodCluster, calls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KIMI_LINEAR_NODE_IMAGE", "localhost/node:1")
    with pods:
        pass
    [create] = [line for line in calls.read_text().splitlines() if line.startswith("kind create")]
    assert create.endswith(" --image=localhost/node:1")


def test_a_cluster_that_cannot_be_made_ready_is_deleted(
    pods: KindPodCluster, calls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAILS", "patch")
    with pytest.raises(LocalClusterError, match="no space left"):
        pods.start()
    assert calls.read_text().splitlines()[-1].startswith("kind delete cluster --name=tests ")


def test_docker_builds_an_image_and_the_node_gets_it_under_its_own_name(
    pods: KindPodCluster, image: Image, calls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "OPERATOR", image)
    monkeypatch.setattr(images, "STAND_IN", image)
    pods.load_images()
    built, *rest = calls.read_text().splitlines()[:5]
    # SGLang's own image may exist, and must not change. Docker without buildx knows all these options.
    options = f"--tag=kimi-linear.local/sglang:1 --build-arg=VERSION=2 --file={tmp_path}/Dockerfile"
    assert built.startswith(f"docker build {options} {tmp_path}/cache/")
    ctr = "docker exec tests-worker ctr --namespace=k8s.io"
    assert rest == [
        "code.py",
        "1",
        "kind load docker-image kimi-linear.local/sglang:1 --name=tests --nodes=tests-worker",
        f"{ctr} images tag --force kimi-linear.local/sglang:1 docker.io/lmsysorg/sglang:1",
    ]


def test_pods_reach_this_machine_at_the_gateway_and_commands_run_in_the_nodes_container(
    pods: KindPodCluster, calls: Path
) -> None:
    assert pods.machine_address == "172.18.0.1"
    pods.on_node("mount", "/volume")
    inspected, executed = calls.read_text().splitlines()
    assert inspected.endswith(" tests-worker")
    assert executed == "docker exec tests-worker mount /volume"


def test_a_command_of_this_machine_runs_in_the_nodes_network_with_the_clusters_dns(pods: KindPodCluster) -> None:
    pods.start()
    replaced = Path("/etc/resolv.conf").resolve()
    assert pods.enter(sys.executable, "/chat.py", "http://kimi.default.svc:30000") == [
        *["docker", "run", "--rm", "--interactive", "--network=container:tests-worker"],
        *["--volume=/:/machine:ro", "--tmpfs=/machine/run"],
        f"--volume={pods.state}/resolv.conf:/machine{replaced}:ro",
        *["--entrypoint=chroot", "sha256:node", "/machine"],
        *[sys.executable, "/chat.py", "http://kimi.default.svc:30000"],
    ]
    assert (pods.state / "resolv.conf").read_text() == (
        "nameserver 10.96.0.10\nsearch default.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n"
    )


@pytest.mark.parametrize(
    ("obstacle", "docker", "asked", "expected"),
    [
        ("a real node needs root", "works", "", True),
        ("a real node needs root", "info", "", False),
        (None, "works", "", False),
        (None, "works", "kind", True),
        ("a real node needs root", "works", "real", False),
    ],
)
def test_kind_is_used_on_request_or_if_docker_works_and_no_real_node_is_possible(
    calls: Path, monkeypatch: pytest.MonkeyPatch, obstacle: str | None, docker: str, asked: str, expected: bool
) -> None:
    monkeypatch.setenv("FAILS", docker)
    monkeypatch.setenv("KIMI_LINEAR_CLUSTER", asked)
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr(machine, "obstacle", lambda: obstacle)
    assert kind.replaces_real_node() is expected


@pytest.mark.parametrize("asked", ["", "kind"])
def test_kind_is_never_used_outside_linux(calls: Path, monkeypatch: pytest.MonkeyPatch, asked: str) -> None:
    monkeypatch.setenv("KIMI_LINEAR_CLUSTER", asked)
    monkeypatch.setattr("sys.platform", "darwin")
    assert kind.replaces_real_node() is False


@pytest.mark.parametrize(
    ("docker", "asked", "expected"),
    [
        ("works", "", "Kubernetes on kind, in Docker"),
        ("info", "", "a Kubernetes control plane, built from source"),
        ("works", "kwok", "a Kubernetes control plane, built from source"),
        # A later start then fails with a message.
        ("info", "kind", "Kubernetes on kind, in Docker"),
    ],
)
def test_the_demo_runs_on_kind_if_docker_works_and_no_other_cluster_is_requested(
    calls: Path, monkeypatch: pytest.MonkeyPatch, docker: str, asked: str, expected: str
) -> None:
    monkeypatch.setenv("FAILS", docker)
    monkeypatch.setenv("KIMI_LINEAR_CLUSTER", asked)
    assert demo._cluster().description == expected


def test_an_unknown_cluster_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KIMI_LINEAR_CLUSTER", "minikube")
    with pytest.raises(LocalClusterError, match="KIMI_LINEAR_CLUSTER is minikube; it can be kwok, kind, real"):
        kind.replaces_real_node()
