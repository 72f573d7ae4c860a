"""Finds out which pod template a server should have, from its revisions and its Deployment."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from kimi_linear_operator.cluster.errors import ApiError
from kimi_linear_operator.kubernetes import access, metadata, plan
from kimi_linear_operator.kubernetes.kinds import DEPLOYMENT, POD, REVISION, Manifest
from kimi_linear_operator.kubernetes.metadata import is_being_deleted
from kimi_linear_operator.kubernetes.spec_check import SpecCheck
from kimi_linear_operator.kubernetes.stored import FieldPath
from kimi_linear_operator.kubernetes.unrequested import Answers, UncertainFields
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.reconcile.errors import BehindError
from kimi_linear_operator.reconcile.live import read_unchanged
from kimi_linear_operator.reconcile.questions import Questions
from kimi_linear_operator.reconcile.resource_type import Context
from kimi_linear_operator.server import model_location, revision, router, router_template, settling, unrequested
from kimi_linear_operator.server.applied_template import running_template
from kimi_linear_operator.server.deployment import build_pod_template
from kimi_linear_operator.server.index import ServerFacts
from kimi_linear_operator.server.manifests import build_revision
from kimi_linear_operator.server.model_location import WeightsUnreadyError
from kimi_linear_operator.server.observation import ServerObservation, has_rolled_out
from kimi_linear_operator.server.owned import controlled_pods, own_deployment, own_pods, own_router
from kimi_linear_operator.server.previous_status import was_ever_applied, was_rolled_back
from kimi_linear_operator.server.revision import History, Revision
from kimi_linear_operator.server.router_records import RouterRecords
from kimi_linear_operator.server.sleeping import awaits_replicas
from kimi_linear_operator.server.spec import KimiLinearServer
from kimi_linear_operator.server.template_choice import (
    Decision,
    RolloutState,
    TemplateChoice,
    abandons_newest,
    as_reported,
    asks_for_newest,
    choose,
    has_lost_running,
)
from kimi_linear_operator.server.template_inputs import explicit_inputs, explicit_router_inputs
from kimi_linear_operator.weights.spec import WEIGHTS


@dataclass(frozen=True)
class _Case:
    """The input of a decision.

    Attributes:
        key: The server.
        live: Its Deployment, None if there is none.
        history: Its revisions, according to the cache.
        router: The record of its router's pod template, according to the cache; None if there is none.
        state: Everything else that affects the choice.
    """

    key: Key
    live: Manifest | None
    history: History
    router: Revision | None
    state: RolloutState


@dataclass(frozen=True)
class _Served:
    """The objects through which a server serves its clients.

    Attributes:
        deployment: Its Deployment, None if there is none.
        seconds_left: For how many more seconds its pods have to stay Ready.
        router: The Deployment of its router, None if there is none, or if it is being deleted.
    """

    deployment: Manifest | None
    seconds_left: float
    router: Manifest | None


class Templates:
    """Decides which pod template each server should have."""

    def __init__(self, context: Context, specs: SpecCheck[KimiLinearServer]) -> None:
        """Take the context that all reconcilers share, and the check of servers."""
        self._specs = specs
        self._cluster = context.cluster
        self._cache = context.cache
        self._now = context.now
        self._pause = context.options.rollout_pause or 0.0
        self._allows_node_access = context.options.allows_node_access
        self._routers = RouterRecords(context)
        self.chosen = context.about_to_change
        """Servers that take the newest pod template in their next pass."""
        self._questions = Questions(context.cluster)

    def forget(self, key: Key) -> None:
        """Forget a deleted server."""
        self._questions.forget(key)

    def records(self, key: Key, server: KimiLinearServer) -> list[Manifest]:
        """Return the cached ControllerRevisions of a server. Revisions of other owners are left out."""
        return [record for record in self._cache.children(REVISION, key) if plan.may_be_taken(record, server)]

    async def decide(
        self,
        key: Key,
        server: KimiLinearServer,
        live: Manifest | None,
        refused: Mapping[FieldPath, Any] = MappingProxyType({}),
    ) -> Decision:
        """Return the decision about a server's pods.

        Args:
            key: The key of the server.
            server: The server.
            live: Its Deployment, None if there is none.
            refused: Fields that were removed from the server, because nobody asked for them and this version refuses
                their values.

        Raises:
            BehindError: The cached spec is not the newest one.
            WeightsUnreadyError: The server needs a new pod template, and its weights have never been complete.
            GoneError: The server was deleted.
            ApiError: A request failed.
        """
        case = self._case(key, server, live)
        record = case.router if case.state.is_unchanged else await self._routers.find(key, server)
        kept = router_template.without_refused(record, refused)
        case = replace(case, history=case.history.without(refused), router=kept)
        if case.history.is_newer_than(server):
            # Either the cache is late, or etcd was restored and the records are from a time that is lost.
            await read_unchanged(self._cluster, key, server.metadata.uid, server.metadata.generation)
            known = case.history.without_generations_after(server.metadata.generation)
            case = replace(case, history=known)
        case = await self._with_applied_spec(server, self._located(server, case))
        left_out = await self._unrequested_fields(server, case)
        server, left_out, case = self._without(server, case, left_out, refused)
        history = await self._up_to_date(server, case)
        applied = await self._applied(server, case)
        choice = choose(server, history, applied=applied, state=case.state)
        choice = await self._with_router(server, case, choice)
        choice = self._with_unowned(key, server, choice, left_out)
        doubtful = {path: answer.value for path, answer in left_out.items() if answer.is_doubtful}
        choice = replace(choice, current=replace(choice.current, left_out=doubtful))
        if case.state.is_chosen and key not in self.chosen:
            raise BehindError("the automatic rollout no longer chooses this server")
        if not choice.current.is_automatic:
            self.chosen.discard(key)
            return Decision(server, choice)
        try:
            has_settled = await self.has_settled(key, server, live, choice.current, makes_router=True)
        except ApiError as error:
            # The mark stays, and the server gets everything else.
            return Decision(server, choice, error)
        return Decision(server, choice.completed() if has_settled else choice)

    def _without(
        self, server: KimiLinearServer, case: _Case, left_out: Answers, refused: Mapping[FieldPath, Any]
    ) -> tuple[KimiLinearServer, Answers, _Case]:
        """Return the server with recorded values in the fields that nobody asked for, these fields, and the case.

        If this version refuses a recorded value, the pods keep it, whatever the spec has. In the case, it does not
        count as an input. Users can edit the records. So if the check still refuses the result, every field keeps its
        value.
        """
        record, check = case.history.reference, self._specs.unless_refused
        if record is None or not (left_out or refused):
            return server, left_out, case
        found = check(server, unrequested.without(server, left_out, record, case.router))
        more = unrequested.refused_values(server, left_out, record, case.router, check) if found is server else {}
        if more:
            kept = router_template.without_refused(case.router, {**refused, **more})
            case = replace(case, history=case.history.without({**refused, **more}), router=kept)
            record = replace(record, refused={**refused, **more})
            found = check(server, unrequested.without(server, left_out, record, case.router))
        return found, {} if found is server else left_out, case

    def _with_unowned(
        self, key: Key, server: KimiLinearServer, choice: TemplateChoice, answers: Answers
    ) -> TemplateChoice:
        """Add the inputs that nobody has set, if the cache shows the owners of this spec.

        Raises:
            BehindError: There is a new record, and the cache already shows the owners of a newer spec. The record would
                not say which inputs nobody has set, so all of them would count as set for ever.
        """
        facts = self._facts_of_spec(key, server)
        if facts is None:
            if choice.has_new_record:
                raise BehindError("the spec has changed during the pass")
            return choice
        if facts.unowned is None:
            return choice
        current = unrequested.unowned_inputs(choice.current, explicit_inputs(server.spec), facts.unowned, answers)
        if choice.router is None:
            return replace(choice, current=current)
        inputs = explicit_router_inputs(server.spec)
        record = unrequested.unowned_inputs(choice.router.current, inputs, facts.unowned, answers)
        return replace(choice, current=current, router=replace(choice.router, current=record))

    def _facts_of_spec(self, key: Key, server: KimiLinearServer) -> ServerFacts | None:
        """Return the cached facts of a server, None if they are about another spec."""
        cached, about = self._cache.find(key), server.metadata
        facts = cached.facts if cached else None
        if not isinstance(facts, ServerFacts) or (facts.uid, facts.generation) != (about.uid, about.generation):
            return None
        return facts

    def _located(self, server: KimiLinearServer, case: _Case) -> _Case:
        """Add the location of the server's model, or why it is unknown."""
        name = server.spec.model.weights
        weights = self._cache.get(Key(case.key.namespace, name, WEIGHTS)) if name else None
        try:
            location = model_location.find(server.spec, weights, case.history.revisions)
        except WeightsUnreadyError as error:
            return replace(case, state=replace(case.state, unready=error.reason))
        return replace(case, state=replace(case.state, location=location))

    async def _with_applied_spec(self, server: KimiLinearServer, case: _Case) -> _Case:
        """Find out whether an autoscaler has only changed the replicas since the status was written.

        This matters if there is no record of the inputs of the replicas or of the router, or if the server went back to
        an older template. The status then counts for the spec.
        """
        generation = server.status.get("observedGeneration", 0)
        has_records = not case.history.is_record_lost and bool(case.router or server.spec.router is None)
        has_records = has_records and not was_rolled_back(server.status, generation)
        if case.state.is_unchanged or has_records or case.live is None:
            return case
        stored = await read_unchanged(self._cluster, case.key, server.metadata.uid, server.metadata.generation)
        before = unrequested.Before(self._now(), replicas=case.live.get("spec", {}).get("replicas"))
        if not unrequested.was_only_scaled(stored, before):
            return case
        state = as_reported(case.state, server.status, generation)
        return replace(case, state=replace(state, is_unchanged=False, is_only_scaled=True))

    async def has_settled(
        self,
        key: Key,
        server: KimiLinearServer,
        live: Manifest | None,
        current: Revision,
        *,
        makes_router: bool = False,
    ) -> bool:
        """Return whether the replicas and the router have served for long enough with the templates of this revision.

        Args:
            key: The key of the server.
            server: The server.
            live: Its Deployment, None if there is none.
            current: The revision.
            makes_router: Whether the pass makes the router if there is none. A spec that is not applied may ask for a
                router that does not exist.

        Raises:
            ApiError: The server's Deployments or pods could not be read.
        """
        left = settling.seconds_left(own_pods(self._cache, key), self._pause, self._now())
        cached = _Served(live, left, _staying(own_router(self._cache, key, server.metadata.uid)))
        if not self._has_served(server, current, cached, makes_router=makes_router):
            return False
        now = await self._served_now(key, server)
        is_of_revision = now.router is None or router_template.number_on(now.router) == current.number
        return is_of_revision and self._has_served(server, current, now, makes_router=makes_router)

    async def _served_now(self, key: Key, server: KimiLinearServer) -> "_Served":
        """Read from the API server the objects through which a server serves its clients.

        A watch can be dead for a minute before anybody notices it, and a removed mark never comes back.
        """
        live = await self._cluster.get(DEPLOYMENT, key.namespace, key.name)
        is_own = live is not None and metadata.is_owned_by(live, server.metadata.uid)
        left = await self._cluster.summarize(
            POD, key.namespace, metadata.selector_text(server), 0.0, self._longest_left
        )
        has_router = own_router(self._cache, key, server.metadata.uid) is not None
        router = await self._routers.deployment(key, server) if has_router else None
        return _Served(live if is_own else None, left, _staying(router))

    def _longest_left(self, longest: float, pods: Sequence[Manifest]) -> float:
        """Return for how many more seconds these and all earlier pods have to stay Ready."""
        return max(longest, settling.seconds_left(controlled_pods(pods), self._pause, self._now()))

    def _has_served(
        self, server: KimiLinearServer, current: Revision, served: "_Served", *, makes_router: bool
    ) -> bool:
        """Return whether the replicas and the router have served for long enough. See `has_settled`."""
        live, router = served.deployment, served.router
        if live is None or not has_rolled_out(live, current):
            return False
        if served.seconds_left > 0.0:
            return False
        is_empty = not ServerObservation({}, None, deployment=live).wanted
        if is_empty and awaits_replicas(server.spec, current):
            return False
        if router is None:
            return server.spec.router is None or not makes_router
        if is_empty:
            return True  # Without replicas, no pod of a router becomes Ready.
        is_complete = ServerObservation({}, None, deployment=router).is_rolled_out
        return is_complete and settling.rollout_seconds_left(router, self._pause, self._now()) <= 0.0

    def seconds_to_settle(self, key: Key, uid: str) -> float:
        """Return for how many more seconds the pods of a server must stay Ready before the next server's turn.

        Args:
            key: The server.
            uid: Its UID.
        """
        return max(self._seconds_of_replicas(key), self._seconds_of_router(key, uid))

    def _seconds_of_replicas(self, key: Key) -> float:
        if not self._pause:
            return 0.0  # Every pass calls this, and most operators have no automatic rollout.
        return settling.seconds_left(own_pods(self._cache, key), self._pause, self._now())

    def _seconds_of_router(self, key: Key, uid: str) -> float:
        deployment = own_router(self._cache, key, uid) if self._pause else None
        return settling.rollout_seconds_left(deployment, self._pause, self._now()) if deployment else 0.0

    def _case(self, key: Key, server: KimiLinearServer, live: Manifest | None) -> _Case:
        records, deployed = self.records(key, server), _number_on(live or self._cache.get(key.of(DEPLOYMENT)), server)
        history = History(
            self._allowed_revisions(revision.newest(records, deployed), server, live),
            deployed=deployed,
            taken=frozenset(map(revision.number_of, records)),
        )
        state = RolloutState(
            is_chosen=key in self.chosen,
            is_unserved=live is None and not was_ever_applied(server.status),
        )
        state = as_reported(state, server.status, server.metadata.generation)
        return _Case(key, live, history, self._routers.cached(key, server), state)

    async def router_while_waiting(self, key: Key, server: KimiLinearServer) -> Revision | None:
        """Return the record of the router's pod template while the replicas get no template, None without a router.

        A router without a record gets one. Otherwise each version of the operator would give it another template.

        Args:
            key: The key of the server.
            server: The server.

        Raises:
            BehindError: The cache already shows a newer spec, so it is unknown which inputs nobody has set.
            ApiError: The router's Deployment could not be read.
        """
        options, record = server.spec.router, await self._routers.find(key, server)
        if record or options is None:
            return record
        template = await self._routers.template(key, server, options)
        # With a lower number than that of the current revision, the router would get another template after the wait.
        history = self._case(key, server, own_deployment(self._cache, key, server.metadata.uid)).history
        number = history.reference.number if history.reference else history.lost_number
        new, facts = router_template.new_record(server, template, number), self._facts_of_spec(key, server)
        if facts is None:
            raise BehindError("the spec has changed during the pass")
        if facts.unowned is None:
            return new
        return unrequested.unowned_inputs(new, explicit_router_inputs(server.spec), facts.unowned, {})

    async def _with_router(self, server: KimiLinearServer, case: _Case, choice: TemplateChoice) -> TemplateChoice:
        """Add the pod template of the router, if the server has one.

        If an automatic rollout gives only the router a new template, the server also gets a new revision, with the same
        template of the replicas. Its mark holds the other servers back until the router serves.

        Args:
            server: The server.
            case: The input of the decision.
            choice: The pod template of the replicas.
        """
        options, state = server.spec.router, case.state
        if options is None:
            return choice
        kept, built = case.router, router.build_pod_template(server, options)
        if state.is_applied and (kept is None or kept.number != choice.current.number):
            running = await self._routers.running(case.key, server, choice.before)
            kept = replace(running, refused=kept.refused if kept else {}) if running else kept
        choice = choice.beside(kept)
        found = router_template.choose(server, built, kept, choice.current)
        if found.offer and state.is_chosen and not (choice.unknown or found.unknown):
            choice = choice.with_mark(server, case.history.next_number, metadata.hash_of(built))
            found = router_template.choose(server, built, kept, choice.current)
        return replace(choice, router=found)

    def _allowed_revisions(
        self, records: list[Manifest], server: KimiLinearServer, live: Manifest | None
    ) -> list[Revision]:
        """Return the revisions whose templates give pods no more access beyond the pod than the spec.

        Users can create revisions whose templates give more access. These revisions count only if the administrator
        allows all access. There is one exception: the revision of the running pods, if the Deployment has its whole
        template and gives the same access. The administrator allowed this access before.
        """
        revisions = revision.read_all(records)
        if not revisions or self._allows_node_access:
            return revisions
        allowed, deployed = access.reach([build_pod_template(server)]), revision.number_on(live)
        running = next((item for item in revisions if item.number == deployed), None)
        pods = live["spec"].get("template", {}) if live else None
        return [
            item for item in revisions if access.is_within(item.template, allowed, pods if item is running else None)
        ]

    async def _unrequested_fields(self, server: KimiLinearServer, case: _Case) -> Answers:
        """Return the fields of the spec that nobody asked for.

        They are defaults from the CRD of another version. If a user has perhaps asked for a field (`is_doubtful`), a
        new value of the rollout annotation counts as the request for it.
        """
        uncertain = unrequested.uncertain_fields(server, case.history, case.state, self._now(), case.router)
        answers = await self._answers(case, server, uncertain)
        takes_all = asks_for_newest(server, case.history)
        return {path: answer for path, answer in answers.items() if not (takes_all and answer.is_doubtful)}

    async def _answers(self, case: _Case, server: KimiLinearServer, uncertain: UncertainFields) -> Answers:
        """Return those of the uncertain fields that nobody asked for."""
        record = case.history.reference

        def judge(live: Manifest, answered: Mapping[FieldPath, Any]) -> Answers:
            known = {**unrequested.known_answers(uncertain, record, server), **answered}
            replicas = case.live["spec"].get("replicas") if case.live else None
            before = unrequested.Before(self._now(), known, replicas, unrequested.last_seen(record, server))
            return unrequested.unrequested(uncertain, live, before)

        return await self._questions.answer(case.key, server, uncertain, judge)

    async def unapplied(self, key: Key, server: KimiLinearServer, live: Manifest | None) -> Manifest | None:
        """Return the record of a server's pods, with what the operator knows about the defaults in an unapplied spec.

        None if there is no record, or if the record already contains this.

        Args:
            key: The key of the server.
            server: The readable part of the server.
            live: Its Deployment, None if there is none.

        Raises:
            BehindError: The cached spec is not the newest one.
            GoneError: The server was deleted.
            ApiError: A request failed.
        """
        deployed = revision.number_on(live)
        history = revision.history_of(revision.newest(self.records(key, server), deployed), deployed)
        record, case = history.reference, _Case(key, live, history, None, RolloutState())
        if record is None:
            return None
        uncertain = unrequested.uncertain_fields(server, history, case.state, self._now())
        found = unrequested.remembered(record, server, uncertain, await self._answers(case, server, uncertain))
        return None if found == record else build_revision(server, found)

    async def _up_to_date(self, server: KimiLinearServer, case: _Case) -> History:
        """Return the revisions of a server, and the revision of its Deployment.

        The cache may be late. So the Deployment is read from the API server before `choose` drops the newest revision.
        """
        if not abandons_newest(server, case.history, case.state):
            return case.history
        deployment = await self._cluster.get(DEPLOYMENT, case.key.namespace, case.key.name)
        return replace(case.history, deployed=_number_on(deployment, server))

    async def _applied(self, server: KimiLinearServer, case: _Case) -> Manifest | None:
        """Return the pod template that the operator applied to the Deployment if its record is lost, else None.

        None if somebody has changed the template. Also None if there may be a record that was left out because it gives
        more access than the spec, and the template gives more, too (`_allowed_revisions`).
        """
        is_usable = case.state.is_applied or bool(case.history.revisions)
        if not (case.live and is_usable and has_lost_running(case.history, case.state)):
            return None
        deployment = await self._cluster.get(DEPLOYMENT, case.key.namespace, case.key.name)
        built = build_pod_template(server)
        applied = running_template(built, deployment) if deployment else None
        is_allowed = self._allows_node_access or case.history.deployed not in case.history.taken
        if applied is None or is_allowed or access.is_within(applied, access.reach([built]), None):
            return applied
        return None


def _number_on(deployment: Manifest | None, server: KimiLinearServer) -> int:
    """Return the number on a Deployment that the server owns or may adopt, 0 if there is none."""
    return revision.number_on(deployment) if deployment and plan.may_be_taken(deployment, server) else 0


def _staying(router: Manifest | None) -> Manifest | None:
    """Return the Deployment of a router unless it is being deleted."""
    return router if router and not is_being_deleted(router) else None
