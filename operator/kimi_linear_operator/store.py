"""What the cluster last showed of our resources and their children.

A cache, never a memory: everything in it was observed and can be observed again. Watches feed it as things
happen and lists put right what a watch lost; neither may overwrite something newer. Objects are kept as JSON
text: a fifth of the size of a tree of dictionaries, and nobody can change what is kept.
"""

import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from heapq import nsmallest
from itertools import islice
from typing import Any, NamedTuple, Self, TypeVar, cast

from kimi_linear_operator import jsontext
from kimi_linear_operator.api import Manifest
from kimi_linear_operator.api.stored import readable_status
from kimi_linear_operator.benchmark import turn
from kimi_linear_operator.benchmark.address import TargetKey, target_of
from kimi_linear_operator.claims import MOST_SUITES, Claim, Client, Task, claim_of, client_of, task_of
from kimi_linear_operator.resources.drift import with_digests
from kimi_linear_operator.resources.essence import essence, essential_metadata
from kimi_linear_operator.resources.kinds import BENCHMARK, JOB, POD, RESOURCES, SERVER, Kind
from kimi_linear_operator.resources.metadata import (
    BENCHMARK_LABEL,
    MANAGER,
    OWNER_LABELS,
    owner_uids,
    version_of,
)
from kimi_linear_operator.resources.ownership import has_second_manager
from kimi_linear_operator.rules.input import LARGEST_SPEC, within_bounds

# https://kubernetes.io/docs/reference/labels-annotations-taints/#deployment-kubernetes-io-revision
REVISION_ANNOTATION = "deployment.kubernetes.io/revision"
# The whole object once more, as `kubectl apply` was given it.
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"

# Of an object that exceeds one of these, little metadata is kept; of a child that still does, its essence. What the
# operator makes of the largest spec stays below both: a kept pod template has the spec's fields twice, and annotations.
LARGEST_CHILD = 4 * LARGEST_SPEC
HEAVIEST_CHILD = 60_000
# Children of a namespace that are longer than this, a multiple of what they usually are, have so many bytes in all.
# Of those that come when this is used up, the essence is kept.
LARGE_CHILD = 16 * 2**10
MOST_OF_LARGE = 32 * 2**20

# Bytes of objects that one pass reads of a kind, and what they may weigh. A thousand replicas, the most that a server
# may have, have a third and nine tenths of this in pods; reading it takes a twentieth of a second.
MOST_CHILDREN = 8 * 2**20
MOST_WEIGHT = 200_000
# Of the other kinds, a resource has a few objects.
MOST_WEIGHT_OF_FEW = 100_000
# So many of a kind one pass reads of a benchmark's: of Jobs it has MOST_SUITES and some of former ones of its name, of
# pods as many as attempts.
MOST_OF_BENCHMARK = 256
# As long as a target has no more benchmarks than this, each of them is told of whatever happens to another.
# Of more, one that has so many before it is told when it has fewer.
FEW_RIVALS = 8

# How many characters of a revision are kept: it is a number.
_LONGEST_REVISION = 32


class Key(NamedTuple):
    """Which of our resources something concerns."""

    namespace: str
    name: str
    kind: Kind = SERVER


class Address(NamedTuple):
    """Where an object is."""

    kind: Kind
    namespace: str
    name: str


_By = TypeVar("_By")
_Item = TypeVar("_Item")
_What = TypeVar("_What")

Conditions = tuple[tuple[str, str, str], ...]
"""Type, status and reason of each condition."""


