"""Fields of a spec that nobody asked for.

With every write of an object, the API server stores the defaults of the current CRD. The CRD can be that of another
version of the operator. The managed fields show who set a field: a value that a user set has an owner, and a default
has none.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kimi_linear_operator.kubernetes import metadata, ownership, stored
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.stored import FieldPath
from kimi_linear_operator.kubernetes.times import seconds_before, seconds_between

# Times of the API server are whole seconds, and a watch may be late. So a record that is younger than this may lack a
# user's last write. The operator assumes that nobody installs a CRD with other defaults within this time.
_LATE_SECONDS = 3.0
# A write with the same time as a status is perhaps later than the status.
_SAME_SECOND = 1.0
# A CRD has about thirty defaults. A default in items of a list counts once for all items. If more fields than this have
# no owner, somebody has edited the managed fields. All fields then count as requested. Otherwise each pass would have
# to remove all these fields one by one.
_MOST_ANSWERS = 100


@dataclass(frozen=True)
class Answer:
    """A field that nobody asked for.

    Attributes:
        value: Its value in the spec, None if the spec lacks it.
        is_doubtful: Whether somebody has perhaps asked for it. This is true if somebody owns the list or object around
            it as a whole, or owned a null in its place.
    """

    value: Any
    is_doubtful: bool


Answers = Mapping[FieldPath, Answer]
"""Fields that nobody asked for."""


@dataclass(frozen=True)
class UncertainFields:
    """Fields in which a spec differs from recorded inputs. Perhaps nobody asked for these differences.

    Attributes:
        paths: The fields.
        recorded: The inputs that were in the spec at the time of the record.
        recorded_until: A time (RFC 3339). The record contains everything that owners of whole lists wrote before it.
            Empty if unknown.
    """

    paths: tuple[FieldPath, ...] = ()
    recorded: Manifest = field(default_factory=dict)
    recorded_until: str = ""


def added(
    changed: Iterable[FieldPath], recorded: Manifest, unowned: Collection[FieldPath] = ()
) -> tuple[FieldPath, ...]:
    """Return those of the changed fields for which perhaps nobody asked.

    These are the fields for which one of the following is true:

    - The record lacks the field, or has a null in it.
    - Nobody had set the field.
    - The field is in an item of a list. The owner of a list owns everything in it, so ownership does not show who set
      it.

    Args:
        changed: The fields that differ from the record.
        recorded: The recorded inputs.
        unowned: The recorded inputs that nobody had set.
    """
    unset = frozenset(unowned)
    return tuple(
        path
        for path in changed
        if stored.value_at(recorded, path) is None or is_in_item(path) or _had_no_owner(path, recorded, unset)
    )


def is_in_item(path: FieldPath) -> bool:
    """Return whether a field is in an item of a list."""
    return any(isinstance(name, int) for name in path)


def _had_no_owner(path: FieldPath, recorded: Manifest, unowned: frozenset[FieldPath]) -> bool:
    """Return whether nobody had set a recorded field, or any of the fields in it."""
    if any(path[:length] in unowned for length in range(1, len(path) + 1)):
        return True
    value = stored.value_at(recorded, path)
    return (
        isinstance(value, dict)
        and bool(value)
        and all((*path, *name) in unowned for name in ownership.unowned(value, {}))
    )


def complete_until(created: str, now: str) -> str:
    """Return when a record was created, empty if it was created only seconds ago or the time is unknown."""
    seconds = seconds_between(created, now)
    return created if seconds is not None and seconds >= _LATE_SECONDS else ""


def known_until(reported: str, now: str) -> str:
    """Return until when the operator knew all writes to a spec, given the time when it wrote the status."""
    seconds = seconds_between(reported, now)
    is_late = seconds is not None and seconds < _LATE_SECONDS
    return seconds_before(reported, _LATE_SECONDS if is_late else _SAME_SECOND)


def reported_at(managed_fields: Sequence[Manifest]) -> str:
    """Return when the operator last wrote the status of an object, empty if this is unknown."""
    own = (
        str(entry.get("time"))
        for entry in managed_fields
        if (entry.get("manager"), entry.get("subresource")) == (metadata.MANAGER, "status")
    )
    return max((time for time in own if seconds_between(time, time) is not None), default="")


@dataclass(frozen=True)
class Writes:
    """What is known about the writes to an object.

    Attributes:
        all: The managed fields of the object.
        newer: The entries of managers that may have written the spec after the record was made.
        seen: Doubtful fields, with their values, that nobody had asked for when the operator last saw the spec.
    """

    all: Sequence[Manifest]
    newer: Sequence[Manifest] = ()
    seen: Mapping[FieldPath, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Owned:
    """The owners of a spec.

    Attributes:
        owned: The fields of the spec that have an owner.
        newer: The fields of owners who may have written the spec after the record was made.
        recorded: The inputs that were in the spec at the time of the record.
        seen: See `Writes`.
    """

    owned: ownership.Fields
    newer: ownership.Fields
    recorded: Manifest
    seen: Mapping[FieldPath, Any]


def find(uncertain: UncertainFields, spec: Manifest, writes: Writes) -> Answers:
    """Return the uncertain fields that nobody asked for.

    - A field in the spec: nobody asked for it if it has no owner.
    - A recorded value that nobody had set: as long as nobody owns the field, nobody asked to change or to remove the
      value. The CRD of another version dropped the value, or has another default.
    - A null that is no longer in the spec: if the field still has an owner, the API server dropped the null, and nobody
      asked for that. A user who removes a null also gives up the ownership.
    - A field in a list that somebody owns as a whole, or a value in place of an owned null: ownership does not show
      what the owner wrote. Nobody asked for the field in two cases. Either no owner wrote the spec after the operator
      last applied it. Or the field already had the same value then, and nobody had asked for this value.
    - A field in an object that somebody owns as a whole: see `_is_default_in_object`.

    Args:
        uncertain: The uncertain fields.
        spec: The spec.
        writes: What is known about the writes to the object.
    """
    owners = _Owned(owned_spec(writes.all), owned_spec(writes.newer), uncertain.recorded, writes.seen)
    found = ((path, _answer(path, spec, owners)) for path in uncertain.paths)
    answers = {path: answer for path, answer in found if answer}
    fields = {tuple(name for name in path if isinstance(name, str)) for path in answers}
    return answers if len(fields) <= _MOST_ANSWERS else {}


def owned_spec(managed_fields: Sequence[Manifest]) -> ownership.Fields:
    """Return the fields of a spec that have an owner."""
    fields: ownership.Fields = ownership.owned_fields(managed_fields).get("f:spec", {})
    return fields


def _answer(path: FieldPath, spec: Manifest, owners: _Owned) -> Answer | None:
    """Return an uncertain field that nobody asked for, None if somebody asked for it."""
    value, is_there = stored.value_at(spec, path), stored.holds(spec, path)
    remaining = ownership.remaining_path(owners.owned, path, spec)
    was_default = stored.value_at(owners.recorded, path) is not None
    has_replaced_null = is_there and not was_default and stored.holds(owners.recorded, path)
    if remaining or (remaining == () and has_replaced_null):
        return Answer(value, is_doubtful=True) if _is_older(path, spec, remaining, owners) else None
    is_owned = remaining is not None
    is_unrequested = not is_owned if was_default else is_owned != is_there
    return Answer(value, is_doubtful=False) if is_unrequested else None


def _is_older(path: FieldPath, spec: Manifest, remaining: FieldPath, owners: _Owned) -> bool:
    """Return whether a doubtful field is older than the last writes of its owners, as far as the operator knows."""
    if path in owners.seen and owners.seen[path] == stored.value_at(spec, path):
        return True
    if remaining and isinstance(remaining[0], str):
        return _is_default_in_object(path, spec, remaining, owners)
    return not _is_written(path, spec, owners)


def _is_written(path: FieldPath, spec: Manifest, owners: _Owned) -> bool:
    """Return whether an owner of a field may have written the spec after the record was made."""
    return ownership.remaining_path(owners.newer, path, spec) is not None


def _is_default_in_object(path: FieldPath, spec: Manifest, remaining: FieldPath, owners: _Owned) -> bool:
    """Return whether a field in an object that somebody owns as a whole may be a default.

    There are two cases. In the first case, the owner has written an empty object, so all fields in it are defaults. In
    the second case, the CRD of another version made the object atomic, and the owner has written all fields.
    """
    around, was_set = path[: -len(remaining)], stored.value_at(owners.recorded, path) is not None
    if not (was_set or stored.holds(spec, path)) or not stored.holds(owners.recorded, around):
        return False  # Somebody has given up the null, or has written the object after that.
    # The record of a podTemplate contains no defaults. So if the object was not empty, its owner has written the fields
    # in it.
    is_atomic = around[0] == "podTemplate" and bool(stored.value_at(owners.recorded, around))
    return not (is_atomic and _is_written(path, spec, owners))


def recorded_again(spec: Manifest, answers: Answers, recorded: Manifest) -> Manifest:
    """Return a spec with the recorded values of these fields.

    Args:
        spec: The spec.
        answers: Fields that nobody asked for.
        recorded: The inputs with which the spec was compared.
    """
    for path, answer in answers.items():
        is_null = stored.holds(recorded, path) and stored.value_at(recorded, path) is None
        is_given_up = is_null and not answer.is_doubtful and stored.holds(spec, path)
        spec = stored.as_in(spec, path, stored.without(recorded, path) if is_given_up else recorded)
    return spec
