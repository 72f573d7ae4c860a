"""Facts of servers and their children, and an index of servers by weights, marks of rollouts, and gates of pods.

A look-up decodes no object.
"""

from collections import Counter
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

from kimi_linear_operator.kubernetes import ownership
from kimi_linear_operator.kubernetes.conditions import ready_condition
from kimi_linear_operator.kubernetes.kinds import DEPLOYMENT, POD, REVISION, Kind, Manifest
from kimi_linear_operator.kubernetes.metadata import annotations, is_being_deleted, is_controlled_by
from kimi_linear_operator.kubernetes.packed_paths import packed, unpacked
from kimi_linear_operator.kubernetes.stored import FieldPath
from kimi_linear_operator.reconcile.cache import Cache, discard
from kimi_linear_operator.reconcile.cached_object import CachedObject, Key
from kimi_linear_operator.server import revision
from kimi_linear_operator.server.gate import template_label
from kimi_linear_operator.server.labels import AUTOMATIC_ANNOTATION
from kimi_linear_operator.server.spec import SERVER
from kimi_linear_operator.weights.spec import WEIGHTS

# In characters, as for `spec.engine.image`. A limit is needed because users can write any text into a status.
_LONGEST_IMAGE = 512
# In characters. The API server refuses longer names.
_LONGEST_NAME = 253


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """The facts of a server that other resources read.

    The number of serving replicas and the progress of a start are not part of them.

    Attributes:
        weights: The KimiLinearWeights that it names, empty if it names none.
        is_verified: Whether benchmarks verify it.
        uid: Its UID.
        generation: The generation of its spec.
        ready: Status, reason and observed generation of Ready.
        image: The image in its status.
        is_being_deleted: Whether it is being deleted.
        unowned_text: The fields of its spec that have no owner, as a packed text. None if they are unknown, or if they
            take too much memory. No other resource reads them.
    """

    weights: str
    is_verified: bool
    uid: str
    generation: int
    ready: tuple[str, str, int]
    image: str
    is_being_deleted: bool
    unowned_text: bytes | None = field(default=None, compare=False)

    @property
    def unowned(self) -> tuple[FieldPath, ...] | None:
        """Return the fields of its spec that have no owner, None if they are unknown."""
        return None if self.unowned_text is None else unpacked(self.unowned_text)


class DeploymentFacts(NamedTuple):
    """The facts of a Deployment.

    Attributes:
        is_paused: Whether somebody has paused it.
        revision: The number of the revision whose pod template it has, 0 if unknown.
    """

    is_paused: bool
    revision: int


class GatedFacts(NamedTuple):
    """The facts of a pod that may have our readiness gate: whether a ReplicaSet controls it."""

    is_controlled: bool


class Mark(NamedTuple):
    """The facts of a record with the mark of an automatic rollout.

    Attributes:
        has_failed: Whether its verification has failed.
        deleted: Its number if it is being deleted, else None. A finalizer may hold a deleted record for ever, so its
            mark counts only while the Deployment has its template.
    """

    has_failed: bool
    deleted: int | None = None


def facts(kind: Kind, manifest: Manifest) -> object | None:
    """Return the facts of a server, a Deployment, a pod with a gate, or a marked record; None for any other child."""
    if kind == SERVER:
        return _server_facts(manifest)
    if kind == DEPLOYMENT:
        return DeploymentFacts((manifest.get("spec") or {}).get("paused") is True, revision.number_on(manifest))
    if kind == POD and template_label(manifest) is not None:
        return GatedFacts(is_controlled_by(manifest, "ReplicaSet"))
    if kind != REVISION or AUTOMATIC_ANNOTATION not in annotations(manifest):
        return None
    record = revision.read(manifest)
    deleted = revision.number_of(manifest) if is_being_deleted(manifest) else None
    return Mark(record is not None and record.has_failed, deleted)


def _server_facts(manifest: Manifest) -> ServerFacts:
    metadata, status = manifest["metadata"], manifest.get("status", {})
    ready, name = ready_condition(status), _value_in(manifest, "model", "weights")
    return ServerFacts(
        weights=name if isinstance(name, str) and len(name) <= _LONGEST_NAME else "",
        is_verified=_value_in(manifest, "verification", "mode") in _VERIFIED,
        uid=str(metadata.get("uid", "")),
        generation=int(metadata.get("generation", 0)),
        ready=(str(ready.get("status")), str(ready.get("reason")), int(ready.get("observedGeneration") or 0)),
        image=str(status.get("image", ""))[:_LONGEST_IMAGE],
        is_being_deleted=is_being_deleted(manifest),
        unowned_text=_unowned_text(manifest),
    )


