"""Revisions: the pod templates that the operator keeps for a server.

A server keeps the pod template that was built for its spec, even if another version of the operator runs now.

A ControllerRevision contains a pod template and its inputs: the part of the spec from which the template was built.
While the inputs stay the same, the template also stays the same. The data of a ControllerRevision never change. A new
template gets a new object with the next number. The API server refuses a second object with the same number.
https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/controller-revision-v1/
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from kimi_linear_operator.kubernetes import metadata, record_text, stored
from kimi_linear_operator.kubernetes.bounds import MOST_VALUES, has_at_most
from kimi_linear_operator.kubernetes.kinds import GROUP, REVISION, Manifest
from kimi_linear_operator.kubernetes.record_text import Reader
from kimi_linear_operator.kubernetes.stored import FieldPath
from kimi_linear_operator.reconcile.decoded import once
from kimi_linear_operator.server.labels import (
    AUTOMATIC_ANNOTATION,
    LEFT_OUT_ANNOTATION,
    REVISION_ANNOTATION,
    ROLLOUT_ANNOTATION,
    ROUTER_HASH_ANNOTATION,
    ROUTER_NUMBER_ANNOTATION,
    SEEN_ANNOTATION,
    UNOWNED_ANNOTATION,
    VERIFICATION_ANNOTATION,
)
from kimi_linear_operator.server.spec import KimiLinearServer

# Maximum number of digits in an annotation, because anybody can edit it.
_LONGEST_NUMBER = 18
# Characters of a hash, see `metadata.hash_of`.
_LONGEST_HASH = 16
# Larger numbers in a Deployment's annotation are ignored. So there are always larger numbers for new revisions.
_HIGHEST_DEPLOYED = 10**9
# A server has two revisions, and for a moment three. Users can create thousands of similar objects.
_MOST_READ = 32
# The models have about thirty fields with a default, and the lists of a spec have up to a thousand items. For most
# servers, the length of the annotation allows fewer paths than this.
_MOST_PATHS = 1024
# Characters of an annotation with fields. All annotations of an object together can have 256 KiB.
_LONGEST_FIELDS = 32_768
# Characters of the annotation with the result of a verification: the message of a condition, and a name.
_LONGEST_RESULT = 4096
# The largest cost of all annotations of the records that a pass reads (`record_text`). Reading them takes about 15 ms.
# Usual annotations of a record cost less than 1,000.
_HEAVIEST_ANNOTATIONS = 30_000
# Keys and values. A spec is smaller than half of it, and the rest is room for defaults.
_MOST_INPUTS = 2 * MOST_VALUES
# The data of a ControllerRevision, without the optional "defaulted".
_DATA: Mapping[str, type] = {"inputs": dict, "template": dict, "rollout": str, "uid": str, "generation": int}
# A value of AUTOMATIC_ANNOTATION.
_ASLEEP = "asleep"
# Revisions of older versions lack this part of the data.
_DEFAULTED = "defaulted"
UNOWNED = "unowned"
"""The unowned inputs in the record of a router. A ControllerRevision has them in an annotation, because they change."""
# Our annotations that this version or users set. All other annotations of ours come from another version.
_KNOWN = (
    AUTOMATIC_ANNOTATION,
    LEFT_OUT_ANNOTATION,
    ROUTER_HASH_ANNOTATION,
    ROUTER_NUMBER_ANNOTATION,
    SEEN_ANNOTATION,
    UNOWNED_ANNOTATION,
    VERIFICATION_ANNOTATION,
    metadata.ADOPT_ANNOTATION,
    metadata.FINGERPRINT_ANNOTATION,
)


@dataclass(frozen=True)
class Result:
    """The result of the verification of a pod template.

    Attributes:
        has_passed: Whether the answers were right.
        message: The name of the benchmark, and its numbers.
    """

    has_passed: bool
    message: str


@dataclass(frozen=True)
class Seen:
    """What the operator saw of a spec that it did not apply.

    Attributes:
        uid: The UID of the server.
        generation: The generation of the spec.
        requested: Fields in which the spec differed from the inputs of the record, with their values. They could have
            been only defaults, but perhaps somebody had asked for them.
        replicas: The replicas in the spec, None if an older version has recorded this.
    """

    uid: str
    generation: int
    requested: Mapping[FieldPath, Any] = field(default_factory=dict)
    replicas: int | None = None


@dataclass(frozen=True)
class Revision:
    """A kept pod template.

    Attributes:
        number: Its number. The revision with the highest number is current.
        inputs: The part of the spec from which the template was built.
        template: The pod template.
        rollout: The value of the server's rollout annotation when the revision was made.
        uid: The UID of the server.
        generation: The generation of the server's spec.
        is_automatic: Whether the revision is part of an automatic rollout, and the server has not been Ready with it
            yet.
        was_asleep: Whether KEDA had removed all replicas when the server took the template in the automatic rollout. No
            replica then shows whether the template works, so the rollout does not wait for one.
        router_hash: In an automatic rollout of only the router: the hash of the router's new pod template. Empty in any
            other rollout.
        router_number: If the revision was made again under another number: the number in the router's record at that
            time. Nobody has asked for another template of the router since then. 0 for all other revisions.
        defaulted: The inputs that were not in the spec. They are defaults of the version that made the revision. None
            if they were not recorded.
        created: When its ControllerRevision was created, as RFC 3339; empty if it does not exist yet.
        left_out: Fields of the spec, with their values, that are perhaps only defaults. The template ignores them. They
            are recorded, so that the next operator does not treat them as requests of the user.
        refused: Values in the spec that nobody asked for and that this version refuses. They are not recorded.
        unowned: Inputs from the spec that nobody had set. They were defaults of the CRD that was installed then.
        seen: What the operator saw of the last spec that it did not apply, None if it applied all specs.
        result: The result of its verification, None if it was not verified.
        data: The data of its ControllerRevision, which never change. They can contain keys of another version. None if
            the ControllerRevision does not exist yet.
        others: Annotations that only another version knows.
    """

    number: int
    inputs: Manifest
    template: Manifest
    rollout: str
    uid: str
    generation: int
    is_automatic: bool = False
    was_asleep: bool = False
    router_hash: str = ""
    router_number: int = 0
    defaulted: tuple[FieldPath, ...] | None = None
    created: str = ""
    left_out: Mapping[FieldPath, Any] = field(default_factory=dict)
    refused: Mapping[FieldPath, Any] = field(default_factory=dict)
    unowned: tuple[FieldPath, ...] = ()
    seen: Seen | None = None
    result: Result | None = None
    data: Manifest | None = field(default=None, compare=False, repr=False)
    others: Mapping[str, str] = field(default_factory=dict, compare=False)

    @property
    def has_passed(self) -> bool:
        """Return whether the answers were right in the verification."""
        return self.result is not None and self.result.has_passed

    @property
    def has_failed(self) -> bool:
        """Return whether the answers were wrong in the verification."""
        return self.result is not None and not self.result.has_passed

    @property
    def refused_inputs(self) -> tuple[FieldPath, ...]:
        """Return the inputs whose values this version refuses."""
        return tuple(stored.unchanged(self.inputs, self.refused))

    @cached_property
    def explicit_inputs(self) -> Manifest:
        """Return the inputs that were in the spec, without defaults.

        Refused values are left out, because the operator also drops them from the spec. Otherwise they would look like
        a change.
        """
        return stored.without_all(self.inputs, (*(self.defaulted or ()), *self.refused_inputs))


def read(manifest: Manifest) -> Revision | None:
    """Return the revision in a ControllerRevision, None if no operator wrote it."""
    return _read(manifest, Reader(_HEAVIEST_ANNOTATIONS))


def read_all(records: Sequence[Manifest]) -> list[Revision]:
    """Return the revisions that can be read. Within a pass, the same records are read once.

    The annotations of all records together have a bound. The annotations of the first records are read first. When the
    bound is reached, further annotations count as missing.
    """
    return once(_read_all, tuple(records))


def _read_all(records: tuple[Manifest, ...]) -> list[Revision]:
    reader = Reader(_HEAVIEST_ANNOTATIONS)
    return [revision for record in records if (revision := _read(record, reader))]


def _read(manifest: Manifest, reader: Reader) -> Revision | None:
    data, annotations = manifest.get("data"), metadata.annotations(manifest)
    found = of_data(data, number_of(manifest))
    if found is None:
        return None
    result = _result(reader.decode(annotations.get(VERIFICATION_ANNOTATION, ""), _LONGEST_RESULT))
    left_out, seen, unowned = (
        reader.decode(annotations.get(name, ""), _LONGEST_FIELDS)
        for name in (LEFT_OUT_ANNOTATION, SEEN_ANNOTATION, UNOWNED_ANNOTATION)
    )
    return replace(
        found,
        is_automatic=AUTOMATIC_ANNOTATION in annotations,
        was_asleep=annotations.get(AUTOMATIC_ANNOTATION) == _ASLEEP,
        router_hash=annotations.get(ROUTER_HASH_ANNOTATION, "")[:_LONGEST_HASH],
        router_number=_number(annotations.get(ROUTER_NUMBER_ANNOTATION, "")),
        created=str(manifest["metadata"].get("creationTimestamp", "")),
        left_out=record_text.values(left_out, _MOST_PATHS),
        seen=_seen(seen),
        unowned=record_text.paths(unowned, _MOST_PATHS) or (),
        result=result,
        others=_unknown(annotations),
    )


def of_data(data: Any, number: int) -> Revision | None:
    """Return the revision in data of a ControllerRevision or of an annotation, None if it cannot be read."""
    if not isinstance(data, dict):
        return None
    parts: dict[str, Any] = {name: data.get(name) for name in _DATA}
    if not all(isinstance(parts[name], kind) for name, kind in _DATA.items()) or not _has_containers(parts["template"]):
        return None
    if not has_at_most(parts["inputs"], _MOST_INPUTS):
        return None
    defaulted, unowned = (record_text.paths(data.get(name), _MOST_PATHS) for name in (_DEFAULTED, UNOWNED))
    return Revision(number, **parts, defaulted=defaulted, unowned=unowned or (), data=data)


def data_of(revision: Revision) -> Manifest:
    """Return the data that holds a revision. Recorded data never change."""
    if revision.data is not None:
        return revision.data
    data = {name: getattr(revision, name) for name in _DATA}
    return data if revision.defaulted is None else {**data, _DEFAULTED: list(map(list, revision.defaulted))}


def _result(value: Any) -> Result | None:
    """Return a recorded result, None if it is missing or cannot be read."""
    is_readable = isinstance(value, dict) and isinstance(value.get("passed"), bool)
    return Result(value["passed"], str(value.get("message", ""))) if is_readable else None


def _seen(value: Any) -> Seen | None:
    """Return what was recorded of a spec that was not applied, None if it is missing or cannot be read."""
    if not isinstance(value, dict):
        return None
    uid, generation = value.get("uid"), value.get("generation")
    if not isinstance(uid, str) or not isinstance(generation, int):
        return None
    requested, replicas = record_text.values(value.get("requested"), _MOST_PATHS), value.get("replicas")
    return Seen(uid, generation, requested, replicas if type(replicas) is int else None)


def _unknown(annotations: Mapping[str, str]) -> dict[str, str]:
    """Return those of our annotations that only another version knows. Users can add more, so their length is limited.

    If an operator applied the record without these annotations, the apply would remove them.
    """
    unknown = {name: value for name, value in annotations.items() if _is_unknown(name)}
    return unknown if sum(map(len, unknown.values())) <= _LONGEST_FIELDS else {}


def _is_unknown(name: str) -> bool:
    return name.startswith(f"{GROUP}/") and name not in _KNOWN


def _has_containers(template: Manifest) -> bool:
    spec = template.get("spec")
    containers = spec.get("containers") if isinstance(spec, dict) else None
    return isinstance(containers, list) and all(isinstance(container, dict) for container in containers)


def newest(records: Iterable[Manifest], deployed: int) -> list[Manifest]:
    """Return at most 64 ControllerRevisions: those with the deployed number, then those with the highest numbers."""
    ordered = sorted(records, key=number_of, reverse=True)
    running = [record for record in ordered if number_of(record) == deployed]
    others = [record for record in ordered if number_of(record) != deployed]
    return [*running[:_MOST_READ], *others[:_MOST_READ]]


def number_of(manifest: Manifest) -> int:
    """Return the number of a ControllerRevision."""
    return int(manifest["revision"])


def number_on(deployment: Manifest | None) -> int:
    """Return the number of the revision whose pod template a Deployment has, 0 if unknown or without a Deployment."""
    return _number(metadata.annotations(deployment).get(REVISION_ANNOTATION, "")) if deployment else 0


def _number(text: str) -> int:
    """Return the number in an annotation, 0 if there is none."""
    return int(text) if text.isdecimal() and len(text) <= _LONGEST_NUMBER else 0


def record_name(server: str, number: int) -> str:
    """Return the name of the ControllerRevision that holds a server's revision with this number."""
    return f"{server}-{number}"


