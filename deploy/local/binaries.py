"""Builds the programs of the local cluster from source, once, into the user's cache."""

import fcntl
import hashlib
import json
import os
import platform
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from commands import LocalClusterError, end_group, last_lines, run, say
from toolchain import find_go, go_environment, required_version

_HERE = Path(__file__).parent
_HEARTBEAT_SECONDS = 30


@dataclass(frozen=True)
class Module:
    """A folder with a go.mod and a go.sum that pin the versions of the built modules."""

    folder: Path

    @property
    def go_mod(self) -> str:
        """The text of its go.mod."""
        return (self.folder / "go.mod").read_text()

    @property
    def ldflags(self) -> str:
        """The linker's flags. They set the version that Kubernetes reports."""
        version = kubernetes_version(self.go_mod)
        if not version:
            return "-s -w"
        major, minor = version.removeprefix("v").split(".")[:2]
        values = {"gitVersion": version, "gitMajor": major, "gitMinor": minor}
        return " ".join(["-s -w", *(f"-X k8s.io/component-base/version.{key}={text}" for key, text in values.items())])

    @property
    def key(self) -> str:
        """A hash of all inputs of the build."""
        machine = f"{platform.system()}-{platform.machine()}"
        sums = (self.folder / "go.sum").read_text()
        sources = [file.read_text() for file in sorted(self.folder.rglob("*.go"))]
        text = "\0".join([self.go_mod, sums, *sources, self.ldflags, machine])
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def output(self) -> Path:
        """The folder in the cache for the built programs."""
        return cache_folder() / f"bin-{self.key}"


@dataclass(frozen=True)
class Program:
    """One program of the local cluster."""

    name: str
    package: str
    module: Module
    seconds: int
    """How long the build takes on two cores, if the programs below are built in their order and the cache is empty at
    first."""

    @property
    def file(self) -> Path:
        """The path of the built program."""
        return self.module.output / self.name


_TOOLS = Module(_HERE / "tools")
_NODE = Module(_HERE / "node")
_DEVICE_PLUGIN = Module(_HERE / "device-plugin")
_METRICS_ADAPTER = Module(_HERE / "metrics-adapter")
KUBERNETES = Module(_HERE / "kubernetes")
_HELM = Module(_HERE / "helm")
_GITOPS_TESTS = _HERE.parents[1] / "tests/gitops"
_VERDICTS = Module(_GITOPS_TESTS / "verdicts")
KEDA = Module(_HERE.parents[1] / "tests/integration/keda-module")
_BUNDLE_VALIDATOR = Module(_HERE.parents[1] / "tests/integration/bundle-validator")
ARGO_CD = Module(_GITOPS_TESTS / "argocd")
FLUX = Module(_GITOPS_TESTS / "flux")
CONTOUR = Module(_HERE.parents[1] / "tests/exposure/contour-module")
KUEUE = Module(_HERE.parents[1] / "tests/queueing/kueue-module")
NETWORK_POLICIES = Module(_HERE.parents[1] / "tests/e2e/network-policies")
CONTROL_PLANE = (
    Program("etcd", "go.etcd.io/etcd/server/v3", _TOOLS, 90),
    Program("kwok", "sigs.k8s.io/kwok/cmd/kwok", _TOOLS, 110),
    Program("kwokctl", "sigs.k8s.io/kwok/cmd/kwokctl", _TOOLS, 20),
    Program("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver", KUBERNETES, 400),
    Program("kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager", KUBERNETES, 100),
    Program("kube-scheduler", "k8s.io/kubernetes/cmd/kube-scheduler", KUBERNETES, 80),
    Program("kubectl", "k8s.io/kubernetes/cmd/kubectl", KUBERNETES, 30),
)
CHART_TOOLS = (
    Program("helm", "helm.sh/helm/v4/cmd/helm", _HELM, 60),
    Program("helm-3", "helm.sh/helm/v3/cmd/helm", _HELM, 30),
    Program("kubeconform", "github.com/yannh/kubeconform/cmd/kubeconform", _HELM, 5),
    Program("verdicts", ".", _VERDICTS, 40),
    Program("bundle-validator", ".", _BUNDLE_VALIDATOR, 60),
)
AUTOSCALING = (Program("metrics-adapter", ".", _METRICS_ADAPTER, 120),)
KEDA_PROGRAMS = (
    Program("keda-operator", "github.com/kedacore/keda/v2/cmd/operator", KEDA, 350),
    Program("keda-adapter", "github.com/kedacore/keda/v2/cmd/adapter", KEDA, 60),
)
GITOPS = (
    Program("argocd", "github.com/argoproj/argo-cd/v3/cmd", ARGO_CD, 200),
    Program("kustomize", "sigs.k8s.io/kustomize/kustomize/v5", ARGO_CD, 5),
    Program("redis", "./redis", ARGO_CD, 1),
    Program("source-controller", "github.com/fluxcd/source-controller", FLUX, 120),
    Program("kustomize-controller", "github.com/fluxcd/kustomize-controller", FLUX, 80),
)
REAL_NODE = (
    Program("kubelet", "k8s.io/kubernetes/cmd/kubelet", KUBERNETES, 60),
    Program("kube-proxy", "k8s.io/kubernetes/cmd/kube-proxy", KUBERNETES, 20),
    Program("coredns", "./coredns", _NODE, 60),
    Program("pause", "./pause", _NODE, 1),
    Program("device-plugin", ".", _DEVICE_PLUGIN, 20),
)
# A kubelet runs on Linux only.
E2E: tuple[Program, ...] = (*CONTROL_PLANE, *CHART_TOOLS, *(REAL_NODE if platform.system() == "Linux" else ()))
EXPOSURE = (Program("contour", "github.com/projectcontour/contour/cmd/contour", CONTOUR, 120),)
QUEUEING = (Program("kueue", "sigs.k8s.io/kueue/cmd/kueue", KUEUE, 200),)
ENFORCING = (Program("network-policies", "sigs.k8s.io/kube-network-policies/cmd", NETWORK_POLICIES, 60),)
PROGRAMS = (*E2E, *AUTOSCALING, *KEDA_PROGRAMS, *GITOPS, *EXPOSURE, *QUEUEING, *ENFORCING)
E2E_ON_KIND = tuple(program for program in CHART_TOOLS if program.name == "helm")


