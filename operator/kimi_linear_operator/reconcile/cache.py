"""What the cluster last showed of our resources and their children.

A cache, never a memory: everything in it was observed and can be observed again. Watches feed it as things
happen and lists put right what a watch lost; neither may overwrite something newer.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Protocol, TypeVar

from kimi_linear_operator.kubernetes.kinds import POD, Kind, Manifest
from kimi_linear_operator.kubernetes.metadata import version_of
from kimi_linear_operator.reconcile.cached_object import CachedObject, CachedType, Conditions, Key, Reader, key_of

# Large children of a namespace have so many bytes in all. Of those that come when this is used up, the essence is kept.
MOST_OF_LARGE = 32 * 2**20

# Bytes of objects that one pass reads of a kind, and what they may weigh. A thousand replicas, the most that a server
# may have, have a third and nine tenths of this in pods; reading it takes a twentieth of a second.
MOST_CHILDREN = 8 * 2**20
MOST_WEIGHT = 200_000
# Of the other kinds, a resource has a few objects.
MOST_WEIGHT_OF_FEW = 100_000

_By = TypeVar("_By")
_Item = TypeVar("_Item")
_What = TypeVar("_What")


class Index(Protocol):
    """What a resource type wants to find in the cache without reading objects. It is told of every change."""

    def add(self, found: CachedObject) -> None:
        """Take over an object that the cache has now."""

    def remove(self, found: CachedObject) -> None:
        """Forget an object that the cache has no longer, or not as it was."""

    def concerned(self, before: CachedObject | None, after: CachedObject | None) -> set[Key]:
        """Return the resources that a change concerns, beside those to which the object belongs.

        Args:
            before: The object as it was, None if there was none.
            after: The object as it is, None if there is none. One of the two is an object.
        """

    def clear(self) -> None:
        """Forget everything."""


class IndexedType(CachedType, Protocol):
    """What has to be known of a resource type to keep a cache."""

    @property
    def index(self) -> Callable[["Cache"], Index] | None:
        """Return what makes its index, if it has one."""

    @property
    def most_children(self) -> int | None:
        """Return how many children of a kind one pass reads, None if only their size is bounded."""


IndexT = TypeVar("IndexT", bound=Index)


class Cache:
    """Objects by their key, and children by the resource that they belong to."""

    def __init__(self, types: Mapping[Kind, IndexedType]) -> None:
        """Begin with nothing.

        Args:
            types: The types of our resources by their kinds.
        """
        self.reader = Reader(types)
        self._types = types
        self._objects: dict[Key, CachedObject] = {}
        self._children: dict[tuple[Key, Kind], dict[Key, CachedObject]] = {}
        # Bytes of large children by namespace.
        self._large: dict[str, int] = {}
        # Deletions since the last list began: what a list read before them must not come back.
        self._deleted: dict[Key, int] = {}
        # The version of the last list of each kind and namespace.
        self._listed: dict[tuple[Kind, str | None], int] = {}
        self._indexes = [found.index(self) for found in types.values() if found.index]

    def index(self, kind: type[IndexT]) -> IndexT:
        """Return the index of this class."""
        return next(index for index in self._indexes if isinstance(index, kind))

    def get(self, key: Key) -> Manifest | None:
        """Return an object, None if there is none."""
        found = self._objects.get(key)
        return found.manifest() if found else None

    def find(self, key: Key) -> CachedObject | None:
        """Return an object as it is cached."""
        return self._objects.get(key)

    def children(self, kind: Kind, key: Key, owner: str | None = None) -> list[Manifest]:
        """Return the objects of a kind that claim by a label to be a resource's, by name; not more than MOST_CHILDREN.

        Args:
            kind: The kind of objects.
            key: The resource.
            owner: Only those that this UID owns. Anybody can set a label.
        """
        claimed = self.cached_children(kind, key)
        own = sorted((one for one in claimed if owner is None or owner in one.owners), key=_name)
        return [one.manifest() for one in _bounded(own[: self._types[key.kind].most_children])]

    def cached_children(self, kind: Kind, key: Key) -> Collection[CachedObject]:
        """Return the objects of a kind that claim by a label to be a resource's, as they are cached, in no order."""
        return self._children.get((key, kind), {}).values()

    def is_progress(self, found: CachedObject) -> bool:
        """Return whether a change tells how things go, and can at most change a status.

        A pod's, or one that leaves the spec alone. A new revision raises a Deployment's generation, too: for the API
        server, its annotations are part of its spec.
        """
        known = self._objects.get(found.key)
        if found.key.kind == POD or known is None:
            return found.key.kind == POD
        return 0 < found.generation == known.generation or found.revision != known.revision

    def is_past(self, kind: Kind, manifest: Manifest, version: int) -> bool:
        """Return whether an object in a list of this version is older than the list and what is known of it allow.

        Then etcd was restored, and versions have become newer since than they were before.
        """
        known = self._objects.get(key_of(kind, manifest))
        return known is not None and version_of(manifest) < known.version <= version

    def put(self, kind: Kind, manifest: Manifest) -> set[Key]:
        """Keep an object unless a newer state of it is known; return the resources that it concerns."""
        known = self._objects.get(key_of(kind, manifest))
        if known and version_of(manifest) <= known.version and not self._is_cut_version(known, version_of(manifest)):
            return set()
        return self.take(self.reader.read(kind, manifest))

    def take(self, found: CachedObject) -> set[Key]:
        """Take over what was seen unless something newer is known; return the resources that it concerns."""
        key = found.key
        known = self._objects.get(key)
        if found.is_deleted:
            return self._delete(found, known)
        newest = max(self._deleted.get(key, 0), known.version if known else 0)
        if found.version <= newest and not (known and self._is_cut_version(known, found.version)):
            return set()
        # What cannot be read leaves what is known as it is.
        kept = self._with_room(found, known)
        self._forget(key)
        self._keep(kept)
        return self._concerned(known, kept)

    def _with_room(self, found: CachedObject, known: CachedObject | None) -> CachedObject:
        """Return an object as there is room for it in the place of the one that is known."""
        freed = len(known.text) if known and known.is_large else 0
        is_too_large = found.is_large and not self._has_room(found.key, len(found.text) - freed)
        return found.essence() if is_too_large else found

    def _keep(self, found: CachedObject) -> None:
        self._objects[found.key] = found
        self._count_large(found, 1)
        if found.owner and not found.is_resource:
            self._children.setdefault((found.owner, found.key.kind), {})[found.key] = found
        for index in self._indexes:
            index.add(found)

    def _has_room(self, key: Key, size: int) -> bool:
        return self._large.get(key.namespace, 0) + size <= MOST_OF_LARGE

    def _is_cut_version(self, known: CachedObject, version: int) -> bool:
        """Return whether a version is one of which the essence was kept for want of room, and there is room now."""
        return known.cut > 0 and version == known.version and self._has_room(known.key, known.cut)

    def _count_large(self, found: CachedObject, sign: int) -> None:
        if not found.is_large:
            return
        namespace = found.key.namespace
        self._large[namespace] = self._large.get(namespace, 0) + sign * len(found.text)
        if not self._large[namespace]:
            del self._large[namespace]

    def _delete(self, last: CachedObject, known: CachedObject | None) -> set[Key]:
        if known and known.version > last.version:
            return set()
        self._deleted[last.key] = last.version
        self._forget(last.key)
        return self._concerned(known, None) if known else set()

    def _concerned(self, before: CachedObject | None, after: CachedObject | None) -> set[Key]:
        """Return whom a change of an object concerns: whom it belongs to, and whom the indexes name."""
        owners = {one.owner for one in (before, after) if one and one.owner}
        return owners.union(*(index.concerned(before, after) for index in self._indexes))

    def begin_list(self, kind: Kind, namespace: str | None = None) -> int:
        """Begin to take over a complete list of a kind in a namespace, or in all; return the newest version seen there.

        To be called before the list is asked for: what is deleted from now on must not come back with it.
        """
        kept = {key: version for key, version in self._deleted.items() if not _is_covered(key, kind, namespace)}
        self._deleted = kept
        seen = (one.version for key, one in self._objects.items() if _is_covered(key, kind, namespace))
        return max(self._listed.get((kind, namespace), 0), max(seen, default=0))

    def end_list(self, kind: Kind, namespace: str | None, listed: set[Key], version: int) -> set[Key]:
        """Note the version of a complete list and drop what it does not show; return the resources concerned."""
        self._listed[kind, namespace] = version
        concerned: set[Key] = set()
        for key, found in list(self._objects.items()):
            if _is_covered(key, kind, namespace) and key not in listed and found.version <= version:
                self._forget(key)
                concerned |= self._concerned(found, None)
        return concerned

    def clear(self) -> None:
        """Forget everything: what is known is of a cluster that was, and its versions mean nothing any more."""
        for content in (self._objects, self._children, self._deleted, self._listed, self._large):
            content.clear()
        for index in self._indexes:
            index.clear()

    def resources(self) -> list[Key]:
        """Return the keys of all resources of ours."""
        return [key for key in self._objects if self.reader.is_resource(key.kind)]

    def conditions(self, kind: Kind) -> Iterator[tuple[Key, Conditions]]:
        """Yield every resource of a kind with its conditions."""
        for key, found in self._objects.items():
            if key.kind == kind:
                yield key, found.conditions

    def snapshot(self) -> list[CachedObject]:
        """Return everything that is known now. What is cached never changes, so any thread may read it at leisure."""
        return list(self._objects.values())

    def _forget(self, key: Key) -> None:
        found = self._objects.pop(key, None)
        if found is None:
            return
        self._count_large(found, -1)
        if found.owner and not found.is_resource:
            discard(self._children, (found.owner, key.kind), key)
        for index in self._indexes:
            index.remove(found)


def discard(index: dict[_By, dict[_Item, _What]], by: _By, item: _Item) -> None:
    """Take something out of a dictionary of dictionaries, which keeps no empty ones."""
    items = index.get(by, {})
    items.pop(item, None)
    if not items:
        index.pop(by, None)


def _is_covered(key: Key, kind: Kind, namespace: str | None) -> bool:
    return key.kind == kind and namespace in (None, key.namespace)


def _name(found: CachedObject) -> str:
    return found.key.name


def _bounded(objects: Iterable[CachedObject]) -> Iterator[CachedObject]:
    """Yield what may be read in one pass: who makes more of this than a resource can have gets no more attention."""
    size = weight = 0
    for found in objects:
        size += len(found.text)
        weight += found.weight
        if size > MOST_CHILDREN or weight > (MOST_WEIGHT if found.key.kind == POD else MOST_WEIGHT_OF_FEW):
            return
        yield found
