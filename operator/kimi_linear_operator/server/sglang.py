"""What SGLang needs to serve Kimi-Linear on AMD GPUs: image, command line, environment, probes.

The facts come from the recipe (SGLang's cookbook page for Kimi-Linear) and from the source code of SGLang 0.5.7; each
constant names its source. Of Kubernetes, this module knows only the fields of a container.
"""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from operator import attrgetter
from typing import Any

from kimi_linear_operator.foreigntext import printable
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.pod_template import ENGINE_CONTAINER
from kimi_linear_operator.server.spec import Hardware, ServerSpec

# Recipe, deployment generator.
MODELS = {"instruct": "moonshotai/Kimi-Linear-48B-A3B-Instruct"}
TOOL_CALL_PARSER = "kimi_k2"
RECIPE_ENVIRONMENT = {"SGLANG_ROCM_FUSED_DECODE_MLA": "0"}

# The operator is written for the arguments and the behaviour of this release, which recipe 4.2.1 names.
TESTED_RELEASES = ("v0.5.7",)
ARCHITECTURES: dict[Hardware, str] = {"mi300x": "mi30x", "mi325x": "mi30x", "mi355x": "mi35x"}
_REPOSITORY = "lmsysorg/sglang"
# Published tags are irregular: the ROCm release changes, and some images are in another repository, with a date. {} is
# the architecture. Source: v0.5.7 is the recipe's; public projects pull the others (InferenceX, Hyperloom, Infera,
# ROCm's documentation), as of November 2026.
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
"""Guess for a release that is not in PUBLISHED_IMAGES: most tags since v0.5.10 have it."""

# PCI device ids of physical and virtual functions, as AMD's node labeller writes them to DEVICE_ID_LABEL.
# Source: the table of AMD's AIM Engine (internal/utils/resources.go).
DEVICE_ID_LABEL = "amd.com/gpu.device-id"
DEVICE_IDS: dict[Hardware, tuple[str, ...]] = {
    "mi300x": ("74a1", "74a9", "74b5", "74bd"),
    "mi325x": ("74a5", "74b9"),
    "mi355x": ("75a3", "75b3"),
}

# How a node's GPUs are partitioned: COMPUTE_MEMORY in lower case, with any compute mode except SPX. AMD's node labeller
# writes it if its flag compute-memory-partition is on (amdgpu.go, UniquePartitionConfigCount).
PARTITION_LABEL = "amd.com/gpu.compute-memory-partition"
PARTITIONED = tuple(
    f"{compute}_{memory}" for compute in ("cpx", "dpx", "qpx", "tpx") for memory in ("nps1", "nps2", "nps4", "nps8")
)

# SGLang's ROCm images are built for this architecture only (docker/rocm.Dockerfile).
IMAGE_ARCHITECTURE = "amd64"

CONTAINER = ENGINE_CONTAINER

# SGLang's default port.
PORT = 30000
PORT_NAME = "http"
# Host name of all addresses of both IP families, by the pod's /etc/hosts. SGLang's web server (uvicorn on uvloop)
# listens on each address that the name resolves to, and skips a family that the kernel lacks. Alternatives fail: no
# probe reaches SGLang's default 127.0.0.1, `--host ::` listens on IPv6 alone, and with an empty host the warm-up of
# 0.5.7 has no address to call. Because of the suffix, proxy exceptions for localhost match it (requests compares
# suffixes).
ALL_ADDRESSES = "all.localhost"
ALL_ADDRESSES_ALIASES = ("0.0.0.0", "::")  # noqa: S104 - a pod serves its Service on all of its own addresses

# Flags that have a field in the spec, or that the pod depends on. With the aliases of SGLang's server_args.py.
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

