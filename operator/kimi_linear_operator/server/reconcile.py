"""The reconciler of KimiLinearServer."""

import math
from collections.abc import Callable, Collection, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from kimi_linear_operator.cluster.errors import ApiError
from kimi_linear_operator.kubernetes.check import Checked
from kimi_linear_operator.kubernetes.conditions import Reason
from kimi_linear_operator.kubernetes.kinds import (
    AUTOSCALER,
    NETWORK_POLICY,
    POD_MONITOR,
    PROMETHEUS_RULE,
    SCALED_OBJECT,
    Kind,
    Manifest,
    kind_of,
)
from kimi_linear_operator.kubernetes.metadata import is_being_deleted
from kimi_linear_operator.kubernetes.spec_check import SpecCheck
from kimi_linear_operator.kubernetes.times import soonest
from kimi_linear_operator.kubernetes.waits import next_look
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.reconcile.errors import BEHIND_RETRY_SECONDS, Failures, GoneError
from kimi_linear_operator.reconcile.recheck import Rechecker
from kimi_linear_operator.reconcile.resource_type import Context
from kimi_linear_operator.reconcile.withheld import Former, Split, split
from kimi_linear_operator.reconcile.writes import write_all, write_groups
from kimi_linear_operator.server import revision, service
from kimi_linear_operator.server.autoscaler import Limits, needs_autoscaler, seconds_until_more
from kimi_linear_operator.server.definition import CHECKER
from kimi_linear_operator.server.deploying import Deploying, revisions_in_use
from kimi_linear_operator.server.manifests import (
    CHILDREN,
    OPTIONAL_CHILDREN,
    build_companions,
    build_deployment,
    build_pod_templates,
)
from kimi_linear_operator.server.model_location import WeightsUnreadyError
from kimi_linear_operator.server.network_policy import NO_NEEDS, Needs, needs_of_others
from kimi_linear_operator.server.outcome import Outcome
from kimi_linear_operator.server.owned import (
    OTHER_AUTOSCALER,
    other_autoscaler,
    own_child,
    own_deployment,
    own_pods,
    own_router,
)
from kimi_linear_operator.server.reporting import ServerReporting
from kimi_linear_operator.server.rollouts import Rollouts, is_marked
from kimi_linear_operator.server.spec import SERVER, KimiLinearServer
from kimi_linear_operator.server.start_logs import StartLogs
from kimi_linear_operator.server.template_choice import Decision, TemplateChoice
from kimi_linear_operator.server.templates import Templates
from kimi_linear_operator.server.verification import Verified
from kimi_linear_operator.server.verifying import Verifying
from kimi_linear_operator.server.waking import Waking

# Fields that decide how many pods run. They count as requested even if nobody owns them. Otherwise the operator could
# drop them and delete serving pods.
_NUMBER_OF_PODS = ("replicas", "suspend")
_ALWAYS_READ = frozenset(CHILDREN)
# Records are first, because without them a pass does not know the pod template.
_KINDS = (*CHILDREN, *OPTIONAL_CHILDREN)


@dataclass
class _Writes:
    """The writes of a pass. A server can serve without its optional children, so their failures are separate.

    Attributes:
        needed: The writes that a server needs to match its spec.
        optional: The writes of optional children, each with the name of the child.
        last: Starts the optional writes that depend on the others, each with the name of the child.
    """

    needed: list[Coroutine[Any, Any, None]] = field(default_factory=list)
    optional: dict[str, Coroutine[Any, Any, None]] = field(default_factory=dict)
    last: dict[str, Callable[[], Coroutine[Any, Any, None]]] = field(default_factory=dict)

    async def run(self) -> tuple[Failures, tuple[tuple[str, Failures], ...]]:
        """Make all writes, and first those on which others depend.

        Returns:
            The failures of the needed writes, and of each optional write.

        Raises:
            GoneError: The server was deleted.
        """
        failures, *found = await write_groups([self.needed, *([write] for write in self.optional.values())])
        found += await write_groups([write()] for write in self.last.values())
        return failures, tuple(zip((*self.optional, *self.last), found, strict=True))


