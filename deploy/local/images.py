"""Builds container images without a container engine: `images.py` builds the operator's image and prints its path.

buildah runs the usual Dockerfiles in a chroot, on a base made of Debian's packages instead of a base from a registry.
Each result is a docker-archive in the user's cache. Its name contains a hash of all inputs, so a second call needs
neither time nor network. `ctr images import` and `kind load image-archive` read these archives.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import debian
import kimi_linear_operator
from binaries import cache_folder
from commands import LocalClusterError, exit_code, last_lines, run, say
from debian import BASE, ensure_installed, find, make_base
from kimi_linear_operator.server.sglang.images import image_of
from kimi_linear_operator.server.spec import ServerSpec

_ROOT = Path(__file__).parents[2]
_PACKAGES = {"buildah": "buildah", "debootstrap": "debootstrap"}
_MINUTES = 20
_KEPT = 3
# pip may need these settings of this machine to reach an index. They are used in the build, but they do not get into
# the image.
_PIP_SETTINGS = ("index-url", "cert")


@dataclass(frozen=True)
class Image:
    """An image and its inputs.

    DOCKERFILE.dockerignore beside the Dockerfile excludes everything (`*`) except the paths after an exclamation mark.
    These paths are copied for the build. After a change in any of them, a new image is built.
    """

    name: str
    """The name with the tag, as containerd has it after the import: docker.io/library/kimi-linear-operator:0.1.0."""
    dockerfile: Path
    arguments: Mapping[str, str] = field(default_factory=dict)

    @property
    def inputs(self) -> list[Path]:
        """The files of this project that the build can read."""
        lines = self.dockerfile.with_name(f"{self.dockerfile.name}.dockerignore").read_text().splitlines()
        found = [_ROOT / line.removeprefix("!") for line in lines if line.startswith("!")]
        if missing := [path for path in found if not path.exists()]:
            raise LocalClusterError(f"{self.dockerfile.name}.dockerignore names files that do not exist: {missing}")
        files = [file for path in found for file in ([path] if path.is_file() else path.rglob("*"))]
        return sorted(file for file in files if file.is_file() and "__pycache__" not in file.parts)

    @property
    def archive(self) -> Path:
        """The path of its docker-archive."""
        parts = [
            BASE.encode(),
            self.name.encode(),
            repr(sorted(self.arguments.items())).encode(),
            self.dockerfile.read_bytes(),
        ]
        for file in self.inputs:
            parts += [str(file.relative_to(_ROOT)).encode(), file.read_bytes()]
        key = hashlib.sha256(b"\0".join(parts)).hexdigest()[:12]
        return _folder() / f"{self.name.rpartition('/')[2].replace(':', '-')}-{key}.tar"


OPERATOR = Image(
    # The name of the operator's image in the chart's default values.
    f"docker.io/library/kimi-linear-operator:{kimi_linear_operator.__version__}",
    _ROOT / "deploy" / "Dockerfile",
    {"VERSION": kimi_linear_operator.__version__},
)
# The stand-in has the name of SGLang's image, so that the tests can use unchanged manifests.
STAND_IN = Image(f"docker.io/{image_of(ServerSpec())}", _ROOT / "tests" / "stand_in" / "Dockerfile")
# SGLang's router, for nodes that do not need the rest of SGLang's image.
ROUTER = Image("kimi-linear.local/sglang-router:0.3.0", _ROOT / "tests" / "router" / "Dockerfile")
# SGLang itself on a CPU. Its packages are not in the image, because pods mount them.
SGLANG_ON_A_CPU = Image("kimi-linear.local/sglang:v0.5.7-cpu", _ROOT / "tests" / "cpu_engine" / "Dockerfile")


def obstacle() -> str | None:
    """Why images cannot be built on this machine; None if they can."""
    if sys.platform != "linux" or os.geteuid():
        return "only root on Linux can build images"
    return debian.obstacle(_PACKAGES)


def build(image: Image) -> Path:
    """Return the image's docker-archive. If it does not exist, build it on the base of Debian."""
    archive = image.archive
    with _lock():
        if archive.exists():
            archive.touch()
            return archive
        say(f"Building the image {image.name} ...")
        with _context(image) as context:
            arguments = {**image.arguments, "BASE": f"docker-archive:{base()}"}
            _buildah(image.dockerfile, context, arguments, image.name, archive)
        _forget_old(archive)
    return archive


