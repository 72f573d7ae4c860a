"""Fields of a spec that nobody asked for.

The API server has stored them as defaults from the CRD of another version.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import ValidationError

from kimi_linear_operator.kubernetes import ownership, stored
from kimi_linear_operator.kubernetes.conditions import find_condition
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.stored import FieldPath, changed_fields
from kimi_linear_operator.kubernetes.unrequested import (
    Answers,
    UncertainFields,
    Writes,
    added,
    complete_until,
    find,
    is_in_item,
    known_until,
    owned_spec,
    recorded_again,
    reported_at,
)
from kimi_linear_operator.server.previous_status import was_applied, was_ever_applied, was_recorded
from kimi_linear_operator.server.revision import History, Revision, Seen, is_of
from kimi_linear_operator.server.spec import KimiLinearServer, ServerSpec
from kimi_linear_operator.server.spec.status import ServerStatus
from kimi_linear_operator.server.template_choice import NO_ROLLOUT, RolloutState
from kimi_linear_operator.server.template_inputs import (
    as_this_version_reads,
    router_inputs,
    spec_of,
    template_inputs,
)

# A check of a usual spec takes 1 ms.
_MOST_CHECKS = 32
_END_OF_TIME = "9999-12-31T23:59:59Z"


def uncertain_fields(
    server: KimiLinearServer,
    history: History,
    state: RolloutState = NO_ROLLOUT,
    now: str = "",
    router: Revision | None = None,
) -> UncertainFields:
    """Return the fields that are in the spec but not in a revision, and the revision's nulls that the spec has changed.

    These changes come from a user, or from the CRD of another version. With every write, the API server stores the
    defaults of the CRD, and these defaults get no owner. A null in `podTemplate` removes a field of the pod. If the CRD
    declares this field, the API server drops the null, or stores the default in its place.

    All other changes come from users, because a default can replace only two things: a null, or another default that
    the CRD of another version dropped. There is one exception. The owner of a list has perhaps not set everything in
    its items, so other values in items are uncertain, too.

    If somebody deletes a server without its children and creates it again, the pods stay. The owner of a list has then
    written the whole list again, so the time of this write says nothing about the fields in the items of the list.

    Args:
        server: The server.
        history: Its revisions.
        state: The other state that affects the choice.
        now: The time as RFC 3339.
        router: The record of the router's pod template, None if there is none.
    """
    found = _of_replicas(server, history, state, now)
    if router is None or server.spec.router is None:
        return found
    recorded = router.explicit_inputs
    spec = spec_of(recorded)
    changed = changed_fields(router_inputs(spec) if spec else recorded, router_inputs(server.spec))
    paths = (*found.paths, *added(changed, recorded, router.unowned))
    return replace(found, paths=paths, recorded={**found.recorded, **recorded})


def _of_replicas(server: KimiLinearServer, history: History, state: RolloutState, now: str) -> UncertainFields:
    """Return the uncertain fields among the inputs of the replicas' pod template."""
    record = history.reference
    inputs = template_inputs(server.spec)
    if record is None or record.inputs == inputs:
        return UncertainFields()
    recorded, seen = record.explicit_inputs, last_seen(record, server)
    paths = added(changed_fields(as_this_version_reads(recorded), inputs), recorded, record.unowned)
    paths = _without_requested(paths, server, seen)
    paths = _without_recorded_items(paths, server, history)
    is_adopted = record.uid != server.metadata.uid and not was_ever_applied(server.status)
    if is_adopted or seen:
        paths = _without_other_values_in_items(paths, recorded)
    is_applied = state.is_unchanged or is_of(record, server) or is_adopted
    return UncertainFields(paths, recorded, _END_OF_TIME if is_applied else complete_until(record.created, now))


def last_seen(record: Revision | None, server: KimiLinearServer) -> Seen | None:
    """Return what the operator has seen of a spec that it did not apply.

    None if this spec is neither the current spec nor the spec before the last change.
    """
    seen = record.seen if record else None
    known = (server.metadata.generation, server.status.get("observedGeneration"))
    return seen if seen and seen.uid == server.metadata.uid and seen.generation in known else None


def _without_requested(
    paths: tuple[FieldPath, ...], server: KimiLinearServer, seen: Seen | None
) -> tuple[FieldPath, ...]:
    """Return the fields without those for which somebody had perhaps asked in a spec that was not applied."""
    if not paths or not seen or not seen.requested:
        return paths
    requested = stored.unchanged(server.manifest()["spec"], seen.requested)
    return tuple(path for path in paths if path not in requested)


def _without_recorded_items(
    paths: tuple[FieldPath, ...], server: KimiLinearServer, history: History
) -> tuple[FieldPath, ...]:
    """Return the fields without those in items of lists that have the same value in the newest record.

    The Deployment does not have the template of this record, for example because the API server refused the template.
    When the record was made, somebody had asked for everything in it. The times in the managed fields do not show this,
    because the last status is newer.
    """
    newest = history.newest
    if not paths or newest is None or newest is history.reference or newest.uid != server.metadata.uid:
        return paths
    spec, inputs = server.manifest()["spec"], newest.explicit_inputs
    return tuple(path for path in paths if not is_in_item(path) or not _is_equal(path, spec, inputs))


