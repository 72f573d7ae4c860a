"""`kimi-linear diff`: what applying resources would change, as the API server itself sees it."""

import argparse
import asyncio
import difflib
from collections.abc import Sequence
from typing import Any

from kimi_linear_operator import resources, rules
from kimi_linear_operator.api import KimiLinearBenchmark, KimiLinearServer, Manifest, Resource
from kimi_linear_operator.cli import context, manifests
from kimi_linear_operator.cli.failure import CommandError
from kimi_linear_operator.cluster import ApiError, Cluster, connect
from kimi_linear_operator.resources import JOB, SERVER, metadata, target

# Fields that change with every write, whatever it writes.
_NOISE = ("creationTimestamp", "generation", "managedFields", "resourceVersion", "uid")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    manifests.add_input_arguments(parser)
    manifests.add_output_argument(parser, "text", "yaml", "json")


def run(options: argparse.Namespace) -> int:
    """Show the differences; exit code 1 if there are any or a resource is invalid, 0 if there are none."""
    options.namespace = context.namespace(options)
    checked = manifests.check(manifests.read(options))
    if not all(outcome.is_valid for _, outcome in checked):
        return 1
    try:
        changes = asyncio.run(_changes([outcome.resource for _, outcome in checked if outcome.resource]))
    except ApiError as error:
        raise CommandError(str(error)) from error
    if options.output == "text":
        print("".join(change["diff"] for change in changes), end="")
    else:
        manifests.write(changes, options.output)
    return 1 if changes else 0


async def _changes(given: Sequence[Resource]) -> list[Manifest]:
    servers = {manifests.place(server): server for server in given if isinstance(server, KimiLinearServer)}
    async with connect() as cluster:
        return [change for resource in given for change in await _resource_changes(cluster, resource, servers)]


async def _resource_changes(cluster: Cluster, given: Resource, servers: manifests.Servers) -> list[Manifest]:
    """Return what would be created, changed and deleted for a resource; `servers` are those that are given, too."""
    namespace = given.metadata.namespace
    stored = await cluster.get(metadata.kind_of_resource(given), namespace, given.metadata.name)
    if isinstance(given, KimiLinearBenchmark):
        wanted = await _benchmark_objects(cluster, _owned(given, stored), servers)
        return await _child_changes(cluster, wanted)
    server = _as_stored(given, stored) if stored else given
    wanted = resources.build(server)
    live_children = await _children(cluster, server)
    unwanted = resources.unwanted(live_children, wanted, server.metadata.uid)
    gone = [_change(live, None) for live in unwanted]
    return [*await _child_changes(cluster, wanted), *gone]


async def _child_changes(cluster: Cluster, wanted: Sequence[Manifest]) -> list[Manifest]:
    """Return what would be created and changed. A Job that is there stays as it is."""
    changes = []
    for child in wanted:
        kind = resources.kind_of(child)
        live = await cluster.get(kind, child["metadata"]["namespace"], child["metadata"]["name"])
        if kind != JOB or live is None:
            changes.append(_change(live, await cluster.apply(kind, child, dry_run=True)))
    return [change for change in changes if change["diff"]]


async def _benchmark_objects(
    cluster: Cluster, benchmark: KimiLinearBenchmark, servers: manifests.Servers
) -> list[Manifest]:
    """Return the objects of a benchmark, whose server is given or must be there."""
    reference = benchmark.spec.server_ref
    if reference is None:
        return resources.build_benchmark(benchmark, target.of_endpoint(benchmark))
    namespace = benchmark.metadata.namespace
    server = servers.get((namespace, reference.name))
    if server is None:
        found = await cluster.get(SERVER, namespace, reference.name)
        server = rules.check(found).server if found else None
    if server is None:
        where = f"namespace {namespace} nor in the files"
        raise CommandError(f"{benchmark.metadata.name}: there is no KimiLinearServer {reference.name} in {where}")
    return resources.build_benchmark(benchmark, target.of_server(benchmark, server))


def _owned(given: KimiLinearBenchmark, stored: Manifest | None) -> KimiLinearBenchmark:
    uid = stored["metadata"]["uid"] if stored else ""
    return given.model_copy(update={"metadata": given.metadata.model_copy(update={"uid": uid})})


def _as_stored(given: KimiLinearServer, stored: Manifest) -> KimiLinearServer:
    """Return the server as it would be stored: with its UID, and its scale where the file leaves that open."""
    update: dict[str, Any] = {"metadata": given.metadata.model_copy(update={"uid": stored["metadata"]["uid"]})}
    if "replicas" not in given.spec.model_fields_set:
        update["spec"] = given.spec.model_copy(update={"replicas": stored["spec"]["replicas"]})
    return given.model_copy(update=update)


async def _children(cluster: Cluster, server: KimiLinearServer) -> list[Manifest]:
    selector = metadata.selector_text(server)
    listings = [await cluster.list(kind, server.metadata.namespace, selector) for kind in resources.KINDS]
    return [manifest for listing in listings for manifest in listing]


def _change(before: Manifest | None, after: Manifest | None) -> Manifest:
    """Return one difference: what it is about, what would happen, and both sides line by line."""
    subject: Any = after or before
    name = f"{subject['kind']}/{subject['metadata']['namespace']}/{subject['metadata']['name']}"
    action = "create" if before is None else "delete" if after is None else "change"
    lines = difflib.unified_diff(_lines(before), _lines(after), f"live/{name}", f"wanted/{name}")
    return {"object": name, "action": action, "diff": "".join(lines)}


def _lines(manifest: Manifest | None) -> list[str]:
    if manifest is None:
        return []
    shown = {key: value for key, value in manifest.items() if key != "status"}
    shown["metadata"] = {key: value for key, value in manifest["metadata"].items() if key not in _NOISE}
    return manifests.dump(shown).splitlines(keepends=True)
