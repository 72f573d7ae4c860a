"""Fields of a spec that nobody asked for: defaults of another version's definition, which the API server has stored."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from kimi_linear_operator.kubernetes import metadata, ownership, stored
from kimi_linear_operator.kubernetes.conditions import find_condition
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.stored import FieldPath
from kimi_linear_operator.kubernetes.times import seconds_before, seconds_between
from kimi_linear_operator.server.revision import History
from kimi_linear_operator.server.spec import KimiLinearServer, ServerSpec, ServerStatus
from kimi_linear_operator.server.status import was_applied
from kimi_linear_operator.server.template_choice import NO_ROLLOUT, RolloutState, is_of
from kimi_linear_operator.server.template_inputs import as_this_version_reads, changed_fields, template_inputs

# Times of the API server are whole seconds, and a watch may be late. So a revision that is younger than this may lack a
# user's write from shortly before. A new definition with other defaults does not come within that time.
_LATE_SECONDS = 3.0
_END_OF_TIME = "9999-12-31T23:59:59Z"

Answers = Mapping[FieldPath, Any]
"""Fields that nobody asked for, and the value of each in the spec, None if the spec lacks it."""


@dataclass(frozen=True)
class UncertainFields:
    """Fields of a spec that differ from a revision's inputs, although perhaps nobody asked for the difference.

    Attributes:
        paths: The fields.
        recorded_until: The revision has all that owners of whole lists wrote up to this time (RFC 3339); empty if
            unknown.
    """

    paths: tuple[FieldPath, ...] = ()
    recorded_until: str = ""


def uncertain_fields(
    server: KimiLinearServer,
    history: History,
    state: RolloutState = NO_ROLLOUT,
    now: str = "",
) -> UncertainFields:
    """Return the fields that a revision lacks and the spec has, and the revision's nulls that the spec lacks.

    Somebody may have asked for these changes, or another version's definition is their cause. With every write, the API
    server stores the definition's defaults, and nobody becomes their owner. It also drops a null (which removes a field
    of the pod) if the definition describes that field.

    All other changes are certain: a default never replaces or removes a value, so somebody asked for them.

    Args:
        server: The server.
        history: Its revisions.
        state: What else decides about the template.
        now: The time as RFC 3339.
    """
    record = history.running or history.newest
    inputs = template_inputs(server.spec)
    if record is None or record.inputs == inputs:
        return UncertainFields()
    recorded = record.explicit_inputs
    changed = changed_fields(as_this_version_reads(recorded), inputs)
    paths = tuple(
        path for path in changed if not stored.holds(recorded, path) or _is_dropped_null(recorded, path, inputs)
    )
    is_applied = state.is_unchanged or is_of(record, server)
    return UncertainFields(paths, _END_OF_TIME if is_applied else _complete_until(record.created, now))


def _complete_until(created: str, now: str) -> str:
    """Return when a revision was created, empty if that was just now or is unknown."""
    seconds = seconds_between(created, now)
    return created if seconds is not None and seconds >= _LATE_SECONDS else ""


def _is_dropped_null(recorded: Manifest, path: FieldPath, inputs: Manifest) -> bool:
    """Return whether a field was recorded as null and is missing now."""
    return _value_at(recorded, path) is None and not stored.holds(inputs, path)


def _value_at(value: Any, path: FieldPath) -> Any:
    """Return the value of a field, None if it is missing."""
    if not stored.holds(value, path):
        return None
    for name in path:
        value = value[name]
    return value


@dataclass(frozen=True)
class Before:
    """What the operator knows of a server before it looks at who wrote its spec.

    Attributes:
        now: The time as RFC 3339.
        answers: What nobody asked for when the operator last saw the spec.
        replicas: The replicas that the Deployment asks for, None without a Deployment.
    """

    now: str = ""
    answers: Answers = field(default_factory=dict)
    replicas: int | None = None


_NOTHING_KNOWN = Before()


@dataclass(frozen=True)
class _Writes:
    """What is known of the writes to a server.

    Attributes:
        owned: The fields of the spec that anybody owns.
        newer: The fields of owners that may have written the spec after the revision was made.
        answers: What nobody asked for when the operator last saw the spec.
    """

    owned: ownership.Fields
    newer: ownership.Fields
    answers: Answers


def unrequested(
    paths: Iterable[FieldPath], server: Manifest, recorded_until: str = "", before: Before = _NOTHING_KNOWN
) -> Answers:
    """Return those of the uncertain fields that nobody asked for.

    - A field that the spec has: nobody asked for it if nobody owns it.
    - A null that the spec lacks: if somebody still owns the field, then the API server dropped the null, and no user
      asked for the drop. A user who removes a null gives up the field, too.
    - A field in a list that somebody owns as a whole: ownership does not show which fields of the items the owner
      wrote. Nobody asked for it if no owner wrote the spec since the operator last applied it, or if the value is the
      same and nobody had asked for it at that time.

    Args:
        paths: The uncertain fields.
        server: The server. Without managed fields, everything counts as asked for.
        recorded_until: See `UncertainFields`.
        before: What the operator knows already.
    """
    managed_fields = server["metadata"].get("managedFields", ())
    if not managed_fields:
        return {}
    spec = server.get("spec", {})
    newer = _written_since(server, managed_fields, recorded_until, before)
    writes = _Writes(_owned_spec(managed_fields), _owned_spec(newer), before.answers)
    return {path: _value_at(spec, path) for path in paths if _is_unrequested(path, spec, writes)}


def _written_since(
    server: Manifest, managed_fields: Sequence[Manifest], recorded_until: str, before: Before
) -> list[Manifest]:
    """Return the entries of managers that may have written the spec after the operator last recorded or applied it.

    Each entry has one time, which any write of its manager renews, also one of a label. The time of the status says
    until when the operator saw the spec: the status is written only if nobody has changed the server since it was
    cached. If only one write has changed the spec since then, and that was a scale, no other manager has written it.
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
    """Return when the operator last wrote the status, empty if unknown or if the spec that it saw was not applied."""
    generation = status.get("observedGeneration")
    if not (isinstance(generation, int) and was_applied(status, generation)):
        return ""
    own = (
        str(entry.get("time"))
        for entry in managed_fields
        if (entry.get("manager"), entry.get("subresource")) == (metadata.MANAGER, "status")
    )
    return max((time for time in own if seconds_between(time, time) is not None), default="")


