"""Finds out which pod template a server should have, from its revisions and its Deployment."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from kimi_linear_operator.kubernetes import access, metadata, plan
from kimi_linear_operator.kubernetes.kinds import DEPLOYMENT, REVISION, Manifest
from kimi_linear_operator.kubernetes.stored import FieldPath
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.reconcile.errors import BehindError
from kimi_linear_operator.reconcile.live import read_unchanged
from kimi_linear_operator.reconcile.resource_type import Context
from kimi_linear_operator.server import revision, unrequested
from kimi_linear_operator.server.applied_template import running_template
from kimi_linear_operator.server.deployment import build_pod_template
from kimi_linear_operator.server.revision import History, Revision
from kimi_linear_operator.server.spec import KimiLinearServer
from kimi_linear_operator.server.status import ServerObservation, is_rolling_out, was_applied, was_ever_applied
from kimi_linear_operator.server.template_choice import (
    RolloutState,
    TemplateChoice,
    abandons_newest,
    asks_for_newest,
    choose,
)

# Servers whose unrequested fields are remembered, more than a cluster should have. A forgotten one is read once more.
_MOST_ANSWERS = 16_384


@dataclass(frozen=True)
class Decision:
    """What a server should run.

    Attributes:
        server: The server without defaults that come only from another version's definition.
        choice: The pod template.
    """

    server: KimiLinearServer
    choice: TemplateChoice


@dataclass(frozen=True)
class _Question:
    """Fields of a spec that perhaps nobody asked for.

    Attributes:
        uid: The UID of the server.
        generation: The generation of the spec.
        paths: The fields.
    """

    uid: str
    generation: int
    paths: tuple[FieldPath, ...]


@dataclass(frozen=True)
class _Case:
    """What a decision starts from.

    Attributes:
        key: The server.
        live: Its Deployment, None if there is none.
        history: Its revisions, by the cache.
        state: What else decides about the template.
    """

    key: Key
    live: Manifest | None
    history: History
    state: RolloutState


class Templates:
    """Decides which pod template each server should have."""

    def __init__(self, context: Context) -> None:
        """Take the context that all reconcilers share."""
        self._cluster = context.cluster
        self._cache = context.cache
        self._now = context.now
        self._allows_node_access = context.options.allows_node_access
        self.chosen = context.about_to_change
        """Servers that take the newest pod template in their next pass."""
        # Fields that nobody asked for, the oldest entry first. To find them costs a request, so they are kept until the
        # spec changes.
        self._unrequested: OrderedDict[Key, dict[_Question, unrequested.Answers]] = OrderedDict()

    def forget(self, key: Key) -> None:
        """Forget a deleted server."""
        self._unrequested.pop(key, None)

    def records(self, key: Key, server: KimiLinearServer) -> list[Manifest]:
        """Return the cached ControllerRevisions of a server, without those that belong to others."""
        return [record for record in self._cache.children(REVISION, key) if plan.may_be_taken(record, server)]

    async def decide(self, key: Key, server: KimiLinearServer, live: Manifest | None) -> Decision:
        """Return what a server should run.

        Args:
            key: The server.
            server: The same.
            live: Its Deployment, None if there is none.

        Raises:
            BehindError: There is a newer spec than the cached one.
            GoneError: The server was deleted.
            ApiError: A request failed.
        """
        case = self._case(key, server, live)
        if case.history.is_newer_than(server):
            raise BehindError("the latest change of the spec was not seen yet")
        left_out = await self._unrequested_fields(server, case)
        server = unrequested.without(server, left_out) if left_out else server
        history = await self._up_to_date(server, case)
        applied = await self._applied(server, case)
        choice = choose(server, history, applied=applied, state=case.state)
        choice = replace(choice, left_out=tuple(filter(unrequested.is_in_list, left_out)))
        if case.state.is_chosen and key not in self.chosen:
            raise BehindError("the automatic rollout does not choose this server any more")
        if not choice.current.is_automatic:
            self.chosen.discard(key)
        elif has_rolled_out(live, choice.current):
            choice = choice.completed()
        return Decision(server, choice)

    def _case(self, key: Key, server: KimiLinearServer, live: Manifest | None) -> _Case:
        records = self.records(key, server)
        history = History(
            self._allowed_revisions(revision.newest(records, revision.number_on(live)), server, live),
            deployed=revision.number_on(live),
            used=max(map(revision.number_of, records), default=0),
        )
        state = RolloutState(
            is_chosen=key in self.chosen,
            is_unchanged=was_applied(server.status, server.metadata.generation),
            is_unserved=live is None and not was_ever_applied(server.status),
            is_rolling_out=is_rolling_out(server.status, server.metadata.generation),
        )
        return _Case(key, live, history, state)

    def _allowed_revisions(
        self, records: list[Manifest], server: KimiLinearServer, live: Manifest | None
    ) -> list[Revision]:
        """Return the revisions whose templates give no more access to nodes than the spec or the running pods.

        Somebody may have created others by hand. They count only if the administrator allows all access.
        """
        revisions = [readable for record in records if (readable := revision.read(record))]
        if not revisions or self._allows_node_access:
            return revisions
        running = [live["spec"].get("template", {})] if live else []
        allowed = access.reach([build_pod_template(server), *running])
        return [item for item in revisions if not access.exceeds(item.template, allowed)]

    async def _unrequested_fields(self, server: KimiLinearServer, case: _Case) -> Sequence[FieldPath]:
        """Return the fields of the spec that nobody asked for.

        They are defaults of another version's definition. For a field in a list, that may be uncertain, so a new value
        of the rollout annotation counts as asking for all fields in lists.
        """
        uncertain = unrequested.uncertain_fields(server, case.history, case.state, self._now())
        question = _Question(server.metadata.uid, server.metadata.generation, uncertain.paths)
        fields = await self._answers(case, question, uncertain.recorded_until)
        takes_all = asks_for_newest(server, case.history)
        return [path for path in fields if not (takes_all and unrequested.is_in_list(path))]

    async def _answers(self, case: _Case, question: _Question, recorded_until: str) -> unrequested.Answers:
        """Return which of these fields nobody asked for.

        Only managed fields show it, and the cache has none. So this reads the server.
        """
        key = case.key
        if not question.paths:
            self.forget(key)
            return {}
        spec = (question.uid, question.generation)
        earlier = {item: answer for item, answer in self._unrequested.get(key, {}).items() if item.uid == question.uid}
        answers = {item: answer for item, answer in earlier.items() if item.generation == question.generation}
        if question not in answers:
            live = await read_unchanged(self._cluster, key, *spec)
            known = {path: value for answer in earlier.values() for path, value in answer.items()}
            before = unrequested.Before(self._now(), known, case.live["spec"].get("replicas") if case.live else None)
            answers[question] = unrequested.unrequested(question.paths, live, recorded_until, before)
            self._unrequested[key] = answers
            if len(self._unrequested) > _MOST_ANSWERS:
                self._unrequested.popitem(last=False)
        return answers[question]

    async def _up_to_date(self, server: KimiLinearServer, case: _Case) -> History:
        """Return the revisions of a server, and which of them the Deployment has.

        The cache may be late. So the Deployment is read from the API server before `choose` drops the newest revision.
        """
        if not abandons_newest(server, case.history, case.state):
            return case.history
        deployment = await self._cluster.get(DEPLOYMENT, case.key.namespace, case.key.name)
        is_own = deployment is not None and metadata.is_owned_by(deployment, server.metadata.uid)
        return replace(case.history, deployed=revision.number_on(deployment if is_own else None))

    async def _applied(self, server: KimiLinearServer, case: _Case) -> Manifest | None:
        """Return the pod template that the operator applied for this spec, None without one or with revisions."""
        if not case.live or case.history.revisions or not case.state.is_unchanged:
            return None
        deployment = await self._cluster.get(DEPLOYMENT, case.key.namespace, case.key.name)
        return running_template(server, deployment) if deployment else None


def has_rolled_out(deployment: Manifest | None, current: Revision) -> bool:
    """Return whether a Deployment has this revision's pod template, and all replicas that it asks for serve with it.

    It may ask for none.
    """
    is_current = revision.number_on(deployment) == current.number
    return is_current and ServerObservation({}, None, deployment=deployment).is_rolled_out