# Flags that can only fail in such a pod, so rules refuse them. With their aliases.
TLS_FLAGS = ("enable-ssl-refresh", "ssl-ca-certs", "ssl-certfile", "ssl-keyfile", "ssl-keyfile-password")
DATA_PARALLEL_FLAGS = ("data-parallel-size", "dp-size")
NODES_FLAGS = ("dist-init-addr", "nccl-init-addr", "node-rank", "use-ray")
OTHER_PROTOCOL_FLAGS = ("encoder-only", "grpc-mode", "smg-grpc-mode")
GPU_NUMBER_FLAGS = ("base-gpu-id", "gpu-id-step")
# With this flag, several data-parallel workers share the GPUs of one tensor-parallel group (server_args.py).
DATA_PARALLEL_ATTENTION_FLAG = "--enable-dp-attention"

CACHE_PATH = "/cache"
KERNELS_PATH = "/kernels"
SHARED_MEMORY_PATH = "/dev/shm"  # noqa: S108 - in the container, for NCCL
# 16 GiB for four GPUs: SGLang's AMD page runs its container with --shm-size 16G.
SHARED_MEMORY_GIB_PER_GPU = 4
# Tokenizer and detokenizer. Each GPU has a process that polls without a pause (see SGLang's --sleep-on-idle).
_PROCESSES_BESIDE_GPUS = 2
# SGLang's Kubernetes example requests 64 GiB for a model of 32B parameters; here that is the request for four GPUs,
# shared memory included. Nobody has measured this model on AMD GPUs, so there is no limit.
_MEMORY_GIB_PER_GPU = 16
# The weights are 98 GB (91 GiB). The rest is for kernels, logs and unfinished downloads.
_WEIGHTS_GIB = 120

# Hosts of SGLang's requests to itself during the warm-up, which a proxy cannot reach. 0.5.7 calls the host that it
# listens on, 0.5.23 a loopback address instead (server_args.py, url).
_OWN_HOSTS = ("localhost", "127.0.0.1", "0.0.0.0", "::1")  # noqa: S104 - names for a list of exceptions
# Variables from which Python's requests takes a proxy for http:// (requests/utils.py, get_environ_proxies).
_PROXY_VARIABLES = ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")
_EXCEPTION_VARIABLES = ("NO_PROXY", "no_proxy")

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
    """Return the engine's image: that of the spec, or the one that SGLang's release and the hardware select."""
    if spec.engine.image:
        return spec.engine.image
    guess = f"{_REPOSITORY}:{spec.engine.version}-{GUESSED_ROCM}-{{}}"
    return PUBLISHED_IMAGES.get(spec.engine.version, guess).format(ARCHITECTURES[spec.hardware])


def image_in(template: Manifest) -> str | None:
    """Return the engine's image in a pod template, None if it has none."""
    return _engine_in(template).get("image")


def command_line(template: Manifest) -> list[str]:
    """Return SGLang's command line in a pod template of any version of the operator; empty if it has none."""
    return [word for word in _engine_in(template).get("args") or () if isinstance(word, str)]


def packages_in(template: Manifest) -> list[str] | None:
    """Return the Python packages that a pod template installs, None if they cannot be read."""
    container = _engine_in(template)
    script = " ".join(map(str, container.get("command") or ()))
    match = re.search(rf"{re.escape(_INSTALL)} (.*?) && {re.escape(_EXEC)}", script)
    if not container or (match is None and "pip" in script):
        return None
    return _split(match[1]) if match else []


def value_of(flag: str, words: Sequence[str]) -> str | None:
    """Return the value of a flag on a command line that the operator built, None if the flag is missing."""
    return next((value for name, value in pairwise(words) if name == flag), None)


def _engine_in(template: Manifest) -> Manifest:
    """Return the engine's container in a pod template, empty if there is none."""
    containers = template.get("spec", {}).get("containers", ())
    return next((dict(container) for container in containers if container.get("name") == CONTAINER), {})


def _split(text: str) -> list[str] | None:
    try:
        return shlex.split(text)
    except ValueError:
        return None


def model_path(spec: ServerSpec) -> str:
    """Return the model's directory, or its name on the Hugging Face hub."""
    return spec.model.path or MODELS[spec.model.variant]


