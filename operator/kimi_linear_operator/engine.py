"""What SGLang needs to serve Kimi-Linear on AMD GPUs: image, command line, environment, probes.

The facts come from the recipe (SGLang's cookbook page for Kimi-Linear) and from SGLang 0.5.7's source;
each constant names its source. Nothing here knows Kubernetes objects beyond the shape of a container.
"""

import re
import shlex
from collections.abc import Sequence

from kimi_linear_operator.api import Manifest, ServerSpec
from kimi_linear_operator.api.server import Hardware

# Recipe, deployment generator.
MODELS = {"instruct": "moonshotai/Kimi-Linear-48B-A3B-Instruct"}
TOOL_CALL_PARSER = "kimi_k2"
RECIPE_ENVIRONMENT = {"SGLANG_ROCM_FUSED_DECODE_MLA": "0"}

# Recipe 4.2.1 names this release; SGLang's release workflow for AMD names the tags.
RELEASES = {"v0.5.7": "rocm700"}
NEWEST_ROCM = "rocm720"
ARCHITECTURES: dict[Hardware, str] = {"mi300x": "mi30x", "mi325x": "mi30x", "mi355x": "mi35x"}

# PCI device ids, physical and virtual functions, as AMD's node labeller writes them to DEVICE_ID_LABEL.
# Source: the table of AMD's AIM Engine (internal/utils/resources.go).
DEVICE_ID_LABEL = "amd.com/gpu.device-id"
DEVICE_IDS: dict[Hardware, tuple[str, ...]] = {
    "mi300x": ("74a1", "74a9", "74b5", "74bd"),
    "mi325x": ("74a5", "74b9"),
    "mi355x": ("75a3", "75b3"),
}
GPU_RESOURCE = "amd.com/gpu"

CONTAINER = "sglang"

# SGLang's default port; 127.0.0.1 is its default host, which no probe and no Service could reach.
PORT = 30000
PORT_NAME = "http"
HOST = "0.0.0.0"  # noqa: S104 - a pod serves its Service on all of its own addresses

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

CACHE_PATH = "/cache"
# /dev/shm of 16 GiB for four GPUs: SGLang's AMD page runs its container with --shm-size 16G.
SHARED_MEMORY_GIB_PER_GPU = 4

Flags = Sequence[tuple[str, ...]]
"""Flags of a command line, each with its values: ("--tp", "4")."""


def image(spec: ServerSpec) -> str:
    """Return the engine's image: the given one, or the one of SGLang's release for this hardware."""
    if spec.engine.image:
        return spec.engine.image
    rocm = RELEASES.get(spec.engine.version, NEWEST_ROCM)
    return f"lmsysorg/sglang:{spec.engine.version}-{rocm}-{ARCHITECTURES[spec.hardware]}"


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
    environment = "".join(f"{name}={value} " for name, value in RECIPE_ENVIRONMENT.items())
    flags = [*_recipe_flags(spec), *_chosen_flags(spec)]
    lines = ["python3 -m sglang.launch_server", *(shlex.join(flag) for flag in flags)]
    return environment + " \\\n  ".join(lines)


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
        " \\\n  ".join(run),
        shlex.join(["pip", "install", *spec.engine.extra_pip_packages]),
    ]


def command(packages: Sequence[str]) -> list[str]:
    """Return the container's command: installs what can't be imported, then becomes the arguments.

    `exec` makes SGLang the container's main process: a shell would keep SIGTERM to itself, and no request
    would be drained. pip is asked only if an import fails, so an image that has the packages needs no index.
    """
    if not packages:
        return []
    imports = ", ".join(_import_name(package) for package in packages)
    script = (
        f"python3 -c 'import {imports}' 2>/dev/null || python3 -m pip install --no-cache-dir {shlex.join(packages)} "
        '&& exec "$@"'
    )
    return ["/bin/sh", "-c", script, "sglang"]


def arguments(spec: ServerSpec) -> list[str]:
    """Return the container's arguments: SGLang's whole command line."""
    flags = [
        *_recipe_flags(spec),
        ("--tokenizer-path", model_path(spec)),
        *_chosen_flags(spec),
        ("--host", HOST),
        ("--port", str(PORT)),
        ("--enable-metrics",),
    ]
    return ["python3", "-m", "sglang.launch_server", *(word for flag in flags for word in flag)]


def environment(spec: ServerSpec) -> list[Manifest]:
    """Return the container's environment variables.

    The image sets SGLANG_ROCM_FUSED_DECODE_MLA=1, with which 0.5.7 fails on this model: leaving the variable out
    is not the same as 0. Without generation, /health is cheap and cannot fail under long prompts; a hung engine is
    ended by SGLang's own watchdog. The warm-up gets the whole start-up time: cold kernels outlast its 600 seconds.
    """
    variables: list[Manifest] = [
        *({"name": name, "value": value} for name, value in RECIPE_ENVIRONMENT.items()),
        {"name": "SGLANG_ENABLE_HEALTH_ENDPOINT_GENERATION", "value": "false"},
        {"name": "SGLANG_WARMUP_TIMEOUT", "value": str(spec.startup.timeout_seconds)},
        {"name": "HF_HOME", "value": f"{CACHE_PATH}/huggingface"},
        {"name": "TRITON_CACHE_DIR", "value": f"{CACHE_PATH}/triton"},
    ]
    if token := spec.model.token_secret_ref:
        reference = {"name": token.name, "key": token.key}
        variables.append({"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": reference}})
    return variables


def probes(spec: ServerSpec) -> Manifest:
    """Return the startup, readiness and liveness probes.

    SGLang opens its port only when the weights are loaded and answers 503 until it is warm, so the startup probe
    alone decides how long loading may take. The timeouts stay clear of the second that /health can take
    (http_server.py, health_generate); liveness is slow to kill, because a long prompt can keep the process busy.
    """
    health = {"httpGet": {"path": "/health", "port": PORT_NAME}}
    period = 10
    budget = -(-spec.startup.timeout_seconds // period)
    return {
        "startupProbe": health | {"periodSeconds": period, "timeoutSeconds": 5, "failureThreshold": budget},
        "readinessProbe": health | {"periodSeconds": period, "timeoutSeconds": 10, "failureThreshold": 3},
        "livenessProbe": health | {"periodSeconds": 30, "timeoutSeconds": 30, "failureThreshold": 10},
    }


def _recipe_flags(spec: ServerSpec) -> Flags:
    """Return the flags of the recipe's generator, in its order."""
    flags: list[tuple[str, ...]] = [
        ("--model-path", model_path(spec)),
        ("--tp", str(spec.tensor_parallelism)),
        ("--trust-remote-code",),
    ]
    if spec.tool_call_parser == "enabled":
        flags.append(("--tool-call-parser", TOOL_CALL_PARSER))
    return flags


def _chosen_flags(spec: ServerSpec) -> Flags:
    """Return the flags that exist only because the spec asks for them."""
    optional = {
        "--revision": spec.model.revision,
        "--served-model-name": spec.model.served_name,
        "--context-length": spec.engine.context_length,
        "--mem-fraction-static": spec.engine.memory_fraction_static,
        "--attention-backend": spec.engine.attention_backend,
    }
    flags: list[tuple[str, ...]] = [(flag, str(value)) for flag, value in optional.items() if value is not None]
    return [*flags, *_grouped(spec.engine.extra_args)]


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
