"""Parts of the local cluster that need no start: builds, found programs, and refused clusters."""

import json
from pathlib import Path
from unittest.mock import Mock

import pytest
import yaml

import binaries
import cluster
import debian
import existing
import machine
from binaries import Module, Program, ensure_built, kubernetes_version, missing
from commands import LocalClusterError
from control_plane import free_ports
from kubectl import Kubectl
from nodes import gpu_node, stages
from processes import belongs_to
from toolchain import go_version, required_version

STATE = Path("/repo/.local/cluster")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.delenv("KIMI_LINEAR_CLUSTER", raising=False)
    monkeypatch.setattr(cluster, "_LOCAL", tmp_path / "local")
    return tmp_path / "cache" / "kimi-linear-operator"


@pytest.fixture
def module(tmp_path: Path) -> Module:
    (tmp_path / "go.mod").write_text("module m\n\ngo 1.26.0\n")
    (tmp_path / "go.sum").write_text("a v1 h1:one=\n")
    return Module(tmp_path)


def kubeconfig(file: Path, context: str) -> Path:
    file.write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "Config", "current-context": context}))
    return file


def test_go_sum_decides_where_binaries_are_kept(module: Module) -> None:
    before = module.output
    assert module.output == before
    (module.folder / "go.sum").write_text("a v1 h1:other=\n")
    assert module.output != before


def test_builds_are_kept_in_the_users_cache(module: Module, own_cache: Path) -> None:
    assert module.output.parent == own_cache
    assert module.output.name == f"bin-{module.key}"


def test_kubernetes_reports_the_version_that_its_go_mod_pins() -> None:
    version = kubernetes_version(binaries.KUBERNETES.go_mod)
    assert version is not None
    _, minor, _ = version.split(".")
    assert f"version.gitVersion={version} " in binaries.KUBERNETES.ldflags
    assert f"version.gitMinor={minor}" in binaries.KUBERNETES.ldflags


def test_only_kubernetes_gets_a_version(module: Module) -> None:
    assert module.ldflags == "-s -w"
    assert kubernetes_version("require (\n\tk8s.io/api v0.37.2\n)") is None


def test_an_interrupted_build_continues_with_the_missing_programs(
    module: Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = [Program(name, f"example.org/{name}", module, 1) for name in ("one", "two", "three")]
    programs[0].file.parent.mkdir(parents=True)
    programs[0].file.touch()
    programs[1].file.with_name(".two.partial").touch()
    build = Mock(side_effect=lambda program, *_: program.file.touch())
    monkeypatch.setattr(binaries, "_build", build)
    monkeypatch.setattr(binaries, "find_go", Mock())

    ensure_built(programs)

    assert [call.args[0].name for call in build.call_args_list] == ["two", "three"]
    assert build.call_args.args[2] == "[3/3] three"
    assert not missing(programs)


def test_no_go_is_looked_for_when_everything_is_built(module: Module, monkeypatch: pytest.MonkeyPatch) -> None:
    program = Program("one", "example.org/one", module, 1)
    program.file.parent.mkdir(parents=True)
    program.file.touch()
    monkeypatch.setattr(binaries, "find_go", Mock(side_effect=AssertionError))
    ensure_built([program])


def test_a_failed_build_leaves_no_file_and_says_why(
    module: Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = tmp_path / "go"
    go.write_text('#!/bin/sh\ntouch "$7"\necho "cannot find module"\nexit 1\n')
    go.chmod(0o755)
    monkeypatch.setattr(binaries, "find_go", lambda *_: go)
    program = Program("one", "example.org/one", module, 1)

    with pytest.raises(LocalClusterError, match=r"one could not be built.*\n.*cannot find module\n.*proxy"):
        ensure_built([program])

    assert list(program.file.parent.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("go1.26.8", (1, 26, 8)),
        ("go1.26", (1, 26, 0)),
        ("go1.27rc1", (1, 27, -1)),
        ("devel go1.28-4ab7f2 linux/amd64", (1, 28, 0)),
        ("", (0, 0, 0)),
    ],
)
def test_go_versions_compare_as_numbers(text: str, version: tuple[int, int, int]) -> None:
    assert go_version(text) == version


def test_go_mod_says_how_new_go_must_be() -> None:
    assert required_version("module m\n\ngo 1.26.0\n\nrequire go.example.org v1.99.0\n") == (1, 26, 0)
    assert go_version("go1.9.9") < required_version("go 1.26.0") < go_version("go1.27.3")


@pytest.mark.parametrize("context", ["kind-kimi-linear", "k3d-x", "minikube", "kwok-kimi-linear", "docker-desktop"])
def test_test_clusters_are_recognised(context: str) -> None:
    assert existing.is_test_context(context)


@pytest.mark.parametrize("context", ["production", "gke_project_zone_kind-of", "admin@minikube", "", "my-kind-"])
def test_other_clusters_are_not_taken_for_test_clusters(context: str) -> None:
    assert not existing.is_test_context(context)


@pytest.mark.parametrize("verb", ["up", "env"])
def test_a_refusal_names_the_context_and_a_remedy(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig(tmp_path / "config", "production")))
    monkeypatch.setattr("sys.argv", ["cluster.py", verb])
    assert cluster.main() == 1
    printed = capsys.readouterr()
    assert "production" in printed.err
    assert "unset KUBECONFIG" in printed.err
    assert printed.out == ""


def test_the_first_kubeconfig_with_a_context_decides(tmp_path: Path) -> None:
    first = kubeconfig(tmp_path / "first", "")
    second = kubeconfig(tmp_path / "second", "production")
    third = kubeconfig(tmp_path / "third", "kind-x")
    assert existing.current_context(f"{tmp_path / 'absent'}:{first}:{second}:{third}") == "production"


