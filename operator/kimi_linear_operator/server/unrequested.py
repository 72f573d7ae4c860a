"""Fields of a spec that nobody asked for.

The API server has stored them as defaults from the CRD of another version.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import ValidationError

from kimi_linear_operator.kubernetes import metadata, ownership, stored
from kimi_linear_operator.kubernetes.conditions import find_condition
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.stored import FieldPath
from kimi_linear_operator.kubernetes.times import seconds_before, seconds_between
from kimi_linear_operator.server.previous_status import was_recorded
from kimi_linear_operator.server.revision import History, Revision, is_of
from kimi_linear_operator.server.spec import KimiLinearServer, ServerSpec
from kimi_linear_operator.server.spec.status import ServerStatus
from kimi_linear_operator.server.template_choice import NO_ROLLOUT, RolloutState
from kimi_linear_operator.server.template_inputs import (
    as_this_version_reads,
    changed_fields,
    router_inputs,
    spec_of,
    template_inputs,
)

# Times of the API server are whole seconds, and a watch may be late. So a revision that is younger than this may lack a
# user's last write. The operator assumes that nobody installs a CRD with other defaults within this time.
_LATE_SECONDS = 3.0
# A CRD has about thirty defaults. A default in items of a list counts once for all items. If more fields than this have
# no owner, somebody has edited the managed fields. All fields then count as requested. Otherwise each pass would have
# to remove all these fields one by one.
_MOST_ANSWERS = 100
_END_OF_TIME = "9999-12-31T23:59:59Z"


@dataclass(frozen=True)
class Answer:
    """A field that nobody asked for.

    Attributes:
        value: Its value in the spec, None if the spec lacks it.
        is_doubtful: Whether somebody may have asked for it: somebody owns the list or object around it as a whole, or
            owned a null in its place.
    """

    value: Any
    is_doubtful: bool


Answers = Mapping[FieldPath, Answer]
"""Fields that nobody asked for."""


@dataclass(frozen=True)
class UncertainFields:
    """Fields in which a spec differs from a revision's inputs. Perhaps nobody asked for the difference.

    Attributes:
        paths: The fields.
        recorded: The inputs that were in the spec of the revision.
        recorded_until: The revision contains everything that owners of whole lists wrote before this time (RFC 3339);
            empty if unknown.
    """

    paths: tuple[FieldPath, ...] = ()
    recorded: Manifest = field(default_factory=dict)
    recorded_until: str = ""


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

    Users asked for all other changes, because a default can only replace a null.

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
    return replace(found, paths=(*found.paths, *_added(changed, recorded)), recorded={**found.recorded, **recorded})


def _of_replicas(server: KimiLinearServer, history: History, state: RolloutState, now: str) -> UncertainFields:
    """Return the uncertain fields among the inputs of the replicas' pod template."""
    record = history.reference
    inputs = template_inputs(server.spec)
    if record is None or record.inputs == inputs:
        return UncertainFields()
    recorded = record.explicit_inputs
    paths = _added(changed_fields(as_this_version_reads(recorded), inputs), recorded)
    is_applied = state.is_unchanged or is_of(record, server)
    return UncertainFields(paths, recorded, _END_OF_TIME if is_applied else _complete_until(record.created, now))


def _added(changed: Iterable[FieldPath], recorded: Manifest) -> tuple[FieldPath, ...]:
    """Return those of the changed fields that the record lacks, or has as null."""
    return tuple(path for path in changed if stored.value_at(recorded, path) is None)


def _complete_until(created: str, now: str) -> str:
    """Return when a revision was created, empty if it was created only seconds ago or the time is unknown."""
    seconds = seconds_between(created, now)
    return created if seconds is not None and seconds >= _LATE_SECONDS else ""


@dataclass(frozen=True)
class Before:
    """What the operator knows about a server before it reads the managed fields.

    Attributes:
        now: The time as RFC 3339.
        answers: Doubtful fields, with their values, that nobody had asked for when the operator last saw the spec.
        replicas: The replicas of the Deployment, None without a Deployment.
    """

    now: str = ""
    answers: Mapping[FieldPath, Any] = field(default_factory=dict)
    replicas: int | None = None


_NOTHING_KNOWN = Before()


@dataclass(frozen=True)
class _Writes:
    """What is known about the writes to a server.

    Attributes:
        owned: The fields of the spec that have an owner.
        newer: The fields of owners who may have written the spec after the revision was made.
        recorded: The inputs that were in the spec of the revision.
        answers: See `Before`.
    """

    owned: ownership.Fields
    newer: ownership.Fields
    recorded: Manifest
    answers: Mapping[FieldPath, Any]


def unrequested(uncertain: UncertainFields, server: Manifest, before: Before = _NOTHING_KNOWN) -> Answers:
    """Return the uncertain fields that nobody asked for.

    - A field in the spec: nobody asked for it if it has no owner.
    - A null that is no longer in the spec: if the field still has an owner, the API server dropped the null, and nobody
      asked for that. A user who removes a null also gives up the ownership.
    - A field in a list that somebody owns as a whole, or a value in place of an owned null: ownership does not show
      what the owner wrote. Nobody asked for the field in two cases: no owner wrote the spec after the operator last
      applied it, or the field had the same value at that time and nobody had asked for this value.
    - A field in an object that somebody owns as a whole: see `_is_default_in_object`.

    Args:
        uncertain: The uncertain fields.
        server: The server. Without managed fields, everything counts as asked for.
        before: What the operator already knows.
    """
    managed_fields = server["metadata"].get("managedFields", ())
    if not managed_fields:
        return {}
    spec = server.get("spec", {})
    newer = _written_since(server, managed_fields, uncertain.recorded_until, before)
    writes = _Writes(_owned_spec(managed_fields), _owned_spec(newer), uncertain.recorded, before.answers)
    found = ((path, _answer(path, spec, writes)) for path in uncertain.paths)
    answers = {path: answer for path, answer in found if answer}
    fields = {tuple(name for name in path if isinstance(name, str)) for path in answers}
    return answers if len(fields) <= _MOST_ANSWERS else {}


