"""`kimi-linear render`: the objects of a server, as the operator builds them."""

import argparse

from kimi_linear_operator import resources
from kimi_linear_operator.cli import manifests


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    manifests.add_input_arguments(parser)
    manifests.add_output_argument(parser, "yaml", "json")


def run(options: argparse.Namespace) -> int:
    """Print the objects of all valid resources; exit code 1 if any is invalid."""
    checked = manifests.check(manifests.read(options))
    valid = [outcome.server for _, outcome in checked if outcome.server and outcome.is_valid]
    manifests.write([manifest for server in valid for manifest in resources.build(server)], options.output)
    return 0 if len(valid) == len(checked) else 1
