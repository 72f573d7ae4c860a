"""Making a release from its tag: in a repository of the test's own, with everything, and nothing is published."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

import pytest

import chart
import documentation_site
import images
import kimi_linear_operator
from chart import ROOT
from commands import LocalClusterError, run

VERSION = kimi_linear_operator.__version__
TAG = f"v{VERSION}"
DATED = f"## [{VERSION}] - 2026-11-30"
NAME = "kimi-linear-operator"

pytestmark = pytest.mark.usefixtures("programs")


@dataclass(frozen=True)
class Repository:
    """A Git repository with the files of this one."""

    folder: Path

    def git(self, *arguments: str) -> str:
        """Run Git. The same files always give the same commit."""
        times = {f"GIT_{who}_DATE": "2026-11-30T12:00:00Z" for who in ("AUTHOR", "COMMITTER")}
        who = {f"GIT_{who}_{what}": "tests" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        return run(["git", "-C", self.folder, *arguments], env={**os.environ, **times, **who}).strip()

    def release(self, tag: str = TAG) -> Path:
        """Make a release, and return its folder."""
        script = self.folder / "deploy/local/release.py"
        environment = {**os.environ, "PYTHONPATH": str(self.folder / "operator")}
        run([sys.executable, script, tag], env=environment, timeout=600)
        return self.folder / "dist" / tag


def repository(folder: Path) -> Repository:
    """Return a repository with the files of this working tree, and a tag of its version."""
    files = run(["git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard"]).split("\0")
    for name in filter(None, files):
        if (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    changelog = folder / "CHANGELOG.md"
    changelog.write_text(
        re.sub(rf"^## \[{re.escape(VERSION)}\] - .*$", DATED, changelog.read_text(), flags=re.MULTILINE)
    )
    made = Repository(folder)
    made.git("init", "--quiet")
    made.git("add", "--all")
    made.git("commit", "--quiet", "--message=Everything")
    made.git("tag", TAG)
    return made


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a release."""
    if reason := images.obstacle():
        pytest.skip(reason)
    return repository(tmp_path_factory.mktemp("first")).release()


def test_a_release_has_all_files_and_their_checksums(made: Path) -> None:
    archives = ("documentation", "json-schemas", "manifests", "olm-bundle")
    packed = ("image.tar", "sbom.cdx.json", *(f"{name}.tar.gz" for name in archives))
    assert {file.name for file in made.iterdir()} == {
        "RELEASE-NOTES.md",
        "SHA256SUMS",
        "install.yaml",
        *(f"{NAME}-{VERSION}-{name}" for name in packed),
        f"{NAME}-{VERSION}.tgz",
        f"kimi-linear-servers-{VERSION}.tgz",
        f"kimi_linear_operator-{VERSION}-py3-none-any.whl",
        f"kimi_linear_operator-{VERSION}.tar.gz",
    }
    checked = subprocess.run(["sha256sum", "--check", "SHA256SUMS"], cwd=made, capture_output=True, text=True)
    assert (checked.returncode, checked.stdout.count(": OK\n")) == (0, len([*made.iterdir()]) - 1), checked.stdout


def test_the_same_tag_gives_the_same_bytes(made: Path, tmp_path: Path) -> None:
    again = repository(tmp_path).release()
    assert (again / "SHA256SUMS").read_text() == (made / "SHA256SUMS").read_text()


def test_the_packaged_charts_equal_those_of_the_tag(made: Path) -> None:
    packaged = chart.helm("template", chart.RELEASE, made / f"{NAME}-{VERSION}.tgz", f"--namespace={chart.NAMESPACE}")
    assert packaged == chart.render()
    chart.helm("lint", "--strict", made / f"kimi-linear-servers-{VERSION}.tgz")


