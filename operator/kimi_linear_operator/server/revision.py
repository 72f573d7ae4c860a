"""Kept pod templates: what a server runs is what was built for its spec, whichever version of the operator runs now.

A ControllerRevision holds the inputs of a pod template, which are a part of the spec, and the template that was built
from them. While the inputs stay the same, so does the template. A ControllerRevision never changes: a new template is a
new object with the next number, and creating one of the same number twice fails.
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
from kimi_linear_operator.server.deployment import build_pod_template, given_inputs, template_inputs
from kimi_linear_operator.server.labels import AUTOMATIC_ANNOTATION, REVISION_ANNOTATION, ROLLOUT_ANNOTATION
from kimi_linear_operator.server.spec import KimiLinearServer, ServerSpec


@dataclass(frozen=True)
class Revision:
    """A kept pod template.

    Attributes:
        number: Which one; the highest is current.
        inputs: The part of the spec that the template was built from.
        template: The pod template.
        rollout: The value of the server's rollout annotation that was seen.
        uid: The UID of the server that it was built for.
        generation: The generation of the server's spec that it was built for.
        is_automatic: Whether the operator took the template by itself, and the server has not been Ready with it yet.
        defaulted: Which of the inputs the spec did not have: the version that kept them had these defaults. None if
            that was not noted.
        created: When it was recorded, empty if it is not yet.
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
    def given(self) -> Manifest:
        """Return the inputs that the spec had."""
        inputs = self.inputs
        for path in self.defaulted or ():
            inputs = stored.without(inputs, path) if stored.holds(inputs, path) else inputs
        return inputs


# Digits: what somebody else wrote there must not become a number without end.
_LONGEST_NUMBER = 18
# What somebody else wrote on a Deployment must leave room for the numbers that follow.
_HIGHEST_DEPLOYED = 10**9
# A server has two, for a moment three. Somebody may make thousands that look like them.
_MOST_READ = 32
# Beside us and the Deployment controller, there are one or two. Of very many, nobody finds out what each has changed.
_MOST_MANAGERS = 100
# Of what the inputs have, the models describe some thirty fields with a default.
_MOST_DEFAULTED = 256
# Times of the API server are whole seconds, and a watch may be late: within so many after a record was written, it
# says nothing of what was written shortly before. No default of another version is that quick.
_UNSETTLED_SECONDS = 3.0
# No owner writes later than this.
_ALWAYS = "9999-12-31T23:59:59Z"
# What a ControllerRevision holds in its data.
_DATA: Mapping[str, type] = {"inputs": dict, "template": dict, "rollout": str, "uid": str, "generation": int}


@dataclass(frozen=True)
class Kept:
    """What a server's pods are to be.

    Attributes:
        current: The revision whose template they get.
        offer: Where a newer template that could be taken differs, as paths of fields; empty if there is none.
        running: The revision whose template the Deployment has now, if that is known.
    """

    current: Revision
    offer: tuple[str, ...] = ()
    running: Revision | None = None

    def completed(self) -> "Kept":
        """Return the same, once the server is Ready with a template that the operator took by itself."""
        return replace(self, current=replace(self.current, is_automatic=False))


@dataclass(frozen=True)
class Wish:
    """Who asks for another template, as far as the spec does not tell.

    Attributes:
        is_chosen: Whether the operator is to take the newest template by itself now.
        is_unchanged: Whether the spec was applied, so that nobody asks for other inputs, whatever it says now.
        is_unserved: Whether the server never had a Deployment.
        is_rolling_out: Whether it was told that the operator rolls the newest template out by itself, for this spec.
    """

    is_chosen: bool = False
    is_unchanged: bool = False
    is_unserved: bool = False
    is_rolling_out: bool = False


_AS_WRITTEN = Wish()


def read(manifest: Manifest) -> Revision | None:
    """Return what a ControllerRevision holds, None if it is none that an operator wrote."""
    data, annotations = manifest.get("data"), metadata.annotations(manifest)
    if not isinstance(data, dict):
        return None
    found: dict[str, Any] = {name: data.get(name) for name in _DATA}
    if not all(isinstance(found[name], kind) for name, kind in _DATA.items()) or not _has_containers(found["template"]):
        return None
    return Revision(
        number_of(manifest),
        **found,
        is_automatic=AUTOMATIC_ANNOTATION in annotations,
        defaulted=_paths(data.get(_DEFAULTED)),
        created=str(manifest["metadata"].get("creationTimestamp", "")),
    )


