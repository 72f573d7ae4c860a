"""What SGLang needs to serve Kimi-Linear on AMD GPUs: image, command line, environment, probes.

The facts come from the recipe (SGLang's cookbook page for Kimi-Linear) and from SGLang 0.5.7's source;
each constant names its source. Nothing here knows Kubernetes objects beyond the shape of a container.
"""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from operator import attrgetter
from typing import Any

from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.pod_template import ENGINE_CONTAINER
from kimi_linear_operator.server.spec import Hardware, ServerSpec

# Recipe, deployment generator.
MODELS = {"instruct": "moonshotai/Kimi-Linear-48B-A3B-Instruct"}
TOOL_CALL_PARSER = "kimi_k2"
RECIPE_ENVIRONMENT = {"SGLANG_ROCM_FUSED_DECODE_MLA": "0"}

# Recipe 4.2.1 names this release: the only one whose arguments and behaviour the operator was written for.
TESTED_RELEASES = ("v0.5.7",)
ARCHITECTURES: dict[Hardware, str] = {"mi300x": "mi30x", "mi325x": "mi30x", "mi355x": "mi35x"}
_REPOSITORY = "lmsysorg/sglang"
# Published tags are irregular: the ROCm release changes, and some releases are in another repository under a date.
# Source: v0.5.7 is the recipe's; the others are tags that public projects pull (InferenceX, Hyperloom, Infera, ROCm's
# documentation), as of November 2026. VERSION-ROCM-ARCHITECTURE, or what stands before and after the architecture.
PUBLISHED_IMAGES: dict[str, str] = {
    "v0.5.7": "lmsysorg/sglang:v0.5.7-rocm700-{}",
    "v0.5.8": "lmsysorg/sglang:v0.5.8-rocm700-{}",
    "v0.5.9": "lmsysorg/sglang:v0.5.9-rocm700-{}",
    "v0.5.10": "lmsysorg/sglang:v0.5.10-rocm720-{}",
    "v0.5.12.post1": "lmsysorg/sglang:v0.5.12.post1-rocm720-{}",
    "v0.5.14": "lmsysorg/sglang:v0.5.14-rocm720-{}",
    "v0.5.16": "lmsysorg/sglang:v0.5.16-rocm720-{}",
    "v0.5.18": "lmsysorg/sglang-rocm:v0.5.18-rocm724-{}-20260825",
}
GUESSED_ROCM = "rocm720"
"""What most tags since v0.5.10 name: the guess for a release that is not in the table."""

# PCI device ids, physical and virtual functions, as AMD's node labeller writes them to DEVICE_ID_LABEL.
# Source: the table of AMD's AIM Engine (internal/utils/resources.go).
DEVICE_ID_LABEL = "amd.com/gpu.device-id"
DEVICE_IDS: dict[Hardware, tuple[str, ...]] = {
    "mi300x": ("74a1", "74a9", "74b5", "74bd"),
    "mi325x": ("74a5", "74b9"),
    "mi355x": ("75a3", "75b3"),
}

# How the GPUs of a node are partitioned, as AMD's node labeller writes it if its flag compute-memory-partition is on:
# COMPUTE_MEMORY in lower case (amdgpu.go, UniquePartitionConfigCount). Anything but SPX is a part of a GPU.
PARTITION_LABEL = "amd.com/gpu.compute-memory-partition"
PARTITIONED = tuple(
    f"{compute}_{memory}" for compute in ("cpx", "dpx", "qpx", "tpx") for memory in ("nps1", "nps2", "nps4", "nps8")
)

# SGLang's ROCm images are built for this architecture only (docker/rocm.Dockerfile).
IMAGE_ARCHITECTURE = "amd64"

CONTAINER = ENGINE_CONTAINER

# SGLang's default port; 127.0.0.1 is its default host, which no probe and no Service could reach.
PORT = 30000
PORT_NAME = "http"
# Stands for every address of both families, by the pod's /etc/hosts. SGLang's web server (uvicorn on uvloop)
# listens on each address that its host resolves to and skips a family that the kernel lacks; with `--host ::` it would
# listen on IPv6 alone, and with an empty host the warm-up of 0.5.7 has no address to ask. The ending makes proxy rules
# for localhost hold for it: requests compares endings.
ALL_ADDRESSES = "all.localhost"
ALL_ADDRESSES_ALIASES = ("0.0.0.0", "::")  # noqa: S104 - a pod serves its Service on all of its own addresses