def kubernetes_version(go_mod: str) -> str | None:
    """The version of Kubernetes in a go.mod, None if it names none."""
    found = re.search(r"^\s*k8s\.io/kubernetes (v\S+)", go_mod, re.MULTILINE)
    return found[1] if found else None


def cache_folder() -> Path:
    """The folder for builds, shared by all checkouts of this user."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kimi-linear-operator"


def binary(name: str) -> Path:
    """The path of the built program of that name."""
    return next(program.file for program in PROGRAMS if program.name == name)


def select(*names: str) -> list[Program]:
    """The programs of these names."""
    return [program for program in PROGRAMS if program.name in names]


def missing(programs: Sequence[Program]) -> list[Program]:
    """The programs that are not built yet."""
    return [program for program in programs if not program.file.exists()]


def ensure_built(programs: Sequence[Program]) -> None:
    """Build the missing programs. An interrupted build continues where it stopped."""
    if not missing(programs):
        return
    with _build_lock():
        # Another process may have built them while this process waited.
        left = missing(programs)
        minutes = sum(program.seconds for program in left) / 60
        say(f"Building {len(left)} programs from source, once: about {minutes:.0f} minutes on two cores.")
        go = find_go(max(required_version(program.module.go_mod) for program in programs), cache_folder())
        for program in left:
            _build(program, go, f"[{programs.index(program) + 1}/{len(programs)}] {program.name}")


def source_of(module: Module, path: str) -> Path:
    """The folder with the source of a module that this module requires. It is downloaded if it is missing."""
    go = find_go(required_version(module.go_mod), cache_folder())
    # Outside a module's folder, `go mod download` takes the newest version. In the folder, it takes the required
    # version.
    command: list[str | Path] = [go, "-C", module.folder, "mod", "download", "-json", path]
    return Path(json.loads(run(command, env=go_environment(), timeout=300))["Dir"])


@contextmanager
def _build_lock() -> Iterator[None]:
    cache_folder().mkdir(parents=True, exist_ok=True)
    with (cache_folder() / "build.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("Another process is building the local cluster's programs: waiting for it ...")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(program: Program, go: Path, label: str) -> None:
    program.file.parent.mkdir(parents=True, exist_ok=True)
    partial = program.file.with_name(f".{program.name}.partial")
    options = ["-mod=readonly", "-trimpath", "-ldflags", program.module.ldflags, "-o", str(partial)]
    say(f"{label} (about {program.seconds} s) ...", end="")
    command = [str(go), "build", *options, program.package]
    try:
        with tempfile.TemporaryDirectory() as scratch:
            output = Path(scratch) / "output"
            if _run_go(command, program.module.folder, output):
                raise LocalClusterError(_failure(program, output.read_text(errors="replace")))
        partial.replace(program.file)
    finally:
        partial.unlink(missing_ok=True)


def _run_go(command: list[str], folder: Path, output: Path) -> int:
    started = time.monotonic()
    # An interrupted go command leaves its work folder behind. So this folder is below the output folder, and is deleted
    # with it.
    environment = go_environment() | {"GOTMPDIR": str(output.parent)}
    with output.open("wb") as file:
        # A separate process group, so that an interrupt also ends the compilers.
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=file, stderr=file, start_new_session=True
        )
    try:
        while not _ended(process):
            say(f" {time.monotonic() - started:.0f} s", end="")
    except BaseException:
        say("")
        end_group(process)
        raise
    say(f" {'failed after' if process.returncode else 'done in'} {time.monotonic() - started:.0f} s")
    return process.returncode


def _ended(process: subprocess.Popen[bytes]) -> bool:
    try:
        process.wait(timeout=_HEARTBEAT_SECONDS)
    except subprocess.TimeoutExpired:
        return False
    return True


def _failure(program: Program, output: str) -> str:
    if "no space left" in output:
        remedy = (
            "The disk is full: free about 15 GB (the caches of Go need most of it), then run the same command again."
        )
    else:
        remedy = "Go needs its module proxy (GOPROXY) and about 15 GB of disk; run the same command again to go on."
    return f"{program.name} could not be built. The last lines of go:\n{last_lines(output)}\n{remedy}"
