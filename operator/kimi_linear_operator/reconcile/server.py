"""One pass over one server."""

from collections.abc import Callable
from dataclasses import dataclass

from kimi_linear_operator import resources, rules, status
from kimi_linear_operator.api import KimiLinearServer, Manifest
from kimi_linear_operator.cluster import ApiError
from kimi_linear_operator.reconcile.children import (
    BLOCKED_RETRY_SECONDS,
    Children,
    GoneError,
    LeftoverError,
    NameTakenError,
    obstacle_of,
)
from kimi_linear_operator.reconcile.reporting import Reporting
from kimi_linear_operator.reconcile.waking import Waking
from kimi_linear_operator.resources import DEPLOYMENT, POD, SERVER, access, metadata
from kimi_linear_operator.store import Key, Store

# What passes by itself is told when it has not for some ten seconds, by the back-off of the queue.
TOLD_FAILURES = 5


@dataclass(frozen=True)
class ServerReconciler:
    """Brings servers to the state that their specs ask for.

    Attributes:
        store: Where objects are read.
        children: Writes what belongs to a server.
        reporting: Writes its status.
        waking: Wakes the controller of its pods.
        now: The time as RFC 3339.
        allows_node_access: Whether pods may reach beyond themselves.
    """

    store: Store
    children: Children
    reporting: Reporting
    waking: Waking
    now: Callable[[], str]
    allows_node_access: bool = False

    async def reconcile(self, key: Key, failures: int) -> float | None:
        """Make one pass over a server; return after how many seconds it is due again, if at all.

        Args:
            key: Which server.
            failures: How many passes before failed in a row.

        Raises:
            ApiError: The API server could not do its part; a later pass will find out what is left to do.
        """
        manifest = self.store.get(SERVER, key)
        if manifest is None or "deletionTimestamp" in manifest["metadata"]:
            return None  # Its children are owned by it: the garbage collector needs no help.
        checked = rules.check(manifest)
        try:
            obstacle = await self._apply(key, checked)
        except GoneError:
            return None
        except ApiError as error:
            if failures >= TOLD_FAILURES:
                await self._report(key, manifest, checked.server, status.Obstacle("ApplyFailed", error.message))
            raise
        again = await self._report(key, manifest, checked.server, obstacle)
        if again == 0:
            return again
        if obstacle and checked.is_valid:
            return BLOCKED_RETRY_SECONDS
        limit = status.next_look(self.store.children(POD, key), self.now())
        woken = None if obstacle else await self.waking.wake(key, manifest["metadata"]["uid"])
        return min((seconds for seconds in (again, limit, woken) if seconds is not None), default=None)

    async def _apply(self, key: Key, checked: rules.Checked) -> status.Obstacle | None:
        """Apply and prune the children; return what is in the way, if anything is. A refused spec changes nothing."""
        if checked.server is None or not checked.is_valid:
            return status.Obstacle("InvalidSpec", checked.told, blames_spec=True)
        if (beyond := access.beyond_pod(checked.server)) and not self.allows_node_access:
            return status.Obstacle("InvalidSpec", access.refusal(beyond), blames_spec=True)
        wanted = resources.build(checked.server)
        try:
            for child in wanted:
                await self.children.apply(checked.server, child)
            await self.children.prune(checked.server, key, wanted)
        except (NameTakenError, LeftoverError, ApiError) as error:
            return obstacle_of(error)
        return None

    async def _report(
        self, key: Key, manifest: Manifest, server: KimiLinearServer | None, obstacle: status.Obstacle | None
    ) -> float | None:
        """Write the status if it changed; return after how many seconds the server is due again, if at all."""
        deployment = self.store.get(DEPLOYMENT, key)
        if deployment and not metadata.is_owned_by(deployment, manifest["metadata"]["uid"]):
            deployment = None
        view = status.View(manifest, server, obstacle, deployment, self.store.children(POD, key))
        summary = status.summarise(view, self.now())
        event = status.transition_event(manifest, summary, self.now())
        return await self.reporting.write(SERVER, manifest, summary, event)