def release(spec: ServerSpec) -> str | None:
    """Return SGLang's release, None if the spec has its own image whose tag does not name one."""
    if spec.engine.image is None:
        return spec.engine.version
    match = re.search(r":(v[0-9]+\.[0-9]+\.[0-9]+[A-Za-z0-9.]*)", spec.engine.image)
    return match[1] if match else None


def api_key_variable(spec: ServerSpec) -> str | None:
    """Return the name of the container's variable with the API key, None if clients need no key."""
    matches = (re.fullmatch(r"--api-key=\$\((\w+)\)", argument) for argument in spec.engine.extra_args)
    return next((match[1] for match in matches if match), None)


def recipe_command(spec: ServerSpec) -> str:
    """Return the shell command that starts this server by hand, in the format of the recipe's generator.

    Control characters are replaced: a terminal would obey them when somebody pastes the command.
    """
    flags = [*_recipe_flags(spec), *_chosen_flags(spec)]
    return COMMAND_START + LINE_BREAK.join(["", *(shlex.join(map(printable, flag)) for flag in flags)])


def docker_commands(spec: ServerSpec) -> list[str]:
    """Return the recipe's commands before the start by hand (4.2.1 and 4.2.2): pull, run, install."""
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


def command(packages: Sequence[str], *, emptied: str | None = None) -> list[str]:
    """Return the container's command: it empties a folder, installs missing packages, and executes the arguments.

    `exec` makes SGLang the container's main process: a shell would not pass SIGTERM on, and SGLang would not drain. pip
    runs only if an import fails, so an image that has the packages needs no package index.

    Args:
        packages: The Python packages.
        emptied: A folder to empty first, such as a memory volume, which outlives the container.
    """
    clean = f"rm -rf {emptied}/* {emptied}/.[!.]*; " if emptied else ""
    script = clean + _installation(packages) + _EXEC
    return ["/bin/sh", "-c", script, "sglang"] if emptied or packages else []


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

    SGLANG_ROCM_FUSED_DECODE_MLA: the image sets 1, with which 0.5.7 fails on this model. So 0 must be set explicitly.

    SGLANG_SET_CPU_AFFINITY: the image sets 1. SGLang would pin itself to CPUs of the node that the pod may not use, and
    die (utils/common.py, gpu_proc_affinity).

    SGLANG_WARMUP_TIMEOUT: compiling all kernels takes longer than the default of 600 seconds, so the warm-up may take
    the whole start-up time.

    TRITON_CACHE_DIR, TORCHINDUCTOR_CACHE_DIR: each pod compiles kernels into its own volume, because the file locks do
    not work on a volume that several nodes share. AITER's kernels stay in the image, which has most of them compiled.
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


def with_proxy_exceptions(variables: Sequence[Manifest]) -> list[Manifest]:
    """Return environment variables that except SGLang's own hosts from the proxy, if they name a proxy for http://.

    Exceptions from a Secret or ConfigMap move to a variable GIVEN_NAME, to which NAME then refers.
    """
    names = {variable["name"] for variable in variables}
    if not names & set(_PROXY_VARIABLES):
        return list(variables)
    missing = [] if names & set(_EXCEPTION_VARIABLES) else list(_EXCEPTION_VARIABLES)
    completed = [item for variable in variables for item in _with_own_hosts(variable)]
    return [*completed, *({"name": name, "value": ",".join(_OWN_HOSTS)} for name in missing)]


def _with_own_hosts(variable: Manifest) -> list[Manifest]:
    """Return a variable; add SGLang's own hosts if it holds proxy exceptions."""
    name = variable["name"]
    if name not in _EXCEPTION_VARIABLES:
        return [variable]
    if "valueFrom" in variable:
        moved = f"GIVEN_{name}"
        return [{**variable, "name": moved}, {"name": name, "value": ",".join([f"$({moved})", *_OWN_HOSTS])}]
    value = str(variable.get("value") or "")
    hosts = [host.strip() for host in value.split(",") if host.strip()]
    missing = [] if "*" in hosts else [host for host in _OWN_HOSTS if host not in hosts]
    return [{"name": name, "value": ",".join([*hosts, *missing])} if missing else variable]


