"""`kimi-linear diff`: the operator's plan for resources, and what it would change as the API server itself sees it."""

import argparse
import asyncio
import difflib
from collections.abc import Sequence
from typing import Any

from kimi_linear_operator import resources, rules, status
from kimi_linear_operator.api import KimiLinearBenchmark, KimiLinearServer, Manifest, Resource
from kimi_linear_operator.cli import context, manifests
from kimi_linear_operator.cli.failure import CommandError
from kimi_linear_operator.cluster import ApiError, Cluster, connect
from kimi_linear_operator.resources import DEPLOYMENT, JOB, REVISION, SERVER, metadata, revision, target
from kimi_linear_operator.resources.plan import Apply, Blocked, Create, Delete, Step, may_be_taken, plan, step_for
from kimi_linear_operator.resources.revision import Kept, Wish

_INVALID = 422
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
    """Return what would be done for a resource; `servers` are those that are given, too."""
    namespace = given.metadata.namespace
    stored = await cluster.get(metadata.kind_of_resource(given), namespace, given.metadata.name)
    if isinstance(given, KimiLinearBenchmark):
        owned = _owned(given, stored)
        return await _changes_of(cluster, await _benchmark_steps(cluster, owned, servers))
    server = _as_stored(given, stored) if stored else given
    return await _changes_of(cluster, await _server_steps(cluster, server))


async def _server_steps(cluster: Cluster, server: KimiLinearServer) -> list[Step]:
    """Return the operator's plan for a server, with the pod template that it would keep."""
    live = await _labelled(cluster, server)
    kept = _kept(server, live)
    deployment = resources.build_deployment(server, kept.current.template, kept.current.number)
    wanted = [resources.build_revision(server, kept.current), *resources.build_companions(server), deployment]
    return plan(server, wanted, [*live, *await _named(cluster, wanted, live)])


def _kept(server: KimiLinearServer, live: Sequence[Manifest]) -> Kept:
    records = [item for item in live if item["kind"] == REVISION.kind and may_be_taken(item, server)]
    is_applied = status.was_applied(server.status, server.metadata.generation)
    deployed, applied = 0, None
    for deployment in live:
        if deployment["kind"] == DEPLOYMENT.kind and metadata.is_owned_by(deployment, server.metadata.uid):
            deployed = revision.number_on(deployment)
            if not records and is_applied:
                applied = revision.running_template(server, deployment)
    return revision.keep(
        server,
        [found for record in records if (found := revision.read(record))],
        applied=applied,
        deployed=deployed,
        used=max(map(revision.number_of, records), default=0),
        wish=Wish(is_unchanged=is_applied),
    )


async def _benchmark_steps(cluster: Cluster, benchmark: KimiLinearBenchmark, servers: manifests.Servers) -> list[Step]:
    """Return what would be done for a benchmark. A Job that is there stays as it is."""
    wanted = await _benchmark_objects(cluster, benchmark, servers)
    steps = [step_for(benchmark, child, live) for child, live in await _pairs(cluster, wanted)]
    return [step for step in steps if step and not (isinstance(step, Apply) and resources.kind_of(step.wanted) == JOB)]


async def _labelled(cluster: Cluster, server: KimiLinearServer) -> list[Manifest]:
    selector = metadata.selector_text(server)
    listings = [await cluster.list(kind, server.metadata.namespace, selector) for kind in resources.KINDS]
    return [manifest for listing in listings for manifest in listing]


async def _named(cluster: Cluster, wanted: Sequence[Manifest], live: Sequence[Manifest]) -> list[Manifest]:
    """Return objects that have the names of children and not their labels."""
    known = {(manifest["kind"], manifest["metadata"]["name"]) for manifest in live}
    missing = [child for child in wanted if (child["kind"], child["metadata"]["name"]) not in known]
    return [found for _, found in await _pairs(cluster, missing) if found]


async def _pairs(cluster: Cluster, wanted: Sequence[Manifest]) -> list[tuple[Manifest, Manifest | None]]:
    """Return children with what has their names."""
    return [
        (child, await cluster.get(resources.kind_of(child), child["metadata"]["namespace"], child["metadata"]["name"]))
        for child in wanted
    ]