class Measured(NamedTuple):
    """What a complete benchmark measured, when it was done, and the suites that have results."""

    target: TargetKey
    time: str
    suites: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sight:
    """An object as it was seen, made ready to be kept. That is most of the work, and may be done in any thread.

    Attributes:
        address: Which object.
        version: Its resource version.
        generation: The generation of its spec, 0 where it counts none.
        revision: Which of a Deployment's pod templates is current, as its controller counts them.
        owner: The resource of ours that it belongs to, if any; such a resource belongs to itself.
        claim: What turns depend on of a benchmark, until it is done.
        task: The same of a Job.
        client: The same of a benchmark's pod.
        measured: What it measured, when it is done.
        conditions: Those of a resource of ours.
        source: Who changed such a resource last, as far as it can be told: the field manager, for example kubectl.
        owners: The UIDs of its owners.
        text: The object as JSON, without what nobody reads.
        weight: What it takes to read the text.
        cut: How long the text was before all but the essence was left out for want of room, 0 if nothing was.
        is_deleted: Whether this is the last of it.
    """

    address: Address
    version: int
    generation: int
    revision: str
    owner: Key | None
    claim: Claim | None
    task: Task | None
    client: Client | None
    measured: Measured | None
    conditions: Conditions
    source: str
    owners: tuple[str, ...]
    text: bytes
    weight: int
    is_deleted: bool
    cut: int = 0

    @classmethod
    def of(cls, kind: Kind, manifest: Manifest, *, is_deleted: bool = False) -> Self:
        """Return the sight of an object. Of a resource of ours it keeps what can be read without harm."""
        if kind in RESOURCES:
            status = readable_status(kind.kind, manifest.get("status"))
            manifest = {**within_bounds(manifest), "status": status}
        kept, text, weight = _bounded_text(kind, _trimmed(kind, manifest))
        return cls(
            address=_address(kind, manifest),
            version=version_of(manifest),
            generation=manifest["metadata"].get("generation", 0),
            revision=manifest["metadata"].get("annotations", {}).get(REVISION_ANNOTATION, "")[:_LONGEST_REVISION],
            owner=_owner(kind, manifest),
            claim=claim_of(manifest) if kind == BENCHMARK else None,
            task=task_of(kept) if kind == JOB else None,
            client=_client(kind, kept),
            measured=_measured(kind, manifest),
            conditions=_shared(_conditions(kind, manifest)),
            source=_source(kind, manifest),
            owners=_owner_uids(kept),
            text=text,
            weight=weight,
            is_deleted=is_deleted,
        )

    @property
    def target(self) -> TargetKey | None:
        """Return what a benchmark measures, until it is done."""
        return self.claim.target if self.claim else None

    @property
    def is_large(self) -> bool:
        """Return whether this is a child that is much longer than they usually are."""
        return len(self.text) > LARGE_CHILD and self.address.kind not in RESOURCES

    def essence(self) -> Self:
        """Return the same with the essence of the object only."""
        kept = _essence(self.manifest())
        text = jsontext.encode(kept)
        return replace(self, text=text, weight=jsontext.weight(text), owners=_owner_uids(kept), cut=len(self.text))

    @property
    def is_unreported(self) -> bool:
        """Return whether no operator has reported on a resource yet."""
        return all(status == "Unknown" for _, status, _ in self.conditions)

    def manifest(self) -> Manifest:
        """Return the object."""
        return cast(Manifest, jsontext.decode(self.text))