def test_the_archives_contain_the_files_of_the_tag(made: Path) -> None:
    found: dict[str, bytes] = {}
    for file in made.glob(f"{NAME}-{VERSION}-*.tar.gz"):
        with tarfile.open(file) as tar:
            entries = tar.getmembers()
            assert {(entry.mode, entry.uid, entry.uname) for entry in entries} == {(0o644, 0, "")}
            found |= {entry.name: opened.read() for entry in entries if (opened := tar.extractfile(entry))}
    wanted = [ROOT / name for name in ("crds/warnings.yaml", "deploy/install.yaml", "bundle/Dockerfile")]
    wanted += (ROOT / "crds/schemas").rglob("*.json")
    assert {str(file.relative_to(ROOT)): file.read_bytes() for file in wanted}.items() <= found.items()


def test_the_documentation_can_be_read_from_its_archive(made: Path, tmp_path: Path) -> None:
    with tarfile.open(made / f"{NAME}-{VERSION}-documentation.tar.gz") as tar:
        tar.extractall(tmp_path, filter="data")
    site = tmp_path / "documentation"
    assert list(documentation_site.problems(site)) == []
    assert {"index.html", "configurator.html", "search.html"} <= {file.name for file in site.iterdir()}


@pytest.mark.parametrize("pattern", ["*.whl", "kimi_linear_operator-*.tar.gz"])
def test_the_python_packages_have_the_command(made: Path, tmp_path: Path, pattern: str) -> None:
    [package] = made.glob(pattern)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    run([*pip, f"--target={tmp_path}", package], timeout=120)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    assert run([tmp_path / "bin/kimi-linear", "--version"], env=environment) == f"kimi-linear {VERSION}\n"


def test_the_image_names_the_commit(made: Path) -> None:
    with tarfile.open(made / f"{NAME}-{VERSION}-image.tar") as tar:
        [manifest] = json.loads(_content(tar, "manifest.json"))
        config = _content(tar, manifest["Config"])
        layers = [hashlib.sha256(_content(tar, layer)).hexdigest() for layer in manifest["Layers"]]
    assert manifest["Config"] == f"{hashlib.sha256(config).hexdigest()}.json"
    assert json.loads(config)["rootfs"]["diff_ids"] == [f"sha256:{layer}" for layer in layers]
    labels = json.loads(config)["config"]["Labels"]
    assert labels["org.opencontainers.image.revision"] == Repository(made.parents[1]).git("rev-parse", "HEAD")
    assert labels["org.opencontainers.image.version"] == VERSION


def _content(tar: tarfile.TarFile, name: str) -> bytes:
    file = tar.extractfile(name)
    assert file
    return file.read()


def test_the_notes_are_the_section_of_the_changelog(made: Path) -> None:
    notes = (made / "RELEASE-NOTES.md").read_text()
    section = (ROOT / "CHANGELOG.md").read_text().split(f"## [{VERSION}]")[1].split("\n## ")[0]
    assert notes.startswith(f"# {TAG}, 2026-11-30\n\n{section.partition(chr(10))[2].strip()}\n")


@pytest.fixture(scope="module")
def unreleased(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A repository whose changelog has no date yet."""
    made = repository(tmp_path_factory.mktemp("unreleased"))
    changelog = made.folder / "CHANGELOG.md"
    changelog.write_text(changelog.read_text().replace(DATED, f"## [{VERSION}] - not released yet"))
    made.git("commit", "--quiet", "--all", "--message=Not released yet")
    return made


def test_a_wrong_tag_changelog_or_working_tree_is_refused(unreleased: Repository) -> None:
    with pytest.raises(LocalClusterError, match=r"The tag v9\.9\.9 does not fit"):
        unreleased.release("v9.9.9")
    with pytest.raises(LocalClusterError, match="is not a tag of the checked-out commit"):
        unreleased.release()
    unreleased.git("tag", "--force", TAG)
    with pytest.raises(LocalClusterError, match="has no section"):
        unreleased.release()
    (unreleased.folder / "README.md").write_text("changed")
    with pytest.raises(LocalClusterError, match="working tree has changes"):
        unreleased.release()
    assert not (unreleased.folder / "dist").exists()