def _was_scaled_once(server: Manifest, status: Manifest, replicas: int | None) -> bool:
    """Return whether one write has changed the spec since the status, and that changed `replicas`.

    A scale leaves no entry in the managed fields of a custom resource. A server without replicas may have been
    suspended, so it does not count. A server whose children others keep changing does not count either: they may scale
    the Deployment.
    """
    is_next = server["metadata"]["generation"] == status["observedGeneration"] + 1
    is_contested = find_condition(status, "Synced").get("status") == "False"
    has_other_replicas = bool(replicas) and server["spec"].get("replicas") != replicas
    return is_next and has_other_replicas and not is_contested and not server["spec"].get("suspend")


def _owned_spec(managed_fields: Sequence[Manifest]) -> ownership.Fields:
    """Return the fields of a spec that anybody owns."""
    fields: ownership.Fields = ownership.owned_fields(managed_fields).get("f:spec", {})
    return fields


def _is_unrequested(path: FieldPath, spec: Manifest, writes: _Writes) -> bool:
    """Return whether nobody asked for an uncertain field."""
    remaining = ownership.remaining_path(writes.owned, path, spec)
    if remaining:  # The field is in a list that somebody owns as a whole.
        is_as_before = path in writes.answers and writes.answers[path] == _value_at(spec, path)
        return is_as_before or ownership.remaining_path(writes.newer, path, spec) is None
    is_owned = remaining is not None
    return is_owned != stored.holds(spec, path)


def is_in_list(path: FieldPath) -> bool:
    """Return whether a field is in an item of a list, so that it may be unknown whether anybody asked for it."""
    return any(isinstance(name, int) for name in path)


def without(server: KimiLinearServer, paths: Iterable[FieldPath]) -> KimiLinearServer:
    """Return a server without these fields of its spec, so that this version's defaults apply.

    Fields that the spec lacks become null, as their owner once wrote them.
    """
    spec: Any = server.spec.model_dump(by_alias=True, exclude_unset=True)
    for path in paths:
        if stored.holds(spec, path):
            spec = stored.without(spec, path)
        elif stored.holds(spec, path[:-1]):
            spec = stored.with_null(spec, path)
    try:
        return server.model_copy(update={"spec": ServerSpec.model_validate(spec)})
    except ValidationError:
        return server  # This version requires one of the fields.