def test_a_kubeconfig_without_a_context_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LocalClusterError, match="no current context"):
        existing.current_context(str(tmp_path / "absent"))


def test_env_fails_when_no_cluster_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["cluster.py", "env"])
    assert cluster.main() == 1
    printed = capsys.readouterr()
    assert "make cluster" in printed.err
    assert printed.out == ""


def test_the_clusters_own_kubeconfig_is_not_mistaken_for_a_foreign_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "local" / "cluster" / "kubeconfig"))
    assert cluster._given_kubeconfig() is None


def test_down_is_idempotent_and_leaves_a_foreign_cluster_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = kubeconfig(tmp_path / "config", "kind-x")
    monkeypatch.setenv("KUBECONFIG", str(file))
    monkeypatch.setattr("sys.argv", ["cluster.py", "down"])
    assert cluster.main() == 0
    assert cluster.main() == 0
    assert file.exists()


@pytest.mark.parametrize(("hardware", "device_id"), [("MI300X", "74a1"), ("MI325X", "74a5"), ("MI355X", "75a3")])
def test_a_simulated_node_looks_like_a_node_with_amd_gpus(hardware: str, device_id: str) -> None:
    node = gpu_node("gpu-7", hardware)
    assert node["metadata"]["annotations"] == {"kwok.x-k8s.io/node": "fake"}
    assert node["metadata"]["labels"]["kubernetes.io/hostname"] == "gpu-7"
    assert node["metadata"]["labels"]["amd.com/gpu.device-id"] == device_id
    assert node["status"]["allocatable"]["amd.com/gpu"] == "8"
    assert node["status"]["capacity"] == node["status"]["allocatable"]


def test_a_simulated_node_can_have_fewer_gpus() -> None:
    assert gpu_node("half", "MI300X", gpus=4)["status"]["allocatable"]["amd.com/gpu"] == "4"


def test_the_stages_are_for_nodes_and_pods() -> None:
    assert {stage["kind"] for stage in stages()} == {"Stage"}
    assert {stage["spec"]["resourceRef"]["kind"] for stage in stages()} == {"Node", "Pod"}


@pytest.mark.parametrize(
    "command",
    [
        [f"{STATE}/clusters/kimi-linear/bin/etcd", "--name=node0"],
        ["/cache/bin-1/kwokctl", "create", "cluster", f"--config={STATE}/kwokctl.yaml"],
        ["/cache/bin-1/kwok", f"--kubeconfig={STATE}/kubeconfig"],
    ],
)
def test_processes_of_the_cluster_are_found(command: list[str]) -> None:
    assert belongs_to(command, STATE)


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["tail", "-f", f"{STATE}/kwokctl.log"],
        ["/cache/bin-1/kubectl", f"--kubeconfig={STATE}/kubeconfig", "get", "pods"],
        ["/repo/.local/cluster-2/clusters/x/bin/etcd"],
        ["/cache/bin-1/kwokctl", "create", "cluster", "--config=/repo/.local/cluster-2/kwokctl.yaml"],
    ],
)
def test_other_processes_are_left_alone(command: list[str]) -> None:
    assert not belongs_to(command, STATE)


def test_free_ports_are_different_and_outside_the_range_of_node_ports() -> None:
    ports = free_ports(6)
    assert len(set(ports)) == 6
    assert all(20000 <= port < 30000 for port in ports)


def test_manifests_are_applied_to_the_named_cluster(tmp_path: Path) -> None:
    kubectl = tmp_path / "kubectl"
    kubectl.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/arguments\ncat > {tmp_path}/stdin\n')
    kubectl.chmod(0o755)
    Kubectl(kubectl, tmp_path / "config").apply([gpu_node("n", "MI300X")])
    assert f"--kubeconfig={tmp_path}/config apply" in (tmp_path / "arguments").read_text()
    assert json.loads((tmp_path / "stdin").read_text())["items"][0]["metadata"]["name"] == "n"


def test_a_failing_program_shows_the_end_of_its_output(tmp_path: Path) -> None:
    kubectl = tmp_path / "kubectl"
    kubectl.write_text("#!/bin/sh\necho 'Unauthorized' >&2\nexit 1\n")
    kubectl.chmod(0o755)
    with pytest.raises(LocalClusterError, match=r"Failed: kubectl .*\n  Unauthorized"):
        Kubectl(kubectl, tmp_path / "config")("get", "pods")


def test_a_real_node_needs_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr("sys.platform", "linux")
    with pytest.raises(LocalClusterError, match="This machine cannot have a real node: a real node needs root"):
        machine.ensure_installed()


def test_missing_packages_are_an_obstacle_only_without_apt(monkeypatch: pytest.MonkeyPatch) -> None:
    there = {"containerd", "runc", "conntrack", "ip", "/usr/lib/cni/bridge"}
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr(machine, "succeeds", lambda _: True)
    monkeypatch.setattr("debian.find", lambda program: program if program in there else None)
    assert machine.obstacle() == "a real node needs iptables, and this script can install them only with apt"
    there.add("apt-get")
    assert machine.obstacle() is None
    assert machine.missing_packages() == ["iptables"]


def test_an_unpacked_package_is_not_downloaded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debian, "_apt", lambda *_, **__: pytest.fail("apt was asked"))
    debian.unpacked("prometheus", tmp_path).mkdir()
    assert debian.ensure_unpacked("prometheus", tmp_path)


def test_a_package_that_cannot_be_downloaded_counts_as_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debian, "find", lambda _: "/usr/bin/apt-get")
    monkeypatch.setattr(debian, "_apt", lambda *_, **__: False)
    assert not debian.ensure_unpacked("prometheus", tmp_path)
    assert list(tmp_path.iterdir()) == []