def build_revision(server: KimiLinearServer, revision: Revision) -> Manifest:
    """Return the ControllerRevision that holds a revision."""
    name = record_name(server.metadata.name, revision.number)
    manifest = metadata.build_manifest(server, REVISION, name, data=data_of(revision), revision=revision.number)
    texts = {
        **_marks(revision),
        VERIFICATION_ANNOTATION: _result_text(revision.result),
        LEFT_OUT_ANNOTATION: _text(_entries(revision.left_out)),
        SEEN_ANNOTATION: _seen_text(revision.seen),
        UNOWNED_ANNOTATION: _text(sorted(revision.unowned, key=str)),
    }
    for annotation, text in texts.items():
        if text:
            metadata.annotate(manifest, annotation, text)
    for annotation, value in revision.others.items():
        metadata.annotate(manifest, annotation, value)
    return manifest


def _marks(revision: Revision) -> dict[str, str]:
    """Return the annotations about rollouts. Those that the revision should not have are empty."""
    automatic = _ASLEEP if revision.was_asleep else "true"
    is_remade = 0 < revision.router_number < revision.number
    return {
        AUTOMATIC_ANNOTATION: automatic if revision.is_automatic else "",
        ROUTER_HASH_ANNOTATION: revision.router_hash if revision.is_automatic else "",
        ROUTER_NUMBER_ANNOTATION: str(revision.router_number) if is_remade else "",
    }


