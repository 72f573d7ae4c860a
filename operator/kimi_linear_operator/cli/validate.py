"""`kimi-linear validate`: check resources against all rules of the API server and the operator, without a cluster."""

import argparse
from dataclasses import asdict

from kimi_linear_operator.cli import manifests
from kimi_linear_operator.cli.manifests import CheckedSource
from kimi_linear_operator.kubernetes.kinds import Manifest


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    manifests.add_input_arguments(parser)
    manifests.add_output_argument(parser, "text", "yaml", "json")


def run(options: argparse.Namespace) -> int:
    """Check all resources and print their problems. Return 1 if a resource has an error; warnings are allowed."""
    checked = manifests.check(manifests.read(options))
    if options.output == "text":
        for item in checked:
            print(f"{item.source.file}: {item.source.title}: {'valid' if item.result.is_valid else 'invalid'}")
    else:
        manifests.write([_report(item) for item in checked], options.output)
    return 0 if all(item.result.is_valid for item in checked) else 1


def _report(item: CheckedSource) -> Manifest:
    return {
        "file": item.source.file,
        "kind": item.source.manifest.get("kind"),
        "metadata": item.source.manifest.get("metadata"),
        "valid": item.result.is_valid,
        "problems": [asdict(problem) for problem in item.result.problems],
    }