async def _changes_of(cluster: Cluster, steps: Sequence[Step]) -> list[Manifest]:
    """Return what a plan changes. The records of pod templates only repeat what the Deployments show."""
    shown = [step for step in steps if isinstance(step, Blocked) or not _is_record(step)]
    changes = [await _change_of(cluster, step) for step in shown]
    return [change for change in changes if change["action"] == "blocked" or change["diff"]]


def _is_record(step: Create | Apply | Delete) -> bool:
    return bool((step.live if isinstance(step, Delete) else step.wanted)["kind"] == REVISION.kind)


async def _change_of(cluster: Cluster, step: Step) -> Manifest:
    match step:
        case Create(wanted):
            return _change(None, await cluster.apply(resources.kind_of(wanted), wanted, dry_run=True))
        case Apply(live, wanted):
            return _change(live, await _applied(cluster, wanted))
        case Delete(live):
            return _change(live, None)
        case Blocked(wanted, _, message):
            return {"object": _name(wanted), "action": "blocked", "diff": f"# {_name(wanted)}: {message}\n"}


async def _applied(cluster: Cluster, wanted: Manifest) -> Manifest:
    """Return a child as it would be; where apply alone is refused, the operator overwrites lists first."""
    kind = resources.kind_of(wanted)
    try:
        return await cluster.apply(kind, wanted, dry_run=True)
    except ApiError as error:
        if error.status != _INVALID or "spec" not in wanted:
            raise
        return await cluster.overwrite(kind, wanted, dry_run=True)


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
        server = rules.check_stored(found).server if found else None
    if server is None:
        where = f"namespace {namespace} nor in the files"
        raise CommandError(f"{benchmark.metadata.name}: there is no KimiLinearServer {reference.name} in {where}")
    return resources.build_benchmark(benchmark, target.of_server(benchmark, server))


def _owned(given: KimiLinearBenchmark, stored: Manifest | None) -> KimiLinearBenchmark:
    uid = stored["metadata"]["uid"] if stored else ""
    return given.model_copy(update={"metadata": given.metadata.model_copy(update={"uid": uid})})


def _as_stored(given: KimiLinearServer, stored: Manifest) -> KimiLinearServer:
    """Return the server as it would be stored: with its UID, and its scale where the file leaves that open.

    Its generation is that of the stored one only where the file asks for the same.
    """
    annotations = {**metadata.annotations(stored), **given.metadata.annotations}
    known = given.metadata.model_copy(update={"uid": stored["metadata"]["uid"], "annotations": annotations})
    update: dict[str, Any] = {"metadata": known, "status": stored.get("status", {})}
    if "replicas" not in given.spec.model_fields_set:
        update["spec"] = given.spec.model_copy(update={"replicas": stored["spec"]["replicas"]})
    wanted = given.model_copy(update=update)
    if wanted.manifest()["spec"] != stored["spec"]:
        return wanted
    known = known.model_copy(update={"generation": stored["metadata"]["generation"]})
    return wanted.model_copy(update={"metadata": known})


def _change(before: Manifest | None, after: Manifest | None) -> Manifest:
    """Return one difference: what it is about, what would happen, and both sides line by line."""
    subject: Any = after or before
    name = _name(subject)
    action = "create" if before is None else "delete" if after is None else "change"
    lines = difflib.unified_diff(_lines(before), _lines(after), f"live/{name}", f"wanted/{name}")
    return {"object": name, "action": action, "diff": "".join(lines)}


def _name(manifest: Manifest) -> str:
    return f"{manifest['kind']}/{manifest['metadata']['namespace']}/{manifest['metadata']['name']}"


def _lines(manifest: Manifest | None) -> list[str]:
    if manifest is None:
        return []
    shown = {key: value for key, value in manifest.items() if key != "status"}
    shown["metadata"] = {key: value for key, value in manifest["metadata"].items() if key not in _NOISE}
    return manifests.dump(shown).splitlines(keepends=True)