# Flags that have a field of their own or that the pod depends on, with the aliases of SGLang's server_args.py.
OWNED_FLAGS = (
    "attention-backend",
    "config",
    "context-length",
    "enable-metrics",
    "host",
    "mem-fraction-static",
    "model",
    "model-path",
    "nnodes",
    "pipeline-parallel-size",
    "port",
    "pp-size",
    "reasoning-parser",
    "revision",
    "served-model-name",
    "tensor-parallel-size",
    "tokenizer-path",
    "tool-call-parser",
    "tp",
    "tp-size",
    "trust-remote-code",
)

# Flags that are refused because they can only fail in such a pod, and what to do instead. Without an alias or with.
TLS_FLAGS = ("enable-ssl-refresh", "ssl-ca-certs", "ssl-certfile", "ssl-keyfile", "ssl-keyfile-password")
DATA_PARALLEL_FLAGS = ("data-parallel-size", "dp-size")
NODES_FLAGS = ("dist-init-addr", "nccl-init-addr", "node-rank", "use-ray")
OTHER_PROTOCOL_FLAGS = ("encoder-only", "grpc-mode", "smg-grpc-mode")
GPU_NUMBER_FLAGS = ("base-gpu-id", "gpu-id-step")
# With it, several data-parallel parts share the GPUs of one tensor-parallel group (server_args.py).
DATA_PARALLEL_ATTENTION_FLAG = "--enable-dp-attention"

CACHE_PATH = "/cache"
KERNELS_PATH = "/kernels"
SHARED_MEMORY_PATH = "/dev/shm"  # noqa: S108 - in the container, for NCCL
# /dev/shm of 16 GiB for four GPUs: SGLang's AMD page runs its container with --shm-size 16G.
SHARED_MEMORY_GIB_PER_GPU = 4
# One process a GPU polls without a pause (SGLang's --sleep-on-idle describes it), beside tokenizer and detokenizer.
_PROCESSES_BESIDE_GPUS = 2
# SGLang's Kubernetes example asks for 64 GiB for a model of 32B; here that is the default of four GPUs, shared memory
# included. Nobody has measured this model on AMD's GPUs, so nothing is limited.
_MEMORY_GIB_PER_GPU = 16
# The weights are 98 GB (91 GiB); the rest is for kernels, logs and what the download leaves half done.
_WEIGHTS_GIB = 120

# What SGLang asks itself during its warm-up, which no proxy can reach. 0.5.7 asks the host that it listens on,
# 0.5.23 turns that into a loopback address (server_args.py, url).
_OWN_HOSTS = ("localhost", "127.0.0.1", "0.0.0.0", "::1")  # noqa: S104 - names for a list of exceptions
# The variables by which Python's requests takes a proxy for http:// (requests/utils.py, get_environ_proxies).
_PROXIES = ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")
_EXCEPTIONS = ("NO_PROXY", "no_proxy")

_INSTALL = "python3 -m pip install --no-cache-dir"
_EXEC = 'exec "$@"'

Flags = Sequence[tuple[str, ...]]
"""Flags of a command line, each with its values: ("--tp", "4")."""


@dataclass(frozen=True)
class Flag:
    """A flag of SGLang's command line, and where its value comes from. The configurator's page has the same table.

    Attributes:
        name: The flag.
        fields: Fields of the spec: the first that holds something is the value. None of them: the flag has no value.
        words: What stands for a value of the field; None leaves the flag out. Other values stand for themselves.
    """

    name: str
    fields: tuple[str, ...] = ()
    words: Mapping[Any, str | None] = field(default_factory=dict)


PROGRAM = ("python3", "-m", "sglang.launch_server")
COMMAND_START = " ".join([*(f"{name}={value}" for name, value in RECIPE_ENVIRONMENT.items()), *PROGRAM])
LINE_BREAK = " \\\n  "
"""What stands before each flag of a command for a shell."""
# The flags of the recipe's generator, in its order.
RECIPE_FLAGS = (
    Flag("--model-path", ("model.path", "model.variant"), MODELS),
    Flag("--tp", ("tensor_parallelism",)),
    Flag("--trust-remote-code"),
    Flag("--tool-call-parser", ("tool_call_parser",), {"disabled": None, "enabled": TOOL_CALL_PARSER}),
)
# Those that exist only because the spec asks for them; extraArgs follow.
CHOSEN_FLAGS = (
    Flag("--revision", ("model.revision",)),
    Flag("--served-model-name", ("model.served_name",)),
    Flag("--context-length", ("engine.context_length",)),
    Flag("--mem-fraction-static", ("engine.memory_fraction_static",)),
    Flag("--attention-backend", ("engine.attention_backend",)),
)


