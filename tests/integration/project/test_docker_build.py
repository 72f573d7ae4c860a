"""The operator's image, built with Docker from the same Dockerfile and the same base."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import images
from commands import run, succeeds
from integration.image import unpack
from kind import docker_works

_BASE = "kimi-linear.local/base:with-pip-settings"


@pytest.fixture
def base(tmp_path: Path) -> Iterator[str]:
    """The Debian base image in Docker. No build option passes this machine's index and certificates to pip."""
    if reason := images.obstacle():
        pytest.skip(reason)
    if not docker_works():
        pytest.skip("no Docker daemon answers")
    loaded = run(["docker", "load", f"--input={images.base()}"], timeout=120).strip().rpartition(" ")[2]
    lines = [f"FROM {loaded}"]
    for path, file in images.pip_settings(tmp_path).items():
        name = Path(path).name
        (tmp_path / name).write_bytes(file.read_bytes())
        lines.append(f"COPY {name} {path}")
    (tmp_path / "Dockerfile").write_text("\n".join(lines))
    run(["docker", "build", f"--tag={_BASE}", tmp_path], timeout=120)
    yield _BASE
    succeeds(["docker", "image", "rm", _BASE, loaded])


def test_docker_builds_the_same_files_as_buildah(base: str, tmp_path: Path) -> None:
    arguments = {**images.OPERATOR.arguments, "BASE": base}
    name = images.build_in_docker(replace(images.OPERATOR, name="compared:1", arguments=arguments))
    run(["docker", "save", f"--output={tmp_path}/saved.tar", name], timeout=120)
    run(["docker", "image", "rm", name])
    by_docker = unpack(tmp_path / "saved.tar", tmp_path / "docker")
    by_buildah = unpack(images.build(images.OPERATOR), tmp_path / "buildah")
    assert by_docker.contents() == by_buildah.contents()
    assert (by_docker.config["Entrypoint"], by_docker.config["User"]) == (
        by_buildah.config["Entrypoint"],
        by_buildah.config["User"],
    )
