"""The choice of a server's pod template: the template of a revision, or a new template."""

from dataclasses import dataclass, replace

from kimi_linear_operator.cluster.errors import ApiError
from kimi_linear_operator.kubernetes.conditions import Reason
from kimi_linear_operator.kubernetes.drift import all_differences
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.stored import FieldPath
from kimi_linear_operator.server.deployment import build_pod_template
from kimi_linear_operator.server.model_location import WeightsUnreadyError
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
        copy = replace(self.current, number=number, created="", router_hash=router_hash)
        return replace(self, current=_marked(server, copy, self.current))


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
        is_unchanged: Whether this generation of the spec was applied before, or one that differs only in its replicas.
            If so, nobody has asked for other inputs since then, even if the CRD of another version has added other
            defaults to the spec.
        is_unserved: Whether the server has never had a Deployment.
        is_rolling_out: Whether the status says that the newest template is in an automatic rollout for this generation.
        is_rolled_back: Whether the status says that the pods went back to an older template, for this generation.
        location: Where the server's model is, None if it comes from the hub or from a folder.
        unready: Why the location of the server's model is unknown, None if it is known. Without a location, no template
            can be built.
    """

    is_chosen: bool = False
    is_unchanged: bool = False
    is_unserved: bool = False
    is_rolling_out: bool = False
    is_rolled_back: bool = False
    location: Location | None = None
    unready: Reason | None = None


NO_ROLLOUT = RolloutState()


def choose(
    server: KimiLinearServer, history: History, *, applied: Manifest | None = None, state: RolloutState = NO_ROLLOUT
) -> TemplateChoice:
    """Return the pod template that a server should have, and the template to go back to.

    Args:
        server: The server, without defaults that nobody asked for.
        history: Its revisions.
        applied: If the revision of its Deployment is lost: the pod template that the operator applied, None if it is
            unknown.
        state: The other state that affects the choice.

    Raises:
        WeightsUnreadyError: The server needs a new template, but the location of its model is unknown.
    """
    if applied is not None:
        history = _with_running(server, history, applied, state)
    history = _with_failed(server, history, state)
    choice = _chosen(server, history, state)
    if choice.current.was_asleep and not is_asleep(server.spec):
        choice = replace(choice, current=replace(choice.current, was_asleep=False))
    older = [item for item in history.revisions if item.has_passed and item.number < choice.current.number]
    verified = max(older, key=lambda item: item.number, default=None)
    return replace(choice, verified=verified, goes_back=_goes_back(server, history, verified, state))


def _chosen(server: KimiLinearServer, history: History, state: RolloutState) -> TemplateChoice:
    """Return the pod template that a server should have."""
    # Whether somebody has deleted the revision of an automatic rollout. The new revision must then be marked, too.
    is_remade = state.is_rolling_out and history.is_record_lost
    built, running = _built(server, state), history.running
    current = _revision_to_continue(server, history, built, state)
    if current is None or has_new_annotation(server, current):
        new = _new(server, _known(built, state), history, is_automatic=is_remade)
        return TemplateChoice(_still_marked(new, current or history.newest), running=running)
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


def _with_running(server: KimiLinearServer, history: History, applied: Manifest, state: RolloutState) -> History:
    """Return a history with the revision that the Deployment has, although there is no record of its number.

    If the Deployment has the template of an older record, somebody has edited the number, or the lost record was a copy
    with the mark of a rollout of only the router. Otherwise the record is made again if the template was applied for
    this spec.

    Args:
        server: The server.
        history: Its revisions.
        applied: The pod template that the operator applied to the Deployment.
        state: The other state that affects the choice.
    """
    same = [item for item in history.revisions if not all_differences(item.template, applied)]
    copied = max(same, key=lambda item: item.number, default=None)
    if copied and (copied.is_automatic or not state.is_rolling_out):
        return replace(history, deployed=copied.number)
    if not (copied or state.is_unchanged):
        return history
    remade = copied or _new(server, applied, history)
    number = history.deployed if has_lost_way_back(history, state) else history.lost_number
    remade = replace(remade, number=number, created="", is_automatic=state.is_rolling_out)
    if state.is_rolled_back:
        # The answers with this template had been right. It has the inputs of an earlier spec, which are lost.
        passed = Result(has_passed=True, message=_LOST_RESULT)
        remade = replace(remade, inputs={}, defaulted=(), generation=0, result=passed)
    return replace(history, revisions=[*history.revisions, remade], deployed=number)


def _with_failed(server: KimiLinearServer, history: History, state: RolloutState) -> History:
    """Return a history in which a server that went back has the record of the template with wrong answers.

    Without this record, the server would seem to serve its spec, and would get the template with wrong answers again.
    """
    running, built = history.running, _built(server, state)
    is_lost = running is not None and running is history.newest and has_other_inputs(server, running)
    if not (state.is_rolled_back and is_lost and running and running.has_passed and built):
        return history
    failed = replace(_new(server, built, history), result=Result(has_passed=False, message=_LOST_RESULT))
    return replace(history, revisions=[*history.revisions, failed])


def has_lost_way_back(history: History, state: RolloutState) -> bool:
    """Return whether a server went back to an older template, and the record of this template is lost."""
    newest = history.newest
    is_older = newest is not None and newest.has_failed and 0 < history.deployed < newest.number
    return state.is_rolled_back and is_older and history.running is None


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
    stays = is_there and state.is_unchanged and state.is_rolled_back
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