def image(spec: ServerSpec) -> str:
    """Return the engine's image: the given one, or the one of SGLang's release for this hardware."""
    if spec.engine.image:
        return spec.engine.image
    guess = f"{_REPOSITORY}:{spec.engine.version}-{GUESSED_ROCM}-{{}}"
    return PUBLISHED_IMAGES.get(spec.engine.version, guess).format(ARCHITECTURES[spec.hardware])


def image_in(template: Manifest) -> str | None:
    """Return the engine's image in a pod template, None if it has none."""
    return _engine_in(template).get("image")


def command_line(template: Manifest) -> list[str]:
    """Return SGLang's command line in a pod template, whichever version built that; empty if it has none."""
    return [word for word in _engine_in(template).get("args") or () if isinstance(word, str)]


def packages_in(template: Manifest) -> list[str] | None:
    """Return the Python packages that a pod template installs, None if that cannot be read."""
    container = _engine_in(template)
    script = " ".join(map(str, container.get("command") or ()))
    found = re.search(rf"{re.escape(_INSTALL)} (.*?) && {re.escape(_EXEC)}", script)
    if not container or (found is None and "pip" in script):
        return None
    return _split(found[1]) if found else []


def value_of(flag: str, words: Sequence[str]) -> str | None:
    """Return the value of a flag on a command line of the operator's, None if it is not there."""
    return next((value for name, value in pairwise(words) if name == flag), None)


def _engine_in(template: Manifest) -> Manifest:
    """Return the engine's container in a pod template, empty if there is none."""
    containers = template.get("spec", {}).get("containers", ())
    return next((dict(item) for item in containers if item.get("name") == CONTAINER), {})


def _split(text: str) -> list[str] | None:
    try:
        return shlex.split(text)
    except ValueError:
        return None


def model_path(spec: ServerSpec) -> str:
    """Return the model's directory, or its name on the Hugging Face hub."""
    return spec.model.path or MODELS[spec.model.variant]


def release(spec: ServerSpec) -> str | None:
    """Return SGLang's release, None if an image of one's own does not tell it in its tag."""
    if spec.engine.image is None:
        return spec.engine.version
    found = re.search(r":(v[0-9]+\.[0-9]+\.[0-9]+[A-Za-z0-9.]*)", spec.engine.image)
    return found[1] if found else None


def api_key_variable(spec: ServerSpec) -> str | None:
    """Return the variable of the container that holds the API key, None if clients need none."""
    found = (re.fullmatch(r"--api-key=\$\((\w+)\)", argument) for argument in spec.engine.extra_args)
    return next((match[1] for match in found if match), None)


def recipe_command(spec: ServerSpec) -> str:
    """Return the shell command that starts this server by hand, in the words of the recipe's generator."""
    flags = [*_recipe_flags(spec), *_chosen_flags(spec)]
    return COMMAND_START + LINE_BREAK.join(["", *(shlex.join(flag) for flag in flags)])


def docker_commands(spec: ServerSpec) -> list[str]:
    """Return the recipe's preparation without Kubernetes (4.2.1 and 4.2.2): pull, run, install."""
    run = [
        "docker run -d -it --ipc=host --network=host --privileged",
        "--cap-add=CAP_SYS_ADMIN",
        "--device=/dev/kfd --device=/dev/dri --device=/dev/mem",
        "--group-add video --cap-add=SYS_PTRACE",
        "--security-opt seccomp=unconfined",
        "-v /:/work",
        "-e SHELL=/bin/bash",
        "--name Kimi-linear",
        image(spec),
        "/bin/bash",
    ]
    return [
        f"docker pull {image(spec)}",
        LINE_BREAK.join(run),
        shlex.join(["pip", "install", *spec.engine.extra_pip_packages]),
    ]


