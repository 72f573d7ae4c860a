"""Kept pod templates: what a server runs is what was built for its spec, whichever version of the operator runs now.

A ControllerRevision holds the inputs of a pod template, which are a part of the spec, and the template that was built
from them. While the inputs stay the same, so does the template. A ControllerRevision never changes: a new template is a
new object with the next number, and creating one of the same number twice fails.
https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/controller-revision-v1/
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from kimi_linear_operator.api import KimiLinearServer, Manifest, ServerSpec
from kimi_linear_operator.resources import metadata, ownership
from kimi_linear_operator.resources.deployment import build_pod_template, template_inputs
from kimi_linear_operator.resources.drift import differences, has_drifted
from kimi_linear_operator.resources.kinds import REVISION


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
    """

    number: int
    inputs: Manifest
    template: Manifest
    rollout: str
    uid: str
    generation: int
    is_automatic: bool = False


# Digits: what somebody else wrote there must not become a number without end.
_LONGEST_NUMBER = 18
# What somebody else wrote on a Deployment must leave room for the numbers that follow.
_HIGHEST_DEPLOYED = 10**9
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


def read(manifest: Manifest) -> Revision | None:
    """Return what a ControllerRevision holds, None if it is none that an operator wrote."""
    data, annotations = manifest.get("data"), metadata.annotations(manifest)
    if not isinstance(data, dict):
        return None
    found: dict[str, Any] = {name: data.get(name) for name in _DATA}
    if not all(isinstance(found[name], kind) for name, kind in _DATA.items()) or not _has_containers(found["template"]):
        return None
    return Revision(number_of(manifest), **found, is_automatic=metadata.AUTOMATIC_ANNOTATION in annotations)


def _has_containers(template: Manifest) -> bool:
    spec = template.get("spec")
    containers = spec.get("containers") if isinstance(spec, dict) else None
    return isinstance(containers, list) and all(isinstance(item, dict) for item in containers)


def number_of(manifest: Manifest) -> int:
    """Return which revision a ControllerRevision is."""
    return int(manifest["revision"])


def number_on(deployment: Manifest) -> int:
    """Return the number of the revision whose pod template a Deployment has, 0 if that is not known."""
    told = metadata.annotations(deployment).get(metadata.REVISION_ANNOTATION, "")
    return int(told) if told.isdecimal() and len(told) <= _LONGEST_NUMBER else 0


def build_revision(server: KimiLinearServer, revision: Revision) -> Manifest:
    """Return the ControllerRevision of a kept pod template."""
    data = {name: getattr(revision, name) for name in _DATA}
    name = f"{server.metadata.name}-{revision.number}"
    manifest = metadata.build_manifest(server, REVISION, name, data=data, revision=revision.number)
    if revision.is_automatic:
        metadata.annotate(manifest, metadata.AUTOMATIC_ANNOTATION, "true")
    return manifest


def keep(
    server: KimiLinearServer,
    revisions: Sequence[Revision],
    *,
    applied: Manifest | None = None,
    deployed: int = 0,
    used: int = 0,
    is_chosen: bool = False,
) -> Kept:
    """Return the pod template that a server is to have.

    Args:
        server: The server.
        revisions: What was kept of it.
        applied: The pod template that its Deployment has, if none was kept and it was built for this spec.
        deployed: The number of the revision whose template its Deployment has, 0 if that is not known.
        used: The highest number of any record, whatever that holds.
        is_chosen: Whether the operator is to take the newest template by itself now.
    """
    used = max([used, deployed if deployed <= _HIGHEST_DEPLOYED else 0, *(revision.number for revision in revisions)])
    known = list(revisions)
    if applied is not None and not revisions:
        known = [_new(server, applied, used)]
        deployed = known[0].number
    running = next((revision for revision in known if revision.number == deployed), None)
    current = max(known, key=lambda revision: revision.number, default=None)
    built = build_pod_template(server)
    if current is None or _has_new_inputs(server, current):
        return Kept(_new(server, built, used), running=running)
    offer = _differences(current.template, built)
    if offer and is_chosen:
        return Kept(_new(server, built, used, is_automatic=True), running=running)
    return Kept(current, offer, running)


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
    touched = [item for item in built["spec"]["volumes"] if any(ownership.selects(key, item) for key in in_volumes)]
    return has_drifted(live, ownership.extract(built, fields)) or has_drifted(live, {"spec": {"volumes": touched}})


def _in_template(fields: ownership.Fields) -> ownership.Fields:
    found: Any = fields
    for name in ("f:spec", "f:template"):
        found = found.get(name, {})
    return dict(found)


def _new(server: KimiLinearServer, template: Manifest, used: int, *, is_automatic: bool = False) -> Revision:
    return Revision(
        number=used + 1,
        inputs=template_inputs(server.spec),
        template=template,
        rollout=_wished(server),
        uid=server.metadata.uid,
        generation=server.metadata.generation,
        is_automatic=is_automatic,
    )


def _wished(server: KimiLinearServer) -> str:
    return server.metadata.annotations.get(metadata.ROLLOUT_ANNOTATION, "")


def _has_new_inputs(server: KimiLinearServer, revision: Revision) -> bool:
    """Return whether a server asks for another template than the one that was kept.

    A spec that was not written since asks for none, even if other versions of its definition show other defaults in it.
    """
    if (wished := _wished(server)) and wished != revision.rollout:
        return True
    if (revision.uid, revision.generation) == (server.metadata.uid, server.metadata.generation):
        return False
    inputs = template_inputs(server.spec)
    return revision.inputs != inputs and _understood(revision.inputs) != inputs


def _understood(inputs: Manifest) -> Manifest:
    """Return inputs that any version recorded as this version would have: fields that it does not know say nothing."""
    try:
        return template_inputs(ServerSpec.model_validate(_known(inputs, ServerSpec)))
    except ValidationError:
        return inputs


def _known(value: Mapping[str, Any], model: type[BaseModel]) -> Manifest:
    """Return the fields that a model has, at every level; parts that take any field are left as they are."""
    if model.model_config.get("extra") == "allow":
        return dict(value)
    fields = {field.alias or name: field.annotation for name, field in model.model_fields.items()}
    return {name: _known_part(item, fields[name]) for name, item in value.items() if name in fields}


def _known_part(value: Any, annotation: Any) -> Any:
    candidates = get_args(annotation) or (annotation,)
    part = next((item for item in candidates if isinstance(item, type) and issubclass(item, BaseModel)), None)
    return _known(value, part) if part and isinstance(value, dict) else value


def _differences(one: Manifest, other: Manifest) -> tuple[str, ...]:
    """Return where two templates mean different things to the API server, whichever of them has the field."""
    return () if one == other else tuple(sorted({*differences(one, other), *differences(other, one)}))
