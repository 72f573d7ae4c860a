"""Images, without building one: their parts, and the key of the cache."""

import os
from pathlib import Path

import pytest

import images
from commands import LocalClusterError
from images import Image


@pytest.fixture
def image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Image:
    monkeypatch.setattr(images, "_ROOT", tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "code" / "__pycache__").mkdir(parents=True)
    for name in ("code/a.py", "code/__pycache__/a.pyc", "other.py"):
        (tmp_path / name).write_text("1")
    (tmp_path / "Dockerfile").write_text("ARG BASE\nFROM ${BASE}\nCOPY code code\n")
    (tmp_path / "Dockerfile.dockerignore").write_text("# why\n*\n!code\n**/__pycache__\n")
    return Image("localhost/image:1", tmp_path / "Dockerfile")


def test_a_build_uses_only_files_that_the_ignore_file_allows(image: Image, tmp_path: Path) -> None:
    assert image.inputs == [tmp_path / "code/a.py"]


def test_the_name_of_a_cached_image_depends_on_all_its_inputs(image: Image, tmp_path: Path) -> None:
    before = image.archive
    assert before.parent == tmp_path / "cache/kimi-linear-operator/images"
    assert before.name.startswith("image-1-")
    (tmp_path / "other.py").write_text("2")
    assert image.archive == before
    (tmp_path / "code/a.py").write_text("2")
    changed = image.archive
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    assert len({before, changed, image.archive}) == 3
    assert Image(image.name, image.dockerfile, {"VERSION": "2"}).archive != image.archive


def test_a_built_image_is_taken_from_the_cache(image: Image) -> None:
    image.archive.parent.mkdir(parents=True)
    image.archive.write_text("built")
    os.utime(image.archive, (0, 0))
    assert images.build(image).read_text() == "built"
    # Use this image, so that the cache removes unused images first.
    assert image.archive.stat().st_mtime > 0


def test_an_ignore_file_that_names_nothing_is_an_error(image: Image, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile.dockerignore").write_text("*\n!gone\n")
    with pytest.raises(LocalClusterError, match=r"Dockerfile\.dockerignore names files that do not exist: .*gone"):
        _ = image.archive


def test_the_operators_image_is_built_from_the_package_and_its_pins() -> None:
    names = {str(file.relative_to(images.OPERATOR.dockerfile.parents[1])) for file in images.OPERATOR.inputs}
    assert {"requirements/runtime.txt", "requirements/build.txt", "deploy/image/rootfs.py", "pyproject.toml"} <= names
    assert {name.split("/")[0] for name in names} <= {
        "LICENSE",
        "README.md",
        "deploy",
        "operator",
        "pyproject.toml",
        "requirements",
    }