class ServerReconciler:
    """Brings servers to the state that their specs ask for."""

    def __init__(self, context: Context) -> None:
        """Keep the context that all reconcilers share."""
        self.cluster = context.cluster
        self.cache = context.cache
        self.children = context.children
        self.now = context.now
        self._postpone = context.scheduling.postpone
        self._ask = context.scheduling.ask
        allows = context.options.allows_node_access
        self._specs = SpecCheck(CHECKER, build_pod_templates, allows_node_access=allows)
        self._waking = Waking(context.cluster, context.cache, context.now)
        self._start_logs = StartLogs(context)
        self._reporting = ServerReporting(context, self._start_logs)
        self._templates = Templates(context, self._specs)
        self._deploying = Deploying(context, self._templates)
        self._rollouts = Rollouts(context)
        self._verifying = Verifying(context)
        self._rechecker = Rechecker(context.cluster, self._specs.check, kept=_NUMBER_OF_PODS)

    async def run(self, has_read_everything: Callable[[], bool], unreadable: Callable[[], Sequence[str]]) -> None:
        """Make the automatic rollout while this replica leads, if the administrator has enabled it.

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
        if manifest is None or is_being_deleted(manifest):
            self._templates.forget(key)
            self._start_logs.forget(key)
            self._rechecker.forget(key)
            self.children.forget(key)
            self._ask(key, ())
            return None  # The garbage collector deletes its children.
        checked = self._specs.check(manifest)
        try:
            await self.children.read_whole(key, _KINDS)
            checked = await self._rechecker.recheck(key, manifest, checked)
            outcome = await self._apply(key, manifest, checked)
        except GoneError:
            return BEHIND_RETRY_SECONDS
        except ApiError as error:
            outcome = Outcome(checked, failures=Failures(passing=error))
        return await self._conclude(key, manifest, outcome, failures)

    async def _conclude(self, key: Key, manifest: Manifest, outcome: Outcome, failures: int) -> float | None:
        """Write the status; return the seconds until the next pass, or raise an error that the queue retries."""
        not_applied, refused = outcome.failures.to_report(failures), outcome.refused(failures)
        again = None
        if outcome.is_first and not not_applied and not outcome.passing and self._postpone(key):
            return None  # Other new servers get their children before this status is written.
        if not_applied or not outcome.failures.passing:
            told = replace(outcome, withheld=(*outcome.withheld, *refused))
            again = await self._reporting.report(key, manifest, told, not_applied)
        if outcome.failures.passing:
            raise outcome.failures.passing
        retries = [
            again,
            *outcome.retries(manifest.get("status", {}), failures, self.now()),
            next_look(own_pods(self.cache, key), self.now()),
            self._start_logs.seconds_left(key),
            self.children.seconds_until_deletion(key),
            self._seconds_to_settle(key, manifest["metadata"]["uid"]),
            None if not_applied else await self._waking.wake(key, manifest["metadata"]["uid"]),
        ]
        if outcome.passing:
            raise outcome.passing
        return soonest(retries)

    def _seconds_to_settle(self, key: Key, uid: str) -> float | None:
        """Return the seconds until an automatic rollout may go on with the next server, None if there is no wait."""
        left = self._templates.seconds_to_settle(key, uid)
        return left if left > 0.0 and is_marked(self.cache, key) else None

    def _seconds_until_more(self, key: Key, server: KimiLinearServer, live: Manifest | None) -> float:
        """Return the seconds until the autoscaler of a server may add replicas, if the server has one."""
        if not needs_autoscaler(server):
            return 0.0
        # A new server has no Deployment yet, and so no replica that serves.
        return seconds_until_more(server.spec, live or {}, own_pods(self.cache, key), self.now())

    async def _apply(self, key: Key, manifest: Manifest, checked: Checked[KimiLinearServer]) -> Outcome:
        """Write all children of a server if its spec is valid."""
        server = checked.resource
        if server is None or not checked.is_valid:
            return await self._refuse(key, manifest, checked)
        live = own_deployment(self.cache, key, server.metadata.uid)
        self._rollouts.confirm(key)
        try:
            decision = await self._templates.decide(key, server, live, checked.left_out)
        except WeightsUnreadyError as error:
            return await self._wait(key, checked, server, error.reason)
        choice = self._verifying.judge(key, decision.server, decision.choice, live)
        return await self._deploy(key, checked, replace(decision, choice=choice), live)

    async def _deploy(
        self, key: Key, checked: Checked[KimiLinearServer], decision: Decision, live: Manifest | None
    ) -> Outcome:
        """Write all children with the chosen pod template, and go on with its verification."""
        server, choice = decision.server, decision.choice
        deployment = build_deployment(server, choice.deployed.template, choice.deployed.number)
        until_more = self._seconds_until_more(key, server, live)
        limits = Limits(may_grow=not until_more, may_sleep=choice.may_sleep)
        record = choice.router.current if choice.router else None
        companions = self._companions(key, server, choice, record, limits)
        used = revisions_in_use(choice, live)
        writes = self._writes(key, server, companions, used)
        writes.needed += [
            self._deploying.write(key, decision, deployment),
            self._verifying.open_gates(key, server.metadata.uid, choice.current),
            self._deploying.end_rollout(key, server, choice.current, used),
        ]
        failures, optional = await writes.run()
        verified, unread = await self._verify(key, server, choice.verification)
        return Outcome(
            checked,
            replace(decision, choice=replace(choice, verification=verified)),
            failures,
            unread or decision.unread,
            optional,
            contested=tuple(self.children.contested(server, [deployment, *companions.writable])),
            withheld=companions.withheld,
            awaited=companions.awaited,
            is_first=live is None and "observedGeneration" not in server.status,
            until_more=until_more,
        )

    def _writes(self, key: Key, server: KimiLinearServer, companions: Split, used: Collection[int] | None) -> _Writes:
        """Return the writes of the companions, and the deletions of children that the spec no longer asks for.

        Every pass over a valid spec needs both, even if the pass does not touch the pods. Otherwise a server that waits
        for its weights would keep an Ingress or an autoscaler that its owner has removed from the spec.

        Args:
            key: The server.
            server: The server.
            companions: Its wanted children other than the Deployment and its revisions.
            used: The numbers of the revisions in use, None if all of them may be in use.
        """
        writes = _Writes()
        for child in companions.writable:
            name = f"{child['kind']} {child['metadata']['name']}"
            if kind_of(child) in _ALWAYS_READ:
                writes.needed.append(self.children.apply(server, child))
            elif kind_of(child) == PROMETHEUS_RULE:
                writes.last[name] = partial(self._apply_alerts, key, server, child)
            else:
                writes.optional[name] = self.children.apply(server, child)
        writes.needed.append(self._deploying.prune(key, server, companions.writable, used))
        prunable = [kind for kind in OPTIONAL_CHILDREN if kind not in companions.unreadable]
        deletions = self.children.prune(server, key, prunable, companions.writable)
        writes.optional["Objects that are no longer wanted"] = deletions
        return writes

    async def _apply_alerts(self, key: Key, server: KimiLinearServer, alerts: Manifest) -> None:
        """Write the alerts of a server, but create them only if its PodMonitor exists.

        Without the PodMonitor there are no metrics, and an alert would say that a server does not serve although it
        does.
        """
        if any(own_child(self.cache, kind, key, server.metadata.uid) for kind in (POD_MONITOR, PROMETHEUS_RULE)):
            await self.children.apply(server, alerts)

    async def _verify(
        self, key: Key, server: KimiLinearServer, known: Verified | None
    ) -> tuple[Verified | None, ApiError | None]:
        """Go on with the verification. Return its new state, and an error that may end by itself."""
        try:
            return await self._verifying.proceed(key, server, known), None
        except ApiError as error:
            return known, error

    def _companions(
        self,
        key: Key,
        server: KimiLinearServer,
        choice: TemplateChoice | None,
        router_record: revision.Revision | None,
        limits: Limits,
    ) -> Split:
        """Return the wanted children other than the Deployment and its revision.

        While no pod of the router serves, requests go to the replicas. A pull of the router's image can take long.

        Raises:
            NotReadYetError: It is not known yet whether a kind that the server asks for can be read.
        """
        live = own_router(self.cache, key, server.metadata.uid)
        children = build_companions(
            server,
            leads_to=service.backend(server.spec, live, own_deployment(self.cache, key, server.metadata.uid)),
            has_router=live is not None,
            router_record=router_record,
            limits=limits,
            others=self._needs_of_others(key, server, choice),
        )
        former = self._former_autoscalers(key, server, children)
        asked = {kind_of(child) for child in children} | {OTHER_AUTOSCALER[kind] for kind in former}
        return split(children, self._ask(key, asked - _ALWAYS_READ), former)

    def _former_autoscalers(
        self, key: Key, server: KimiLinearServer, children: Sequence[Manifest]
    ) -> dict[Kind, Former]:
        """Return the server's autoscaler of another kind that still exists, by the kind of the wanted autoscaler.

        Each pass deletes it as unwanted until the cache shows that it is gone. The next pass then creates the wanted
        autoscaler.
        """
        wanted = {kind_of(child) for child in children} & {*OTHER_AUTOSCALER}
        found = {kind: other_autoscaler(self.cache, kind, key, server.metadata.uid) for kind in wanted}
        return {kind: Former(OTHER_AUTOSCALER[kind], live) for kind, live in found.items() if live}

    def _needs_of_others(self, key: Key, server: KimiLinearServer, choice: TemplateChoice | None) -> Needs:
        """Return the needs of running pods whose template is not the template of the spec, for the NetworkPolicy."""
        if server.spec.network_policy is None:
            return NO_NEEDS
        live = own_deployment(self.cache, key, server.metadata.uid)
        policy = own_child(self.cache, NETWORK_POLICY, key, server.metadata.uid)
        if choice:
            return needs_of_others(choice.running, choice.deployed, live, policy)
        deployed = revision.number_on(live)
        history = revision.history_of(revision.newest(self._templates.records(key, server), deployed), deployed)
        return needs_of_others(history.running, None, live, policy)

    async def _wait(
        self, key: Key, checked: Checked[KimiLinearServer], server: KimiLinearServer, reason: Reason
    ) -> Outcome:
        """Create no pods, because the weights are not complete. An existing Deployment can only scale down."""
        record = await self._templates.router_while_waiting(key, server)
        companions = self._companions(key, server, None, record, Limits(may_grow=False))
        writes = self._writes(key, server, companions, None)
        writes.needed += [
            self._deploying.shrink(key, server),
            self._deploying.remember(key, server),
            self._verifying.open_gates(key, server.metadata.uid),
            self._verifying.stop(key, server),
        ]
        failures, optional = await writes.run()
        return Outcome(
            checked,
            failures=replace(failures, lasting=failures.lasting or reason),
            optional=optional,
            contested=tuple(self.children.contested(server, companions.writable)),
            withheld=companions.withheld,
            awaited=companions.awaited,
            until_more=math.inf if needs_autoscaler(server) else 0.0,
            is_seen=failures == Failures(),
        )

    async def _refuse(self, key: Key, manifest: Manifest, checked: Checked[KimiLinearServer]) -> Outcome:
        """Leave a server with a refused spec as it is, with four exceptions.

        If the spec asks for fewer replicas, the Deployment is scaled down. The mark of a completed rollout is removed.
        What the operator knows about the defaults in the spec is added to the record of the pods. A suspended server
        loses its autoscaler, which would change `spec.replicas`.
        """
        server = _readable(manifest)
        writes = [self._verifying.open_gates(key, manifest["metadata"]["uid"])]
        if server:
            writes += [self._deploying.shrink(key, server), self._deploying.remember(key, server)]
        if server and server.spec.suspend:
            writes.append(self.children.prune(server, key, (AUTOSCALER, SCALED_OBJECT), ()))
        failures = await write_all(writes)
        is_seen = server is not None and failures == Failures()
        refused = Reason("InvalidSpec", checked.message, blames_spec=True)
        return Outcome(checked, failures=replace(failures, lasting=refused), is_seen=is_seen)


def _readable(manifest: Manifest) -> KimiLinearServer | None:
    """Return a stored server without unreadable fields of its spec.

    None if replicas is missing, if replicas or suspend is unreadable, or if the server is too large to be read.
    """
    spec = manifest.get("spec")
    has_replicas = isinstance(spec, dict) and "replicas" in spec
    return CHECKER.read_stored(manifest, {"replicas", "suspend"}) if has_replicas else None