@dataclass
class Store:
    """Objects by kind and name, by the resource that they belong to, and benchmarks by what they measure."""

    _sights: dict[Address, Sight] = field(default_factory=dict)
    _children: dict[tuple[Key, Kind], dict[Address, Sight]] = field(default_factory=dict)
    _measuring: dict[TargetKey, dict[Key, Claim]] = field(default_factory=dict)
    # Bytes of large children by namespace.
    _large: dict[str, int] = field(default_factory=dict)
    # Deletions since the last list began: what a list read before them must not come back.
    _deleted: dict[Address, int] = field(default_factory=dict)
    # The version of the last list of each kind and namespace.
    _listed: dict[tuple[Kind, str | None], int] = field(default_factory=dict)

    def get(self, kind: Kind, key: Key) -> Manifest | None:
        """Return an object by its namespace and name."""
        sight = self._sights.get(Address(kind, key.namespace, key.name))
        return sight.manifest() if sight else None

    def children(self, kind: Kind, key: Key, owner: str | None = None) -> list[Manifest]:
        """Return the objects of a kind that claim by a label to be a resource's, by name; not more than MOST_CHILDREN.

        Args:
            kind: The kind of objects.
            key: The resource.
            owner: Only those that this UID owns. Anybody can set a label.
        """
        sights = self._seen(kind, key)
        found = sorted(sights if owner is None else _owned(sights, owner), key=_name)
        return [sight.manifest() for sight in _bounded(found[:MOST_OF_BENCHMARK] if key.kind == BENCHMARK else found)]

    def job_of(self, key: Key, owner: str, suite: str) -> Manifest | None:
        """Return the Job of a benchmark's suite, whatever its name is; the first one, if somebody has made more."""
        own = _owned(self._seen(JOB, key), owner)
        found = min((sight for sight in own if sight.task and sight.task.suite == suite), key=_name, default=None)
        return found.manifest() if found else None

    def claim(self, key: Key) -> Claim | None:
        """Return what turns depend on of a benchmark, None if there is none, or if it is done."""
        sight = self._sights.get(Address(key.kind, key.namespace, key.name))
        return sight.claim if sight else None

    def claims(self, target: TargetKey) -> Mapping[Key, Claim]:
        """Return the benchmarks of a target that are not done, in no order."""
        return self._measuring.get(target, {})

    def has_jobs(self, key: Key) -> bool:
        """Return whether anything claims to be a Job of a benchmark."""
        return (key, JOB) in self._children

    def tasks(self, key: Key, owner: str) -> Iterator[Task]:
        """Yield the Jobs of a benchmark, as far as turns go; of all those that claim to be, those that its UID owns."""
        return (sight.task for sight in self._seen(JOB, key) if sight.task and owner in sight.owners)

    def clients(self, key: Key) -> Iterator[tuple[Client, tuple[str, ...]]]:
        """Yield the clients of a benchmark's pods, each with the UIDs of the pod's owners."""
        return ((sight.client, sight.owners) for sight in self._seen(POD, key) if sight.client)

    def _seen(self, kind: Kind, key: Key) -> Collection[Sight]:
        return self._children.get((key, kind), {}).values()

    def is_progress(self, sight: Sight) -> bool:
        """Return whether a change tells how things go, and can at most change a status.

        A pod's, or one that leaves the spec alone. A new revision raises a Deployment's generation, too: for the API
        server, its annotations are part of its spec.
        """
        known = self._sights.get(sight.address)
        if sight.address.kind == POD or known is None:
            return sight.address.kind == POD
        return 0 < sight.generation == known.generation or sight.revision != known.revision

    def is_past(self, kind: Kind, manifest: Manifest, version: int) -> bool:
        """Return whether an object in a list of this version is older than the list and what is known of it allow.

        Then etcd was restored, and versions have become newer since than they were before.
        """
        known = self._sights.get(_address(kind, manifest))
        return known is not None and version_of(manifest) < known.version <= version

    def put(self, kind: Kind, manifest: Manifest) -> set[Key]:
        """Keep an object unless a newer state of it is known; return the resources that it concerns."""
        known = self._sights.get(_address(kind, manifest))
        if known and version_of(manifest) <= known.version and not self._is_cut_version(known, version_of(manifest)):
            return set()
        return self.take(Sight.of(kind, manifest))

    def take(self, sight: Sight) -> set[Key]:
        """Take over what was seen unless something newer is known; return the resources that it concerns."""
        address = sight.address
        known = self._sights.get(address)
        if sight.is_deleted:
            return self._delete(sight, known)
        newest = max(self._deleted.get(address, 0), known.version if known else 0)
        if sight.version <= newest and not (known and self._is_cut_version(known, sight.version)):
            return set()
        self._forget(address)
        if sight.is_large and not self._has_room(address, len(sight.text)):
            sight = sight.essence()
        self._sights[address] = sight
        self._count_large(sight, 1)
        if sight.owner and address.kind not in RESOURCES:
            self._children.setdefault((sight.owner, address.kind), {})[address] = sight
        if sight.claim and sight.owner:
            self._measuring.setdefault(sight.claim.target, {})[sight.owner] = sight.claim
        return self._concerned(known, sight)

    def _has_room(self, address: Address, size: int) -> bool:
        return self._large.get(address.namespace, 0) + size <= MOST_OF_LARGE

    def _is_cut_version(self, known: Sight, version: int) -> bool:
        """Return whether a version is one of which the essence was kept for want of room, and there is room now."""
        return known.cut > 0 and version == known.version and self._has_room(known.address, known.cut)

    def _count_large(self, sight: Sight, sign: int) -> None:
        if not sight.is_large:
            return
        namespace = sight.address.namespace
        self._large[namespace] = self._large.get(namespace, 0) + sign * len(sight.text)
        if not self._large[namespace]:
            del self._large[namespace]

    def _delete(self, last: Sight, known: Sight | None) -> set[Key]:
        if known and known.version > last.version:
            return set()
        self._deleted[last.address] = last.version
        self._forget(last.address)
        return self._concerned(known) if known else set()

    def measured(self, key: Key) -> TargetKey | None:
        """Return what a benchmark measures, None if it is none, or done."""
        sight = self._sights.get(Address(key.kind, key.namespace, key.name))
        return sight.target if sight else None

    def _concerned(self, before: Sight | None, after: Sight | None = None) -> set[Key]:
        """Return whom a change of an object concerns: whom it belongs to, and who measures it or waits for it."""
        sights = [sight for sight in (before, after) if sight]
        owners = {sight.owner for sight in sights if sight.owner}
        kind, namespace, name = sights[0].address
        if kind == SERVER:
            # A benchmark of another namespace has an endpoint, and nobody looks whether that is ready.
            measuring = self._measuring.get(TargetKey(namespace, name), {})
            return owners | {key for key in measuring if key.namespace == namespace}
        if kind == BENCHMARK:
            key, claims = Key(namespace, name, kind), [sight.claim if sight else None for sight in (before, after)]
            return owners.union(*(self._told_of_claim(key, target, claims) for target in _targets(claims)))
        return owners.union(*(self._told_of_job(owner, before, after) for owner in owners if kind == JOB))

    def _told_of_claim(self, key: Key, target: TargetKey, claims: Sequence[Claim | None]) -> set[Key]:
        """Return who on a target is told of a change of a benchmark: for whom another one may go first now.

        Args:
            key: The benchmark.
            target: What it measures, or has measured.
            claims: What it claimed before the change, and what it claims now.
        """
        rivals = self._measuring.get(target, {})
        if len(rivals) <= FEW_RIVALS:
            return {*rivals}
        if claims[0] == claims[1] or self._is_far(key, target, min(claim.rank for claim in claims if claim)):
            return set()
        return self._near(target)

    def is_far(self, key: Key) -> bool:
        """Return whether so many others go before a benchmark in any case that it is told nothing of who does.

        Each of these wants to run and does not rest, so it can be first only when most of them are done; whatever
        happens to the first of them would else be a pass and a status to write for thousands.
        """
        claim = self.claim(key)
        return claim is not None and self._is_far(key, claim.target, claim.rank)

    def _is_far(self, key: Key, target: TargetKey, rank: turn.Rank) -> bool:
        rivals = self._measuring.get(target, {})
        if len(rivals) < FEW_RIVALS or self.has_jobs(key):
            return False
        ahead = (True for rival, claim in rivals.items() if claim.rank < rank and _is_ahead(claim) and rival != key)
        return len([*islice(ahead, FEW_RIVALS)]) == FEW_RIVALS

    def _near(self, target: TargetKey) -> set[Key]:
        """Return who on a target is not far, and who was not before something happened to one of them."""
        rivals = self._measuring.get(target, {})
        first = nsmallest(FEW_RIVALS + 1, (claim.rank for claim in rivals.values() if _is_ahead(claim)))
        is_all = len(first) <= FEW_RIVALS
        return {
            key
            for key, claim in rivals.items()
            if claim.is_willing and (is_all or claim.rank <= first[-1] or self.has_jobs(key))
        }

    def _told_of_job(self, owner: Key, before: Sight | None, after: Sight | None) -> set[Key]:
        """Return who waits for a benchmark and is told of a change of its Job."""
        claim = self.claim(owner)
        rivals = self._measuring.get(claim.target, {}) if claim else {}
        if claim is None or len(rivals) <= FEW_RIVALS:
            return {*rivals}
        tasks = [sight.task if sight and claim.uid in sight.owners else None for sight in (before, after)]
        if tasks[0] == tasks[1]:
            return set()
        others = (task for task in self.tasks(owner, claim.uid) if task is not tasks[1])
        is_one_more = tasks[0] is None and any(not task.has_ended for task in others)
        return set() if is_one_more else self._near(claim.target)

    def begin_list(self, kind: Kind, namespace: str | None = None) -> "Listing":
        """Begin to take over a complete list of a kind in a namespace, or in all.

        To be called before the list is asked for: what is deleted from now on must not come back with it.
        """
        kept = {key: version for key, version in self._deleted.items() if not _is_covered(key, kind, namespace)}
        self._deleted = kept
        newest = max(self._listed.get((kind, namespace), 0), self._newest(kind, namespace))
        return Listing(self, kind, namespace, newest)

    def end_list(self, kind: Kind, namespace: str | None, listed: set[Address], version: int) -> set[Key]:
        """Note the version of a complete list and drop what it does not show; return the resources concerned."""
        self._listed[kind, namespace] = version
        concerned: set[Key] = set()
        for address, sight in list(self._sights.items()):
            if _is_covered(address, kind, namespace) and address not in listed and sight.version <= version:
                self._forget(address)
                concerned |= self._concerned(sight)
        return concerned

    def clear(self) -> None:
        """Forget everything: what is known is of a cluster that was, and its versions mean nothing any more."""
        for content in (self._sights, self._children, self._measuring, self._deleted, self._listed, self._large):
            content.clear()

    def _newest(self, kind: Kind, namespace: str | None) -> int:
        """Return the newest version that was seen of a kind in a namespace, or in all."""
        seen = (sight.version for address, sight in self._sights.items() if _is_covered(address, kind, namespace))
        return max(seen, default=0)

    def resources(self) -> list[Key]:
        """Return all servers and benchmarks."""
        return [
            Key(address.namespace, address.name, address.kind) for address in self._sights if address.kind in RESOURCES
        ]

    def conditions(self, kind: Kind) -> Iterator[tuple[Key, Conditions]]:
        """Yield every resource of a kind with its conditions."""
        for address, sight in self._sights.items():
            if address.kind == kind:
                yield Key(address.namespace, address.name, kind), sight.conditions

    def snapshot(self) -> list[Sight]:
        """Return everything that is known now. Sights never change, so any thread may read them at leisure."""
        return list(self._sights.values())

    def _forget(self, address: Address) -> None:
        sight = self._sights.pop(address, None)
        if sight is None:
            return
        self._count_large(sight, -1)
        if sight.owner is None:
            return
        if address.kind not in RESOURCES:
            _discard(self._children, (sight.owner, address.kind), address)
        if sight.target:
            _discard(self._measuring, sight.target, sight.owner)


