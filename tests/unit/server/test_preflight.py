"""The check of a pod, and its container. The check runs as in the container, with invented devices and properties."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kimi_linear_operator.kubernetes.access import beyond_pod
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.server.deployment import build_pod_template
from kimi_linear_operator.server.preflight import POD_CHECK
from kimi_linear_operator.server.spec import KimiLinearServer
from make import make_server

# As the kernel writes them (kfd_topology.c), shortened. The first is a processor.
_PROCESSOR = "cpu_cores_count 96\nsimd_count 0\ngfx_target_version 0\ndrm_render_minor 0\n"
_GPU = "cpu_cores_count 0\nsimd_count {simds}\ngfx_target_version {version}\ndrm_render_minor {minor}\n"
GFX942, GFX950 = 90402, 90500
# More GiB than any disk has, and more MiB than any file system has.
_TOO_MUCH = 10**9


@dataclass
class Node:
    """A container's view of a node: devices, properties and the disk."""

    root: Path

    def __post_init__(self) -> None:
        for folder in ("dev/dri", "dev/shm", "cache"):
            (self.root / folder).mkdir(parents=True)
        (self.root / "dev/kfd").touch()
        self.describe(0, _PROCESSOR)

    def describe(self, number: int, text: str) -> Path:
        file = self.root / f"sys/class/kfd/kfd/topology/nodes/{number}/properties"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def add_gpus(self, count: int, version: int = GFX942, simds: int = 1216, first: int = 0) -> None:
        for number in range(first, first + count):
            (self.root / f"dev/dri/renderD{128 + number}").touch()
            (self.root / f"dev/dri/card{number}").touch()
            self.describe(1 + number, _GPU.format(simds=simds, version=version, minor=128 + number))

    def check(
        self, *arguments: str, gpus: int = 4, architecture: str = "gfx942", environment: Mapping[str, str] = {}
    ) -> "Result":
        message = self.root / "message"
        message.unlink(missing_ok=True)
        given = [f"--gpus={gpus}", f"--architecture={architecture}", "--shared-memory-mib=64", *arguments]
        roots = [f"--dev={self.root / 'dev'}", f"--sys={self.root / 'sys'}", f"--message={message}"]
        done = subprocess.run(
            [sys.executable, "-c", POD_CHECK, *given, *roots],
            capture_output=True,
            text=True,
            timeout=30,
            env=dict(environment),
        )
        return Result(done.returncode, message.read_text() if message.exists() else "", done.stdout, done.stderr)

    def check_weights(self, gibibytes: int, environment: Mapping[str, str] = {}) -> "Result":
        weights = [f"--weights={self.root / 'cache'}", f"--weights-gib={gibibytes}"]
        return self.check(*weights, environment=environment)


@dataclass
class Result:
    code: int
    message: str
    log: str
    errors: str

    @property
    def is_fit(self) -> bool:
        return (self.code, self.message, self.errors) == (0, "", "")


@pytest.fixture
def node(tmp_path: Path) -> Node:
    """A node without GPUs."""
    return Node(tmp_path / "node")


@pytest.fixture
def healthy(node: Node) -> Node:
    """A node. The pod has four of its GPUs."""
    node.add_gpus(4)
    return node


def test_a_healthy_pod_passes_within_seconds_and_its_log_lists_the_checks(healthy: Node) -> None:
    start = time.monotonic()
    result = healthy.check_weights(0)
    assert result.is_fit
    assert time.monotonic() - start < 10
    assert [line.partition(":")[0] for line in result.log.splitlines()] == [
        "driver",
        "gpus",
        "architecture",
        "shared_memory",
        "disk",
    ]
    assert "architecture: ok: gfx942" in result.log


@pytest.mark.parametrize(("gpus", "has"), [(1, 1), (2, 2), (4, 4), (8, 8), (4, 8)])
def test_a_pod_with_its_gpus_or_more_passes(node: Node, gpus: int, has: int) -> None:
    node.add_gpus(has)
    assert node.check(gpus=gpus).is_fit


