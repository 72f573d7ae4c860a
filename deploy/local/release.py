"""Makes all files of a release from its tag, and publishes nothing: `release.py TAG [FOLDER]`.

The same tag gives the same bytes, except for the image, whose files have the times of its build: docs/releasing.md.
"""

import gzip
import hashlib
import io
import os
import re
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import documentation_site
import images
import kimi_linear_operator
import sbom
from archive import copy_with_labels
from binaries import binary, ensure_built, select
from commands import LocalClusterError, exit_code, run, say

_ROOT = Path(__file__).parents[2]
_NAME = "kimi-linear-operator"
_VERSION = kimi_linear_operator.__version__
# The contents of each archive, by the end of the archive's name.
_ARCHIVES: Mapping[str, Sequence[str]] = {
    "documentation": ("documentation",),
    "json-schemas": ("crds/schemas",),
    "manifests": (
        "crds", "deploy/gitops", "deploy/install.yaml", "deploy/kustomize", "deploy/monitoring", "deploy/samples",
    ),
    "olm-bundle": ("bundle",),
}  # fmt: skip
_CHARTS = ("kimi-linear-operator", "kimi-linear-servers")


@dataclass(frozen=True)
class Source:
    """The files of a tag, as Git has them.

    Attributes:
        commit: The commit of the tag.
        seconds: The time of the commit. All files of the release get this time.
        folder: Where the files are.
    """

    commit: str
    seconds: int
    folder: Path


def make(tag: str, target: Path) -> None:
    """Make the release in a folder, which must not exist yet.

    Args:
        tag: The tag of the release.
        target: The folder for its files.

    Raises:
        LocalClusterError: The tag or the working tree does not fit, this machine cannot build the image, or a step has
            failed.
    """
    commit = _checked_commit(tag)
    notes = release_notes(tag, commit)
    if target.exists():
        raise LocalClusterError(f"{target} exists already: move it away, or name another folder.")
    if reason := images.obstacle():
        raise LocalClusterError(f"The image cannot be built: {reason}.")
    ensure_built(select("helm"))
    target.parent.mkdir(parents=True, exist_ok=True)
    # This folder is on the same file system as the target, so that the release appears as a whole or not at all.
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".release-") as scratch:
        made = Path(scratch, "made")
        made.mkdir()
        (made / "RELEASE-NOTES.md").write_text(notes)
        _fill(made, _exported(commit, Path(scratch, "source")))
        _write_sums(made)
        made.rename(target)
    say(f"{target} has the release {tag}. Nothing was published.")


def _checked_commit(tag: str) -> str:
    """Return the commit of the tag. The working tree must not differ from it."""
    if tag != f"v{_VERSION}":
        raise LocalClusterError(
            f"The tag {tag} does not fit: the version here is {_VERSION}, so its tag is v{_VERSION}."
        )
    commit = _git("rev-parse", "HEAD")
    if _git("tag", "--list", tag) != tag or _git("rev-list", "--max-count=1", tag) != commit:
        raise LocalClusterError(
            f"{tag} is not a tag of the checked-out commit: create it with `git tag {tag}`, or check it out."
        )
    if changed := _git("status", "--porcelain"):
        raise LocalClusterError(f"The working tree has changes that {tag} does not have:\n{changed}")
    return commit


def release_notes(tag: str, commit: str) -> str:
    """The section of the changelog about this version, and how to check the files.

    Raises:
        LocalClusterError: There is no such section, or it has no date.
    """
    text = (_ROOT / "CHANGELOG.md").read_text()
    found = re.search(rf"^## \[{re.escape(_VERSION)}\] - (\S+)\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    if not found or not re.fullmatch(r"\d{4}-\d{2}-\d{2}", found[1]):
        raise LocalClusterError(f"CHANGELOG.md has no section [{_VERSION}] with a date.")
    checked = "`sha256sum --check SHA256SUMS` checks the files of this release."
    return f"# {tag}, {found[1]}\n\n{found[2].strip()}\n\nMade from commit `{commit}`. {checked}\n"


def _exported(commit: str, folder: Path) -> Source:
    """Export the files of the tag, without files that Git ignores. All files get the time of the commit."""
    seconds = int(_git("show", "--no-patch", "--format=%ct", commit))
    archive = folder.with_suffix(".tar")
    _git("-c", "tar.umask=0022", "archive", "--format=tar", f"--output={archive}", commit)
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    return Source(commit, seconds, folder)


def _fill(target: Path, source: Source) -> None:
    """Make all files of the release except the notes and the checksums."""
    say("Charts, documentation, manifests, Python packages ...")
    for chart in _CHARTS:
        run([binary("helm"), "package", source.folder / "charts" / chart, f"--destination={target}"])
    shutil.copyfile(source.folder / "deploy/install.yaml", target / "install.yaml")
    documentation_site.build(source.folder / "documentation")
    for name, paths in _ARCHIVES.items():
        _archive(target / f"{_NAME}-{_VERSION}-{name}.tar.gz", source, paths)
    _build_packages(target, source)
    sbom.write(target / f"{_NAME}-{_VERSION}-sbom.cdx.json")
    labels = {"org.opencontainers.image.revision": source.commit}
    copy_with_labels(images.build(images.OPERATOR), target / f"{_NAME}-{_VERSION}-image.tar", labels)


def _build_packages(target: Path, source: Source) -> None:
    """Build the wheel and the source distribution."""
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(source.seconds)}
    for kind in ("wheel", "sdist"):
        # hatchling builds the project of the folder in which it runs.
        command = ["env", f"--chdir={source.folder}", sys.executable, "-m", "hatchling", "build"]
        run([*command, f"--directory={target}", f"--target={kind}"], env=environment, timeout=120)


def _archive(file: Path, source: Source, paths: Sequence[str]) -> None:
    """Write an archive of these files and folders. Its entries are sorted, and have the same time and no owner."""
    found = [source.folder / path for path in paths]
    files = sorted(
        {each for path in found for each in ([path] if path.is_file() else path.rglob("*")) if each.is_file()}
    )
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for each in files:
            entry = tarfile.TarInfo(str(each.relative_to(source.folder)))
            entry.size, entry.mtime, entry.mode = each.stat().st_size, source.seconds, 0o644
            with each.open("rb") as opened:
                tar.addfile(entry, opened)
    file.write_bytes(gzip.compress(content.getvalue(), mtime=source.seconds))


def _write_sums(folder: Path) -> None:
    lines = []
    for file in sorted(folder.iterdir()):
        with file.open("rb") as opened:
            lines.append(f"{hashlib.file_digest(opened, 'sha256').hexdigest()}  {file.name}\n")
    (folder / "SHA256SUMS").write_text("".join(lines))


def _git(*arguments: str) -> str:
    return run(["git", "-C", _ROOT, *arguments]).strip()


def main(words: Sequence[str]) -> None:
    """Make the release that the command line names."""
    if not 1 <= len(words) <= 2:
        raise LocalClusterError("Usage: release.py TAG [FOLDER]")
    tag, *folder = words
    make(tag, Path(*folder) if folder else _ROOT / "dist" / tag)


if __name__ == "__main__":
    sys.exit(exit_code(lambda: main(sys.argv[1:])))
