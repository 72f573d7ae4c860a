"""The parts of a release agree: version, images, supported versions, packages."""

import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

import kimi_linear_operator
import sbom
from arguments.sglang_releases import RELEASES
from cpu_engine import environment
from integration.schemas import VERSIONS
from kimi_linear_operator.server.sglang.images import ARCHITECTURES, GUESSED_ROCM, TESTED_RELEASES, image_of
from kimi_linear_operator.server.spec import ServerSpec
from kimi_linear_operator.weights.location import MODELS

ROOT = Path(__file__).parents[3]
PACKAGE = "operator/kimi_linear_operator"
CHANGELOG = (ROOT / "CHANGELOG.md").read_text()
AIR_GAP = (ROOT / "docs/air-gap.md").read_text()
UPGRADING = (ROOT / "docs/upgrading.md").read_text()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, f"--wheel-dir={folder}", str(ROOT)], check=True, timeout=120)
    (file,) = folder.glob("*.whl")
    assert file.name == f"kimi_linear_operator-{kimi_linear_operator.__version__}-py3-none-any.whl"
    return zipfile.ZipFile(file)


def pinned() -> dict[str, tuple[str, set[str]]]:
    """Return the version and the hashes of each package of the image, by name."""
    text = (ROOT / "requirements/runtime.txt").read_text().replace("\\\n", " ")
    entries = re.findall(r"^(\S+)==(\S+)(.*)$", text, re.MULTILINE)
    return {name: (version, set(re.findall("sha256:([0-9a-f]{64})", rest))) for name, version, rest in entries}


def test_the_wheel_has_every_file_of_the_package_and_no_other(wheel: zipfile.ZipFile) -> None:
    files = {file for file in (ROOT / PACKAGE).rglob("*") if file.is_file() and "__pycache__" not in file.parts}
    wanted = {str(file.relative_to(ROOT / "operator")) for file in files}
    packed = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert packed == wanted
    assert "kimi_linear_operator/benchmark/runner.py" in packed
    assert "kimi_linear_operator/configurator/page.html" in packed
    same = [name for name in packed if wheel.read(name) == (ROOT / "operator" / name).read_bytes()]
    assert len(same) == len(packed)


def test_the_wheel_has_its_metadata_and_the_command(wheel: zipfile.ZipFile) -> None:
    (folder,) = {name.split("/")[0] for name in wheel.namelist() if ".dist-info/" in name}
    metadata = wheel.read(f"{folder}/METADATA").decode()
    assert f"\nVersion: {kimi_linear_operator.__version__}\n" in metadata
    assert "\nLicense-Expression: Apache-2.0\n" in metadata
    assert wheel.read(f"{folder}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()
    assert "kimi-linear = kimi_linear_operator.cli:main" in wheel.read(f"{folder}/entry_points.txt").decode()


def test_the_changelog_begins_with_this_version() -> None:
    versions = re.findall(r"^## \[(\S+)\] - (\d{4}-\d{2}-\d{2}|not released yet)$", CHANGELOG, re.MULTILINE)
    assert len(versions) == CHANGELOG.count("\n## ")
    assert versions[0][0] == kimi_linear_operator.__version__


def test_the_list_for_air_gaps_names_every_image_that_is_started() -> None:
    servers = [
        ServerSpec.model_validate({"hardware": hardware, "engine": {"version": version}})
        for version in TESTED_RELEASES
        for hardware in ARCHITECTURES
    ]
    chart = yaml.safe_load((ROOT / "charts/kimi-linear-operator/values.yaml").read_text())["image"]["repository"]
    operator = f"{chart}:{kimi_linear_operator.__version__}"
    listed = re.findall(r"^\| `([^`]+:[^`]+)` \|", AIR_GAP, re.MULTILINE)
    assert sorted(listed) == sorted({operator, *map(image_of, servers)})


def test_no_template_of_a_chart_starts_another_image() -> None:
    templates = (ROOT / "charts").glob("*/templates/**/*.yaml")
    images = {line.strip() for file in templates for line in file.read_text().splitlines() if " image:" in line}
    assert images == {'image: {{ include "operator.image" . }}'}


def test_the_one_file_installation_starts_this_version() -> None:
    objects = yaml.safe_load_all((ROOT / "deploy/install.yaml").read_text())
    pods = [item["spec"]["template"]["spec"] for item in objects if item["kind"] == "Deployment"]
    images = [container["image"] for pod in pods for container in pod["containers"]]
    assert images == [f"kimi-linear-operator:{kimi_linear_operator.__version__}"]


def test_the_list_for_air_gaps_names_other_releases_models_and_the_base_image() -> None:
    (base,) = re.findall(r"^ARG BASE=(\S+)$", (ROOT / "deploy/Dockerfile").read_text(), re.MULTILINE)
    assert f"`{base}`" in AIR_GAP
    assert f"lmsysorg/sglang:VERSION-{GUESSED_ROCM}-mi30x" in AIR_GAP
    assert all(model in AIR_GAP for model in MODELS.values())


def test_the_supported_versions_equal_those_that_the_chart_is_validated_for() -> None:
    minors = [version.removesuffix(".0") for version in VERSIONS]
    assert f"| Kubernetes | {', '.join(minors)} |" in UPGRADING
    chart = yaml.safe_load((ROOT / "charts/kimi-linear-operator/Chart.yaml").read_text())
    assert chart["kubeVersion"] == f">={VERSIONS[0]}-0"
    assert f"Kubernetes {minors[0]} or newer" in (ROOT / "docs/guide/install.md").read_text()


def test_the_tests_run_on_the_newest_supported_version() -> None:
    go_mod = (ROOT / "deploy/local/kubernetes/go.mod").read_text()
    assert re.search(rf"k8s.io/kubernetes v{VERSIONS[-1].removesuffix('.0')}\.", go_mod)
    assert f"The tests run on {VERSIONS[-1].removesuffix('.0')} only." in UPGRADING


def test_the_documented_releases_of_sglang_equal_the_tested_ones() -> None:
    recipe, newest = RELEASES
    assert tuple(RELEASES) == environment.RELEASES
    assert list(TESTED_RELEASES) == [f"v{recipe}"]
    assert f"| SGLang | v{recipe}, as in the recipe; the tests also run {newest} on a CPU |" in UPGRADING
    for release, file in RELEASES.items():
        assert f"\nsglang=={release} " in (ROOT / "requirements" / file).read_text()
    assert f"of {recipe} and of {newest}" in (ROOT / "docs/guide/README.md").read_text()


def test_every_package_of_the_image_is_pinned_with_hashes() -> None:
    for name in ("runtime", "build"):
        lines = (ROOT / f"requirements/{name}.txt").read_text().splitlines()
        pattern = r"(    --hash=sha256:\w{64}|[a-z0-9-]+==\S+)( \\)?$"
        assert [line for line in lines if not re.match(pattern, line)] == []


def test_the_sbom_names_every_package_of_the_image_with_its_hashes(tmp_path: Path) -> None:
    file = tmp_path / "sbom.json"
    sbom.write(file)
    bom = json.loads(file.read_text())
    assert bom["bomFormat"] == "CycloneDX"
    assert bom["metadata"]["component"]["name"] == "kimi-linear-operator"
    found = {
        component["name"]: (
            component["version"],
            {entry["content"] for reference in component["externalReferences"] for entry in reference["hashes"]},
        )
        for component in bom["components"]
    }
    assert found == pinned()
