"""The choice of a server's pod template: the template of a revision, or a new template."""

from dataclasses import dataclass, replace

from kimi_linear_operator.cluster.errors import ApiError
from kimi_linear_operator.kubernetes.conditions import Reason
from kimi_linear_operator.kubernetes.drift import all_differences
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.stored import FieldPath
from kimi_linear_operator.server.deployment import build_pod_template
from kimi_linear_operator.server.model_location import WeightsUnreadyError
from kimi_linear_operator.server.previous_status import is_rolling_out, was_applied, was_rolled_back
from kimi_linear_operator.server.revision import History, Result, Revision, has_new_annotation, is_of, rollout_of
from kimi_linear_operator.server.router_template import RouterChoice
from kimi_linear_operator.server.sleeping import is_asleep
from kimi_linear_operator.server.spec import KimiLinearServer
from kimi_linear_operator.server.template_inputs import (
    as_this_version_reads,
    explicit_inputs,
    missing_fields,
    template_inputs,
    unknown_fields,
)
from kimi_linear_operator.server.verification import Verified
from kimi_linear_operator.weights.location import Location

# The message of a result whose record is lost.
_LOST_RESULT = "somebody has deleted the record of this result"


@dataclass(frozen=True)
class TemplateChoice:
    """The pod template that a server should have.

    Attributes:
        current: The revision with this template.
        offer: The fields in which the template on offer differs from the current one; empty if there is no offer.
        running: The revision whose template the Deployment has now, None if unknown.
        unready: Why the operator does not know whether there is a newer template: the weights have never been complete.
            None if the operator knows.
        unknown: The inputs of the current template that this version does not know or refuses. The template on offer
            lacks these inputs, so an automatic rollout does not take it.
        verification: What the operator knows about the answers with the current template. None if the template is not
            verified.
        verified: The last older revision with right answers, None if there is none. Pods may still have its template.
        goes_back: Whether the server goes back to `verified` when the answers with the current template are wrong.
        router: The pod template of the router, None if the server has no router.
        is_remade: Whether the current template gets a record only because its record was lost. Nobody asked for another
            template, so the router keeps its template.
    """

    current: Revision
    offer: tuple[str, ...] = ()
    running: Revision | None = None
    unready: Reason | None = None
    unknown: tuple[FieldPath, ...] = ()
    verification: Verified | None = None
    verified: Revision | None = None
    goes_back: bool = False
    router: RouterChoice | None = None
    is_remade: bool = False

    @property
    def offers(self) -> tuple[str, ...]:
        """Return the fields in which the templates on offer, also that of the router, differ from the current ones."""
        of_router = self.router.offer if self.router else ()
        return (*self.offer, *(f"{name} of the router" for name in of_router))

    @property
    def unknown_inputs(self) -> tuple[FieldPath, ...]:
        """Return the inputs of the current templates, also of the router's, that this version does not know."""
        return (*self.unknown, *(self.router.unknown if self.router else ()))

    @property
    def has_new_record(self) -> bool:
        """Return whether the template of the replicas, or that of the router, is not recorded yet."""
        return self.current.data is None or (self.router is not None and self.router.current.data is None)

    @property
    def deployed(self) -> Revision:
        """Return the revision whose template the Deployment should have: the current one, unless it was rolled back."""
        return self.verified if self.verified and self.goes_back and self.current.has_failed else self.current

    @property
    def is_rolled_back(self) -> bool:
        """Return whether the server went back to an older pod template because the answers were wrong."""
        return self.deployed is not self.current

    @property
    def before(self) -> Revision:
        """Return the revision that the server has had until now. A router without a record belongs to it."""
        return self.current if self.is_rolled_back else self.running or self.current

    @property
    def left_out(self) -> tuple[FieldPath, ...]:
        """Return the fields that the template ignores because they may be only defaults."""
        return tuple(self.current.left_out)

    @property
    def may_sleep(self) -> bool:
        """Return whether KEDA may remove the last replica.

        During an automatic rollout, this replica shows whether the template works.
        """
        return not self.current.is_automatic or self.current.was_asleep or self.is_rolled_back

    def completed(self) -> "TemplateChoice":
        """Return the choice without the mark of an automatic rollout, because the rollout has ended."""
        return replace(self, current=replace(self.current, is_automatic=False))

    def with_mark(self, server: KimiLinearServer, number: int, router_hash: str) -> "TemplateChoice":
        """Return the choice for an automatic rollout of only the router: the same template in a new, marked revision.

        The revision keeps the result of its verification, because the replicas stay as they are.

        Args:
            server: The server.
            number: The number of the new revision.
            router_hash: The hash of the router's new template.
        """
        copy = replace(self.current, number=number, created="", router_hash=router_hash, router_number=0)
        return replace(self, current=_marked(server, copy, self.current))

    def beside(self, router: Revision | None) -> "TemplateChoice":
        """Return the choice for a server with this record of its router. A record that is made again names its number.

        So the router keeps its template even if the operator stops before it has written the router.
        """
        if router is None or not self.is_remade:
            return self
        number = min(router.number, self.current.number)
        return replace(self, current=replace(self.current, router_number=number))


