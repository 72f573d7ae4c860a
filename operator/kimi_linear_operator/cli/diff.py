"""`kimi-linear diff`: what the operator's plan would change, computed with dry runs at the API server."""

import argparse
import asyncio
import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kimi_linear_operator.cli import context, manifests
from kimi_linear_operator.cli.failure import CommandError, of_cluster
from kimi_linear_operator.cluster.client import Cluster, connect
from kimi_linear_operator.cluster.errors import ApiError
from kimi_linear_operator.cluster.refusals import REFUSALS
from kimi_linear_operator.foreigntext import printable
from kimi_linear_operator.kubernetes import deletion, metadata
from kimi_linear_operator.kubernetes.kinds import REVISION, Kind, Manifest, kind_of
from kimi_linear_operator.kubernetes.models import Resource
from kimi_linear_operator.kubernetes.plan import Apply, Blocked, Create, Delete, Step, is_made_for
from kimi_linear_operator.kubernetes.stored import with_readable_status
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.reconcile.live import blocked_if_held
from kimi_linear_operator.reconcile.resource_type import Referenced
from kimi_linear_operator.reconcile.withheld import split
from kimi_linear_operator.resource_types import TYPES

_INVALID = 422
# Fields that change in every write.
_VOLATILE = ("creationTimestamp", "generation", "managedFields", "resourceVersion", "uid")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    manifests.add_input_arguments(parser)
    manifests.add_output_argument(parser, "text", "yaml", "json")


def run(options: argparse.Namespace) -> int:
    """Print the differences; return 1 if there are any or a resource is invalid, 0 if there are none."""
    options.namespace = context.namespace(options)
    checked = manifests.check(manifests.read(options))
    if not all(item.result.is_valid for item in checked):
        return 1
    try:
        changes = asyncio.run(_changes([item.result.resource for item in checked if item.result.resource]))
    except ApiError as error:
        raise of_cluster(error) from error
    if options.output == "text":
        # Live objects can contain escape sequences, which a terminal would execute.
        print(printable("".join(change["diff"] for change in changes)), end="")
    else:
        manifests.write(changes, options.output)
    return 1 if changes else 0


async def _changes(resources: Sequence[Resource]) -> list[Manifest]:
    in_files = {manifests.key_of(resource): resource for resource in resources}
    async with connect() as cluster:
        return [change for resource in resources for change in await _resource_changes(cluster, resource, in_files)]


async def _resource_changes(cluster: Cluster, written: Resource, in_files: Referenced) -> list[Manifest]:
    """Return the changes for one resource as the user wrote it. `in_files` contains all resources of the files."""
    preview = TYPES[written.KIND].preview
    stored = await _stored(cluster, Key(written.metadata.namespace, written.metadata.name, written.KIND))
    resource = preview.as_stored(written, stored)
    live, unreadable = await _labelled(cluster, resource)
    desired = preview.desired(resource, live, await _references(cluster, resource, in_files))
    children = split(desired, unreadable)
    namesakes = await _namesakes(cluster, children.writable, live)
    steps = preview.plan(resource, children.writable, [*live, *namesakes])
    checked = [await blocked_if_held(cluster, TYPES, resource, step) for step in steps]
    changes = await _changes_of(cluster, [step for step in checked if step])
    return [*changes, *_withheld_changes(desired, unreadable), *_held_changes(resource, live)]


async def _references(cluster: Cluster, resource: Resource, in_files: Referenced) -> Referenced:
    """Return the resources that a resource refers to, from the files or else from the cluster."""
    references = TYPES[resource.KIND].preview.references(resource).items()
    place = resource.metadata.name
    return {key: in_files.get(key) or await _referenced(cluster, f"{place}: {field}", key) for field, key in references}


async def _referenced(cluster: Cluster, field: str, key: Key) -> Resource:
    """Return the resource of the cluster that a field names."""
    stored = await _stored(cluster, key)
    if stored is None:
        where = f"namespace {key.namespace} or in the files"
        raise CommandError(f"{field}: there is no {key.kind.kind} {key.name} in {where}: add its file with -f")
    referenced: Resource | None = TYPES[key.kind].checker.read_stored(stored)
    if referenced is None:
        raise CommandError(f"{field}: the spec of {key.kind.kind} {key.name} cannot be read: correct it first")
    return referenced


