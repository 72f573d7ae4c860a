"""Fields of a spec that nobody asked for: defaults of another version's definition, which the API server has stored."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from kimi_linear_operator.kubernetes import ownership, stored
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.stored import FieldPath
from kimi_linear_operator.kubernetes.times import seconds_between
from kimi_linear_operator.server.revision import History
from kimi_linear_operator.server.spec import KimiLinearServer, ServerSpec
from kimi_linear_operator.server.template_choice import NO_ROLLOUT, RolloutState, is_of
from kimi_linear_operator.server.template_inputs import as_this_version_reads, changed_fields, template_inputs

# Times of the API server are whole seconds, and a watch may be late. So a revision that is younger than this may lack a
# user's write from shortly before. A new definition with other defaults does not come within that time.
_LATE_SECONDS = 3.0
_END_OF_TIME = "9999-12-31T23:59:59Z"


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
    value: Any = recorded
    for name in path:
        value = value[name]
    return value is None and not stored.holds(inputs, path)


def unrequested(paths: Iterable[FieldPath], server: Manifest, recorded_until: str = "") -> tuple[FieldPath, ...]:
    """Return those of the uncertain fields that nobody asked for.

    - A field that the spec has: nobody asked for it if nobody owns it.
    - A null that the spec lacks: if somebody still owns the field, the API server dropped the null, and nobody asked
      for that. A user who removes a null gives up the field, too.
    - A field in a list that somebody owns as a whole: ownership does not show which fields of the items the owner
      wrote. Nobody asked for it if no owner wrote after the revision was made.

    Args:
        paths: The uncertain fields.
        server: The server. Without managed fields, everything counts as asked for.
        recorded_until: See `UncertainFields`.
    """
    managed_fields = server["metadata"].get("managedFields", ())
    if not managed_fields:
        return ()
    owned, newer = _owned_spec(managed_fields), _owned_spec(ownership.written_after(managed_fields, recorded_until))
    spec = server.get("spec", {})
    return tuple(path for path in paths if _is_unrequested(path, spec, owned, newer))


def _owned_spec(managed_fields: Sequence[Manifest]) -> ownership.Fields:
    """Return the fields of a spec that anybody owns."""
    fields: ownership.Fields = ownership.owned_fields(managed_fields).get("f:spec", {})
    return fields


def _is_unrequested(path: FieldPath, spec: Manifest, owned: ownership.Fields, newer: ownership.Fields) -> bool:
    """Return whether nobody asked for an uncertain field.

    Args:
        path: The field.
        spec: The spec.
        owned: The fields that anybody owns.
        newer: The fields of owners that wrote after the revision was made.
    """
    remaining = ownership.remaining_path(owned, path, spec)
    if remaining:  # The field is in a list that somebody owns as a whole.
        return ownership.remaining_path(newer, path, spec) is None
    is_owned = remaining is not None
    return is_owned != stored.holds(spec, path)


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
