"""`kimi-linear validate`: check resources against all rules of the API server and the operator, without a cluster."""

import argparse
from dataclasses import asdict

from kimi_linear_operator.cli import manifests
from kimi_linear_operator.cli.manifests import Source
from kimi_linear_operator.kubernetes.check import Checked
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.models import Resource


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    manifests.add_input_arguments(parser)
    manifests.add_output_argument(parser, "text", "yaml", "json")


def run(options: argparse.Namespace) -> int:
    """Check all resources and print their problems; return 1 if one has an error. Warnings are allowed."""
    checked = manifests.check(manifests.read(options))
    if options.output == "text":
        for source, outcome in checked:
            print(f"{source.file}: {source.title}: {'valid' if outcome.is_valid else 'invalid'}")
    else:
        manifests.write([_report(source, outcome) for source, outcome in checked], options.output)
    return 0 if all(outcome.is_valid for _, outcome in checked) else 1


def _report(source: Source, outcome: Checked[Resource]) -> Manifest:
    return {
        "file": source.file,
        "kind": source.manifest.get("kind"),
        "metadata": source.manifest.get("metadata"),
        "valid": outcome.is_valid,
        "problems": [asdict(problem) for problem in outcome.problems],
    }
