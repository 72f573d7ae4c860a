"""`kimi-linear render`: the children of resources, as the operator builds them."""

import argparse
import sys

from kimi_linear_operator.cli import manifests
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.models import Resource
from kimi_linear_operator.reconcile.resource_type import Referenced
from kimi_linear_operator.resource_types import TYPES


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    manifests.add_input_arguments(parser)
    manifests.add_output_argument(parser, "yaml", "json")


def run(options: argparse.Namespace) -> int:
    """Print the children of all valid resources; return 1 if one is invalid or refers to a missing one."""
    checked = manifests.check(manifests.read(options))
    valid = [resource for item in checked if (resource := item.valid_resource)]
    in_files = {manifests.key_of(resource): resource for resource in valid}
    children, is_complete = [], len(valid) == len(checked)
    for item in checked:
        try:
            children += _children(item.valid_resource, in_files) if item.valid_resource else []
        except MissingError as error:
            print(f"{item.source.file}: {item.source.title}: error: {error}", file=sys.stderr)
            is_complete = False
    manifests.write(children, options.output)
    return 0 if is_complete else 1


class MissingError(Exception):
    """A resource refers to another resource, and no file contains that one."""


def _children(resource: Resource, in_files: Referenced) -> list[Manifest]:
    preview = TYPES[resource.KIND].preview
    for field, key in preview.references(resource).items():
        if key not in in_files:
            noun = key.kind.kind.removeprefix("KimiLinear").lower()
            raise MissingError(
                f"{field}: {key.name!r}: the pods take values from this {noun}, but it is in none of the files: add "
                "its file"
            )
    return preview.build(resource, in_files)