@dataclass
class Listing:
    """A list that is being taken over, page by page: thousands of objects are never held at once.

    Attributes:
        store: Where it goes.
        kind: What is listed.
        namespace: Where; in all namespaces if it is None.
        newest: The newest version that was seen there before. Lists are never older, unless etcd was restored.
        is_restored: Whether the cluster, or an object in it, is older than what was seen of it. Then nothing more is
            taken over.
        concerned: The resources whose objects were not as known.
    """

    store: Store
    kind: Kind
    namespace: str | None
    newest: int
    is_restored: bool = False
    concerned: set[Key] = field(default_factory=set)
    _listed: set[Address] = field(default_factory=set)
    _version: int = 0

    def take(self, page: Iterable[Manifest], version: int) -> None:
        """Take over a page.

        Args:
            page: Some of the objects.
            version: The resource version that the list shows; with another one, the list has begun anew.
        """
        self.is_restored = version < self.newest
        if self.is_restored:
            return
        if version != self._version:
            self._version = version
            self._listed.clear()
        for manifest in page:
            if self.store.is_past(self.kind, manifest, version):
                self.is_restored = True
                return
            self._listed.add(_address(self.kind, manifest))
            self.concerned |= self.store.put(self.kind, manifest)

    def end(self) -> set[Key]:
        """Drop what was not on any page; return the resources whose objects were not as known."""
        missing = self.store.end_list(self.kind, self.namespace, self._listed, self._version)
        return self.concerned | missing