@pytest.mark.parametrize("has", [0, 1, 3])
def test_a_pod_with_too_few_gpus_fails_and_reports_their_number(node: Node, has: int) -> None:
    node.add_gpus(has)
    result = node.check()
    assert (result.code, result.message) == (1, f"the pod has {has} of 4 GPUs (/dev/dri/renderD*)")


def test_a_pod_without_device_folders_has_no_gpus(node: Node) -> None:
    (node.root / "dev/dri").rmdir()
    assert node.check().message == "the pod has 0 of 4 GPUs (/dev/dri/renderD*)"


def test_a_missing_driver_is_named(healthy: Node) -> None:
    (healthy.root / "dev/kfd").unlink()
    result = healthy.check()
    assert (result.code, result.message) == (1, "/dev/kfd cannot be opened (No such file or directory)")


def without_device(path: Path) -> None:
    """Create a file that fails to open like a device without a driver (ENXIO)."""
    path.unlink()
    with socket.socket(socket.AF_UNIX) as opened:
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            opened.bind(f"/proc/self/fd/{folder}/{path.name}")
        finally:
            os.close(folder)


@pytest.mark.parametrize("device", ["kfd", "dri/renderD130"])
def test_a_device_without_its_driver_is_named(healthy: Node, device: str) -> None:
    without_device(healthy.root / "dev" / device)
    result = healthy.check()
    assert (result.code, result.message) == (1, f"/dev/{device} cannot be opened (No such device or address)")


def test_a_device_that_is_only_busy_is_no_failure(healthy: Node) -> None:
    """The driver answers EAGAIN while it resets a GPU. The test uses a folder instead, which causes another error."""
    (healthy.root / "dev/kfd").unlink()
    (healthy.root / "dev/kfd").mkdir()
    result = healthy.check()
    assert result.is_fit
    assert "driver: not checked: /dev/kfd cannot be opened (Is a directory)" in result.log


@pytest.mark.parametrize(
    ("version", "architecture", "name"),
    [(GFX950, "gfx942", "gfx950"), (GFX942, "gfx950", "gfx942"), (90010, "gfx942", "gfx90a")],
)
def test_a_gpu_that_the_image_does_not_support_is_named(node: Node, version: int, architecture: str, name: str) -> None:
    node.add_gpus(4, version)
    result = node.check(architecture=architecture)
    assert (result.code, result.message) == (
        1,
        f"a GPU is {name}, but the image for spec.hardware is made for {architecture}",
    )


def test_one_wrong_gpu_among_several_is_found(healthy: Node) -> None:
    healthy.describe(3, _GPU.format(simds=1024, version=GFX950, minor=130))
    assert "a GPU is gfx950" in healthy.check().message


def test_the_gpus_of_other_pods_do_not_count(healthy: Node) -> None:
    """A kernel that shows a container all GPUs of the node. GPUs without a device do not belong to the pod."""
    for number in (5, 6):
        healthy.describe(1 + number, _GPU.format(simds=1024, version=GFX950, minor=128 + number))
    assert healthy.check().is_fit


def test_the_properties_of_other_pods_gpus_need_not_be_readable(healthy: Node) -> None:
    """The kernel refuses them (EPERM, kfd_devcgroup_check_permission)."""
    file = healthy.describe(6, "")
    file.unlink()
    file.mkdir()
    assert healthy.check().is_fit


@pytest.mark.parametrize("simds", [608, 304, 152], ids=["DPX", "QPX", "CPX"])
def test_partitions_count_as_gpus(node: Node, simds: int) -> None:
    """The labels of nodes decide whether partitions are wanted, and people label nodes by hand."""
    node.add_gpus(4, simds=simds)
    assert node.check().is_fit


@pytest.mark.parametrize("missing", ["all", "version", "nonsense"])
def test_missing_or_odd_properties_in_sys_are_no_failure(healthy: Node, missing: str) -> None:
    nodes = healthy.root / "sys/class/kfd/kfd/topology/nodes"
    if missing == "all":
        (healthy.root / "sys").rename(healthy.root / "elsewhere")
    for file in nodes.glob("*/properties"):
        file.write_bytes(b"\xff\xfe" if missing == "nonsense" else b"simd_count 1216\n")
    result = healthy.check()
    assert result.is_fit
    assert "architecture: not checked: " in result.log