def build_in_docker(image: Image) -> str:
    """Build the image with Docker, and return its name. The name is new, because the real image of SGLang may exist."""
    name = f"kimi-linear.local/{image.name.rpartition('/')[2]}"
    say(f"Building the image {name} with Docker ...")
    with _lock(), _context(image) as context:
        # This switches off provenance attestations, because kind cannot load an image with an attestation. It is a
        # variable, because Docker without buildx refuses the option.
        environment = {**os.environ, "BUILDX_NO_DEFAULT_ATTESTATIONS": "1"}
        options = [f"--tag={name}", *_build_arguments(image.arguments), f"--file={image.dockerfile}"]
        run(["docker", "build", *options, context], env=environment, timeout=_MINUTES * 60)
    return name


@contextmanager
def _context(image: Image) -> Iterator[Path]:
    """Copy the files that the build may read."""
    with tempfile.TemporaryDirectory(dir=_folder(), prefix=".context-") as context:
        for file in image.inputs:
            copied = Path(context) / file.relative_to(_ROOT)
            copied.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, copied)
        yield Path(context)


def _build_arguments(arguments: Mapping[str, str]) -> list[str]:
    return [f"--build-arg={key}={text}" for key, text in arguments.items()]


def base() -> Path:
    """Return the docker-archive of the base; make it if it does not exist."""
    archive = _folder() / f"base-{hashlib.sha256(BASE.encode()).hexdigest()[:12]}.tar"
    if not archive.exists():
        with tempfile.TemporaryDirectory(dir=_folder(), prefix=".base-") as work:
            make_base(Path(work, "system"))
            dockerfile = Path(work, "Dockerfile")
            dockerfile.write_text("FROM scratch\nCOPY system /\n")
            _buildah(dockerfile, Path(work), {}, "localhost/base", archive)
    archive.touch()
    return archive


def _forget_old(archive: Path) -> None:
    """Keep only the last used images of this name, because every change makes a new image of up to 800 MB."""
    name = archive.name.rpartition("-")[0]
    found = sorted(_folder().glob(f"{name}-*.tar"), key=lambda file: file.stat().st_mtime)
    for old in found[:-_KEPT]:
        old.unlink()


def _buildah(dockerfile: Path, context: Path, arguments: Mapping[str, str], name: str, archive: Path) -> None:
    """Build a Dockerfile into a docker-archive, and leave no other files behind."""
    ensure_installed(_PACKAGES)
    partial = archive.with_suffix(".partial")
    partial.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(dir=_folder(), prefix=".storage-") as work:
        # Only the driver vfs works in every container and file system. It copies each layer, so images have few layers.
        storage = ["--root", f"{work}/root", "--runroot", f"{work}/run", "--storage-driver", "vfs"]
        volumes = [f"--volume={file}:{path}:ro" for path, file in pip_settings(Path(work)).items()]
        options = ["--isolation", "chroot", "--layers=false", "--format", "docker", *volumes]
        bud = ["bud", *options, *_build_arguments(arguments), "--file", str(dockerfile), "--tag", name, str(context)]
        _run_buildah([*storage, *bud], Path(work))
        _run_buildah([*storage, "push", "--quiet", name, f"docker-archive:{partial}:{name}"], Path(work))
    partial.rename(archive)


def _run_buildah(words: list[str], work: Path) -> None:
    done = subprocess.run(
        [str(find("buildah")), *words],
        env=os.environ | {"TMPDIR": str(work)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_MINUTES * 60,
    )
    if done.returncode:
        raise LocalClusterError(f"buildah failed:\n{last_lines(done.stdout, 20)}")


def pip_settings(work: Path) -> dict[str, Path]:
    """Return the files with this machine's index and certificates for pip, by their paths in the build."""
    configuration = work / "pip.conf"
    lines, files = ["[global]"], {"/etc/pip.conf": configuration}
    for line in run([sys.executable, "-m", "pip", "config", "list"]).splitlines():
        name, _, text = line.partition("=")
        setting, value = name.strip(".").rpartition(".")[2], text.strip("'\"")
        if setting not in _PIP_SETTINGS:
            continue
        if setting == "cert":
            files["/etc/pip-cert.pem"] = Path(value)
            value = "/etc/pip-cert.pem"
        lines.append(f"{setting} = {value}")
    configuration.write_text("\n".join(dict.fromkeys(lines)) + "\n")
    return files


@contextmanager
def _lock() -> Iterator[None]:
    _folder().mkdir(parents=True, exist_ok=True)
    with (_folder() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _folder() -> Path:
    return cache_folder() / "images"


if __name__ == "__main__":
    sys.exit(exit_code(lambda: print(build(OPERATOR))))
