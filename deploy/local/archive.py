"""Writes container images (docker-archives) without a container engine."""

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def write_archive(archive: Path, name: str, files: Mapping[str, Path], entrypoint: Sequence[str]) -> None:
    """Write an image of one layer with these programs in its root, for `docker load` and containerd."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        for path, file in files.items():
            tar.add(file, path)
    content = layer.getvalue()
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Entrypoint": list(entrypoint)},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(content).hexdigest()}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    with tarfile.open(archive, "w") as tar:
        _add(tar, "layer.tar", content)
        _add(tar, "config.json", json.dumps(config).encode())
        _add(tar, "manifest.json", json.dumps(manifest).encode())


def copy_with_labels(archive: Path, target: Path, labels: Mapping[str, str]) -> None:
    """Copy a docker-archive with one image, and add labels to the image. The layers stay as they are."""
    with tarfile.open(archive) as old, tarfile.open(target, "w") as new:
        [manifest] = _read(old, "manifest.json")
        config = _read(old, manifest["Config"])
        config["config"]["Labels"] = {**config["config"].get("Labels", {}), **labels}
        content = json.dumps(config).encode()
        name = f"{hashlib.sha256(content).hexdigest()}.json"
        for entry in old:
            if entry.name not in ("manifest.json", manifest["Config"]):
                new.addfile(entry, old.extractfile(entry) if entry.isfile() else None)
        _add(new, name, content)
        _add(new, "manifest.json", json.dumps([{**manifest, "Config": name}]).encode())


def _read(tar: tarfile.TarFile, name: str) -> Any:
    file = tar.extractfile(name)
    if file is None:
        raise ValueError(f"no docker-archive: {name} is no file")
    return json.load(file)


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))
