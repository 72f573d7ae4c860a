"""Writing the objects of a resource: only what differs, and nothing that belongs to others."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from kimi_linear_operator import resources
from kimi_linear_operator.api import Manifest, Resource
from kimi_linear_operator.cluster import ApiError, Cluster
from kimi_linear_operator.resources import Kind, metadata
from kimi_linear_operator.resources.drift import has_drifted
from kimi_linear_operator.status import Obstacle
from kimi_linear_operator.store import Key, Store

logger = logging.getLogger(__name__)

# How often to look whether something that no watch shows has gone out of the way.
BLOCKED_RETRY_SECONDS = 15.0

_INVALID = 422


class NameTakenError(Exception):
    """An object of a child's name exists and belongs to someone else."""


class GoneError(Exception):
    """The resource was deleted, and no watch has told so yet."""


class LeftoverError(Exception):
    """An object of a child's name belonged to a deleted resource of the same name, and will be gone soon."""


def obstacle_of(error: NameTakenError | LeftoverError | ApiError) -> Obstacle:
    """Return what an error of a write means for the resource.

    Raises:
        ApiError: It will pass by itself; nobody need be told.
    """
    if isinstance(error, NameTakenError):
        return Obstacle("NameConflict", str(error), blames_spec=True)
    if isinstance(error, LeftoverError):
        return Obstacle("Replacing", str(error))
    if error.is_passing:
        raise error
    return Obstacle("ApplyFailed", error.message, blames_spec=error.is_about_content)


@dataclass(frozen=True)
class Children:
    """The objects of resources.

    Attributes:
        cluster: Where objects are written.
        store: Where objects are read.
    """

    cluster: Cluster
    store: Store

    async def apply(self, owner: Resource, wanted: Manifest) -> None:
        """Bring one child to what is wanted.

        Raises:
            NameTakenError, LeftoverError, GoneError, ApiError: It was not possible.
        """
        kind = resources.kind_of(wanted)
        live = await self.find(owner, kind, wanted["metadata"]["name"])
        if live is not None and ("deletionTimestamp" in live["metadata"] or not has_drifted(live, wanted)):
            return
        try:
            applied = await self.cluster.apply(kind, wanted)
        except ApiError as error:
            if live is None or error.status != _INVALID or "spec" not in wanted:
                raise
            # Apply keeps items of others in lists: a changed port becomes two ports of one name, which is invalid.
            await self.cluster.overwrite(kind, wanted)
            applied = await self.cluster.apply(kind, wanted)
        self.store.put(kind, applied)
        logger.info("Applied %s %s/%s", kind.kind, owner.metadata.namespace, wanted["metadata"]["name"])

    async def create(self, owner: Resource, wanted: Manifest) -> Manifest:
        """Make a child that never changes, unless it is there; return it.

        Raises:
            NameTakenError, LeftoverError, GoneError, ApiError: It was not possible.
        """
        kind, name = resources.kind_of(wanted), wanted["metadata"]["name"]
        live = await self.find(owner, kind, name)
        if live is None:
            live = await self.cluster.apply(kind, wanted)
            logger.info("Created %s %s/%s", kind.kind, owner.metadata.namespace, name)
        self.store.put(kind, live)
        return live

    async def find(self, owner: Resource, kind: Kind, name: str) -> Manifest | None:
        """Return a child as it is, looking past the watch where it shows nothing: that sees labelled objects only.

        Raises:
            NameTakenError: The name belongs to an object that is not ours and may not be adopted.
            LeftoverError: The name belongs to an object that the garbage collector is about to remove.
            GoneError: There is no child because there is no owner any more.
        """
        namespace = owner.metadata.namespace
        live = self.store.get(kind, Key(namespace, name)) or await self.cluster.get(kind, namespace, name)
        if live is None and not await self._is_there(owner):
            raise GoneError
        if live is None or metadata.is_owned_by(live, owner.metadata.uid):
            return live
        if live["metadata"].get("annotations", {}).get(metadata.ADOPT_ANNOTATION) == "true":
            return live
        if metadata.is_of_former(live, owner):
            raise LeftoverError(f"{kind.kind} {name} of a deleted {owner.kind} of this name is still being removed")
        what = owner.kind.removeprefix("KimiLinear").lower()
        raise NameTakenError(
            f"{kind.kind} {name} exists and does not belong to this {what}: delete it, rename the {what}, or let the "
            f"{what} take it over with `kubectl annotate {kind.kind.lower()} {name} {metadata.ADOPT_ANNOTATION}=true`"
        )

    async def _is_there(self, owner: Resource) -> bool:
        """Return whether a resource whose child is missing still exists: both may have gone, and must not come back.

        One that was never reported on is too new to have gone unnoticed, and thousands of these are not read once more.
        """
        if "observedGeneration" not in owner.status:
            return True
        kind = metadata.kind_of_resource(owner)
        found = await self.cluster.get(kind, owner.metadata.namespace, owner.metadata.name)
        return found is not None and bool(found["metadata"]["uid"] == owner.metadata.uid)

    async def prune(self, owner: Resource, key: Key, wanted: Sequence[Manifest]) -> None:
        """Delete the children that are the resource's own and no longer wanted."""
        for kind in resources.KINDS:
            for live in resources.unwanted(self.store.children(kind, key), wanted, owner.metadata.uid):
                if "deletionTimestamp" not in live["metadata"]:
                    await self.cluster.delete(kind, live)
                    logger.info("Deleted %s %s/%s", kind.kind, key.namespace, live["metadata"]["name"])
