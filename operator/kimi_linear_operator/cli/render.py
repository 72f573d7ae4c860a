"""`kimi-linear render`: the objects of servers and benchmarks, as the operator builds them."""

import argparse
import sys

from kimi_linear_operator import resources
from kimi_linear_operator.api import KimiLinearServer, Manifest, Resource
from kimi_linear_operator.cli import manifests
from kimi_linear_operator.resources import target


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    manifests.add_input_arguments(parser)
    manifests.add_output_argument(parser, "yaml", "json")


def run(options: argparse.Namespace) -> int:
    """Print the objects of all valid resources; exit code 1 if any is invalid or needs a file that is missing."""
    checked = manifests.check(manifests.read(options))
    valid = [(source, outcome.resource) for source, outcome in checked if outcome.resource and outcome.is_valid]
    servers = {manifests.place(server): server for _, server in valid if isinstance(server, KimiLinearServer)}
    objects, is_complete = [], len(valid) == len(checked)
    for source, resource in valid:
        try:
            objects += _objects(resource, servers)
        except MissingServerError as error:
            print(f"{source.file}: {source.title}: error: {error}", file=sys.stderr)
            is_complete = False
    manifests.write(objects, options.output)
    return 0 if is_complete else 1


class MissingServerError(Exception):
    """The server of a benchmark is in none of the files."""


def _objects(resource: Resource, servers: manifests.Servers) -> list[Manifest]:
    if isinstance(resource, KimiLinearServer):
        return resources.build(resource)
    reference = resource.spec.server_ref
    if reference is None:
        return resources.build_benchmark(resource, target.of_endpoint(resource))
    server = servers.get((resource.metadata.namespace, reference.name))
    if server is None:
        raise MissingServerError(
            f"spec.serverRef.name: {reference.name!r}: its image and Secrets are those of the server, which is in none "
            "of the files: give its file, too"
        )
    return resources.build_benchmark(resource, target.of_server(resource, server))