def _unowned_text(manifest: Manifest) -> bytes | None:
    spec, managed_fields = manifest.get("spec"), manifest["metadata"].get("managedFields", ())
    # They are None if they were too heavy to be kept (`cluster/light.py`).
    if not isinstance(spec, dict) or managed_fields is None:
        return None
    unowned = ownership.without_owner(spec, managed_fields)
    text = None if unowned is None else packed(unowned)
    return None if text is None else _shared(text)


@lru_cache(maxsize=1024)
def _shared(text: bytes) -> bytes:
    """Return the same object for equal texts, to save memory: most servers leave the same fields to defaults."""
    return text


_VERIFIED = ("Warn", "Block")


def _value_in(manifest: Manifest, group: str, name: str) -> Any:
    """Return a field of an object in a spec, None if it is missing. The spec can have any shape."""
    spec: Any = manifest.get("spec")
    fields = spec.get(group) if isinstance(spec, dict) else None
    return fields.get(name) if isinstance(fields, dict) else None


class ServerIndex:
    """Finds the servers that use given weights, and those with a marked record."""

    def __init__(self, cache: Cache) -> None:
        """Create an empty index of a cache."""
        self._cache = cache
        self._users: dict[Key, dict[Key, None]] = {}
        # The number of marked records by server, and then by UID of the owner and by the mark.
        self._marks: dict[Key, Counter[tuple[str, Mark]]] = {}
        # The number of pods with a gate by server.
        self._gated: Counter[Key] = Counter()

    def add(self, cached: CachedObject) -> None:
        """Add an object that is new in the cache."""
        if used := _used(cached):
            self._users.setdefault(used, {})[cached.key] = None
        self._count_mark(cached, 1)
        self._count_gate(cached, 1)

    def remove(self, cached: CachedObject) -> None:
        """Remove an object that the cache has dropped or replaced."""
        if used := _used(cached):
            discard(self._users, used, cached.key)
        self._count_mark(cached, -1)
        self._count_gate(cached, -1)

    def clear(self) -> None:
        """Remove everything."""
        self._users.clear()
        self._marks.clear()
        self._gated.clear()

    def has_mark(self, key: Key, uid: str, *, counts_failed: bool) -> bool:
        """Return whether a server owns a marked record. A record that is being deleted counts if its pods run.

        Args:
            key: The server.
            uid: Its UID.
            counts_failed: Whether a record that failed verification counts, too.
        """
        marks = self._marks.get(key)
        if not marks:
            return False
        deployment = self._cache.find(key.of(DEPLOYMENT))
        facts = deployment.facts if deployment else None
        deployed = facts.revision if isinstance(facts, DeploymentFacts) else None
        results = (False, True) if counts_failed else (False,)
        return any(marks[uid, Mark(has_failed, deleted)] for has_failed in results for deleted in (None, deployed))

    def has_gates(self, key: Key) -> bool:
        """Return whether a server has pods with our readiness gate."""
        return self._gated[key] > 0

    def _count_gate(self, cached: CachedObject, sign: int) -> None:
        if cached.owner is None or not isinstance(cached.facts, GatedFacts) or not cached.facts.is_controlled:
            return
        self._gated[cached.owner] += sign
        if not self._gated[cached.owner]:
            del self._gated[cached.owner]

    def _count_mark(self, cached: CachedObject, sign: int) -> None:
        """Count a marked record for each of its owners."""
        if cached.owner is None or not isinstance(cached.facts, Mark):
            return
        marks = self._marks.setdefault(cached.owner, Counter())
        for uid in set(cached.owners):
            marks[uid, cached.facts] += sign
            if not marks[uid, cached.facts]:
                del marks[uid, cached.facts]
        if not marks:
            del self._marks[cached.owner]

    def keys_to_enqueue(self, before: CachedObject | None, after: CachedObject | None) -> set[Key]:
        """Return the servers to enqueue after the facts of their weights have changed."""
        versions = [cached for cached in (before, after) if cached]
        has_changed = len(versions) == 1 or versions[0].facts != versions[1].facts
        return {*self._users.get(versions[0].key, ())} if has_changed else set()


def _used(cached: CachedObject) -> Key | None:
    """Return the key of the weights that a server uses, None for other objects."""
    server = cached.facts
    if not isinstance(server, ServerFacts) or not server.weights:
        return None
    return Key(cached.key.namespace, server.weights, WEIGHTS)