def _result_text(result: Result | None) -> str:
    """Return JSON with the result of a verification, empty if there is none."""
    return json.dumps({"passed": result.has_passed, "message": result.message}) if result else ""


def _entries(values: Mapping[FieldPath, Any]) -> list[Any]:
    return [[path, value] for path, value in sorted(values.items(), key=str)]


def _seen_text(seen: Seen | None) -> str:
    """Return JSON with what was seen of a spec, empty if there is nothing, or too much to be recorded."""
    if seen is None or len(seen.requested) > _MOST_PATHS:
        return ""
    about = {"uid": seen.uid, "generation": seen.generation, "replicas": seen.replicas}
    text = json.dumps({**about, "requested": _entries(seen.requested)})
    return text if record_text.fits(text, _LONGEST_FIELDS) else ""


def _text(entries: Sequence[Any]) -> str:
    """Return JSON with fields for an annotation, empty if there are none or too many to be recorded."""
    text = json.dumps(entries) if entries and len(entries) <= _MOST_PATHS else ""
    return text if record_text.fits(text, _LONGEST_FIELDS) else ""


def is_of(revision: Revision, server: KimiLinearServer) -> bool:
    """Return whether a revision was made for this generation of this server."""
    return (revision.uid, revision.generation) == (server.metadata.uid, server.metadata.generation)