def command(packages: Sequence[str], *, empties: str | None = None) -> list[str]:
    """Return the container's command: empties a folder, installs what can't be imported, then becomes the arguments.

    `exec` makes SGLang the container's main process: a shell would keep SIGTERM to itself, and no request
    would be drained. pip is asked only if an import fails, so an image that has the packages needs no index.

    Args:
        packages: Python packages that must be there.
        empties: A folder that has to be empty, such as a memory volume, which outlives the container.
    """
    clean = f"rm -rf {empties}/* {empties}/.[!.]*; " if empties else ""
    script = clean + _installation(packages) + _EXEC
    return ["/bin/sh", "-c", script, "sglang"] if empties or packages else []


def _installation(packages: Sequence[str]) -> str:
    if not packages:
        return ""
    imports = ", ".join(_import_name(package) for package in packages)
    return f"python3 -c 'import {imports}' 2>/dev/null || {_INSTALL} {shlex.join(packages)} && "


def arguments(spec: ServerSpec) -> list[str]:
    """Return the container's arguments: SGLang's whole command line."""
    flags = [
        *_recipe_flags(spec),
        ("--tokenizer-path", model_path(spec)),
        *_chosen_flags(spec),
        ("--host", ALL_ADDRESSES),
        ("--port", str(PORT)),
        ("--enable-metrics",),
    ]
    return [*PROGRAM, *(word for flag in flags for word in flag)]


def environment(spec: ServerSpec) -> list[Manifest]:
    """Return the container's environment variables.

    The image sets SGLANG_ROCM_FUSED_DECODE_MLA=1, with which 0.5.7 fails on this model: leaving the variable out
    is not the same as 0. It also sets SGLANG_SET_CPU_AFFINITY=1: SGLang then pins itself to CPUs of the node that the
    pod may not use, and dies (utils/common.py, gpu_proc_affinity). The warm-up gets the whole start-up time: cold
    kernels outlast its 600 seconds. Kernels are compiled into a volume of the pod's own, because their locks do not
    hold on a volume that several nodes share; AITER's stay in the image, which brings most of them.
    """
    variables: list[Manifest] = [
        *({"name": name, "value": value} for name, value in RECIPE_ENVIRONMENT.items()),
        {"name": "SGLANG_SET_CPU_AFFINITY", "value": "0"},
        {"name": "SGLANG_WARMUP_TIMEOUT", "value": str(spec.startup.timeout_seconds)},
        {"name": "HF_HOME", "value": f"{CACHE_PATH}/huggingface"},
        {"name": "TRITON_CACHE_DIR", "value": f"{KERNELS_PATH}/triton"},
        {"name": "TORCHINDUCTOR_CACHE_DIR", "value": f"{KERNELS_PATH}/inductor"},
    ]
    if token := spec.model.token_secret_ref:
        reference = {"name": token.name, "key": token.key}
        variables.append({"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": reference}})
    return variables


def reaching_itself(variables: Sequence[Manifest]) -> list[Manifest]:
    """Return environment variables with which SGLang reaches itself past a proxy that they may name.

    Without a proxy for http:// nothing changes. Exceptions from a Secret or ConfigMap are kept under another name,
    which the completed variable refers to.
    """
    names = {variable["name"] for variable in variables}
    if not names & set(_PROXIES):
        return list(variables)
    missing = [] if names & set(_EXCEPTIONS) else list(_EXCEPTIONS)
    completed = [item for variable in variables for item in _completed(variable)]
    return [*completed, *({"name": name, "value": ",".join(_OWN_HOSTS)} for name in missing)]


def _completed(variable: Manifest) -> list[Manifest]:
    """Return a variable, and if it holds exceptions from a proxy, with SGLang's own hosts among them."""
    name = variable["name"]
    if name not in _EXCEPTIONS:
        return [variable]
    if "valueFrom" in variable:
        given = f"GIVEN_{name}"
        return [{**variable, "name": given}, {"name": name, "value": ",".join([f"$({given})", *_OWN_HOSTS])}]
    value = str(variable.get("value") or "")
    hosts = [host.strip() for host in value.split(",") if host.strip()]
    wanted = [] if "*" in hosts else [host for host in _OWN_HOSTS if host not in hosts]
    return [{"name": name, "value": ",".join([*hosts, *wanted])} if wanted else variable]


def requests(spec: ServerSpec) -> dict[str, str]:
    """Return what the scheduler should reserve for a replica beside its GPUs, disk space aside."""
    return {
        "cpu": str(spec.tensor_parallelism + _PROCESSES_BESIDE_GPUS),
        "memory": f"{_MEMORY_GIB_PER_GPU * spec.tensor_parallelism}Gi",
    }


