"""A built image, used without a container engine: its parts, its files, and its program in a read-only chroot."""

import hashlib
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chart import NAMESPACE

# With full paths, because the PATH is the image's. The root filesystem is bind-mounted to itself, so that it can be
# read-only only for programs in it.
_ENTER = (
    '/bin/mount --bind "$1" "$1" && /bin/mount -o remount,bind,ro "$1" && exec /usr/sbin/chroot --userspec="$0" "$@"'
)
_SERVICE_ACCOUNT = "var/run/secrets/kubernetes.io/serviceaccount"


@dataclass(frozen=True)
class UnpackedImage:
    """An image whose layers lie in a folder."""

    root: Path
    config: dict[str, Any]
    """Entrypoint, Cmd, User, Env and Labels."""

    def command(self, *arguments: str, **environment: str) -> tuple[str, ...]:
        """Return the command line that runs these arguments, or the image's own command, in the image as its user.

        Each step replaces the process (`exec`), so signals reach the program. Linux and root only.
        """
        words = [*self.config["Entrypoint"], *(arguments or self.config["Cmd"])]
        variables = [*self.config["Env"], *(f"{name}={text}" for name, text in environment.items())]
        enter = ["/usr/bin/unshare", "--mount", "--propagation", "private", "/bin/sh", "-c", _ENTER]
        return ("/usr/bin/env", "--ignore-environment", *variables, *enter, self.config["User"], str(self.root), *words)

    def files(self) -> list[Path]:
        """Return all files and links, no folders."""
        return [path for path in self.root.rglob("*") if path.is_symlink() or not path.is_dir()]

    def contents(self) -> dict[str, tuple[str, int, int]]:
        """Return every file and link by its path: a hash of its content or where it leads, its mode and its owner."""
        return {str(path.relative_to(self.root)): _content(path) for path in self.files()}

    def mount_service_account(self, token: str, certificate: bytes) -> None:
        """Write a pod's credentials to the place that the kubelet uses."""
        folder = self.root / _SERVICE_ACCOUNT
        folder.mkdir(parents=True)
        for name, content in {"token": token.encode(), "ca.crt": certificate, "namespace": NAMESPACE.encode()}.items():
            (folder / name).write_bytes(content)


def unpack(archive: Path, folder: Path) -> UnpackedImage:
    """Unpack the layers of a docker-archive in order."""
    root = folder / "root"
    with tarfile.open(archive) as tar:
        (manifest,) = _read(tar, "manifest.json")
        for layer in manifest["Layers"]:
            with tarfile.open(fileobj=tar.extractfile(layer)) as files:
                files.extractall(root, filter="fully_trusted")  # noqa: S202 -- we built it; modes and owners are tested
        return UnpackedImage(root, _read(tar, manifest["Config"])["config"])


def _content(path: Path) -> tuple[str, int, int]:
    seen = path.lstat()
    what = str(path.readlink()) if path.is_symlink() else hashlib.sha256(path.read_bytes()).hexdigest()
    return what, seen.st_mode, seen.st_uid


def _read(tar: tarfile.TarFile, name: str) -> Any:
    file = tar.extractfile(name)
    assert file
    return json.load(file)
