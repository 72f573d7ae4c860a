"""The reconciler of KimiLinearServer."""

import math
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from kimi_linear_operator import counters
from kimi_linear_operator.cluster.errors import ApiError
from kimi_linear_operator.kubernetes import access, metadata
from kimi_linear_operator.kubernetes.check import Checked
from kimi_linear_operator.kubernetes.conditions import Reason, find_condition
from kimi_linear_operator.kubernetes.kinds import (
    AUTOSCALER,
    DEPLOYMENT,
    HTTP_ROUTE,
    INGRESS,
    NETWORK_POLICY,
    POD,
    REVISION,
    SERVICE,
    Kind,
    Manifest,
    kind_of,
)
from kimi_linear_operator.kubernetes.times import seconds_between
from kimi_linear_operator.kubernetes.waits import next_look
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.reconcile.children import (
    BLOCKED_RETRY_SECONDS,
    CONTESTED_RETRY_SECONDS,
    Failures,
    write_all,
    write_groups,
)
from kimi_linear_operator.reconcile.errors import BehindError, GoneError, LeftoverError, NameTakenError
from kimi_linear_operator.reconcile.recheck import Rechecker
from kimi_linear_operator.reconcile.resource_type import Context
from kimi_linear_operator.reconcile.withheld import Split, split
from kimi_linear_operator.server import revision, router
from kimi_linear_operator.server.autoscaler import needs_autoscaler, seconds_until_more
from kimi_linear_operator.server.definition import CHECKER
from kimi_linear_operator.server.deployment import wanted_replicas
from kimi_linear_operator.server.events import contested_event, transition_event, verified_event
from kimi_linear_operator.server.exposure import LiveRoutes, is_exposed
from kimi_linear_operator.server.labels import ROUTER_SUFFIX
from kimi_linear_operator.server.manifests import (
    CHILDREN,
    OPTIONAL_CHILDREN,
    build_companions,
    build_deployment,
    build_pod_templates,
    build_revision,
)
from kimi_linear_operator.server.model_location import WeightsUnreadyError
from kimi_linear_operator.server.network_policy import NO_NEEDS, Needs, needs_of_others
from kimi_linear_operator.server.revision import Revision
from kimi_linear_operator.server.rollouts import Rollouts, is_marked
from kimi_linear_operator.server.spec import SERVER, KimiLinearServer
from kimi_linear_operator.server.start_logs import StartLogs
from kimi_linear_operator.server.startup import newest_pod, seconds_to_serve, seconds_until_late
from kimi_linear_operator.server.status import AWAITED_WEIGHTS, ServerObservation, server_status, was_applied
from kimi_linear_operator.server.template_choice import TemplateChoice
from kimi_linear_operator.server.templates import Decision, Templates
from kimi_linear_operator.server.verification import Verified
from kimi_linear_operator.server.verifying import Verifying
from kimi_linear_operator.server.waking import Waking

# Longest time between two attempts to write children that cannot be written because of the spec. Thousands of such
# servers must not keep the API server busy.
LONGEST_BLOCKED_SECONDS = 300.0
# Fields that decide how many pods there are. Without them, the operator would delete pods that serve.
_NUMBER_OF_PODS = ("replicas", "suspend")
_ALWAYS_READ = frozenset(CHILDREN)


@dataclass(frozen=True)
class _Outcome:
    """The result of a pass, before its status is written.

    Attributes:
        checked: The check of the server.
        decision: What the server should run, None if the pass has not decided it.
        failures: Why children could not be written.
        optional: Optional children, as text, and why they could not be written.
        contested: Sentences about fields of its children that others keep changing.
        withheld: Why some optional children are not there.
        is_first: Whether this is the first pass over a new server.
        until_more: In how many seconds the autoscaler may add replicas.
    """

    checked: Checked[KimiLinearServer]
    decision: Decision | None = None
    failures: Failures = field(default_factory=Failures)
    optional: tuple[tuple[str, Failures], ...] = ()
    contested: tuple[str, ...] = ()
    withheld: tuple[Reason, ...] = ()
    is_first: bool = False
    until_more: float = 0.0

    @property
    def server(self) -> KimiLinearServer | None:
        """Return the server as it should run, or as it is stored; None if it cannot be read."""
        return self.decision.server if self.decision else self.checked.resource

    @property
    def passing(self) -> ApiError | None:
        """Return an error that may pass by itself, None if there was none."""
        return self.failures.passing or next((found.passing for _, found in self.optional if found.passing), None)

    def refused(self, failures: int) -> tuple[Reason, ...]:
        """Return why optional children could not be written.

        Args:
            failures: How many passes before this one failed in a row.
        """
        told = ((child, found.to_report(failures)) for child, found in self.optional)
        return tuple(Reason(reason.name, _about(child, reason.message)) for child, reason in told if reason)