def rollout_of(server: KimiLinearServer) -> str:
    """Return the value of a server's rollout annotation, empty if it has none."""
    return server.metadata.annotations.get(ROLLOUT_ANNOTATION, "")


def has_new_annotation(server: KimiLinearServer, revision: Revision) -> bool:
    """Return whether the rollout annotation was changed after the revision was made."""
    value = rollout_of(server)
    return bool(value) and value != revision.rollout


@dataclass(frozen=True)
class History:
    """The revisions of a server.

    Attributes:
        revisions: The revisions that can be read.
        deployed: The number of the revision whose template the Deployment has, 0 if unknown.
        taken: The numbers of all ControllerRevisions, including those that cannot be read.
    """

    revisions: Sequence[Revision] = ()
    deployed: int = 0
    taken: Collection[int] = ()

    @property
    def newest(self) -> Revision | None:
        """Return the revision with the highest number, None if there is none."""
        return max(self.revisions, key=lambda revision: revision.number, default=None)

    @property
    def running(self) -> Revision | None:
        """Return the revision whose template the Deployment has, None if unknown."""
        return next((revision for revision in self.revisions if revision.number == self.deployed), None)

    @property
    def reference(self) -> Revision | None:
        """Return the revision whose inputs show what a spec has changed, None if there is none."""
        newest = self.newest
        return newest if newest and newest.has_failed else self.running or newest

    @property
    def has_number(self) -> bool:
        """Return whether the number on the Deployment can be that of a revision."""
        return 0 < self.deployed <= _HIGHEST_DEPLOYED

    @property
    def is_record_lost(self) -> bool:
        """Return whether the Deployment has the template of a record that does not exist any more, or is unreadable.

        A record is written before its template is applied. So a Deployment has a higher number than all readable
        records only if a record is lost or unreadable, or if somebody has edited the number.
        """
        newest = self.newest
        return newest is None or newest.number < self.deployed <= _HIGHEST_DEPLOYED

    @property
    def _highest(self) -> int:
        """Return the highest number of a record, 0 if there is none."""
        return max([*self.taken, *(revision.number for revision in self.revisions)], default=0)

    def without(self, refused: Mapping[FieldPath, Any]) -> "History":
        """Return the history without these values in the inputs, because this version refuses them."""
        return replace(self, revisions=[replace(item, refused=refused) for item in self.revisions])

    def without_generations_after(self, generation: int) -> "History":
        """Return the history. Revisions with a higher generation than the spec get the generation 0.

        Only the inputs of these revisions count.
        """
        known = [item if item.generation <= generation else replace(item, generation=0) for item in self.revisions]
        return replace(self, revisions=known)

    @property
    def next_number(self) -> int:
        """Return a number that no revision has used."""
        return max(self._highest, self.deployed if self.has_number else 0) + 1

    @property
    def lost_number(self) -> int:
        """Return the number for a new revision in place of the Deployment's lost revision.

        This is the number on the Deployment. If an unreadable revision has this number, or if there is no Deployment,
        this is the next number.
        """
        return self.deployed if self.has_number and self.deployed not in self.taken else self.next_number

    def is_newer_than(self, server: KimiLinearServer) -> bool:
        """Return whether a revision was made for a newer spec than the cached one.

        This happens when a watch is late.
        """
        cached = server.metadata
        return any(item.uid == cached.uid and item.generation > cached.generation for item in self.revisions)


def history_of(records: Sequence[Manifest], deployed: int) -> History:
    """Return the contents of a server's ControllerRevisions.

    Args:
        records: The ControllerRevisions.
        deployed: The number of the revision whose template the Deployment has, 0 if unknown.
    """
    return History(read_all(records), deployed, taken=frozenset(map(number_of, records)))