def _discard(index: dict[_By, dict[_Item, _What]], by: _By, item: _Item) -> None:
    """Take something out of an index, which keeps no empty entries."""
    items = index.get(by, {})
    items.pop(item, None)
    if not items:
        index.pop(by, None)


def _is_ahead(claim: Claim) -> bool:
    """Return whether a benchmark goes before those that come after it whoever asks, and at any time."""
    return claim.is_willing and not claim.contender.failed


def _targets(claims: Iterable[Claim | None]) -> set[TargetKey]:
    return {claim.target for claim in claims if claim}


def _is_covered(address: Address, kind: Kind, namespace: str | None) -> bool:
    return address.kind == kind and namespace in (None, address.namespace)


def _address(kind: Kind, manifest: Manifest) -> Address:
    metadata = manifest["metadata"]
    return Address(kind, metadata["namespace"], metadata["name"])


def _owner(kind: Kind, manifest: Manifest) -> Key | None:
    metadata = manifest["metadata"]
    if kind in RESOURCES:
        return Key(metadata["namespace"], metadata["name"], kind)
    labels = metadata.get("labels", {})
    owners = (Key(metadata["namespace"], labels[label], of) for of, label in OWNER_LABELS.items() if labels.get(label))
    return next(owners, None)


def _client(kind: Kind, manifest: Manifest) -> Client | None:
    labels = manifest["metadata"].get("labels") or {}
    return client_of(manifest) if kind == POD and labels.get(BENCHMARK_LABEL) else None