@dataclass
class _Writes:
    """The writes of a pass. A server serves without its optional children, so their failures are apart.

    Attributes:
        needed: Those that a server needs to be as its spec asks.
        optional: Those of optional children, each by what it writes, as text.
    """

    needed: list[Coroutine[Any, Any, None]] = field(default_factory=list)
    optional: dict[str, Coroutine[Any, Any, None]] = field(default_factory=dict)

    async def run(self) -> tuple[Failures, tuple[tuple[str, Failures], ...]]:
        """Make all writes at the same time; return what failed of the needed ones, and of each optional one.

        Raises:
            GoneError: The server was deleted.
        """
        failures, *found = await write_groups([self.needed, *([write] for write in self.optional.values())])
        return failures, tuple(zip(self.optional, found, strict=True))


class ServerReconciler:
    """Brings servers to the state that their specs ask for."""

    def __init__(self, context: Context) -> None:
        """Keep the context that all reconcilers share."""
        self.cluster = context.cluster
        self.cache = context.cache
        self.children = context.children
        self.reporting = context.reporting
        self.now = context.now
        self._postpone = context.scheduling.postpone
        self._ask = context.scheduling.ask
        self._allows_node_access = context.options.allows_node_access
        self._waking = Waking(context.cluster, context.cache, context.now)
        self._start_logs = StartLogs(context)
        self._templates = Templates(context)
        self._rollouts = Rollouts(context)
        self._verifying = Verifying(context)
        self._rechecker = Rechecker(context.cluster, self._check, kept=_NUMBER_OF_PODS)

    async def run(self, has_read_everything: Callable[[], bool], unreadable: Callable[[], Sequence[str]]) -> None:
        """Roll out new pod templates to all servers while this replica leads, if the administrator has enabled that.

        Args:
            has_read_everything: Returns whether everything that can be read was read.
            unreadable: Returns what cannot be read, as text for people.
        """
        await self._rollouts.run(has_read_everything, unreadable)

    async def reconcile(self, key: Key, failures: int) -> float | None:
        """Make one pass over a server.

        Args:
            key: The server.
            failures: How many passes before this one failed in a row.

        Returns:
            Requeue after this many seconds; None if only an event makes another pass necessary.

        Raises:
            ApiError: A request failed that may succeed later. The queue retries with back-off.
            NotReadYetError: It is not known yet whether a kind that the server asks for can be read.
        """
        manifest = self.cache.get(key.of(SERVER))
        if manifest is None or "deletionTimestamp" in manifest["metadata"]:
            self._templates.forget(key)
            self._start_logs.forget(key)
            self._rechecker.forget(key)
            self.children.forget(key)
            self._ask(key, ())
            return None  # The garbage collector deletes its children.
        checked = self._check(manifest)
        try:
            checked = await self._rechecker.recheck(key, manifest, checked)
            outcome = await self._apply(key, manifest, checked)
        except GoneError:
            return None
        except ApiError as error:
            outcome = _Outcome(checked, failures=Failures(passing=error))
        return await self._conclude(key, manifest, outcome, failures)

    async def _conclude(self, key: Key, manifest: Manifest, outcome: _Outcome, failures: int) -> float | None:
        """Write the status; return the seconds until the next pass, or raise an error that the queue retries."""
        not_applied, refused = outcome.failures.to_report(failures), outcome.refused(failures)
        again = None
        if outcome.is_first and not not_applied and not outcome.passing and self._postpone(key):
            return None  # Other new servers get their children before this one's status is written.
        if not_applied or not outcome.failures.passing:
            told = replace(outcome, withheld=(*outcome.withheld, *refused))
            again = await self._report(key, manifest, told, not_applied)
        if outcome.failures.passing:
            raise outcome.failures.passing
        retries = [
            again,
            self._blocked_seconds(manifest, not_applied) if not_applied and _is_blocked(not_applied, outcome) else None,
            _growing_seconds(find_condition(manifest.get("status", {}), "Synced"), self.now()) if refused else None,
            CONTESTED_RETRY_SECONDS if outcome.contested else None,
            next_look(self.cache.children(POD, key), self.now()),
            self._start_logs.seconds_left(key),
            self._seconds_to_settle(key),
            _seconds_to_verify(outcome),
            _finite(outcome.until_more),
            None if not_applied else await self._waking.wake(key, manifest["metadata"]["uid"]),
        ]
        if outcome.passing:
            raise outcome.passing
        return min((seconds for seconds in retries if seconds is not None), default=None)

    def _seconds_to_settle(self, key: Key) -> float | None:
        """Return in how many seconds an automatic rollout may go on with the next server; None if it need not wait."""
        left = self._templates.seconds_to_settle(key)
        return left if left > 0.0 and is_marked(self.cache, key) else None

    def _seconds_until_more(self, key: Key, server: KimiLinearServer, live: Manifest | None) -> float:
        """Return in how many seconds the autoscaler of a server may add replicas, if it has one."""
        if not needs_autoscaler(server):
            return 0.0
        return seconds_until_more(server.spec, live, self.cache.children(POD, key), self.now())

    def _blocked_seconds(self, manifest: Manifest, not_applied: Reason) -> float:
        """Return in how many seconds to retry children that could not be written.

        The time is BLOCKED_RETRY_SECONDS. If the spec is to blame, it grows while Accepted is False.
        """
        accepted = find_condition(manifest.get("status", {}), "Accepted")
        return _growing_seconds(accepted, self.now()) if not_applied.blames_spec else BLOCKED_RETRY_SECONDS

    def _check(self, manifest: Manifest) -> Checked[KimiLinearServer]:
        """Check a server by its rules, and refuse access of its pods to nodes unless the administrator allows it."""
        checked = CHECKER.check_stored(manifest)
        return checked if self._allows_node_access else access.refuse_access(checked, build_pod_templates)

    async def _apply(self, key: Key, manifest: Manifest, checked: Checked[KimiLinearServer]) -> _Outcome:
        """Write all children of a server if its spec is valid."""
        server = checked.resource
        if server is None or not checked.is_valid:
            return await self._refuse(key, manifest, checked)
        live = self._deployment(key, server.metadata.uid)
        self._rollouts.confirm(key)
        try:
            decision = await self._templates.decide(key, server, live, checked.left_out)
        except WeightsUnreadyError as error:
            return await self._wait(key, server, checked, error.reason)
        server = decision.server
        choice = self._verifying.judge(key, server, decision.choice, live)
        decision = replace(decision, choice=choice)
        deployment = build_deployment(server, choice.deployed.template, choice.deployed.number)
        until_more = self._seconds_until_more(key, server, live)
        companions = self._companions(key, server, choice, may_grow=not until_more)
        wanted = [deployment, *companions.writable]
        # The cache may be late, and the running template was read from the API server then.
        others = [item.number for item in (choice.running, choice.verified) if item]
        used = (choice.current.number, revision.number_on(live), *others)
        writes = self._writes(server, companions.writable)
        writes.needed += [
            self._write_deployment(key, decision, deployment),
            self._prune(key, server, wanted, used),
            self._verifying.open_gates(key, server.metadata.uid, choice.current),
            *([self._end_rollout(key, server)] if choice.running not in (None, choice.current) else []),
        ]
        writes.optional["Objects that are not wanted any more"] = self.children.prune(
            server, key, OPTIONAL_CHILDREN, wanted
        )
        failures, optional = await writes.run()
        verified, passing = await self._verify(key, server, choice.verification)
        failures = replace(failures, passing=failures.passing or passing)
        decision = replace(decision, choice=replace(choice, verification=verified))
        is_first = live is None and "observedGeneration" not in server.status
        contested = tuple(self.children.contested(server, wanted))
        return _Outcome(checked, decision, failures, optional, contested, companions.withheld, is_first, until_more)

    def _writes(self, server: KimiLinearServer, companions: list[Manifest]) -> "_Writes":
        writes = _Writes()
        for child in companions:
            if kind_of(child) in _ALWAYS_READ:
                writes.needed.append(self.children.apply(server, child))
            else:
                name = f"{child['kind']} {child['metadata']['name']}"
                writes.optional[name] = self.children.apply(server, child)
        return writes

    async def _verify(
        self, key: Key, server: KimiLinearServer, known: Verified | None
    ) -> tuple[Verified | None, ApiError | None]:
        """Go on with the verification; return what is known then, and an error that may pass."""
        try:
            return await self._verifying.proceed(key, server, known), None
        except ApiError as error:
            return known, error

    def _companions(
        self, key: Key, server: KimiLinearServer, choice: TemplateChoice | None, *, may_grow: bool
    ) -> Split:
        """Return the wanted children beside the Deployment and its revision.

        Requests go to the replicas until a router serves, and again when none does: its image may take long.

        Raises:
            NotReadYetError: It is not known yet whether a kind that the server asks for can be read.
        """
        is_routed = server.spec.router is not None and router.is_available(self._router(key, server.metadata.uid))
        others = self._needs_of_others(key, server, choice)
        children = build_companions(server, is_routed=is_routed, may_grow=may_grow, others=others)
        return split(children, self._ask(key, {kind_of(child) for child in children} - _ALWAYS_READ))

    def _needs_of_others(self, key: Key, server: KimiLinearServer, choice: TemplateChoice | None) -> Needs:
        """Return what pods need from the NetworkPolicy that run with other templates than that of the spec."""
        if server.spec.network_policy is None:
            return NO_NEEDS
        live = self._deployment(key, server.metadata.uid)
        policy = self._own(key, NETWORK_POLICY, server.metadata.uid)
        if choice:
            return needs_of_others(choice.running, choice.deployed, live, policy)
        history = revision.history_of(
            revision.newest(self._templates.records(key, server), revision.number_on(live)), revision.number_on(live)
        )
        return needs_of_others(history.running, None, live, policy)

    async def _wait(
        self, key: Key, server: KimiLinearServer, checked: Checked[KimiLinearServer], reason: Reason
    ) -> _Outcome:
        """Make no pods, because the weights are not complete. A Deployment that exists may only scale down."""
        companions = self._companions(key, server, None, may_grow=False)
        writes = self._writes(server, companions.writable)
        writes.needed += [
            self._shrink(key, server),
            self._end_rollout(key, server),
            self._verifying.open_gates(key, server.metadata.uid),
        ]
        failures, optional = await writes.run()
        failures = replace(failures, lasting=failures.lasting or reason)
        return _Outcome(checked, failures=failures, optional=optional, withheld=companions.withheld)

    async def _refuse(self, key: Key, manifest: Manifest, checked: Checked[KimiLinearServer]) -> _Outcome:
        """Leave a server as it is because its spec is refused, with two exceptions.

        Its Deployment is scaled down if the spec asks for fewer replicas, and a completed rollout is unmarked.
        """
        server = _readable(manifest)
        writes = [self._verifying.open_gates(key, manifest["metadata"]["uid"])]
        if server:
            writes += [self._shrink(key, server), self._end_rollout(key, server)]
        failures = await write_all(writes)
        refused = Reason("InvalidSpec", checked.message, blames_spec=True)
        return _Outcome(checked, failures=replace(failures, lasting=refused))

    async def _shrink(self, key: Key, server: KimiLinearServer) -> None:
        """Scale a server's Deployment down to the wanted replicas, and change nothing else in it."""
        live = self._deployment(key, server.metadata.uid)
        if live and wanted_replicas(server.spec) < live["spec"].get("replicas", 1):
            await self.children.scale(live, wanted_replicas(server.spec))

    async def _end_rollout(self, key: Key, server: KimiLinearServer) -> None:
        """Remove the mark of an automatic rollout from the running revision if all replicas have served with it.

        This looks at the running revision only: the spec may ask for another one by now.
        """
        live = self._deployment(key, server.metadata.uid)
        for record in revision.newest(self._templates.records(key, server), revision.number_on(live)):
            marked = revision.read(record)
            if marked and marked.is_automatic and self._templates.has_settled(key, live, marked):
                await self.children.apply(server, build_revision(server, replace(marked, is_automatic=False)))

    async def _write_deployment(self, key: Key, decision: Decision, deployment: Manifest) -> None:
        """Record the pod template, then apply the Deployment with it.

        If the API server refuses that, apply it with the running template, or, if none is known, only scale it down.
        After an error that may pass, the write may have been committed, so the old template must not follow it.

        The record comes first, so that after a crash any version of the operator continues with the same template.
        """
        server, running = decision.server, decision.choice.running
        try:
            await self._record(server, decision.choice.current)
            self._templates.chosen.discard(key)
            await self.children.apply(server, deployment)
        except (NameTakenError, LeftoverError, ApiError) as error:
            if not (isinstance(error, ApiError) and error.is_passing):
                await self._keep_running(key, server, running)
            raise

    async def _keep_running(self, key: Key, server: KimiLinearServer, running: Revision | None) -> None:
        """Apply the Deployment with the running template. If none is known or that is refused, only scale it down."""
        refusals = (NameTakenError, LeftoverError, ApiError)
        if running:
            with suppress(*refusals):
                await self.children.apply(server, build_deployment(server, running.template, running.number))
                return
        with suppress(*refusals):
            await self._shrink(key, server)

    async def _record(self, server: KimiLinearServer, current: Revision) -> None:
        """Write the ControllerRevision of a pod template.

        Raises:
            BehindError: Another replica has recorded another template under this number, and the cache does not show it
                yet.
        """
        wanted = build_revision(server, current)
        key = Key(server.metadata.namespace, wanted["metadata"]["name"], SERVER)
        if self.cache.get(key.of(REVISION)):
            await self.children.apply(server, wanted)
            return
        stored = await self.children.create(server, wanted)
        if stored.get("data") != wanted["data"]:
            raise BehindError(f"pod template {current.number} was recorded by another replica")

    async def _prune(self, key: Key, server: KimiLinearServer, wanted: list[Manifest], used: tuple[int, ...]) -> None:
        """Delete children of the kinds that every server has, except those wanted and the revisions in use."""
        records = [record for record in self.cache.children(REVISION, key) if revision.number_of(record) in used]
        await self.children.prune(server, key, CHILDREN, [*records, *wanted])

    def _deployment(self, key: Key, uid: str) -> Manifest | None:
        """Return the server's own Deployment from the cache."""
        return self._own(key, DEPLOYMENT, uid)

    def _own(self, key: Key, kind: Kind, uid: str) -> Manifest | None:
        """Return the server's own child that is named like the server."""
        child = self.cache.get(key.of(kind))
        return child if child and metadata.is_owned_by(child, uid) else None

    def _router(self, key: Key, uid: str) -> Manifest | None:
        """Return the Deployment of the server's router from the cache."""
        return self._deployment(key._replace(name=key.name + ROUTER_SUFFIX), uid)

    def _routes(self, key: Key, server: KimiLinearServer | None) -> LiveRoutes:
        """Return the server's own objects that lead to it from outside the cluster, empty if it asks for none."""
        if server is None or not is_exposed(server):
            return {}
        found = ((kind, self.cache.get(key.of(kind))) for kind in (SERVICE, INGRESS, HTTP_ROUTE))
        uid = server.metadata.uid
        return {kind: live for kind, live in found if live and metadata.is_owned_by(live, uid)}

    async def _report(
        self, key: Key, manifest: Manifest, outcome: _Outcome, not_applied: Reason | None
    ) -> float | None:
        """Write the status if it changed; return the seconds until the next pass, None if none is due."""
        deployment = self._deployment(key, manifest["metadata"]["uid"])
        pods = self.cache.children(POD, key)
        observation = ServerObservation(
            manifest,
            outcome.server,
            not_applied,
            deployment=deployment,
            pods=pods,
            choice=outcome.decision.choice if outcome.decision else None,
            autoscaler=self._own(key, AUTOSCALER, manifest["metadata"]["uid"]) if _is_autoscaled(outcome) else None,
            may_grow=not outcome.until_more,
            contested=outcome.contested,
            router=self._router(key, manifest["metadata"]["uid"]) if _has_router(outcome.server) else None,
            logged=self._start_logs.follow(key, newest_pod(pods)),
            withheld=outcome.withheld,
            routes=self._routes(key, outcome.server),
        )
        status = server_status(observation, self.now())
        builders = (verified_event, transition_event, contested_event)
        event = next((event for build in builders if (event := build(manifest, status, self.now()))), None)
        # The time of this status says later which fields of the spec were there already: see `unrequested.py`.
        is_applied = was_applied(status, observation.generation)
        again = await self.reporting.write(SERVER, manifest, status, event, if_unchanged=is_applied)
        self._count_start(key, manifest, status)
        late = seconds_until_late(status.get("startup"), observation.startup_seconds, self.now())
        return min((seconds for seconds in (again, late) if seconds is not None), default=None)

    def _count_start(self, key: Key, manifest: Manifest, status: Manifest) -> None:
        """Count a start that has just become complete, once its status is written."""
        seconds = seconds_to_serve(manifest.get("status", {}).get("startup"), status.get("startup"))
        written = self.cache.get(key.of(SERVER)) or {}
        if seconds is not None and written.get("status") == status:
            counters.SECONDS_TO_SERVE.observe(seconds)