@dataclass(frozen=True)
class Decision:
    """What a server should run.

    Attributes:
        server: The server, without the defaults that come only from another version's definition.
        choice: The pod template.
        unread: Why the API server did not show whether the automatic rollout is complete, None if it showed this, or if
            the operator did not ask.
    """

    server: KimiLinearServer
    choice: TemplateChoice
    unread: ApiError | None = None


@dataclass(frozen=True)
class RolloutState:
    """Everything that affects the choice of a server's template, except its spec and its revisions.

    Attributes:
        is_chosen: Whether the automatic rollout has now chosen this server for the newest template.
        is_unchanged: Whether this generation of the spec was applied before. If so, nobody has asked for other inputs
            since then, even if the CRD of another version has added other defaults to the spec.
        is_only_scaled: Whether the previous generation was applied, and only its replicas have changed since then, as
            far as the operator can tell. This counts only where there is no record with which to compare the spec.
        is_unserved: Whether the server has never had a Deployment.
        is_rolling_out: Whether the status says that the newest template is in an automatic rollout, or failed in one.
            The status is about this generation, or the previous one if `is_only_scaled`.
        is_rolled_back: Whether this status says that the pods went back to an older template.
        location: Where the server's model is, None if it comes from the hub or from a folder.
        unready: Why the location of the server's model is unknown, None if it is known. Without a location, no template
            can be built.
    """

    is_chosen: bool = False
    is_unchanged: bool = False
    is_only_scaled: bool = False
    is_unserved: bool = False
    is_rolling_out: bool = False
    is_rolled_back: bool = False
    location: Location | None = None
    unready: Reason | None = None

    @property
    def is_applied(self) -> bool:
        """Return whether the running pods were built from this spec, as far as the status shows it."""
        return self.is_unchanged or self.is_only_scaled


NO_ROLLOUT = RolloutState()


def as_reported(state: RolloutState, status: Manifest, generation: int) -> RolloutState:
    """Return the state with what a status says about a generation of the spec."""
    return replace(
        state,
        is_unchanged=was_applied(status, generation),
        is_rolling_out=is_rolling_out(status, generation),
        is_rolled_back=was_rolled_back(status, generation),
    )


def choose(
    server: KimiLinearServer, history: History, *, applied: Manifest | None = None, state: RolloutState = NO_ROLLOUT
) -> TemplateChoice:
    """Return the pod template that a server should have, and the template to go back to.

    Args:
        server: The server, without defaults that nobody asked for.
        history: Its revisions.
        applied: If the record of the running pods is lost (`has_lost_running`): the pod template that the operator
            applied to the Deployment, None if it is unknown.
        state: The other state that affects the choice.

    Raises:
        WeightsUnreadyError: The server needs a new template, but the location of its model is unknown.
    """
    recorded = history.revisions
    if applied is not None:
        history = _with_running(server, history, applied, state)
    history = _with_failed(server, history, state)
    choice = _chosen(server, history, state)
    if choice.current in history.revisions and choice.current not in recorded:
        choice = replace(choice, is_remade=True)
    if choice.current.was_asleep and not is_asleep(server.spec):
        choice = replace(choice, current=replace(choice.current, was_asleep=False))
    older = [item for item in history.revisions if item.has_passed and item.number < choice.current.number]
    verified = max(older, key=lambda item: item.number, default=None)
    return replace(choice, verified=verified, goes_back=_goes_back(server, history, verified, state))


def _chosen(server: KimiLinearServer, history: History, state: RolloutState) -> TemplateChoice:
    """Return the pod template that a server should have."""
    # If the record of an automatic rollout is lost, the new one must be marked, too.
    is_automatic = state.is_rolling_out and history.is_record_lost
    built, running = _built(server, state), history.running
    current = _revision_to_continue(server, history, built, state)
    if current is None or has_new_annotation(server, current):
        new = _new(server, _known(built, state), history, is_automatic=is_automatic)
        new = _still_marked(new, current or history.newest)
        return TemplateChoice(new, running=running, is_remade=current is None and state.is_applied)
    if not state.is_unchanged and has_other_inputs(server, current):
        new = _new(server, _known(built, state), history)
        return TemplateChoice(_still_marked(new, current), running=running)
    if built is None:
        return TemplateChoice(current, running=running, unready=state.unready)
    offer = all_differences(current.template, built)
    unknown = (*unknown_fields(current.explicit_inputs), *current.refused_inputs) if offer else ()
    if offer and state.is_chosen and not unknown:
        return TemplateChoice(_marked(server, _new(server, built, history), current), running=running)
    return TemplateChoice(current, offer, running, unknown=unknown)