def _written_since(
    server: Manifest, managed_fields: Sequence[Manifest], recorded_until: str, before: Before
) -> list[Manifest]:
    """Return the entries of managers that may have written the spec after the operator last recorded or applied it.

    Each entry has one time. Any write of its manager updates this time, even the write of a label. The operator writes
    the status only if nobody has changed the server since it was cached. So at the time of the status, the operator
    knew the spec. If only one write has changed the spec since then, and this write was a scale, no other manager has
    written the spec.
    """
    status = stored.readable_status(ServerStatus, server.get("status"))
    reported = _reported_at(status, managed_fields)
    seconds = seconds_between(reported, before.now)
    is_late = seconds is not None and seconds < _LATE_SECONDS
    seen_until = seconds_before(reported, _LATE_SECONDS) if is_late else reported
    newer = ownership.written_after(managed_fields, max(recorded_until, seen_until))
    if not reported or not _was_scaled_once(server, status, before.replicas):
        return newer
    return [entry for entry in newer if "f:replicas" in _owned_spec([entry])]


def _reported_at(status: Manifest, managed_fields: Sequence[Manifest]) -> str:
    """Return when the operator last wrote the status.

    Empty if this is unknown, or if the spec at that time was not applied.
    """
    generation = status.get("observedGeneration")
    if not (isinstance(generation, int) and was_recorded(status, generation)):
        return ""
    own = (
        str(entry.get("time"))
        for entry in managed_fields
        if (entry.get("manager"), entry.get("subresource")) == (metadata.MANAGER, "status")
    )
    return max((time for time in own if seconds_between(time, time) is not None), default="")


def _was_scaled_once(server: Manifest, status: Manifest, replicas: int | None) -> bool:
    """Return whether exactly one write has changed the spec after the status was written, and it changed `replicas`.

    A scale leaves no entry in the managed fields of a custom resource. A server without replicas may have been
    suspended, so it does not count. A server with contested children does not count either, because others may scale
    the Deployment.
    """
    is_next = server["metadata"]["generation"] == status["observedGeneration"] + 1
    is_contested = find_condition(status, "Synced").get("status") == "False"
    has_other_replicas = bool(replicas) and server["spec"].get("replicas") != replicas
    return is_next and has_other_replicas and not is_contested and not server["spec"].get("suspend")


def _owned_spec(managed_fields: Sequence[Manifest]) -> ownership.Fields:
    """Return the fields of a spec that have an owner."""
    fields: ownership.Fields = ownership.owned_fields(managed_fields).get("f:spec", {})
    return fields


def _answer(path: FieldPath, spec: Manifest, writes: _Writes) -> Answer | None:
    """Return an uncertain field that nobody asked for, None if somebody asked for it."""
    value, is_there = stored.value_at(spec, path), stored.holds(spec, path)
    remaining = ownership.remaining_path(writes.owned, path, spec)
    has_replaced_null = is_there and stored.holds(writes.recorded, path)
    if remaining or (remaining == () and has_replaced_null):
        return Answer(value, is_doubtful=True) if _is_older(path, spec, remaining, writes) else None
    is_owned = remaining is not None
    return Answer(value, is_doubtful=False) if is_owned != is_there else None


def _is_older(path: FieldPath, spec: Manifest, remaining: FieldPath, writes: _Writes) -> bool:
    """Return whether a doubtful field is, as far as is known, older than the last writes of its owners."""
    if path in writes.answers and writes.answers[path] == stored.value_at(spec, path):
        return True
    if remaining and isinstance(remaining[0], str):
        return _is_default_in_object(path, spec, remaining, writes)
    return not _is_written(path, spec, writes)


def _is_written(path: FieldPath, spec: Manifest, writes: _Writes) -> bool:
    """Return whether an owner of a field may have written the spec after the revision was made."""
    return ownership.remaining_path(writes.newer, path, spec) is not None


def _is_default_in_object(path: FieldPath, spec: Manifest, remaining: FieldPath, writes: _Writes) -> bool:
    """Return whether a field in an object that somebody owns as a whole may be a default.

    Either the owner has written an empty object, and all fields in it are defaults. Or the CRD of another version made
    the object atomic, and the owner has written all fields.
    """
    around = path[: -len(remaining)]
    if not stored.holds(spec, path) or not stored.holds(writes.recorded, around):
        return False  # Somebody has given up the null, or has written the object after that.
    # The record of a podTemplate contains no defaults. So if the object was not empty, its owner has written the fields
    # in it.
    is_atomic = around[0] == "podTemplate" and bool(stored.value_at(writes.recorded, around))
    return not (is_atomic and _is_written(path, spec, writes))


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
    recorded = {**record.explicit_inputs, **(router.explicit_inputs if router else {})}
    spec = server.spec.model_dump(by_alias=True, exclude_unset=True)
    for path, answer in answers.items():
        is_given_up = not answer.is_doubtful and stored.holds(spec, path) and stored.holds(recorded, path)
        spec = stored.as_in(spec, path, stored.without(recorded, path) if is_given_up else recorded)
    for path in record.refused:
        spec = spec if stored.holds(recorded, path) else stored.as_in(spec, path, recorded)
    try:
        return server.model_copy(update={"spec": ServerSpec.model_validate(spec)})
    except ValidationError:
        return server  # This version requires a removed field.
