"""SGLang's command line of release 0.5.7. An unknown argument ends the process with exit code 2.

`arguments.jsonl` holds one argument a line; a test compares it with SGLang's own source.
"""

import argparse
import json
import os
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("arguments.jsonl")
# model_max_length in config.json of the model.
_LONGEST = 1048576
# SGLang's ROCm images set it.
_ALLOWS_LONGER = "SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN"
_TYPES = {"int": int, "float": float, "json": json.loads, "str": str}


def build_parser() -> argparse.ArgumentParser:
    """Return a parser that accepts the same arguments as SGLang's."""
    parser = argparse.ArgumentParser(prog="launch_server.py")
    for line in FILE.read_text().splitlines():
        argument = json.loads(line)
        parser.add_argument(*argument.pop("names"), **_options(argument))
    return parser


def _options(argument: dict[str, Any]) -> dict[str, Any]:
    if "type" in argument:
        return argument | {"type": _TYPES[argument["type"]]}
    return argument


def parse(words: list[str] | None) -> argparse.Namespace:
    """Return SGLang's settings, with SGLang's defaults for the settings that the stand-in uses.

    Raises:
        ValueError: The context is longer than Kimi-Linear's.
    """
    arguments = build_parser().parse_args(words)
    arguments.host = arguments.host or "127.0.0.1"
    arguments.port = 30000 if arguments.port is None else arguments.port
    arguments.tokenizer_path = arguments.tokenizer_path or arguments.model_path
    arguments.served_model_name = arguments.served_model_name or arguments.model_path
    arguments.context_length = arguments.context_length or _LONGEST
    if arguments.context_length > _LONGEST and not os.environ.get(_ALLOWS_LONGER):
        raise ValueError(
            f"context_length ({arguments.context_length}) is greater than the derived context_length ({_LONGEST})."
        )
    return arguments
