"""`kimi-linear command`: the command generator of the recipe."""

import argparse
import sys
from typing import get_args

from kimi_linear_operator.server.definition import CHECKER
from kimi_linear_operator.server.sglang.by_hand import docker_commands, recipe_command
from kimi_linear_operator.server.spec.engine import Hardware, Switch
from kimi_linear_operator.weights.location import MODELS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the recipe's generator, with the same values and defaults."""
    parser.add_argument("--hardware", choices=get_args(Hardware), default="mi300x", help="GPU (default: %(default)s)")
    parser.add_argument("--model", choices=list(MODELS), default="instruct", help="model (default: %(default)s)")
    for name in ("reasoning-parser", "tool-call-parser"):
        parser.add_argument(f"--{name}", choices=get_args(Switch), default="disabled", help="default: %(default)s")
    parser.add_argument("--docker", action="store_true", help="also print how to pull, run and prepare the container")


def run(options: argparse.Namespace) -> int:
    """Print the command, or print the recipe's errors on standard error and return 1."""
    spec = {
        "hardware": options.hardware,
        "model": {"variant": options.model},
        "reasoningParser": options.reasoning_parser,
        "toolCallParser": options.tool_call_parser,
    }
    checked = CHECKER.check(
        {
            "apiVersion": "kimi-linear.io/v1alpha1",
            "kind": "KimiLinearServer",
            "metadata": {"name": "command"},
            "spec": spec,
        }
    )
    if checked.resource is None or not checked.is_valid:
        for problem in checked.errors:
            print("# Error: " + problem.message.replace("\n", "\n# "), file=sys.stderr)
        return 1
    commands = docker_commands(checked.resource.spec) if options.docker else []
    print("\n\n".join([*commands, recipe_command(checked.resource.spec)]))
    return 0
