"""The operator's image, built here from its Dockerfile: its contents, and that it works as in a pod."""

import base64
import json
import stat
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

import images
import kimi_linear_operator
from chart import NAMESPACE, RELEASE
from control_plane import LocalCluster
from integration.image import UnpackedImage, unpack
from integration.namespace import Namespace
from integration.processes_under_test import Operator
from kimi_linear_operator.kubernetes import crd
from kimi_linear_operator.resource_types import DEFINITIONS

# 130 MB when this was written. The typed models of the Kubernetes client, which the image does not contain, would be
# another 120 MB.
_LARGEST_BYTES = 140e6
_USER = 65532
_IMPORT_EVERYTHING = """
import importlib, json, pkgutil, sys
import kimi_linear_operator
for module in pkgutil.walk_packages(kimi_linear_operator.__path__, "kimi_linear_operator."):
    if not module.name.endswith(".__main__"):
        importlib.import_module(module.name)
print(json.dumps(sorted(name for name in sys.modules if name.split(".")[0] == "kubernetes")))
"""


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> UnpackedImage:
    if reason := images.obstacle():
        pytest.skip(reason)
    return unpack(images.build(images.OPERATOR), tmp_path_factory.mktemp("image"))


def run(image: UnpackedImage, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(image.command(*arguments), capture_output=True, text=True, timeout=60)


def test_the_image_has_labels_and_runs_the_operator_as_an_ordinary_user(image: UnpackedImage) -> None:
    assert (image.config["Entrypoint"], image.config["Cmd"]) == (["kimi-linear"], ["run"])
    assert image.config["User"] == "65532:65532"
    labels = image.config["Labels"]
    assert labels["org.opencontainers.image.version"] == kimi_linear_operator.__version__
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert labels["org.opencontainers.image.title"] == "kimi-linear-operator"


def test_the_image_has_no_installer_compiler_or_setuid_file(image: UnpackedImage) -> None:
    files = image.files()
    modes = {file: file.lstat().st_mode for file in files}
    assert [file for file, mode in modes.items() if mode & (stat.S_ISUID | stat.S_ISGID)] == []
    writable = [file for file, mode in modes.items() if mode & stat.S_IWOTH and not stat.S_ISLNK(mode)]
    assert writable == []
    assert [file for file in files if file.lstat().st_uid == _USER] == []
    packages = {file.name for file in image.root.glob("opt/kimi-linear/lib/python3*/site-packages/*")}
    assert not packages & {"pip", "setuptools", "wheel", "hatchling", "pytest"}
    assert "kimi_linear_operator" in packages


def test_the_only_programs_are_python_and_ours(image: UnpackedImage) -> None:
    folders = ("bin", "sbin", "usr/bin", "usr/sbin", "usr/local/bin", "usr/local/sbin", "opt/kimi-linear/bin")
    programs = {file.name for folder in folders for file in (image.root / folder).glob("*")}
    assert {program for program in programs if not program.startswith("python")} == {"kimi-linear"}


def test_every_module_is_compiled_already(image: UnpackedImage) -> None:
    sources = [file for file in image.files() if file.suffix == ".py"]
    assert [file for file in sources if not list(file.parent.glob(f"__pycache__/{file.stem}.*.pyc"))] == []


def test_scanners_find_the_debian_packages_of_the_libraries(image: UnpackedImage) -> None:
    packages = {file.name: file.read_text() for file in (image.root / "var/lib/dpkg/status.d").iterdir()}
    assert {"libc6", "libssl3", "zlib1g"} <= packages.keys()
    assert "\nVersion: " in packages["libssl3"]


def test_the_image_is_small(image: UnpackedImage) -> None:
    assert sum(file.lstat().st_size for file in image.files()) < _LARGEST_BYTES


def test_every_module_imports_in_the_image_without_typed_models(image: UnpackedImage) -> None:
    command = [word if word != "kimi-linear" else "python3" for word in image.command("-c", _IMPORT_EVERYTHING)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    loaded = json.loads(done.stdout)
    assert "kubernetes.aio.client.models" in loaded
    assert [name for name in loaded if ".models." in name or ".api." in name] == []


def test_the_command_works_on_a_read_only_root_filesystem(image: UnpackedImage) -> None:
    done = run(image, "--version")
    assert (done.returncode, done.stdout) == (0, f"kimi-linear {kimi_linear_operator.__version__}\n"), done.stderr
    done = run(image, "crd")
    assert (done.returncode, done.stdout) == (0, "---\n".join(crd.files(DEFINITIONS).values())), done.stderr


def test_the_root_filesystem_is_read_only_in_these_tests(image: UnpackedImage) -> None:
    done = run(image, "crd", "--write", "/crds")
    assert done.returncode != 0
    assert "Read-only file system" in done.stderr


def test_the_operator_works_in_the_image_with_a_pods_credentials(
    image: UnpackedImage, cluster: LocalCluster, no_operator: None, namespace: Namespace, tmp_path: Path
) -> None:
    content = yaml.safe_load(cluster.kubeconfig_of(RELEASE, NAMESPACE).read_text())
    server = content["clusters"][0]["cluster"]
    image.mount_service_account(content["users"][0]["user"]["token"], _certificate(server))
    address = urlsplit(server["server"])
    variables = {"KUBERNETES_SERVICE_HOST": str(address.hostname), "KUBERNETES_SERVICE_PORT": str(address.port)}
    *program, _run = image.command("run", **variables)
    operator = Operator(cluster.kubeconfig, tmp_path / "log", program=tuple(program))
    operator.start()
    try:
        assert operator.process
        assert Path(f"/proc/{operator.process.pid}").stat().st_uid == _USER
        namespace.create_server("kimi", {"tensorParallelism": 1})
        namespace.wait_until_ready("kimi")
    finally:
        code = operator.stop()
    assert code == 0, operator.told()


def _certificate(server: dict[str, str]) -> bytes:
    if "certificate-authority-data" in server:
        return base64.b64decode(server["certificate-authority-data"])
    return Path(server["certificate-authority"]).read_bytes()