def test_shared_memory_without_a_mount_is_too_small_for_several_gpus(healthy: Node) -> None:
    result = healthy.check(f"--shared-memory-mib={_TOO_MUCH}")
    assert result.code == 1
    assert result.message == (
        f"shared memory has only {_TOO_MUCH} MiB or less: mount a larger volume dshm (podTemplate)"
    )
    assert healthy.check(f"--shared-memory-mib={_TOO_MUCH}", gpus=2).code == 0


def test_shared_memory_that_cannot_be_measured_is_no_failure(healthy: Node) -> None:
    (healthy.root / "dev/shm").rmdir()
    assert healthy.check().code == 0


def test_a_disk_too_small_for_the_weights_is_found_before_the_download(healthy: Node) -> None:
    result = healthy.check_weights(_TOO_MUCH)
    assert result.code == 1
    assert result.message.startswith(f"the disk of the node has less than the {_TOO_MUCH} GiB free that the weights")
    assert healthy.check_weights(0).is_fit


def test_weights_that_were_already_downloaded_need_no_room(healthy: Node) -> None:
    """After a restart of the node, the disk of the pod is full of exactly these weights."""
    status = os.statvfs(healthy.root)
    free = status.f_bavail * status.f_frsize // 2**30
    blob = healthy.root / "cache/huggingface/hub/models--x/blobs/1"
    blob.parent.mkdir(parents=True)
    (blob.parent / "link").symlink_to(blob)
    with blob.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, 2 * 2**30)
    try:
        # The space that was free before, minus some space that others may use in the meantime. It is enough only
        # together with the blob.
        assert healthy.check_weights(free - 1).is_fit
    finally:
        blob.unlink()


@pytest.mark.parametrize("name", ["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"])
def test_an_image_with_its_own_weights_needs_no_disk(healthy: Node, name: str) -> None:
    result = healthy.check_weights(_TOO_MUCH, {name: "/opt/data"})
    assert result.is_fit
    assert f"disk: not checked: {name} is set" in result.log


def test_all_problems_are_reported_at_once_in_stable_words(node: Node) -> None:
    (node.root / "dev/kfd").unlink()
    first, second = node.check_weights(_TOO_MUCH), node.check_weights(_TOO_MUCH)
    assert first.message == second.message
    assert first.message.count("; ") == 2


def pod(**spec: Any) -> Manifest:
    template: Manifest = build_pod_template(KimiLinearServer.model_validate(make_server(**spec)))
    return template


def preflight(**spec: Any) -> Manifest:
    first: Manifest = pod(**spec)["spec"]["initContainers"][0]
    assert first["name"] == "preflight"
    return first


def engine(**container: Any) -> Manifest:
    return {"podTemplate": {"spec": {"containers": [{"name": "sglang", **container}]}}}


def test_the_check_runs_before_all_other_init_containers_unless_it_is_disabled() -> None:
    others = {"podTemplate": {"spec": {"initContainers": [{"name": "warm", "image": "a"}]}}}
    assert [item["name"] for item in pod(**others)["spec"]["initContainers"]] == ["preflight", "warm"]
    assert [item["name"] for item in pod(preflight="disabled", **others)["spec"]["initContainers"]] == ["warm"]
    assert "initContainers" not in pod(preflight="disabled")["spec"]


def test_a_users_init_container_of_that_name_stays_unchanged() -> None:
    own = {"name": "preflight", "image": "a"}
    assert pod(podTemplate={"spec": {"initContainers": [own]}})["spec"]["initContainers"] == [own]


def test_the_check_has_the_image_and_the_resources_of_the_engine() -> None:
    overlay = engine(imagePullPolicy="Always", resources={"limits": {"cpu": "9"}, "requests": {"memory": "1Gi"}})
    template = pod(engine={"image": "a/sglang:v0.5.7-mi30x"}, **overlay)["spec"]
    [check], [sglang] = template["initContainers"], template["containers"]
    for name in ("image", "imagePullPolicy", "resources"):
        assert check[name] == sglang[name]
    assert "imagePullPolicy" not in preflight()