# Records of older versions lack this part of the data.
_DEFAULTED = "defaulted"


def _paths(value: Any) -> tuple[FieldPath, ...] | None:
    """Return paths as they were recorded, None if there are none that can be read."""
    if not isinstance(value, list) or len(value) > _MOST_DEFAULTED:
        return None
    if not all(isinstance(path, list) and path for path in value):
        return None
    is_readable = all(isinstance(name, str | int) for path in value for name in path)
    return tuple(map(tuple, value)) if is_readable else None


def _has_containers(template: Manifest) -> bool:
    spec = template.get("spec")
    containers = spec.get("containers") if isinstance(spec, dict) else None
    return isinstance(containers, list) and all(isinstance(item, dict) for item in containers)


def newest(records: Iterable[Manifest], deployed: int) -> list[Manifest]:
    """Return the ControllerRevisions with the highest numbers and those with this number, some dozens at most."""
    ordered = sorted(records, key=number_of, reverse=True)
    running = [record for record in ordered[_MOST_READ:] if number_of(record) == deployed]
    return [*ordered[:_MOST_READ], *running[:_MOST_READ]]


def number_of(manifest: Manifest) -> int:
    """Return which revision a ControllerRevision is."""
    return int(manifest["revision"])


def number_on(deployment: Manifest) -> int:
    """Return the number of the revision whose pod template a Deployment has, 0 if that is not known."""
    told = metadata.annotations(deployment).get(REVISION_ANNOTATION, "")
    return int(told) if told.isdecimal() and len(told) <= _LONGEST_NUMBER else 0


def build_revision(server: KimiLinearServer, revision: Revision) -> Manifest:
    """Return the ControllerRevision of a kept pod template."""
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
    wish: Wish = _AS_WRITTEN,
) -> Kept:
    """Return the pod template that a server is to have.

    Args:
        server: The server, as somebody asked for it.
        revisions: What was kept of it.
        applied: The pod template that its Deployment has, if none was kept and it was built for this spec.
        deployed: The number of the revision whose template its Deployment has, 0 if that is not known.
        used: The highest number of any record, whatever that holds.
        wish: Who asks for another one beside the spec.
    """
    is_remade = wish.is_rolling_out and not revisions
    used = max([used, deployed if deployed <= _HIGHEST_DEPLOYED else 0, *(revision.number for revision in revisions)])
    if applied is not None and not revisions:
        revisions = [_new(server, applied, used, is_automatic=is_remade)]
        deployed = revisions[0].number
    running = _numbered(revisions, deployed)
    built = build_pod_template(server)
    current = _begun(server, revisions, running, built, wish)
    if current is None or _is_asked_anew(server, current):
        return Kept(_new(server, built, used, is_automatic=is_remade), running=running)
    if not wish.is_unchanged and has_other_inputs(server, current):
        return Kept(_new(server, built, used), running=running)
    offer = _differences(current.template, built)
    if offer and wish.is_chosen:
        return Kept(_new(server, built, used, is_automatic=True), running=running)
    return Kept(current, offer, running)


def gives_up(server: KimiLinearServer, revisions: Sequence[Revision], deployed: int, wish: Wish) -> bool:
    """Return whether the newest revision is not gone on with, if the Deployment has not its template.

    Args:
        server: The server, as somebody asked for it.
        revisions: What was kept of it.
        deployed: The number of the revision whose template its Deployment has, 0 if that is not known.
        wish: Who asks for another template beside the spec.
    """
    running, newest = _numbered(revisions, deployed), _newest(revisions)
    if newest is None or running is newest or not (running or wish.is_unserved):
        return False
    return _begun(server, revisions, running, build_pod_template(server), wish) is not newest


