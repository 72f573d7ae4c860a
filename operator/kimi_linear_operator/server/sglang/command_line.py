"""SGLang's command line."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

from kimi_linear_operator.server.spec import ServerSpec
from kimi_linear_operator.weights.location import MODELS

TOOL_CALL_PARSER = "kimi_k2"

# SGLang's default port.
PORT = 30000
PORT_NAME = "http"
# A host name for all addresses of both IP families, defined in the pod's /etc/hosts. SGLang's web server (uvicorn on
# uvloop) listens on each address of the name, and skips a family that the kernel lacks. Other values of --host do not
# work. No probe reaches SGLang's default 127.0.0.1, and `--host ::` listens only on IPv6. With an empty host, the
# warm-up of 0.5.7 has no address to call. The name has this suffix so that proxy exceptions for localhost match it
# (requests compares suffixes).
ALL_ADDRESSES = "all.localhost"
ALL_ADDRESSES_ALIASES = ("0.0.0.0", "::")  # noqa: S104 - a pod serves its Service on all of its own addresses

# Flags that have a field in the spec, and flags on which the pod depends, with the aliases of SGLang's server_args.py.
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

# Flags that always fail in the pods that the operator builds, with their aliases. Rules refuse them.
TLS_FLAGS = ("enable-ssl-refresh", "ssl-ca-certs", "ssl-certfile", "ssl-keyfile", "ssl-keyfile-password")
DATA_PARALLEL_FLAGS = ("data-parallel-size", "dp-size")
NODES_FLAGS = ("dist-init-addr", "nccl-init-addr", "node-rank", "use-ray")
OTHER_PROTOCOL_FLAGS = ("encoder-only", "grpc-mode", "smg-grpc-mode")
# The shortest abbreviation of --tokenizer-worker-num. With more than one worker, SGLang does not check API keys
# (http_server.py, init_multi_tokenizer).
WORKERS_FLAG_START = "--tokenizer-w"
GPU_NUMBER_FLAGS = ("base-gpu-id", "gpu-id-step")
# With this flag, several data-parallel workers share the GPUs of one tensor-parallel group (server_args.py).
DATA_PARALLEL_ATTENTION_FLAG = "--enable-dp-attention"

_KEY_FROM_VARIABLE = re.compile(r"--api-key=\$\((\w+)\)")

Flags = Sequence[tuple[str, ...]]
"""Flags of a command line, each with its values: ("--tp", "4")."""


@dataclass(frozen=True)
class Flag:
    """A flag of SGLang's command line, and the source of its value. The configurator's page uses the same table.

    Attributes:
        name: The flag.
        fields: Fields of the spec. The first field that is set gives the value. Without fields, the flag has no value.
        words: The text for each value of the field, None to leave the flag out. Without an entry, the value itself is
            the text.
    """

    name: str
    fields: tuple[str, ...] = ()
    words: Mapping[Any, str | None] = field(default_factory=dict)


PROGRAM = ("python3", "-m", "sglang.launch_server")
# The flags of the recipe's generator, in its order.
RECIPE_FLAGS = (
    Flag("--model-path", ("model.path", "model.variant"), MODELS),
    Flag("--tp", ("tensor_parallelism",)),
    Flag("--trust-remote-code"),
    Flag("--tool-call-parser", ("tool_call_parser",), {"disabled": None, "enabled": TOOL_CALL_PARSER}),
)
# Flags that are used only if the spec sets their field. extraArgs come after them.
CHOSEN_FLAGS = (
    Flag("--revision", ("model.revision",)),
    Flag("--served-model-name", ("model.served_name",)),
    Flag("--context-length", ("engine.context_length",)),
    Flag("--mem-fraction-static", ("engine.memory_fraction_static",)),
    Flag("--attention-backend", ("engine.attention_backend",)),
)


def arguments(spec: ServerSpec) -> list[str]:
    """Return the container's arguments: SGLang's whole command line."""
    flags = [
        *recipe_flags(spec),
        ("--tokenizer-path", model_path(spec)),
        *chosen_flags(spec),
        ("--host", ALL_ADDRESSES),
        ("--port", str(PORT)),
        ("--enable-metrics",),
    ]
    return [*PROGRAM, *(word for flag in flags for word in flag)]


def model_path(spec: ServerSpec) -> str:
    """Return the model's directory, or its name on the Hugging Face hub."""
    return spec.model.path or MODELS[spec.model.variant]


def api_key_variable(spec: ServerSpec) -> str | None:
    """Return the name of the container's variable with the API key, None if clients need no key."""
    matches = map(_KEY_FROM_VARIABLE.fullmatch, spec.engine.extra_args)
    return next((match[1] for match in matches if match), None)


def recipe_flags(spec: ServerSpec) -> Flags:
    """Return the flags of the recipe's generator, in its order."""
    return [words for flag in RECIPE_FLAGS if (words := _flag(flag, spec))]


def chosen_flags(spec: ServerSpec) -> Flags:
    """Return the flags that are used only if the spec sets their field."""
    chosen = [words for flag in CHOSEN_FLAGS if (words := _flag(flag, spec))]
    return [*chosen, *grouped(spec.engine.extra_args)]


def _flag(flag: Flag, spec: ServerSpec) -> tuple[str, ...] | None:
    """Return a flag with its value, None if the spec does not ask for it."""
    if not flag.fields:
        return (flag.name,)
    values = (attrgetter(field)(spec) for field in flag.fields)
    value = next((item for item in values if item is not None), None)
    word = flag.words.get(value, value)
    return None if word is None else (flag.name, str(word))


def grouped(arguments: Sequence[str]) -> Flags:
    """Group each flag with the values that follow it."""
    groups: list[tuple[str, ...]] = []
    for argument in arguments:
        if groups and not argument.startswith("-"):
            groups[-1] = (*groups[-1], argument)
        else:
            groups.append((argument,))
    return groups