@pytest.mark.parametrize(
    ("hardware", "architecture"), [("mi300x", "gfx942"), ("mi325x", "gfx942"), ("mi355x", "gfx950")]
)
def test_the_check_looks_for_the_gpus_of_the_spec(hardware: str, architecture: str) -> None:
    arguments = preflight(hardware=hardware, tensorParallelism=8)["args"]
    assert arguments[:2] == ["--gpus=8", f"--architecture={architecture}"]


def test_the_check_has_fewer_rights_than_the_engine_but_the_same_user() -> None:
    context = {"runAsUser": 7, "seLinuxOptions": {"level": "s0"}, "appArmorProfile": {"type": "RuntimeDefault"}}
    security = {"capabilities": ["SYS_PTRACE", "DAC_OVERRIDE"]}
    template = pod(security=security, **engine(securityContext=context))
    assert beyond_pod(template) == []
    assert template["spec"]["initContainers"][0]["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"], "add": ["DAC_OVERRIDE"]},
        "seccompProfile": {"type": "RuntimeDefault"},
        "runAsUser": 7,
        "seLinuxOptions": {"level": "s0"},
    }


def test_a_capability_that_needs_consent_is_reported_only_once() -> None:
    told = beyond_pod(pod(security={"capabilities": ["SYS_ADMIN"]}))
    assert [text for text in told if "SYS_ADMIN" in text] == ["the capability SYS_ADMIN in container sglang"]


def test_the_check_mounts_neither_the_key_nor_a_volume_of_the_user() -> None:
    mounts = [{"name": "models", "mountPath": "/models"}]
    check = preflight(auth={"apiKeySecretRef": {"name": "keys"}}, **engine(volumeMounts=mounts))
    assert [mount["name"] for mount in check["volumeMounts"]] == ["dshm", "cache"]
    assert "env" not in check


def test_the_check_leaves_out_a_mount_whose_path_depends_on_a_variable() -> None:
    moved = [{"name": "cache", "mountPath": "/cache", "subPathExpr": "$(NODE)"}]
    assert [mount["name"] for mount in preflight(**engine(volumeMounts=moved))["volumeMounts"]] == ["dshm"]


CLAIM = {"name": "cache", "persistentVolumeClaim": {"claimName": "weights"}}


@pytest.mark.parametrize(
    "spec",
    [
        {"model": {"path": "/models/kimi"}},
        {"podTemplate": {"spec": {"volumes": [CLAIM]}}},
        {"podTemplate": {"spec": {"volumes": [{"name": "cache", "emptyDir": {"medium": "Memory"}}]}}},
        engine(volumeMounts=[{"name": "x", "mountPath": "/cache/huggingface"}]),
        engine(volumeMounts=[{"name": "cache", "mountPath": "/cache", "subPathExpr": "$(NODE)"}]),
        engine(env=[{"name": "HF_HOME", "value": "/models/hf"}]),
        engine(env=[{"name": "HF_HUB_CACHE", "value": "/models/hub"}]),
        engine(env=[{"name": "SGLANG_USE_MODELSCOPE", "value": "1"}]),
        engine(envFrom=[{"configMapRef": {"name": "more"}}]),
        {"engine": {"extraArgs": ["--download-dir=/models"]}},
        {"engine": {"extraArgs": ["--load-format", "dummy"]}},
    ],
    ids=str,
)
def test_the_disk_is_not_checked_if_the_weights_may_be_elsewhere(spec: dict[str, Any]) -> None:
    assert "--weights=/cache" not in preflight(**spec)["args"]


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"model": {"revision": "main", "tokenSecretRef": {"name": "hf"}}},
        engine(env=[{"name": "NCCL_DEBUG", "value": "WARN"}]),
        {"engine": {"extraArgs": ["--log-level=info"]}},
    ],
    ids=str,
)
def test_the_disk_is_checked_if_the_weights_are_downloaded_to_it(spec: dict[str, Any]) -> None:
    assert preflight(**spec)["args"][-2:] == ["--weights=/cache", "--weights-gib=90"]


def test_the_text_of_the_check_means_the_same_to_kubernetes_and_the_shell() -> None:
    assert "$" not in POD_CHECK
    assert "'" not in POD_CHECK