def _begun(
    server: KimiLinearServer, revisions: Sequence[Revision], running: Revision | None, built: Manifest, wish: Wish
) -> Revision | None:
    """Return the revision that a server has or is about to get, None if it needs another one.

    It is the newest one. One whose template never came to the Deployment is not gone on with if this version builds
    another template from the same spec, as it may have been refused, or if nobody asks for it any more.
    """
    newest = _newest(revisions)
    never_ran = wish.is_unserved and newest is not None and newest.uid == server.metadata.uid
    if newest is None or running is newest or (running is None and not never_ran):
        return newest
    is_ours = not _differences(newest.template, built)
    if running is None:
        return newest if is_ours else None
    if _is_asked_anew(server, running) or (not wish.is_unchanged and has_other_inputs(server, running)):
        return newest if is_ours else None
    return newest if is_ours and newest.is_automatic else running


def _newest(revisions: Sequence[Revision]) -> Revision | None:
    return max(revisions, key=lambda revision: revision.number, default=None)


def _numbered(revisions: Sequence[Revision], number: int) -> Revision | None:
    return next((revision for revision in revisions if revision.number == number), None)


def is_behind(server: KimiLinearServer, revisions: Sequence[Revision]) -> bool:
    """Return whether a kept template is of a newer spec than the one that we see: a watch is late."""
    seen = server.metadata
    return any(revision.uid == seen.uid and revision.generation > seen.generation for revision in revisions)


def running_template(server: KimiLinearServer, deployment: Manifest) -> Manifest | None:
    """Return the pod template that we applied to a Deployment of which no revision was kept.

    What others added stays theirs. None if somebody changed what we applied: that is repaired to what is built now.

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
    """Return whether somebody's fields are not as they are built, or are in a volume of ours, which has one source."""
    if not fields:
        return False
    in_volumes = fields.get("f:spec", {}).get("f:volumes", {})
    touched = [item for item, _, _ in ownership.selected(built["spec"]["volumes"], in_volumes)]
    return has_drifted(live, ownership.extract(built, fields)) or has_drifted(live, {"spec": {"volumes": touched}})


def _in_template(fields: ownership.Fields) -> ownership.Fields:
    found: Any = fields
    for name in ("f:spec", "f:template"):
        found = found.get(name, {})
    return dict(found)


def _new(server: KimiLinearServer, template: Manifest, used: int, *, is_automatic: bool = False) -> Revision:
    inputs = template_inputs(server.spec)
    return Revision(
        number=used + 1,
        inputs=inputs,
        defaulted=tuple(_changed(given_inputs(server.spec), inputs)),
        template=template,
        rollout=_wished(server),
        uid=server.metadata.uid,
        generation=server.metadata.generation,
        is_automatic=is_automatic,
    )


def _wished(server: KimiLinearServer) -> str:
    return server.metadata.annotations.get(ROLLOUT_ANNOTATION, "")


def _is_asked_anew(server: KimiLinearServer, revision: Revision) -> bool:
    """Return whether the rollout annotation has a value that was not there when the template was kept."""
    wished = _wished(server)
    return bool(wished) and wished != revision.rollout


def has_other_inputs(server: KimiLinearServer, revision: Revision) -> bool:
    """Return whether a spec reads otherwise than the one that a template was kept for.

    A spec that was not written since does not, even if other versions of its definition show other defaults in it.
    """
    if _is_of(revision, server):
        return False
    inputs = template_inputs(server.spec)
    return revision.inputs != inputs and _understood(revision.given) != inputs


def _is_of(revision: Revision, server: KimiLinearServer) -> bool:
    """Return whether a revision was kept for the very spec that a server has."""
    return (revision.uid, revision.generation) == (server.metadata.uid, server.metadata.generation)


@dataclass(frozen=True)
class Doubt:
    """Where a spec differs from what was kept of it, and nobody may have asked for that.

    Attributes:
        paths: The fields.
        until: What owners wrote until then was kept, whatever lists they own as a whole; empty if that is not known.
    """

    paths: tuple[FieldPath, ...] = ()
    until: str = ""