def has_lost_running(history: History, state: RolloutState) -> bool:
    """Return whether a server with a Deployment has no readable record of the running pods.

    This is the case if the number on the Deployment is higher than all readable records, missing or senseless. If it is
    lower, somebody has moved the Deployment back, unless the status says that the operator itself went back.
    """
    is_lost = history.is_record_lost or not history.has_number
    return history.running is None and (is_lost or state.is_rolled_back)


def _with_running(server: KimiLinearServer, history: History, applied: Manifest, state: RolloutState) -> History:
    """Return a history with a record of the running pods, because their own record is lost or unreadable.

    What runs is the truth. If the spec was applied, the pods were built from it, so they get a record with its inputs,
    and nothing else changes. If the spec was not applied, an older record with the same template shows the inputs of
    the pods. Otherwise these are unknown, and the spec gets a new template.

    Args:
        server: The server.
        history: Its revisions.
        applied: The pod template that the operator applied to the Deployment.
        state: The other state that affects the choice.
    """
    same = [item for item in history.revisions if not all_differences(item.template, applied)]
    twin = max(same, key=lambda item: item.number, default=None)
    if twin and twin is history.newest and not state.is_rolled_back and _says_same(server, twin, state):
        return replace(history, deployed=twin.number)  # Somebody has edited the number on the Deployment.
    if not state.is_applied:
        return replace(history, deployed=twin.number) if twin else history
    number = history.lost_number
    remade = replace(_new(server, applied, history), number=number)
    if state.is_rolled_back:
        # The answers with this template had been right. It has the inputs of an earlier spec, which are lost.
        passed = Result(has_passed=True, message=_LOST_RESULT)
        remade = replace(remade, inputs={}, defaulted=(), generation=0, result=passed)
    else:
        result = twin.result if twin and twin.has_passed else None
        remade = replace(remade, result=result, is_automatic=state.is_rolling_out)
    return replace(history, revisions=[*history.revisions, remade], deployed=number)


def _says_same(server: KimiLinearServer, record: Revision, state: RolloutState) -> bool:
    """Return whether a record says about pods with its template what a new record would say."""
    has_mark = record.is_automatic or not state.is_rolling_out
    return has_mark and record.rollout == rollout_of(server) and not has_other_inputs(server, record)


def _with_failed(server: KimiLinearServer, history: History, state: RolloutState) -> History:
    """Return a history in which a server that went back has the record of the template with wrong answers.

    Without this record, the server would seem to serve its spec, and would get the template with wrong answers again.
    """
    running, built = history.running, _built(server, state)
    is_lost = running is not None and running is history.newest and running.has_passed
    if not (state.is_rolled_back and is_lost and built):
        return history
    result = Result(has_passed=False, message=_LOST_RESULT)
    failed = replace(_new(server, built, history), result=result, is_automatic=state.is_rolling_out)
    return replace(history, revisions=[*history.revisions, failed])


def _built(server: KimiLinearServer, state: RolloutState) -> Manifest | None:
    """Return the template that this version builds, None if the location of the model is unknown."""
    return None if state.unready else build_pod_template(server, state.location)


def _known(built: Manifest | None, state: RolloutState) -> Manifest:
    """Return the template that this version builds.

    Raises:
        WeightsUnreadyError: The location of the model is unknown.
    """
    if built is None:
        assert state.unready  # noqa: S101 - it is the only reason for that
        raise WeightsUnreadyError(state.unready)
    return built


def _still_marked(revision: Revision, before: Revision | None) -> Revision:
    """Return a new revision with the mark of an automatic rollout if the revision before it has the mark.

    Its pods have the newest template, too. So if they do not serve, the next server must not get this template.
    """
    if before is None or not before.is_automatic:
        return revision
    return replace(revision, is_automatic=True, was_asleep=before.was_asleep)


def _is_as_built(revision: Revision, built: Manifest | None) -> bool:
    return built is not None and not all_differences(revision.template, built)


