"""Revisions: a server keeps the pod template that was built for its spec, even if another version of the operator runs.

A ControllerRevision holds a pod template and its inputs: the part of the spec that it was built from. While the inputs
stay the same, the template stays too. A ControllerRevision never changes: a new template gets a new object with the
next number, and the API server refuses a second object with the same number.
https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/controller-revision-v1/
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from kimi_linear_operator.kubernetes import metadata, ownership, stored
from kimi_linear_operator.kubernetes.drift import differences, has_drifted
from kimi_linear_operator.kubernetes.kinds import REVISION, Manifest
from kimi_linear_operator.kubernetes.overlay import has_same_items
from kimi_linear_operator.kubernetes.stored import FieldPath
from kimi_linear_operator.kubernetes.times import seconds_between
from kimi_linear_operator.server.deployment import build_pod_template, explicit_inputs, template_inputs
from kimi_linear_operator.server.labels import AUTOMATIC_ANNOTATION, REVISION_ANNOTATION, ROLLOUT_ANNOTATION
from kimi_linear_operator.server.spec import KimiLinearServer, ServerSpec


@dataclass(frozen=True)
class Revision:
    """A kept pod template.

    Attributes:
        number: Its number; the highest is current.
        inputs: The part of the spec that the template was built from.
        template: The pod template.
        rollout: The value of the server's rollout annotation at that time.
        uid: The UID of the server that it was built for.
        generation: The generation of the server's spec that it was built for.
        is_automatic: Whether the operator took the template by itself, and the server has not been Ready with it yet.
        defaulted: The inputs that the spec did not have: defaults of the version that made the revision. None if they
            were not recorded.
        created: When its ControllerRevision was created, as RFC 3339; empty if it was not yet.
    """

    number: int
    inputs: Manifest
    template: Manifest
    rollout: str
    uid: str
    generation: int
    is_automatic: bool = False
    defaulted: tuple[FieldPath, ...] | None = None
    created: str = ""

    @property
    def explicit_inputs(self) -> Manifest:
        """Return the inputs that the spec had, without defaults."""
        inputs = self.inputs
        for path in self.defaulted or ():
            inputs = stored.without(inputs, path) if stored.holds(inputs, path) else inputs
        return inputs


# Digits of a number in an annotation, which anybody may edit.
_LONGEST_NUMBER = 18
# A higher number in a Deployment's annotation is not counted as used, so that room is left for higher numbers.
_HIGHEST_DEPLOYED = 10**9
# A server has two revisions, for a moment three. Somebody may create thousands that look like them.
_MOST_READ = 32
# A Deployment has one or two field managers besides the operator and its controller. If there are more than this, their
# changes are not examined.
_MOST_MANAGERS = 100
# The models have some thirty fields with a default.
_MOST_DEFAULTED = 256
# Times of the API server are whole seconds, and a watch may be late. So a revision that is younger than this may lack
# what a user wrote shortly before it. A new definition with other defaults does not come within that time.
_UNSETTLED_SECONDS = 3.0
_END_OF_TIME = "9999-12-31T23:59:59Z"
# The data of a ControllerRevision, without the optional "defaulted".
_DATA: Mapping[str, type] = {"inputs": dict, "template": dict, "rollout": str, "uid": str, "generation": int}


@dataclass(frozen=True)
class Kept:
    """The pod template that a server should have.

    Attributes:
        current: The revision with this template.
        offer: The fields in which a newer template, which nobody has taken, differs; empty if there is none.
        running: The revision whose template the Deployment has now, None if unknown.
    """

    current: Revision
    offer: tuple[str, ...] = ()
    running: Revision | None = None

    def completed(self) -> "Kept":
        """Return the same without the mark of an automatic rollout, which has ended."""
        return replace(self, current=replace(self.current, is_automatic=False))


@dataclass(frozen=True)
class RolloutState:
    """What decides about a server's template besides its spec and its revisions.

    Attributes:
        is_chosen: Whether the automatic rollout has chosen this server to take the newest template now.
        is_unchanged: Whether this generation of the spec was applied. Then nobody has asked for other inputs since,
            even if another version's definition shows other defaults in the spec.
        is_unserved: Whether the server never had a Deployment.
        is_rolling_out: Whether the status says that the operator rolls out the newest template for this generation.
    """

    is_chosen: bool = False
    is_unchanged: bool = False
    is_unserved: bool = False
    is_rolling_out: bool = False


_NO_ROLLOUT = RolloutState()


def read(manifest: Manifest) -> Revision | None:
    """Return the revision in a ControllerRevision, None if no operator wrote it."""
    data, annotations = manifest.get("data"), metadata.annotations(manifest)
    if not isinstance(data, dict):
        return None
    parts: dict[str, Any] = {name: data.get(name) for name in _DATA}
    if not all(isinstance(parts[name], kind) for name, kind in _DATA.items()) or not _has_containers(parts["template"]):
        return None
    return Revision(
        number_of(manifest),
        **parts,
        is_automatic=AUTOMATIC_ANNOTATION in annotations,
        defaulted=_paths(data.get(_DEFAULTED)),
        created=str(manifest["metadata"].get("creationTimestamp", "")),
    )


# Revisions of older versions lack this part of the data.
_DEFAULTED = "defaulted"


def _paths(value: Any) -> tuple[FieldPath, ...] | None:
    """Return recorded paths, None if they are missing or cannot be read."""
    if not isinstance(value, list) or len(value) > _MOST_DEFAULTED:
        return None
    if not all(isinstance(path, list) and path for path in value):
        return None
    is_readable = all(isinstance(name, str | int) for path in value for name in path)
    return tuple(map(tuple, value)) if is_readable else None


def _has_containers(template: Manifest) -> bool:
    spec = template.get("spec")
    containers = spec.get("containers") if isinstance(spec, dict) else None
    return isinstance(containers, list) and all(isinstance(container, dict) for container in containers)


def newest(records: Iterable[Manifest], deployed: int) -> list[Manifest]:
    """Return the ControllerRevisions with the highest numbers, and those with the deployed number, 64 at most."""
    ordered = sorted(records, key=number_of, reverse=True)
    running = [record for record in ordered[_MOST_READ:] if number_of(record) == deployed]
    return [*ordered[:_MOST_READ], *running[:_MOST_READ]]


def number_of(manifest: Manifest) -> int:
    """Return the number of a ControllerRevision."""
    return int(manifest["revision"])


def number_on(deployment: Manifest) -> int:
    """Return the number of the revision whose pod template a Deployment has, 0 if unknown."""
    number = metadata.annotations(deployment).get(REVISION_ANNOTATION, "")
    return int(number) if number.isdecimal() and len(number) <= _LONGEST_NUMBER else 0


def build_revision(server: KimiLinearServer, revision: Revision) -> Manifest:
    """Return the ControllerRevision that holds a revision."""
    data = {name: getattr(revision, name) for name in _DATA}
    if revision.defaulted is not None:
        data[_DEFAULTED] = list(map(list, revision.defaulted))
    name = f"{server.metadata.name}-{revision.number}"
    manifest = metadata.build_manifest(server, REVISION, name, data=data, revision=revision.number)
    if revision.is_automatic:
        metadata.annotate(manifest, AUTOMATIC_ANNOTATION, "true")
    return manifest


def keep(
    server: KimiLinearServer,
    revisions: Sequence[Revision],
    *,
    applied: Manifest | None = None,
    deployed: int = 0,
    used: int = 0,
    state: RolloutState = _NO_ROLLOUT,
) -> Kept:
    """Return the pod template that a server should have.

    Args:
        server: The server, without defaults that nobody asked for.
        revisions: Its revisions.
        applied: The pod template that the operator applied to its Deployment for this spec, if there is no revision.
        deployed: The number of the revision whose template its Deployment has, 0 if unknown.
        used: The highest number of its ControllerRevisions, including those that cannot be read.
        state: What else decides about the template.
    """
    # Whether somebody has deleted the revision of an automatic rollout, which must be marked again.
    is_remade = state.is_rolling_out and not revisions
    used = max([used, deployed if deployed <= _HIGHEST_DEPLOYED else 0, *(revision.number for revision in revisions)])
    if applied is not None and not revisions:
        revisions = [_new(server, applied, used, is_automatic=is_remade)]
        deployed = revisions[0].number
    running = _with_number(revisions, deployed)
    built = build_pod_template(server)
    current = _revision_to_continue(server, revisions, running, built, state)
    if current is None or _has_new_annotation(server, current):
        return Kept(_new(server, built, used, is_automatic=is_remade), running=running)
    if not state.is_unchanged and has_other_inputs(server, current):
        return Kept(_new(server, built, used), running=running)
    offer = _differences(current.template, built)
    if offer and state.is_chosen:
        return Kept(_new(server, built, used, is_automatic=True), running=running)
    return Kept(current, offer, running)


def abandons_newest(
    server: KimiLinearServer, revisions: Sequence[Revision], deployed: int, state: RolloutState
) -> bool:
    """Return whether `keep` drops the newest revision because its template is not on the Deployment.

    Args:
        server: The server.
        revisions: Its revisions.
        deployed: The number of the revision whose template its Deployment has, 0 if unknown.
        state: What else decides about the template.
    """
    running, newest = _with_number(revisions, deployed), _newest(revisions)
    if newest is None or running is newest or not (running or state.is_unserved):
        return False
    return _revision_to_continue(server, revisions, running, build_pod_template(server), state) is not newest


def _revision_to_continue(
    server: KimiLinearServer,
    revisions: Sequence[Revision],
    running: Revision | None,
    built: Manifest,
    state: RolloutState,
) -> Revision | None:
    """Return the revision that a server has or is about to get, None if it needs a new one.

    Normally it is the newest. If the newest never reached the Deployment, the API server may have refused its template.
    Then it is dropped if this version builds another template from the spec, or if nobody asks for it any more.
    """
    newest = _newest(revisions)
    never_ran = state.is_unserved and newest is not None and newest.uid == server.metadata.uid
    if newest is None or running is newest or (running is None and not never_ran):
        return newest
    is_as_built = not _differences(newest.template, built)
    if running is None:
        return newest if is_as_built else None
    if _has_new_annotation(server, running) or (not state.is_unchanged and has_other_inputs(server, running)):
        return newest if is_as_built else None
    return newest if is_as_built and newest.is_automatic else running


def _newest(revisions: Sequence[Revision]) -> Revision | None:
    return max(revisions, key=lambda revision: revision.number, default=None)


def _with_number(revisions: Sequence[Revision], number: int) -> Revision | None:
    return next((revision for revision in revisions if revision.number == number), None)


def is_behind(server: KimiLinearServer, revisions: Sequence[Revision]) -> bool:
    """Return whether a revision was made for a newer spec than the cached one, because a watch is late."""
    cached = server.metadata
    return any(revision.uid == cached.uid and revision.generation > cached.generation for revision in revisions)


def running_template(server: KimiLinearServer, deployment: Manifest) -> Manifest | None:
    """Return the pod template that the operator applied to a Deployment without a revision.

    Fields of other managers are left out. None if somebody changed a field of ours: then a new template repairs it.

    Args:
        server: The server.
        deployment: Its Deployment, with its managed fields.
    """
    template: Manifest = deployment["spec"]["template"]
    managed_fields = deployment["metadata"].get("managedFields", ())
    if len(managed_fields) > _MOST_MANAGERS:
        return None
    built = build_pod_template(server)
    others = (_in_template(fields) for _, fields in ownership.other_fields(managed_fields, metadata.MANAGER))
    if any(_is_edited(template, built, fields) for fields in others):
        return None
    applied = _in_template(ownership.applied_fields(managed_fields, metadata.MANAGER))
    return dict(ownership.extract(template, applied)) if applied else template


def _is_edited(live: Manifest, built: Manifest, fields: ownership.Fields) -> bool:
    """Return whether another manager, who owns these fields, changed something that is built.

    Of a volume that is built, any change counts: it has exactly one source, so an added one replaces ours.
    """
    if not fields:
        return False
    of_volumes = fields.get("f:spec", {}).get("f:volumes", {})
    touched = [volume for volume, _, _ in ownership.selected_items(built["spec"]["volumes"], of_volumes)]
    return has_drifted(live, ownership.extract(built, fields)) or has_drifted(live, {"spec": {"volumes": touched}})


def _in_template(fields: ownership.Fields) -> ownership.Fields:
    below: Any = fields
    for name in ("f:spec", "f:template"):
        below = below.get(name, {})
    return dict(below)


def _new(server: KimiLinearServer, template: Manifest, used: int, *, is_automatic: bool = False) -> Revision:
    inputs = template_inputs(server.spec)
    return Revision(
        number=used + 1,
        inputs=inputs,
        defaulted=tuple(_changed(explicit_inputs(server.spec), inputs)),
        template=template,
        rollout=_rollout_annotation(server),
        uid=server.metadata.uid,
        generation=server.metadata.generation,
        is_automatic=is_automatic,
    )


def _rollout_annotation(server: KimiLinearServer) -> str:
    return server.metadata.annotations.get(ROLLOUT_ANNOTATION, "")


def _has_new_annotation(server: KimiLinearServer, revision: Revision) -> bool:
    """Return whether the rollout annotation has a value, and another one than when the revision was made."""
    value = _rollout_annotation(server)
    return bool(value) and value != revision.rollout


def has_other_inputs(server: KimiLinearServer, revision: Revision) -> bool:
    """Return whether the template's inputs have changed since a revision was made.

    They have not if the spec has the same generation, even if another version's definition shows other defaults in it.
    """
    if _is_of(revision, server):
        return False
    inputs = template_inputs(server.spec)
    return revision.inputs != inputs and _as_this_version_reads(revision.explicit_inputs) != inputs


def _is_of(revision: Revision, server: KimiLinearServer) -> bool:
    """Return whether a revision was made for this generation of this server."""
    return (revision.uid, revision.generation) == (server.metadata.uid, server.metadata.generation)


@dataclass(frozen=True)
class UncertainFields:
    """Fields of a spec that differ from a revision's inputs, perhaps without anybody having asked for that.

    Attributes:
        paths: The fields.
        recorded_until: The revision has all that owners of whole lists wrote up to this time (RFC 3339); empty if
            unknown.
    """

    paths: tuple[FieldPath, ...] = ()
    recorded_until: str = ""


def uncertain_fields(
    server: KimiLinearServer,
    revisions: Sequence[Revision],
    deployed: int,
    state: RolloutState = _NO_ROLLOUT,
    now: str = "",
) -> UncertainFields:
    """Return the fields that a revision lacks and the spec has, and the revision's nulls that the spec lacks.

    Somebody may have asked for these changes, or another version's definition is their cause. With every write, the API
    server stores the definition's defaults, of which nobody becomes the owner. It also drops a null (which removes a
    field of the pod) if the definition describes that field.

    All other changes are certain: a default never replaces or removes a value, so somebody asked for them.

    Args:
        server: The server.
        revisions: Its revisions.
        deployed: The number of the revision whose template its Deployment has, 0 if unknown.
        state: What else decides about the template.
        now: The time as RFC 3339.
    """
    record = _with_number(revisions, deployed) or _newest(revisions)
    inputs = template_inputs(server.spec)
    if record is None or record.inputs == inputs:
        return UncertainFields()
    recorded = record.explicit_inputs
    changed = _changed(_as_this_version_reads(recorded), inputs)
    paths = tuple(
        path for path in changed if not stored.holds(recorded, path) or _is_dropped_null(recorded, path, inputs)
    )
    is_applied = state.is_unchanged or _is_of(record, server)
    return UncertainFields(paths, _END_OF_TIME if is_applied else _settled(record.created, now))


def _settled(created: str, now: str) -> str:
    """Return when a revision was created, empty if that was just now or is unknown."""
    seconds = seconds_between(created, now)
    return created if seconds is not None and seconds >= _UNSETTLED_SECONDS else ""


def _is_dropped_null(recorded: Manifest, path: FieldPath, inputs: Manifest) -> bool:
    """Return whether a field was recorded as null and is missing now."""
    value: Any = recorded
    for name in path:
        value = value[name]
    return value is None and not stored.holds(inputs, path)


def unrequested(paths: Iterable[FieldPath], server: Manifest, recorded_until: str = "") -> tuple[FieldPath, ...]:
    """Return those of the uncertain fields that nobody asked for.

    - A field that the spec has: nobody asked for it if nobody owns it.
    - A null that the spec lacks: nobody asked for that if somebody still owns it, as the API server dropped it then. A
      user who removes it also gives up its ownership.
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