def doubt(
    server: KimiLinearServer, revisions: Sequence[Revision], deployed: int, wish: Wish = _AS_WRITTEN, now: str = ""
) -> Doubt:
    """Return the fields of a spec that say something of which what was kept knows nothing, and nulls that are gone.

    Somebody asked for them after it was kept, or they are defaults of another version's definition: the API server
    stores these with any write of an object, and makes nobody their owner. It also drops a null, which removes a field
    of the pod, if another version's definition describes that field. A field that was kept, and that is gone or has
    another value now, somebody took out or changed: defaults replace no value.

    Args:
        server: The server.
        revisions: What was kept of it.
        deployed: The number of the revision whose template its Deployment has, 0 if that is not known.
        wish: Who asks for another template beside the spec.
        now: The time.
    """
    kept = _numbered(revisions, deployed) or _newest(revisions)
    inputs = template_inputs(server.spec)
    if kept is None or kept.inputs == inputs:
        return Doubt()
    changed = _changed(_understood(kept.given), inputs)
    paths = tuple(path for path in changed if not stored.holds(kept.given, path) or _is_null(kept.given, path, inputs))
    return Doubt(paths, _ALWAYS if wish.is_unchanged or _is_of(kept, server) else _settled(kept.created, now))


def _settled(created: str, now: str) -> str:
    """Return when a record was written, empty if that was just now or is not known."""
    seconds = seconds_between(created, now)
    return created if seconds is not None and seconds >= _UNSETTLED_SECONDS else ""


def _is_null(kept: Manifest, path: FieldPath, inputs: Manifest) -> bool:
    """Return whether a field was kept as null, and is gone."""
    value: Any = kept
    for name in path:
        value = value[name]
    return value is None and not stored.holds(inputs, path)


def unasked(paths: Iterable[FieldPath], server: Manifest, until: str = "") -> tuple[FieldPath, ...]:
    """Return the fields that differ from what was kept, and of which nobody asked for that.

    A field that is there is nobody's wish if it has no owner. A null that is gone is none as long as it has one: who
    takes it out of what they apply owns it no longer. Of a list that somebody owns as a whole, the API server does not
    tell which fields of its items its owner wrote: those that came when its owner had written last are nobody's.

    Args:
        paths: Fields of a server's spec.
        server: The server; if it is not recorded who owns what of it, everything counts as asked for.
        until: What owners of whole lists wrote until then was kept.
    """
    managed_fields = server["metadata"].get("managedFields", ())
    if not managed_fields:
        return ()
    owned, newer = _owned(managed_fields), _owned(ownership.written_after(managed_fields, until))
    spec = server.get("spec", {})
    return tuple(path for path in paths if _is_unasked(path, spec, owned, newer))


def _owned(managed_fields: Sequence[Manifest]) -> ownership.Fields:
    """Return what anybody owns of a spec."""
    found: ownership.Fields = ownership.owned_fields(managed_fields).get("f:spec", {})
    return found


def _is_unasked(path: FieldPath, spec: Manifest, owned: ownership.Fields, newer: ownership.Fields) -> bool:
    """Return whether nobody asked for a field that differs, given what anybody owns, and who wrote last."""
    left = ownership.beyond(owned, path, spec)
    if left:
        return ownership.beyond(newer, path, spec) is None
    return (left is None) == stored.holds(spec, path)


def without(server: KimiLinearServer, paths: Iterable[FieldPath]) -> KimiLinearServer:
    """Return a server without these fields of its spec: they have this version's defaults.

    Those that its spec does not have are null in what is returned, as somebody once wrote them.
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
        return server  # This version requires one of them.


_ABSENT = object()


def _changed(kept: Any, inputs: Any, path: FieldPath = ()) -> Iterator[FieldPath]:
    """Yield the fields that differ. A list is one field, unless it has the same objects as before."""
    if isinstance(kept, dict) and isinstance(inputs, dict):
        for name in {**kept, **inputs}:
            yield from _changed(kept.get(name, _ABSENT), inputs.get(name, _ABSENT), (*path, name))
    elif kept is _ABSENT and isinstance(inputs, dict) and inputs:
        yield from _changed({}, inputs, path)
    elif has_same_items(str(path[-1]), kept, inputs):
        for number, (one, other) in enumerate(zip(kept, inputs, strict=True)):
            yield from _changed(one, other, (*path, number))
    elif kept != inputs:
        yield path


def _understood(inputs: Manifest) -> Manifest:
    """Return inputs that any version recorded as this version would have: fields that it does not know say nothing."""
    try:
        return template_inputs(ServerSpec.model_validate(stored.known(inputs, ServerSpec)))
    except ValidationError:
        return inputs


def _differences(one: Manifest, other: Manifest) -> tuple[str, ...]:
    """Return where two templates mean different things to the API server, whichever of them has the field."""
    return () if one == other else tuple(sorted({*differences(one, other), *differences(other, one)}))