def requests(spec: ServerSpec) -> dict[str, str]:
    """Return the resource requests of a replica besides GPUs and disk space."""
    return {
        "cpu": str(spec.tensor_parallelism + _PROCESSES_BESIDE_GPUS),
        "memory": f"{_MEMORY_GIB_PER_GPU * spec.tensor_parallelism}Gi",
    }


def disk_requests(spec: ServerSpec) -> dict[str, str]:
    """Return the request of disk space for weights that the pod downloads, empty if they are mounted."""
    return {} if spec.model.path else {"ephemeral-storage": f"{_WEIGHTS_GIB}Gi"}


# SGLang's /health and /health_generate make the engine generate one token; of a busy engine, a sign of life between two
# batches is enough. They take a second or more, and return 503 after 20 s without an answer (http_server.py,
# HEALTH_CHECK_TIMEOUT). The timeouts of the probes are longer.
_HEALTH_SECONDS = 20
_PROBE_TIMEOUT_SECONDS = _HEALTH_SECONDS + 5
# SGLang exits when one batch takes longer. --watchdog-timeout changes that.
_WATCHDOG_SECONDS = 300


def probes(spec: ServerSpec) -> Manifest:
    """Return the startup, readiness and liveness probes.

    Startup: SGLang opens its port only when the weights are loaded, and returns 503 until its warm-up is done. So the
    startup probe alone limits the time to load.

    Readiness and liveness: release 0.5.7 does not notice when its scheduler or detokenizer is killed; the main process
    lives on and every request hangs. Only a token that passed through both shows that they live, and /health_generate
    always generates one, whatever the settings. Two failures in a row remove a replica from its Services: a dead
    engine within a minute.

    Liveness waits as long as SGLang's own watchdog. So a slow batch, such as a long prompt or the compilation of a
    kernel, does not restart a replica before SGLang itself would exit.
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
    """Return how many seconds one batch may take: SGLang's default, or more if the arguments say so."""
    pattern = r"--watchdog[a-z-]*[= ]([0-9]{1,6})(?:\.[0-9]*)?"
    flags = (shlex.join(flag) for flag in _grouped(spec.engine.extra_args))
    seconds = [int(match[1]) for flag in flags if (match := re.fullmatch(pattern, flag))]
    return max([_WATCHDOG_SECONDS, *seconds[-1:]])


def _flag(flag: Flag, spec: ServerSpec) -> tuple[str, ...] | None:
    """Return a flag with its value, None if the spec does not ask for it."""
    if not flag.fields:
        return (flag.name,)
    given = (attrgetter(field)(spec) for field in flag.fields)
    value = next((item for item in given if item is not None), None)
    word = flag.words.get(value, value)
    return None if word is None else (flag.name, str(word))


def _recipe_flags(spec: ServerSpec) -> Flags:
    """Return the flags of the recipe's generator, in its order."""
    return [found for flag in RECIPE_FLAGS if (found := _flag(flag, spec))]


def _chosen_flags(spec: ServerSpec) -> Flags:
    """Return the flags that are there only if the spec sets them."""
    chosen = [found for flag in CHOSEN_FLAGS if (found := _flag(flag, spec))]
    return [*chosen, *_grouped(spec.engine.extra_args)]


def _grouped(arguments: Sequence[str]) -> Flags:
    """Group each flag with the values that follow it."""
    groups: list[tuple[str, ...]] = []
    for argument in arguments:
        if groups and not argument.startswith("-"):
            groups[-1] = (*groups[-1], argument)
        else:
            groups.append((argument,))
    return groups


def _import_name(package: str) -> str:
    """Return the module that a requirement most likely contains.

    A wrong guess is harmless: the import fails, and pip finds the requirement satisfied without a package index.
    """
    name = package
    for separator in "[=<>~!":
        name = name.split(separator)[0]
    return name.replace("-", "_")