def _measured(kind: Kind, manifest: Manifest) -> Measured | None:
    target = target_of(manifest) if kind == BENCHMARK and _is_complete(_conditions(kind, manifest)) else None
    if target is None:
        return None
    status = manifest["status"]
    return Measured(target, str(status.get("completionTime", "")), _shared_names(_suites(status)))


def _suites(status: Manifest) -> tuple[str, ...]:
    """Return the names of suites with a result, as many as a spec may have."""
    return tuple(str(result.get("name")) for result in status.get("results", ())[:MOST_SUITES])


def _is_complete(conditions: Conditions) -> bool:
    return any(condition[:2] == ("Complete", "True") for condition in conditions)


def _conditions(kind: Kind, manifest: Manifest) -> Conditions:
    if kind not in RESOURCES:
        return ()
    conditions = manifest.get("status", {}).get("conditions", [])
    return tuple((condition["type"], condition["status"], condition.get("reason", "")) for condition in conditions)


def _source(kind: Kind, manifest: Manifest) -> str:
    entries = manifest["metadata"].get("managedFields", ()) if kind in RESOURCES else ()
    latest: Manifest = max(
        entries, key=lambda entry: (entry.get("subresource") != "status", entry.get("time", "")), default={}
    )
    return sys.intern(str(latest.get("manager", "")))


def _owner_uids(manifest: Manifest) -> tuple[str, ...]:
    return tuple(map(sys.intern, owner_uids(manifest)))


def _owned(sights: Iterable[Sight], owner: str) -> list[Sight]:
    return [sight for sight in sights if owner in sight.owners]


def _name(sight: Sight) -> str:
    return sight.address.name


def _bounded(sights: Iterable[Sight]) -> Iterator[Sight]:
    """Yield what may be read in one pass: who makes more of this than a server can have gets no more attention."""
    size = weight = 0
    for sight in sights:
        size += len(sight.text)
        weight += sight.weight
        if size > MOST_CHILDREN or weight > (MOST_WEIGHT if sight.address.kind == POD else MOST_WEIGHT_OF_FEW):
            return
        yield sight


