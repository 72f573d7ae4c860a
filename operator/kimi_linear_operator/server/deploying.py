"""Writes the Deployments of servers and the records of their pod templates."""

from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import replace

from kimi_linear_operator.cluster.errors import ApiError
from kimi_linear_operator.kubernetes import metadata
from kimi_linear_operator.kubernetes.kinds import REVISION, Manifest
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.reconcile.errors import BehindError, LeftoverError, NameTakenError
from kimi_linear_operator.reconcile.resource_type import Context
from kimi_linear_operator.server import revision
from kimi_linear_operator.server.deployment import wanted_replicas
from kimi_linear_operator.server.index import ServerIndex
from kimi_linear_operator.server.labels import AUTOMATIC_ANNOTATION
from kimi_linear_operator.server.manifests import CHILDREN, build_deployment, build_revision
from kimi_linear_operator.server.owned import own_deployment
from kimi_linear_operator.server.revision import Revision
from kimi_linear_operator.server.spec import KimiLinearServer
from kimi_linear_operator.server.template_choice import Decision, TemplateChoice
from kimi_linear_operator.server.templates import Templates


class Deploying:
    """Gives servers their chosen pod templates."""

    def __init__(self, context: Context, templates: Templates) -> None:
        """Take the context that all reconcilers share, and the choice of templates."""
        self._cache = context.cache
        self._children = context.children
        self._templates = templates

    async def write(self, key: Key, decision: Decision, deployment: Manifest) -> None:
        """Record the pod template, then apply the Deployment with it.

        If the API server refuses the Deployment, apply it with the running template. If the running template is
        unknown, only scale the Deployment down. An error that may end by itself does not show whether the API server
        has made the write. So the running template is not applied after such an error.

        The record is written first. So after a crash, any version of the operator continues with the same template.

        Args:
            key: The server.
            decision: The decision about its pods.
            deployment: The Deployment with that template.

        Raises:
            NameTakenError, LeftoverError, GoneError, ApiError: The Deployment or the record could not be written.
        """
        server, choice, running = decision.server, decision.choice, decision.choice.running
        try:
            await self._record(server, choice.current)
            if choice.is_rolled_back and choice.deployed.data is None:
                await self._record(server, choice.deployed)  # Somebody has deleted it.
            self._templates.chosen.discard(key)
            await self._children.apply(server, deployment)
        except (NameTakenError, LeftoverError, ApiError) as error:
            if not (isinstance(error, ApiError) and error.is_passing):
                await self._keep_running(key, server, running)
            raise

    async def _keep_running(self, key: Key, server: KimiLinearServer, running: Revision | None) -> None:
        """Apply the Deployment with the running template.

        If the template is unknown or refused, only scale the Deployment down.
        """
        refusals = (NameTakenError, LeftoverError, ApiError)
        if running:
            with suppress(*refusals):
                await self._children.apply(server, build_deployment(server, running.template, running.number))
                return
        with suppress(*refusals):
            await self.shrink(key, server)

    async def _record(self, server: KimiLinearServer, current: Revision) -> None:
        """Write the ControllerRevision of a pod template.

        Raises:
            BehindError: Another replica has recorded another template under this number, and the cache does not show it
                yet.
        """
        wanted = build_revision(server, current)
        if self._cached(wanted):
            await self._apply(server, current)
            return
        stored = await self._children.create(server, wanted)
        if stored.get("data") != wanted["data"]:
            raise BehindError(f"pod template {current.number} was recorded by another replica")

    async def _apply(self, server: KimiLinearServer, recorded: Revision) -> None:
        """Apply an existing ControllerRevision, and remove a mark that it should not have.

        An apply does not remove a mark that another field manager owns. For example, a tool that has restored objects
        from a backup owns all their fields.

        Raises:
            NameTakenError, LeftoverError, GoneError, ApiError: The revision could not be written.
        """
        wanted = build_revision(server, recorded)
        await self._children.apply(server, wanted)
        stored = self._cached(wanted)
        if stored and not recorded.is_automatic and AUTOMATIC_ANNOTATION in metadata.annotations(stored):
            await self._children.remove_annotation(stored, AUTOMATIC_ANNOTATION)

    def _cached(self, record: Manifest) -> Manifest | None:
        about = record["metadata"]
        return self._cache.get(Key(about["namespace"], about["name"], REVISION))

    async def prune(
        self, key: Key, server: KimiLinearServer, companions: Sequence[Manifest], used: Collection[int] | None
    ) -> None:
        """Delete children of the kinds that every server has.

        The Deployment of the replicas, the wanted companions, and the revisions in use stay.

        Args:
            key: The server.
            server: The server.
            companions: Its wanted children other than the Deployment and its revisions.
            used: The numbers of the revisions in use, None if all of them may be in use.

        Raises:
            ApiError: A child could not be deleted.
        """
        deployment = own_deployment(self._cache, key, server.metadata.uid)
        records = self._cache.children(REVISION, key)
        kept = [record for record in records if used is None or revision.number_of(record) in used]
        wanted = [*kept, *([deployment] if deployment else []), *companions]
        await self._children.prune(server, key, CHILDREN, wanted)

    async def shrink(self, key: Key, server: KimiLinearServer) -> None:
        """Scale a server's Deployment down to the wanted replicas, and change nothing else in it.

        Raises:
            ApiError: The Deployment could not be written.
        """
        live = own_deployment(self._cache, key, server.metadata.uid)
        if live and wanted_replicas(server.spec) < live["spec"].get("replicas", 1):
            await self._children.scale(live, wanted_replicas(server.spec))

    async def remember(self, key: Key, server: KimiLinearServer) -> None:
        """Record what the operator knows about the defaults in an unapplied spec, and end a rollout that is complete.

        Args:
            key: The server.
            server: Its readable part.

        Raises:
            BehindError: The cached spec is not the newest one.
            NameTakenError, LeftoverError, GoneError, ApiError: The server could not be read, or the revision could not
                be written.
        """
        live = own_deployment(self._cache, key, server.metadata.uid)
        if record := await self._templates.unapplied(key, server, live):
            await self._children.apply(server, record)
        await self.end_rollout(key, server)

    async def end_rollout(
        self, key: Key, server: KimiLinearServer, current: Revision | None = None, used: Collection[int] = ()
    ) -> None:
        """Remove the mark of an automatic rollout from older revisions.

        The running revision loses the mark if the server has served with this revision. The other revisions lose the
        mark because the current revision has a mark instead, or has already served.

        Args:
            key: The server.
            server: The server.
            current: The revision that the server should have, None if the spec is not applied.
            used: With `current`: the numbers of the revisions that stay. The pass deletes the others.

        Raises:
            NameTakenError, LeftoverError, GoneError, ApiError: The revision could not be written.
        """
        if not self._cache.index(ServerIndex).has_mark(key, server.metadata.uid, counts_failed=True):
            return
        live = own_deployment(self._cache, key, server.metadata.uid)
        deployed = revision.number_on(live)
        records = revision.newest(self._templates.records(key, server), deployed)
        for marked in revision.read_all(records):
            if not marked.is_automatic or (current and marked.number not in {*used} - {current.number}):
                continue
            is_replaced = current is not None and marked.number != deployed
            if is_replaced or await self._templates.has_settled(key, server, live, marked):
                await self._apply(server, replace(marked, is_automatic=False))


def revisions_in_use(choice: TemplateChoice, live: Manifest | None) -> Collection[int]:
    """Return the numbers of the revisions that a server's pods have or may get.

    Args:
        choice: The pod template that the server should have.
        live: Its Deployment, None if there was none at the time of the choice.
    """
    # If the cache was late, `choice.running` comes from the API server, and `live` may have an older number.
    others = [item.number for item in (choice.running, choice.verified) if item]
    return {choice.current.number, revision.number_on(live), *others}