def disk_requests(spec: ServerSpec) -> dict[str, str]:
    """Return the disk space for weights that come from the hub and are kept in the pod."""
    return {} if spec.model.path else {"ephemeral-storage": f"{_WEIGHTS_GIB}Gi"}


# SGLang's /health and /health_generate let the engine make one token, unless it is at work and shows a sign of life
# between two batches. They take a second or more, and say 503 when nothing came for 20 s (http_server.py,
# HEALTH_CHECK_TIMEOUT). The timeouts of the probes leave that time.
_HEALTH_SECONDS = 20
_PROBE_TIMEOUT_SECONDS = _HEALTH_SECONDS + 5
# SGLang ends itself when one batch takes longer; --watchdog-timeout changes it.
_WATCHDOG_SECONDS = 300


def probes(spec: ServerSpec) -> Manifest:
    """Return the startup, readiness and liveness probes.

    SGLang opens its port only when the weights are loaded and answers 503 until it is warm, so the startup probe
    alone decides how long loading may take.

    Release 0.5.7 does not notice when its scheduler or detokenizer is killed: the main process lives on and every
    request hangs. Only an answer that passed through both shows that they live, so readiness and liveness ask
    /health_generate, which no setting turns into a check of the main process alone. Two bad answers in a row take a
    replica out of its Services: a dead engine within a minute. Liveness waits as long as SGLang's own watchdog
    would: a batch that takes long, such as a long prompt or a kernel that is compiled, never ends a replica sooner than
    SGLang itself.
    """
    health = {"httpGet": {"path": "/health", "port": PORT_NAME}}
    engine = {"httpGet": {"path": "/health_generate", "port": PORT_NAME}, "timeoutSeconds": _PROBE_TIMEOUT_SECONDS}
    period, slow_period = 10, 30
    return {
        "startupProbe": health
        | {
            "periodSeconds": period,
            "timeoutSeconds": 5,
            "failureThreshold": -(-spec.startup.timeout_seconds // period),
        },
        "readinessProbe": engine | {"periodSeconds": period, "failureThreshold": 2},
        "livenessProbe": engine
        | {"periodSeconds": slow_period, "failureThreshold": -(-_watchdog_seconds(spec) // slow_period) + 1},
    }


def _watchdog_seconds(spec: ServerSpec) -> int:
    """Return how long SGLang lets one batch take: its own time, or a longer one from the arguments."""
    given = (shlex.join(flag) for flag in _grouped(spec.engine.extra_args))
    found = [
        match[1] for text in given if (match := re.fullmatch(r"--watchdog[a-z-]*[= ]([0-9]{1,6})(?:\.[0-9]*)?", text))
    ]
    return max([_WATCHDOG_SECONDS, *map(int, found[-1:])])


def _flag(flag: Flag, spec: ServerSpec) -> tuple[str, ...] | None:
    """Return a flag with its value, None if the spec does not ask for it."""
    if not flag.fields:
        return (flag.name,)
    given = (attrgetter(field)(spec) for field in flag.fields)
    value = next((item for item in given if item is not None), None)
    word = flag.words.get(value, value)
    return None if word is None else (flag.name, str(word))


def _recipe_flags(spec: ServerSpec) -> Flags:
    return [found for flag in RECIPE_FLAGS if (found := _flag(flag, spec))]


def _chosen_flags(spec: ServerSpec) -> Flags:
    chosen = [found for flag in CHOSEN_FLAGS if (found := _flag(flag, spec))]
    return [*chosen, *_grouped(spec.engine.extra_args)]


def _grouped(arguments: Sequence[str]) -> Flags:
    """Put a flag and the values that follow it together, as a person would write them on one line."""
    groups: list[tuple[str, ...]] = []
    for argument in arguments:
        if groups and not argument.startswith("-"):
            groups[-1] = (*groups[-1], argument)
        else:
            groups.append((argument,))
    return groups


def _import_name(package: str) -> str:
    """Return the module that a requirement most likely brings.

    A wrong guess is harmless: its import fails, and pip finds the requirement satisfied without asking an index.
    """
    name = package
    for separator in "[=<>~!":
        name = name.split(separator)[0]
    return name.replace("-", "_")