def _is_equal(path: FieldPath, one: Manifest, other: Manifest) -> bool:
    """Return whether two objects have the same value in a field, or both lack the field."""
    has_both = stored.holds(one, path) == stored.holds(other, path)
    return has_both and stored.value_at(one, path) == stored.value_at(other, path)


def _without_other_values_in_items(paths: tuple[FieldPath, ...], recorded: Manifest) -> tuple[FieldPath, ...]:
    """Return the fields without those in items of lists that have a value in the record.

    This is for two cases. If somebody created the server again, its lists can have other values. If a spec is not
    applied, an older version of the operator does not record which values in items somebody has changed.
    """
    return tuple(path for path in paths if not is_in_item(path) or stored.value_at(recorded, path) is None)


def known_answers(
    uncertain: UncertainFields, record: Revision | None, server: KimiLinearServer
) -> dict[FieldPath, Any]:
    """Return the doubtful fields, with their values, that nobody had asked for according to a record.

    While the generation of a spec is the same, nobody asks for anything. So if a field was not in the spec when the
    operator first saw this generation, the field is a default.

    Args:
        uncertain: The uncertain fields.
        record: The record, None if there is none.
        server: The server.
    """
    seen, spec = last_seen(record, server), server.manifest()["spec"]
    is_same_spec = seen is not None and seen.generation == server.metadata.generation
    appeared = {path: stored.value_at(spec, path) for path in uncertain.paths} if is_same_spec else {}
    return {**(record.left_out if record else {}), **appeared}


@dataclass(frozen=True)
class Before:
    """What the operator knows about a server before it reads the managed fields.

    Attributes:
        now: The time as RFC 3339.
        answers: Doubtful fields, with their values, that nobody had asked for when the operator last saw the spec.
        replicas: The replicas of the Deployment, None without a Deployment.
        seen: What the operator has seen of a spec that it did not apply. See `last_seen`.
    """

    now: str = ""
    answers: Mapping[FieldPath, Any] = field(default_factory=dict)
    replicas: int | None = None
    seen: Seen | None = None


_NOTHING_KNOWN = Before()


def unrequested(uncertain: UncertainFields, server: Manifest, before: Before = _NOTHING_KNOWN) -> Answers:
    """Return the uncertain fields that nobody asked for.

    Args:
        uncertain: The uncertain fields.
        server: The server. Without managed fields, everything counts as asked for.
        before: What the operator already knows.
    """
    managed_fields = server["metadata"].get("managedFields", ())
    if not managed_fields:
        return {}
    newer = _written_since(server, managed_fields, uncertain.recorded_until, before)
    return find(uncertain, server.get("spec", {}), Writes(managed_fields, newer, before.answers))


def _written_since(
    server: Manifest, managed_fields: Sequence[Manifest], recorded_until: str, before: Before
) -> list[Manifest]:
    """Return the entries of managers that may have written the spec after the operator last recorded or applied it.

    Each entry has one time. Any write of its manager updates this time, even the write of a label. The operator writes
    the status only if nobody has changed the server since it was cached. So at the time of the status, the operator
    knew the spec.

    If only one write has changed the spec since then, and this write was a scale, no other manager has written the
    spec.
    """
    status = stored.readable_status(ServerStatus, server.get("status"))
    reported = reported_at(managed_fields) if _is_known(status, before.seen) else ""
    newer = ownership.written_after(managed_fields, max(recorded_until, known_until(reported, before.now)))
    if not reported or not _was_scaled_once(server, status, _replicas_in(status, before)):
        return newer
    return [entry for entry in newer if "f:replicas" in owned_spec([entry])]


def was_only_scaled(server: Manifest, before: Before) -> bool:
    """Return whether the spec was applied, and since then exactly one write has changed it, which was a scale.

    If somebody has scaled the Deployment itself since the status was written, this is unknown.

    Args:
        server: The server, with its managed fields.
        before: What the operator already knows.
    """
    status = stored.readable_status(ServerStatus, server.get("status"))
    managed_fields = server["metadata"].get("managedFields") or ()
    is_as_reported = before.replicas == (status.get("replicas") or before.replicas)
    if not (is_as_reported and reported_at(managed_fields) and _is_known(status, None)):
        return False
    if not _was_scaled_once(server, status, _replicas_in(status, before)):
        return False
    newer = _written_since(server, managed_fields, "", before)
    return all(entry.get("subresource") == "scale" for entry in newer)


def _is_known(status: Manifest, seen: Seen | None) -> bool:
    """Return whether the spec at the time of a status was applied, or was recorded because it was not applied."""
    generation = status.get("observedGeneration")
    is_seen = seen is not None and seen.generation == generation
    return isinstance(generation, int) and (is_seen or was_recorded(status, generation))


