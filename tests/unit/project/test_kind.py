"""kind in place of a real node, with stand-ins for docker, kind and kubectl that write down how they were called."""

import os
import sys
from pathlib import Path

import pytest

import images
import kind
import machine
from binaries import select
from commands import LocalClusterError
from images import Image
from kind import KindNode

_STAND_IN = """\
#!/bin/sh
echo "${0##*/} $*" >> "$CALLS"
case "$*" in
    *readyz*) exit 1 ;;
    *kube-dns*) printf 10.96.0.10 ;;
    inspect*) echo sha256:node ;;
    build*) for context; do :; done; ls "$context" >> "$CALLS" ;;
    *"${FAILS:-nothing fails}"*) echo 'no space left' >&2; exit 1 ;;
esac
"""


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of all calls, a line each."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    programs = (program.file for program in select("kwok", "kubectl"))
    for file in (tmp_path / "bin/docker", tmp_path / "bin/kind", *programs):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(_STAND_IN)
        file.chmod(0o755)
    return tmp_path / "calls"


@pytest.fixture
def node(calls: Path, tmp_path: Path) -> KindNode:
    return KindNode(tmp_path / "state", "tests")


@pytest.fixture
def image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Image:
    monkeypatch.setattr(images, "_ROOT", tmp_path)
    (tmp_path / "code.py").touch()
    (tmp_path / "Dockerfile").touch()
    (tmp_path / "Dockerfile.dockerignore").write_text("*\n!code.py\n")
    return Image("docker.io/lmsysorg/sglang:1", tmp_path / "Dockerfile", {"VERSION": "2"})


def test_it_starts_with_gpus_and_is_deleted_in_the_end(node: KindNode, calls: Path) -> None:
    cluster = f"cluster --name=tests --kubeconfig={node.kubeconfig}"
    with node:
        pass
    kubectl = f"kubectl --kubeconfig={node.kubeconfig}"
    told = calls.read_text().splitlines()
    labelled, patched, applied = told.pop(3), told.pop(3), told.pop(3)
    assert told == [
        "docker info",
        f"{kubectl} get --raw=/readyz --request-timeout=5s",
        f"kind create {cluster} --wait=120s",
        f"kind delete {cluster}",
    ]
    assert labelled.startswith(f"{kubectl} label node tests-control-plane --overwrite ")
    assert "amd.com/gpu.product-name=AMD_Instinct_MI300X_OAM" in labelled
    assert patched.startswith(f"{kubectl} patch node tests-control-plane --subresource=status ")
    assert '"allocatable": {"amd.com/gpu": "8"}' in patched
    assert applied.startswith(f"{kubectl} apply --server-side ")
    assert not node.state.exists()


def test_one_that_cannot_be_made_ready_is_deleted(node: KindNode, calls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAILS", "patch")
    with pytest.raises(LocalClusterError, match="no space left"):
        node.start()
    assert calls.read_text().splitlines()[-1].startswith("kind delete cluster --name=tests ")


def test_docker_builds_an_image_and_the_node_knows_it_by_its_own_name(
    node: KindNode, image: Image, calls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "OPERATOR", image)
    monkeypatch.setattr(images, "STAND_IN", image)
    node.load_images()
    built, *rest = calls.read_text().splitlines()[:4]
    # SGLang's own image, which may be there, stays as it is.
    options = f"--provenance=false --tag=kimi-linear.local/sglang:1 --build-arg=VERSION=2 --file={tmp_path}/Dockerfile"
    assert built.startswith(f"docker build {options} {tmp_path}/cache/")
    ctr = "docker exec tests-control-plane ctr --namespace=k8s.io"
    assert rest == [
        "code.py",
        "kind load docker-image kimi-linear.local/sglang:1 --name=tests",
        f"{ctr} images tag --force kimi-linear.local/sglang:1 docker.io/lmsysorg/sglang:1",
    ]


def test_a_command_of_this_machine_runs_in_the_nodes_network_with_the_clusters_dns(node: KindNode) -> None:
    node.state.mkdir()
    replaced = Path("/etc/resolv.conf").resolve()
    assert node.enter(sys.executable, "/chat.py", "http://kimi.default.svc:30000") == [
        *["docker", "run", "--rm", "--interactive", "--network=container:tests-control-plane"],
        *["--volume=/:/machine:ro", "--tmpfs=/machine/run"],
        f"--volume={node.state}/resolv.conf:/machine{replaced}:ro",
        *["--entrypoint=chroot", "sha256:node", "/machine"],
        *[sys.executable, "/chat.py", "http://kimi.default.svc:30000"],
    ]
    assert (node.state / "resolv.conf").read_text() == (
        "nameserver 10.96.0.10\nsearch default.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n"
    )


@pytest.mark.parametrize(
    ("platform", "obstacle", "docker", "expected"),
    [
        ("linux", "a real node needs root", "works", True),
        ("linux", "a real node needs root", "info", False),
        ("linux", None, "works", False),
        # Docker there is in a virtual machine, which has neither this Python nor its packages.
        ("darwin", "a real node needs Linux", "works", False),
    ],
)
def test_kind_is_used_where_docker_works_and_a_real_node_cannot_be_had(
    calls: Path, monkeypatch: pytest.MonkeyPatch, platform: str, obstacle: str | None, docker: str, expected: bool
) -> None:
    monkeypatch.setenv("FAILS", docker)
    monkeypatch.setattr("sys.platform", platform)
    monkeypatch.setattr(machine, "obstacle", lambda: obstacle)
    assert kind.replaces_real_node() is expected