_ABSENT = object()


def _changed(before: Any, after: Any, path: FieldPath = ()) -> Iterator[FieldPath]:
    """Yield the fields that differ. A list counts as one field, unless its items have the same identities as before."""
    if isinstance(before, dict) and isinstance(after, dict):
        for name in {**before, **after}:
            yield from _changed(before.get(name, _ABSENT), after.get(name, _ABSENT), (*path, name))
    elif before is _ABSENT and isinstance(after, dict) and after:
        yield from _changed({}, after, path)
    elif has_same_items(str(path[-1]), before, after):
        for number, (old_item, new_item) in enumerate(zip(before, after, strict=True)):
            yield from _changed(old_item, new_item, (*path, number))
    elif before != after:
        yield path


def _as_this_version_reads(inputs: Manifest) -> Manifest:
    """Return the inputs of any version in the form of this version: with its defaults, without fields unknown to it."""
    try:
        return template_inputs(ServerSpec.model_validate(stored.known(inputs, ServerSpec)))
    except ValidationError:
        return inputs


def _differences(first: Manifest, second: Manifest) -> tuple[str, ...]:
    """Return the fields in which two templates differ for the API server, including fields that one of them lacks."""
    return () if first == second else tuple(sorted({*differences(first, second), *differences(second, first)}))