def asks_for_newest(server: KimiLinearServer, history: History) -> bool:
    """Return whether somebody asks for the newest pod template with a new value of the rollout annotation."""
    record = history.reference
    return record is not None and has_new_annotation(server, record)


def abandons_newest(server: KimiLinearServer, history: History, state: RolloutState) -> bool:
    """Return whether `choose` drops the newest revision because its template is not on the Deployment.

    Args:
        server: The server.
        history: Its revisions.
        state: The other state that affects the choice.
    """
    running, newest = history.running, history.newest
    if newest is None or running is newest or not (running or state.is_unserved):
        return False
    return _revision_to_continue(server, history, _built(server, state), state) is not newest


def _revision_to_continue(
    server: KimiLinearServer, history: History, built: Manifest | None, state: RolloutState
) -> Revision | None:
    """Return the revision that a server has or is about to get, None if the server needs a new revision.

    Normally, this is the newest revision. If the template of the newest revision never reached the Deployment, the API
    server may have refused it. The operator drops such a revision in two cases: this version builds a different
    template from the spec, or nobody asks for the revision any more.

    The operator does not drop the newest revision if it was applied, and somebody then moved the Deployment back, for
    example with `kubectl rollout undo`. The operator knows this in two cases. Either the newest revision has the inputs
    of the spec, and the running revision has not. Or an automatic rollout of the newest revision is complete.

    If the record of the newest revision is lost, the server continues with an older one only if this has its inputs.
    """
    newest, running = history.newest, history.running
    if history.is_record_lost:
        return newest if newest and not has_other_inputs(server, newest) else None
    if newest and newest.has_failed:
        return newest  # The server went back to an older revision. The newest one was on the Deployment before.
    never_ran = state.is_unserved and newest is not None and newest.uid == server.metadata.uid
    if newest is None or running is newest or (running is None and not never_ran):
        return newest
    is_as_built = _is_as_built(newest, built)
    if running is None:
        return newest if is_as_built else None
    if has_new_annotation(server, running) or (not state.is_unchanged and has_other_inputs(server, running)):
        return newest if is_as_built else None
    is_deployed = has_other_inputs(server, running) or _has_completed_rollout(newest, running)
    was_moved_back = is_deployed and not has_other_inputs(server, newest)
    return newest if was_moved_back or (is_as_built and newest.is_automatic) else running


def _has_completed_rollout(newest: Revision, running: Revision) -> bool:
    """Return whether the newest revision has served in an automatic rollout.

    If it has the same inputs and the same annotation as the running revision, nobody asked for it. So it was marked
    when it was made. The mark is removed only from a revision that has served.
    """
    asks_for_same = (newest.explicit_inputs, newest.rollout) == (running.explicit_inputs, running.rollout)
    return asks_for_same and not newest.is_automatic


def _goes_back(server: KimiLinearServer, history: History, verified: Revision | None, state: RolloutState) -> bool:
    """Return whether a server goes back to its last verified revision, or has gone back and stays there.

    While nobody changes the spec, the server stays there even if the CRD of another version lacks `verification`.
    """
    options = server.spec.verification
    is_there = verified is not None and history.running == verified
    stays = is_there and state.is_applied and state.is_rolled_back
    return stays or (options.mode == "Block" and (options.on_failure == "Rollback" or is_there))


def _new(server: KimiLinearServer, template: Manifest, history: History, *, is_automatic: bool = False) -> Revision:
    inputs = template_inputs(server.spec)
    return Revision(
        number=history.next_number,
        inputs=inputs,
        defaulted=tuple(missing_fields(explicit_inputs(server.spec), inputs)),
        template=template,
        rollout=rollout_of(server),
        uid=server.metadata.uid,
        generation=server.metadata.generation,
        is_automatic=is_automatic,
    )


def _marked(server: KimiLinearServer, revision: Revision, before: Revision) -> Revision:
    """Return a revision with the mark of an automatic rollout.

    Args:
        server: The server.
        revision: The revision without the mark.
        before: The revision that the server has had until now. If it has the mark, too, its template never worked. Then
            a replica has to show whether the new one works, even if KEDA has removed all replicas.
    """
    return replace(revision, is_automatic=True, was_asleep=is_asleep(server.spec) and not before.is_automatic)


def has_other_inputs(server: KimiLinearServer, revision: Revision) -> bool:
    """Return whether the template's inputs have changed since a revision was made.

    While the generation of the spec is the same, the inputs are unchanged, even if the CRD of another version adds
    other defaults to the spec.
    """
    if is_of(revision, server):
        return False
    inputs = template_inputs(server.spec)
    return revision.inputs != inputs and as_this_version_reads(revision.explicit_inputs) != inputs
