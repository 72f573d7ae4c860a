"""One pass over one server: read, check, build, apply, report."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from kimi_linear_operator import resources, rules, status
from kimi_linear_operator.api import KimiLinearServer, Manifest
from kimi_linear_operator.cluster import ApiError, Cluster
from kimi_linear_operator.resources import DEPLOYMENT, EVENT, POD, SERVER, Kind, metadata
from kimi_linear_operator.resources.drift import has_drifted
from kimi_linear_operator.store import Key, Store

logger = logging.getLogger(__name__)

# How often to look whether something that no watch shows has gone out of the way.
BLOCKED_RETRY_SECONDS = 15.0

_INVALID = 422


class NameTakenError(Exception):
    """An object of a child's name exists and belongs to someone else."""


class GoneError(Exception):
    """The server was deleted, and no watch has told so yet."""


class LeftoverError(Exception):
    """An object of a child's name belonged to a deleted server of the same name, and will be gone soon."""


@dataclass(frozen=True)
class Reconciler:
    """Brings servers to the state that their specs ask for.

    Attributes:
        cluster: Where objects are written.
        store: Where objects are read.
        now: The time as RFC 3339.
    """

    cluster: Cluster
    store: Store
    now: Callable[[], str] = lambda: datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    async def reconcile(self, key: Key) -> float | None:
        """Make one pass over a server; return after how many seconds it is due again, if at all.

        Raises:
            ApiError: The API server could not do its part; a later pass will find out what is left to do.
        """
        manifest = self.store.get(SERVER, key)
        if manifest is None or "deletionTimestamp" in manifest["metadata"]:
            return None  # Its children are owned by it: the garbage collector needs no help.
        checked = rules.check(manifest)
        try:
            obstacle = await self._apply(checked)
        except GoneError:
            return None
        if not await self._report(key, manifest, checked.server, obstacle):
            return 0.0  # The spec changed meanwhile, and the store has it from our own write: no watch will say so.
        return BLOCKED_RETRY_SECONDS if obstacle and checked.is_valid else None

    async def _apply(self, checked: rules.Checked) -> status.Obstacle | None:
        """Apply and prune the children; return what is in the way, if anything is. A refused spec changes nothing."""
        if checked.server is None or not checked.is_valid:
            problems = "; ".join(str(problem) for problem in checked.errors)
            return status.Obstacle("InvalidSpec", problems, blames_spec=True)
        wanted = resources.build(checked.server)
        try:
            for child in wanted:
                await self._apply_child(checked.server, child)
            await self._prune(checked.server, wanted)
        except NameTakenError as error:
            return status.Obstacle("NameConflict", str(error), blames_spec=True)
        except LeftoverError as error:
            return status.Obstacle("Replacing", str(error))
        except ApiError as error:
            if error.is_passing:
                raise
            return status.Obstacle("ApplyFailed", error.message, blames_spec=error.is_about_content)
        return None

    async def _apply_child(self, server: KimiLinearServer, wanted: Manifest) -> None:
        kind = resources.kind_of(wanted)
        live = await self._live(server, kind, wanted["metadata"]["name"])
        if live is not None and ("deletionTimestamp" in live["metadata"] or not has_drifted(live, wanted)):
            return
        try:
            applied = await self.cluster.apply(kind, wanted)
        except ApiError as error:
            if live is None or error.status != _INVALID:
                raise
            # Apply keeps items of others in lists: a changed port becomes two ports of one name, which is invalid.
            await self.cluster.overwrite(kind, wanted)
            applied = await self.cluster.apply(kind, wanted)
        self.store.put(kind, applied)
        logger.info("Applied %s %s/%s", kind.kind, server.metadata.namespace, wanted["metadata"]["name"])

    async def _live(self, server: KimiLinearServer, kind: Kind, name: str) -> Manifest | None:
        """Return the child as it is, looking past the watch where it shows nothing: that sees labelled objects only.

        Raises:
            NameTakenError: The name belongs to an object that is not ours and may not be adopted.
            LeftoverError: The name belongs to an object that the garbage collector is about to remove.
            GoneError: There is no child because there is no server any more.
        """
        namespace = server.metadata.namespace
        live = self.store.get(kind, Key(namespace, name)) or await self.cluster.get(kind, namespace, name)
        if live is None and not await self._is_there(server):
            raise GoneError
        if live is None or metadata.is_owned_by(live, server.metadata.uid):
            return live
        if live["metadata"].get("annotations", {}).get(metadata.ADOPT_ANNOTATION) == "true":
            return live
        if metadata.is_of_former(live, server):
            raise LeftoverError(f"{kind.kind} {name} of a deleted server of this name is still being removed")
        raise NameTakenError(
            f"{kind.kind} {name} exists and does not belong to this server: delete it, rename the server, or let the "
            f"server take it over with `kubectl annotate {kind.kind.lower()} {name} {metadata.ADOPT_ANNOTATION}=true`"
        )

    async def _is_there(self, server: KimiLinearServer) -> bool:
        """Return whether a server whose child is missing still exists: both may have gone, and must not come back.

        One that was never reported on is too new to have gone unnoticed, and thousands of these are not read once more.
        """
        if "observedGeneration" not in server.status:
            return True
        found = await self.cluster.get(SERVER, server.metadata.namespace, server.metadata.name)
        return found is not None and bool(found["metadata"]["uid"] == server.metadata.uid)

    async def _prune(self, server: KimiLinearServer, wanted: list[Manifest]) -> None:
        """Delete the children that are ours and no longer wanted."""
        key = Key(server.metadata.namespace, server.metadata.name)
        for kind in resources.KINDS:
            for live in resources.unwanted(self.store.children(kind, key), wanted, server.metadata.uid):
                if "deletionTimestamp" not in live["metadata"]:
                    await self.cluster.delete(kind, live)
                    logger.info("Deleted %s %s/%s", kind.kind, key.namespace, live["metadata"]["name"])

    async def _report(
        self, key: Key, manifest: Manifest, server: KimiLinearServer | None, obstacle: status.Obstacle | None
    ) -> bool:
        """Write the status if it changed, once, and then say so in an Event.

        Returns whether the spec is still the one that the status is about.
        """
        deployment = self.store.get(DEPLOYMENT, key)
        if deployment and not metadata.is_owned_by(deployment, manifest["metadata"]["uid"]):
            deployment = None
        view = status.View(manifest, server, obstacle, deployment, self.store.children(POD, key))
        summary = status.summarise(view, self.now())
        if summary == manifest.get("status"):
            return True
        written = await self.cluster.patch_status(SERVER, manifest, summary)
        self.store.put(SERVER, written)
        if event := status.transition_event(manifest, summary, self.now()):
            await self._publish(event)
        return bool(written["metadata"]["generation"] == manifest["metadata"]["generation"])

    async def _publish(self, event: Manifest) -> None:
        """Record an Event. It is news, not state: when it gets lost, the status still says the same."""
        try:
            await self.cluster.create(EVENT, event)
        except ApiError as error:
            logger.warning("Could not record the event %s: %s", event["reason"], error)
