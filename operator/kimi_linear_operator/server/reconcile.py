"""One pass over one server."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace

from kimi_linear_operator.cluster.errors import ApiError
from kimi_linear_operator.kubernetes import access, metadata, plan
from kimi_linear_operator.kubernetes.check import Checked
from kimi_linear_operator.kubernetes.conditions import Reason, find_condition
from kimi_linear_operator.kubernetes.kinds import DEPLOYMENT, POD, REVISION, Manifest
from kimi_linear_operator.kubernetes.stored import FieldPath
from kimi_linear_operator.kubernetes.times import seconds_between
from kimi_linear_operator.kubernetes.waits import next_look
from kimi_linear_operator.reconcile.asked import Asked
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.reconcile.children import (
    BLOCKED_RETRY_SECONDS,
    CONTESTED_RETRY_SECONDS,
    BehindError,
    Failures,
    GoneError,
    LeftoverError,
    NameTakenError,
    settle,
)
from kimi_linear_operator.reconcile.reporting import TOLD_FAILURES
from kimi_linear_operator.reconcile.resource_type import Context
from kimi_linear_operator.server import revision
from kimi_linear_operator.server.definition import CHECKER
from kimi_linear_operator.server.deployment import build_pod_template, wanted_replicas
from kimi_linear_operator.server.events import disturbance_event, transition_event
from kimi_linear_operator.server.manifests import build_companions, build_deployment, build_revision
from kimi_linear_operator.server.revision import Kept, Revision, Wish
from kimi_linear_operator.server.rollouts import Rollouts
from kimi_linear_operator.server.spec import SERVER, KimiLinearServer
from kimi_linear_operator.server.status import (
    ServerObservation,
    is_rolling_out,
    server_status,
    was_applied,
    was_ever_applied,
)
from kimi_linear_operator.server.waking import Waking

# Thousands of servers that are refused for good must not keep the API server busy.
LONGEST_BLOCKED_SECONDS = 300.0

_CONFLICT = 409

# The UID of a server, the generation of its spec, and fields of that.
_Fields = tuple[str, int, tuple[FieldPath, ...]]


@dataclass(frozen=True)
class _Outcome:
    """What a pass came to before it reports.

    Attributes:
        server: The server as somebody asked for it.
        kept: The pod template that the server is to have.
        failures: What was in the way.
        contested: What others keep changing.
        is_first: Whether this is the first pass over a new server.
    """

    server: KimiLinearServer | None = None
    kept: Kept | None = None
    failures: Failures = field(default_factory=Failures)
    contested: tuple[str, ...] = ()
    is_first: bool = False


class ServerReconciler:
    """Brings servers to the state that their specs ask for."""

    def __init__(self, context: Context) -> None:
        """Take what all reconcilers work with."""
        self.cluster = context.cluster
        self.cache = context.cache
        self.children = context.children
        self.reporting = context.reporting
        self.now = context.now
        self._written = context.written
        self._postpone = context.scheduling.postpone
        self._allows_node_access = context.options.allows_node_access
        self._waking = Waking(context.cluster, context.cache, context.now)
        # Servers that are to take the newest pod template in their next pass.
        self._chosen: set[Key] = set()
        self._rollouts = Rollouts(context, self._chosen)
        self._asked = Asked(context.cluster, self._check)
        # Which fields of a spec nobody asked for, as far as that was read: once for each spec is enough.
        self._unasked: dict[Key, dict[_Fields, tuple[FieldPath, ...]]] = {}

    async def run(self, is_settled: Callable[[], bool]) -> None:
        """Roll new pod templates out to all servers, if the administrator wants that, while this replica leads.

        Args:
            is_settled: Whether everything was read that can be.
        """
        await self._rollouts.run(is_settled)

    async def reconcile(self, key: Key, failures: int) -> float | None:
        """Make one pass over a server; return after how many seconds it is due again, if at all.

        Args:
            key: Which server.
            failures: How many passes before failed in a row.

        Raises:
            ApiError: The API server could not do its part; a later pass will find out what is left to do.
        """
        manifest = self.cache.get(key.of(SERVER))
        if manifest is None or "deletionTimestamp" in manifest["metadata"]:
            self._unasked.pop(key, None)
            self._asked.forget(key)
            return None  # Its children are owned by it: the garbage collector needs no help.
        checked = self._check(manifest)
        try:
            checked = await self._asked.recheck(key, manifest, checked)
            outcome = await self._apply(key, manifest, checked)
        except GoneError:
            return None
        except ApiError as error:
            outcome = _Outcome(failures=Failures(passing=error))
        return await self._conclude(key, manifest, checked, outcome, failures)

    async def _conclude(
        self, key: Key, manifest: Manifest, checked: Checked[KimiLinearServer], outcome: _Outcome, failures: int
    ) -> float | None:
        """Report; return when the server is due again, or raise what is to be tried again by the queue's back-off."""
        not_applied, passing = outcome.failures.lasting, outcome.failures.passing
        if passing and not not_applied and failures >= TOLD_FAILURES:
            not_applied = Reason("ApplyFailed", passing.message)
        again = None
        if outcome.is_first and not not_applied and not passing and self._postpone(key):
            return None  # Other new servers get their children before this one gets its status.
        if not_applied or not passing:
            again = await self._report(key, manifest, outcome.server or checked.resource, outcome, not_applied)
        if passing:
            raise passing
        retries = [
            again,
            self._blocked_seconds(manifest, not_applied) if not_applied and checked.is_valid else None,
            CONTESTED_RETRY_SECONDS if outcome.contested else None,
            next_look(self.cache.children(POD, key), self.now()),
            None if not_applied else await self._waking.wake(key, manifest["metadata"]["uid"]),
        ]
        return min((seconds for seconds in retries if seconds is not None), default=None)

    def _blocked_seconds(self, manifest: Manifest, not_applied: Reason) -> float:
        """Return after how many seconds to try again what was refused: later and later, if the spec is to blame."""
        accepted = find_condition(manifest.get("status", {}), "Accepted")
        if not not_applied.blames_spec or accepted.get("status") != "False":
            return BLOCKED_RETRY_SECONDS
        refused = seconds_between(accepted.get("lastTransitionTime"), self.now()) or 0.0
        return min(max(BLOCKED_RETRY_SECONDS, refused / 4), LONGEST_BLOCKED_SECONDS)

    def _check(self, manifest: Manifest) -> Checked[KimiLinearServer]:
        """Check a server by its rules, and for what needs the permission of the administrator."""
        checked = CHECKER.check_stored(manifest)
        if checked.resource is None or not checked.is_valid or self._allows_node_access:
            return checked
        return checked.beside(access.problems(build_pod_template(checked.resource)))

    async def _apply(self, key: Key, manifest: Manifest, checked: Checked[KimiLinearServer]) -> _Outcome:
        """Bring all children to what is wanted."""
        server = checked.resource
        if server is None or not checked.is_valid:
            return await self._refuse(key, manifest, checked.message)
        live = self._deployment(key, server.metadata.uid)
        server, kept = await self._keep(key, server, live)
        deployment = build_deployment(server, kept.current.template, kept.current.number)
        wanted = [deployment, *build_companions(server)]
        failures = await settle(
            [
                self._settle_deployment(key, server, kept, deployment),
                *(self.children.apply(server, child) for child in wanted[1:]),
                self._prune(key, server, wanted, (kept.current.number, _number(live))),
                *([self._end_rollout(key, server)] if kept.running not in (None, kept.current) else []),
            ]
        )
        is_first = live is None and "observedGeneration" not in server.status
        return _Outcome(server, kept, failures, tuple(self.children.contested(wanted)), is_first)

    async def _refuse(self, key: Key, manifest: Manifest, reason: str) -> _Outcome:
        """Change nothing because the spec is refused, except that fewer pods run if it asks for fewer."""
        server = _readable(manifest)
        failures = await settle([self._shrink(key, server), self._end_rollout(key, server)] if server else [])
        return _Outcome(failures=replace(failures, lasting=Reason("InvalidSpec", reason, blames_spec=True)))

    async def _shrink(self, key: Key, server: KimiLinearServer) -> None:
        """Leave a server's Deployment as it is, with as few replicas as are wanted."""
        live = self._deployment(key, server.metadata.uid)
        if live and wanted_replicas(server.spec) < live["spec"].get("replicas", 1):
            await self.children.scale(live, wanted_replicas(server.spec))

    async def _end_rollout(self, key: Key, server: KimiLinearServer) -> None:
        """Take the mark from the template that runs if all replicas serve with it, whatever the spec asks for now."""
        live = self._deployment(key, server.metadata.uid)
        for record in revision.newest(self._records(key, server), _number(live)):
            found = revision.read(record)
            if found and found.is_automatic and _has_settled(live, found):
                await self.children.apply(server, build_revision(server, replace(found, is_automatic=False)))

    async def _keep(self, key: Key, server: KimiLinearServer, live: Manifest | None) -> tuple[KimiLinearServer, Kept]:
        """Return a server as somebody asked for it, and the pod template that it is to have.

        Raises:
            BehindError: A template was kept for a newer spec than the one that is seen, or there is a newer one.
            GoneError: The server was deleted.
        """
        records = self._records(key, server)
        revisions = self._read(revision.newest(records, _number(live)), server, live)
        if revision.is_behind(server, revisions):
            raise BehindError(_CONFLICT, "the latest change of the spec was not seen yet")
        wish = self._wish(key, server, live)
        server = await self._as_asked(key, server, revisions, _number(live), wish)
        deployed, applied = await self._deployed(key, server, live, revisions, wish), None
        if live and not revisions and wish.is_unchanged:
            found_live = await self.cluster.get(DEPLOYMENT, key.namespace, key.name)
            applied = revision.running_template(server, found_live) if found_live else None
        kept = revision.keep(
            server,
            revisions,
            applied=applied,
            deployed=deployed,
            used=max(map(revision.number_of, records), default=0),
            wish=wish,
        )
        if not kept.current.is_automatic:
            self._chosen.discard(key)
        elif _has_settled(live, kept.current):
            return server, kept.completed()
        return server, kept

    def _wish(self, key: Key, server: KimiLinearServer, live: Manifest | None) -> Wish:
        """Return who asks for another pod template, as far as the spec does not tell."""
        return Wish(
            is_chosen=key in self._chosen,
            is_unchanged=was_applied(server.status, server.metadata.generation),
            is_unserved=live is None and not was_ever_applied(server.status),
            is_rolling_out=is_rolling_out(server.status, server.metadata.generation),
        )

    def _records(self, key: Key, server: KimiLinearServer) -> list[Manifest]:
        """Return what was kept of a server's pod templates, without what belongs to others."""
        return [item for item in self.cache.children(REVISION, key) if plan.may_be_taken(item, server)]

    async def _deployed(
        self, key: Key, server: KimiLinearServer, live: Manifest | None, revisions: list[Revision], wish: Wish
    ) -> int:
        """Return whose template the Deployment has: read anew before one that was begun is given up as unused."""
        if not revision.gives_up(server, revisions, _number(live), wish):
            return _number(live)
        found = await self.cluster.get(DEPLOYMENT, key.namespace, key.name)
        return _number(found) if found and metadata.is_owned_by(found, server.metadata.uid) else 0

    async def _as_asked(
        self, key: Key, server: KimiLinearServer, revisions: list[Revision], deployed: int, wish: Wish
    ) -> KimiLinearServer:
        """Return a server without defaults that nobody asked for; the store does not know who set what.

        Raises:
            BehindError: The spec was changed since it was seen.
            GoneError: The server was deleted.
        """
        seen, doubt = server.metadata, revision.doubt(server, revisions, deployed, wish, self.now())
        nobodys = await self._nobodys(key, (seen.uid, seen.generation, doubt.paths), doubt.until)
        return revision.without(server, nobodys) if nobodys else server

    async def _nobodys(self, key: Key, asked: _Fields, until: str = "") -> tuple[FieldPath, ...]:
        """Return which of these fields of a server's spec nobody asked for.

        Args:
            key: Which server.
            asked: Which fields.
            until: What owners of whole lists wrote until then is known; empty if nothing is.

        Raises:
            BehindError: The spec was changed since it was seen.
            GoneError: The server was deleted.
        """
        uid, generation, paths = asked
        answers = {item: answer for item, answer in self._unasked.get(key, {}).items() if item[:2] == (uid, generation)}
        if paths and asked not in answers:
            found = await self.cluster.get(SERVER, key.namespace, key.name)
            if found is None or found["metadata"]["uid"] != uid:
                raise GoneError
            if found["metadata"]["generation"] != generation:
                raise BehindError(_CONFLICT, "the latest change of the spec was not seen yet")
            answers[asked] = revision.unasked(paths, found, until)
            self._unasked[key] = answers
        return answers.get(asked, ())

    def _read(self, records: list[Manifest], server: KimiLinearServer, live: Manifest | None) -> list[Revision]:
        """Return what records keep, without those that somebody wrote to get pods that the operator would refuse."""
        found = [item for record in records if (item := revision.read(record))]
        if not found or self._allows_node_access:
            return found
        running = [live["spec"].get("template", {})] if live else []
        known = access.reach([build_pod_template(server), *running])
        return [item for item in found if not access.exceeds(item.template, known)]

    async def _settle_deployment(self, key: Key, server: KimiLinearServer, kept: Kept, deployment: Manifest) -> None:
        """Record the pod template, then apply it; where that fails, do the rest with the template that runs.

        In this order, whichever version of the operator goes on after a crash finds the template that was begun with.
        """
        running = kept.running
        try:
            await self._record(server, kept.current)
            self._chosen.discard(key)
            await self.children.apply(server, deployment)
        except (NameTakenError, LeftoverError, ApiError):
            if running:
                number = _number(self._deployment(key, server.metadata.uid))
                with suppress(NameTakenError, LeftoverError, ApiError):
                    await self.children.apply(server, build_deployment(server, running.template, number))
            else:
                with suppress(ApiError):
                    await self._shrink(key, server)
            raise

    async def _record(self, server: KimiLinearServer, current: Revision) -> None:
        """Write the record of a pod template.

        Raises:
            BehindError: Another one was recorded under its number, of which no watch has told yet.
        """
        wanted = build_revision(server, current)
        key = Key(server.metadata.namespace, wanted["metadata"]["name"], SERVER)
        if self.cache.get(key.of(REVISION)):
            await self.children.apply(server, wanted)
            return
        found = await self.children.create(server, wanted)
        if found.get("data") != wanted["data"]:
            raise BehindError(_CONFLICT, f"pod template {current.number} was recorded by another replica")

    async def _prune(self, key: Key, server: KimiLinearServer, wanted: list[Manifest], used: tuple[int, ...]) -> None:
        """Delete what is no longer wanted, but none of the pod templates that are used."""
        records = [item for item in self.cache.children(REVISION, key) if revision.number_of(item) in used]
        await self.children.prune(server, key, self._written, [*records, *wanted])

    def _deployment(self, key: Key, uid: str) -> Manifest | None:
        """Return the server's own Deployment as it was seen last."""
        deployment = self.cache.get(key.of(DEPLOYMENT))
        return deployment if deployment and metadata.is_owned_by(deployment, uid) else None

    async def _report(
        self,
        key: Key,
        manifest: Manifest,
        server: KimiLinearServer | None,
        outcome: _Outcome,
        not_applied: Reason | None,
    ) -> float | None:
        """Write the status if it changed; return after how many seconds the server is due again, if at all."""
        deployment = self._deployment(key, manifest["metadata"]["uid"])
        observation = ServerObservation(
            manifest,
            server,
            not_applied,
            deployment=deployment,
            pods=self.cache.children(POD, key),
            kept=outcome.kept,
            contested=outcome.contested,
        )
        summary = server_status(observation, self.now())
        changes = (transition_event, disturbance_event)
        event = next((event for change in changes if (event := change(manifest, summary, self.now()))), None)
        return await self.reporting.write(SERVER, manifest, summary, event)


def _number(deployment: Manifest | None) -> int:
    return revision.number_on(deployment) if deployment else 0


def _has_settled(deployment: Manifest | None, kept: Revision) -> bool:
    """Return whether a Deployment has this pod template, and as many replicas with it as it is to have."""
    return _number(deployment) == kept.number and ServerObservation({}, None, deployment=deployment).is_settled


def _readable(manifest: Manifest) -> KimiLinearServer | None:
    """Return a stored server without the fields of its spec that cannot be read; None if its size is one of these."""
    spec = manifest.get("spec")
    is_sized = isinstance(spec, dict) and "replicas" in spec
    return CHECKER.read_stored(manifest, {"replicas", "suspend"}) if is_sized else None