def _about(child: str, message: str) -> str:
    return message if child in message else f"{child}: {message}"


def _has_router(server: KimiLinearServer | None) -> bool:
    return server is not None and server.spec.router is not None


def _is_blocked(not_applied: Reason, outcome: _Outcome) -> bool:
    """Return whether to retry children that could not be written.

    Weights need no retry: an event reports when they are complete.
    """
    return outcome.checked.is_valid and not_applied.name not in AWAITED_WEIGHTS


def _growing_seconds(condition: Manifest, now: str) -> float:
    """Return in how many seconds to retry what the API server refuses.

    The time grows from BLOCKED_RETRY_SECONDS to a quarter of the time since a condition became False, up to
    LONGEST_BLOCKED_SECONDS.

    Args:
        condition: The condition, as the previous pass wrote it.
        now: The time as RFC 3339.
    """
    if condition.get("status") != "False":
        return BLOCKED_RETRY_SECONDS
    refused = seconds_between(condition.get("lastTransitionTime"), now) or 0.0
    return min(max(BLOCKED_RETRY_SECONDS, refused / 4), LONGEST_BLOCKED_SECONDS)


def _finite(seconds: float) -> float | None:
    """Return in how many seconds to look again.

    None if there is nothing to wait for, or if an event will report the end.
    """
    return seconds if 0.0 < seconds < math.inf else None


def _is_autoscaled(outcome: _Outcome) -> bool:
    return bool(outcome.server and outcome.server.spec.autoscaling)


def _seconds_to_verify(outcome: _Outcome) -> float | None:
    """Return in how many seconds to verify once more, None if that is not necessary."""
    known = outcome.decision.choice.verification if outcome.decision else None
    return known.again if known else None


def _readable(manifest: Manifest) -> KimiLinearServer | None:
    """Return a stored server without unreadable fields of its spec.

    None if replicas is missing, if replicas or suspend is unreadable, or if the server is too large to be read.
    """
    spec = manifest.get("spec")
    has_replicas = isinstance(spec, dict) and "replicas" in spec
    return CHECKER.read_stored(manifest, {"replicas", "suspend"}) if has_replicas else None