def remembered(record: Revision, server: KimiLinearServer, uncertain: UncertainFields, answers: Answers) -> Revision:
    """Return a record that also contains what the operator knows about the defaults in a spec that it does not apply.

    Until the spec can be applied, it may get more defaults, from another version. The record then shows which fields
    are defaults.

    Args:
        record: The record with which the spec was compared.
        server: The server.
        uncertain: The uncertain fields.
        answers: Those that nobody asked for.
    """
    spec, about, before = server.manifest()["spec"], server.metadata, last_seen(record, server)
    kept = stored.unchanged(spec, before.requested if before else {})
    asked = {path: stored.value_at(spec, path) for path in uncertain.paths if path not in answers}
    doubtful = {path: answer.value for path, answer in answers.items() if answer.is_doubtful}
    seen = Seen(about.uid, about.generation, {**kept, **asked}, server.spec.replicas)
    return replace(record, seen=seen, left_out={**record.left_out, **doubtful})


def _replicas_in(status: Manifest, before: Before) -> int | None:
    """Return the replicas in the spec that a status is about, None if they are unknown.

    The Deployment has these replicas only if the spec was applied.
    """
    generation = status["observedGeneration"]
    if before.seen and before.seen.generation == generation:
        return before.seen.replicas
    return before.replicas if was_applied(status, generation) else None


def _was_scaled_once(server: Manifest, status: Manifest, replicas: int | None) -> bool:
    """Return whether exactly one write has changed the spec after the status was written, and it changed `replicas`.

    If somebody owned `replicas`, a scale leaves an entry in the managed fields. Its subresource is `scale`, and in a
    custom resource it has no time. If nobody owned `replicas`, a scale leaves no entry.

    A server without replicas may have been suspended, so it does not count. A server with contested children does not
    count either, because others may scale the Deployment.

    Args:
        server: The server.
        status: Its status.
        replicas: The replicas in the spec that the status is about, None if they are unknown.
    """
    is_next = server["metadata"]["generation"] == status["observedGeneration"] + 1
    is_contested = find_condition(status, "Synced").get("status") == "False"
    has_other_replicas = bool(replicas) and server["spec"].get("replicas") != replicas
    return is_next and has_other_replicas and not is_contested and not server["spec"].get("suspend")


def unowned_inputs(recorded: Revision, inputs: Manifest, unowned: Collection[FieldPath], answers: Answers) -> Revision:
    """Return a record that names those of its inputs that nobody has set.

    In a new record, these are the fields without an owner, and the fields that got their recorded values again. In an
    older record, a field counts as set as soon as somebody owns its recorded value.

    Args:
        recorded: The record.
        inputs: The inputs that are in the spec now, and in which these fields have their recorded values.
        unowned: The fields of the spec that nobody owns.
        answers: The fields that nobody asked for.
    """
    if recorded.data is None:
        found = {path for path in (*unowned, *answers) if stored.holds(inputs, path)}
        return replace(recorded, unowned=tuple(sorted(found, key=str)))
    before = recorded.explicit_inputs
    owned = {
        path
        for path in recorded.unowned
        if path not in unowned
        and path not in answers
        and stored.holds(inputs, path)
        and stored.value_at(inputs, path) == stored.value_at(before, path)
    }
    return replace(recorded, unowned=tuple(path for path in recorded.unowned if path not in owned))


def refused_values(
    server: KimiLinearServer,
    answers: Answers,
    record: Revision,
    router: Revision | None,
    check: Callable[[KimiLinearServer, KimiLinearServer], KimiLinearServer],
) -> dict[FieldPath, Any]:
    """Return the recorded values of these fields that this version refuses, empty if there are too many fields.

    Args:
        server: The server.
        answers: Fields that nobody asked for.
        record: The revision with which the spec was compared.
        router: The record of the router's pod template, None if there is none.
        check: Returns its second argument if it passes the check, and otherwise its first argument.
    """
    if len(answers) > _MOST_CHECKS:
        return {}
    alone = {path: without(server, {path: answer}, record, router) for path, answer in answers.items()}
    refused = [path for path, changed in alone.items() if check(server, changed) is server]
    recorded = _recorded(record, router)
    return {path: stored.value_at(recorded, path) for path in refused}


def without(
    server: KimiLinearServer, answers: Answers, record: Revision, router: Revision | None = None
) -> KimiLinearServer:
    """Return a server with the recorded values of these fields, so that this version's defaults apply.

    The values that this version refuses are removed. The objects around them also get their recorded values.

    Args:
        server: The server.
        answers: Fields that nobody asked for.
        record: The revision with which the spec was compared.
        router: The record of the router's pod template, None if there is none.
    """
    recorded = _recorded(record, router)
    spec = recorded_again(server.spec.model_dump(by_alias=True, exclude_unset=True), answers, recorded)
    for path in record.refused:
        spec = spec if stored.holds(recorded, path) else stored.as_in(spec, path, recorded)
    try:
        return server.model_copy(update={"spec": ServerSpec.model_validate(spec)})
    except ValidationError:
        return server  # This version requires a removed field.


def _recorded(record: Revision, router: Revision | None) -> Manifest:
    """Return the recorded inputs of the replicas and of the router."""
    return {**record.explicit_inputs, **(router.explicit_inputs if router else {})}