async def _stored(cluster: Cluster, key: Key) -> Manifest | None:
    """Return a resource of the cluster with a readable status, None if there is none."""
    found = await cluster.get(key.kind, key.namespace, key.name)
    return with_readable_status(found, TYPES[key.kind].status) if found else None


async def _labelled(cluster: Cluster, resource: Resource) -> tuple[list[Manifest], dict[Kind, ApiError]]:
    """Return the live objects with the labels of a resource, and the optional kinds that cannot be listed."""
    live: list[Manifest] = []
    unreadable: dict[Kind, ApiError] = {}
    resource_type = TYPES[resource.KIND]
    for kind in resource_type.written:
        try:
            live += await cluster.list(kind, resource.metadata.namespace, metadata.selector_text(resource))
        except ApiError as error:
            if kind not in resource_type.optional_children or error.status not in REFUSALS:
                raise
            unreadable[kind] = error
    return live, unreadable


def _withheld_changes(desired: Sequence[Manifest], unreadable: Mapping[Kind, ApiError]) -> Iterator[Manifest]:
    """Yield the wanted children that cannot be compared, because the user cannot list their kind."""
    for child in desired:
        if error := unreadable.get(kind_of(child)):
            yield _blocked(child, f"{kind_of(child).resource} cannot be listed: {error}")


def _held_changes(resource: Resource, live: Sequence[Manifest]) -> Iterator[Manifest]:
    """Yield the children that the operator cannot change, because finalizers hold their deletion."""
    for child in live:
        if deletion.finalizers_of(child) and is_made_for(child, resource):
            yield _blocked(child, deletion.why_blocked([child]).message)


async def _namesakes(cluster: Cluster, wanted: Sequence[Manifest], live: Sequence[Manifest]) -> list[Manifest]:
    """Return the live objects that have the name of a wanted child but lack its labels."""
    names = {(manifest["kind"], manifest["metadata"]["name"]) for manifest in live}
    missing = [child for child in wanted if (child["kind"], child["metadata"]["name"]) not in names]
    stored = [
        await cluster.get(kind_of(child), child["metadata"]["namespace"], child["metadata"]["name"])
        for child in missing
    ]
    return [manifest for manifest in stored if manifest]


async def _changes_of(cluster: Cluster, steps: Sequence[Step]) -> list[Manifest]:
    """Return the changes of a plan.

    ControllerRevisions are left out, because their changes repeat those of Deployments.
    """
    shown = [step for step in steps if isinstance(step, Blocked) or not _is_of_revision(step)]
    changes = [await _change_of(cluster, step) for step in shown]
    return [change for change in changes if change["action"] == "blocked" or change["diff"]]


def _is_of_revision(step: Create | Apply | Delete) -> bool:
    return bool((step.live if isinstance(step, Delete) else step.wanted)["kind"] == REVISION.kind)


async def _change_of(cluster: Cluster, step: Step) -> Manifest:
    match step:
        case Create(wanted):
            return _change(None, await cluster.apply(kind_of(wanted), wanted, dry_run=True))
        case Apply(live, wanted):
            return _change(live, await _applied(cluster, wanted))
        case Delete(live):
            return _change(live, None)
        case Blocked(wanted, _, message):
            return _blocked(wanted, message)


def _blocked(wanted: Manifest, message: str) -> Manifest:
    return {"object": _name(wanted), "action": "blocked", "diff": f"# {_name(wanted)}: {message}\n"}


async def _applied(cluster: Cluster, wanted: Manifest) -> Manifest:
    """Return a child as it would be after the operator's apply. If the apply is refused, overwrite the spec."""
    kind = kind_of(wanted)
    try:
        return await cluster.apply(kind, wanted, dry_run=True)
    except ApiError as error:
        if error.status != _INVALID or "spec" not in wanted:
            raise
        return await cluster.overwrite(kind, wanted, dry_run=True)


def _change(before: Manifest | None, after: Manifest | None) -> Manifest:
    """Return the object, the action and the unified diff of a change."""
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
    shown["metadata"] = {key: value for key, value in manifest["metadata"].items() if key not in _VOLATILE}
    return manifests.dump(shown).splitlines(keepends=True)
