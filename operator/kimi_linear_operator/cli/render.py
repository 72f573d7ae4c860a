"""`kimi-linear render`: the objects of resources, as the operator builds them."""

import argparse
import sys

from kimi_linear_operator.cli import manifests
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.models import Resource
from kimi_linear_operator.reconcile.resource_type import Found
from kimi_linear_operator.resource_types import TYPES


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    manifests.add_input_arguments(parser)
    manifests.add_output_argument(parser, "yaml", "json")


def run(options: argparse.Namespace) -> int:
    """Print the objects of all valid resources; exit code 1 if any is invalid or needs a file that is missing."""
    checked = manifests.check(manifests.read(options))
    valid = [(source, outcome.resource) for source, outcome in checked if outcome.resource and outcome.is_valid]
    given = {manifests.key_of(resource): resource for _, resource in valid}
    objects, is_complete = [], len(valid) == len(checked)
    for source, resource in valid:
        try:
            objects += _objects(resource, given)
        except MissingError as error:
            print(f"{source.file}: {source.title}: error: {error}", file=sys.stderr)
            is_complete = False
    manifests.write(objects, options.output)
    return 0 if is_complete else 1


class MissingError(Exception):
    """A resource that another one refers to is in none of the files."""


def _objects(resource: Resource, given: Found) -> list[Manifest]:
    preview = TYPES[resource.KIND].preview
    for field, key in preview.references(resource).items():
        if key not in given:
            what = key.kind.kind.removeprefix("KimiLinear").lower()
            raise MissingError(
                f"{field}: {key.name!r}: its image and Secrets are those of the {what}, which is in none of the files: "
                "give its file, too"
            )
    return preview.build(resource, given)