@lru_cache(maxsize=1024)
def _shared(conditions: Conditions) -> Conditions:
    """Return the same tuple for equal conditions: thousands of servers share a few."""
    return conditions


@lru_cache(maxsize=1024)
def _shared_names(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the same tuple for equal names: most benchmarks run the recipe's suites."""
    return names


# What a status tells of a pod's spec while the pod is not ready.
_READ_OF_POD_SPEC = (
    "nodeName",
    "readinessGates",
    "schedulerName",
    "schedulingGates",
    "terminationGracePeriodSeconds",
    "volumes",
)


def _trimmed(kind: Kind, manifest: Manifest) -> dict[str, Any]:
    """Leave out what nobody reads: who owns which field, what kubectl applied, most of a spec, a ConfigMap's data."""
    metadata = _trimmed_metadata(manifest["metadata"])
    if kind not in RESOURCES and has_second_manager(manifest, MANAGER):
        metadata["managedFields"] = [{"manager": MANAGER, "operation": "Update"}]
    kept = {**with_digests(manifest), "metadata": metadata}
    return {**kept, "spec": _SPECS[kind](manifest)} if kind in _SPECS else kept


def _bounded_text(kind: Kind, manifest: Manifest) -> tuple[Manifest, bytes, int]:
    """Return what is kept of an object, as JSON, and what that weighs: less of it, if all of it is too much."""
    for kept in _less_and_less(kind, manifest):
        text = jsontext.encode(kept)
        # To weigh a text takes a time that grows with its length.
        if len(text) <= LARGEST_CHILD and (weight := jsontext.weight(text)) <= HEAVIEST_CHILD:
            return kept, text, weight
    return kept, text, jsontext.weight(text)


def _less_and_less(kind: Kind, manifest: Manifest) -> Iterator[Manifest]:
    """Yield what may be kept of an object, all of it first."""
    yield manifest
    yield _with_essential_metadata(manifest)
    # The spec and the status of a resource of ours have bounds of their own.
    if kind not in RESOURCES:
        yield _essence(manifest)


def _essence(manifest: Manifest) -> Manifest:
    return {**essence(manifest), "metadata": _with_essential_metadata(manifest)["metadata"]}


def _with_essential_metadata(manifest: Manifest) -> Manifest:
    """Return an object with little metadata; who manages its fields was trimmed before."""
    metadata = manifest["metadata"]
    managed = {"managedFields": metadata["managedFields"]} if "managedFields" in metadata else {}
    return {**manifest, "metadata": {**essential_metadata(metadata), **managed}}


def _trimmed_metadata(metadata: Manifest) -> Manifest:
    kept = {key: value for key, value in metadata.items() if key != "managedFields"}
    if isinstance(annotations := metadata.get("annotations"), dict) and LAST_APPLIED in annotations:
        kept["annotations"] = {key: value for key, value in annotations.items() if key != LAST_APPLIED}
    return kept


def _trimmed_pod_spec(manifest: Manifest) -> Manifest:
    spec: Manifest = manifest.get("spec", {})
    if ("Ready", "True") in {
        (item["type"], item["status"]) for item in manifest.get("status", {}).get("conditions", ())
    }:
        return {}
    probes = [
        {"name": container["name"], "startupProbe": container["startupProbe"]}
        for container in spec.get("containers", ())
        if "startupProbe" in container
    ]
    return {**{name: spec[name] for name in _READ_OF_POD_SPEC if name in spec}, "containers": probes}


def _trimmed_job_spec(manifest: Manifest) -> Manifest:
    spec: Manifest = manifest.get("spec", {})
    return {"suspend": True} if spec.get("suspend") else {}


# Pods and Jobs are never compared with what is wanted, so most of their specs is left out.
_SPECS: Mapping[Kind, Callable[[Manifest], Manifest]] = {POD: _trimmed_pod_spec, JOB: _trimmed_job_spec}
