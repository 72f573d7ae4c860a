"""The last known state of our resources and their children.

The operator has observed everything in the cache, and can observe it again. Watch events update the cache. Lists
correct changes that a watch has lost. An older state never overwrites a newer state.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from itertools import chain
from typing import Protocol, TypeVar

from kimi_linear_operator import jsontext
from kimi_linear_operator.kubernetes.kinds import POD, Kind, Manifest
from kimi_linear_operator.kubernetes.metadata import version_of
from kimi_linear_operator.reconcile.cached_object import (
    LARGE_CHILD,
    CachedObject,
    CachedType,
    Conditions,
    Key,
    Reader,
    RoomGroup,
    held_bytes,
    key_of,
)
from kimi_linear_operator.reconcile.decoded import manifest_of
from kimi_linear_operator.reconcile.fair_memory import FairMemory
from kimi_linear_operator.reconcile.room import CommonRoom, Room

# The maximum of bytes and of weight that a pass reads of objects of one kind. A server has at most a thousand replicas.
# Their pods use a third of the bytes and nine tenths of the weight, and a pass reads them in a twentieth of a second.
MOST_CHILDREN = 8 * 2**20
MOST_WEIGHT = 200_000
# The limits for kinds other than pods. A resource has only a few objects of such a kind.
MOST_WEIGHT_OF_FEW = 100_000

# How many deleted objects to remember until the next list. Users can create and delete hundreds of labelled objects per
# second. With the longest names, these entries need 20 MiB. If a forgotten object comes back into the cache, the next
# list removes it.
MOST_DELETED = 32_768

_Group = TypeVar("_Group")
_Item = TypeVar("_Item")
_Value = TypeVar("_Value")


class Index(Protocol):
    """Finds cached objects of a resource type without decoding them. The cache calls it for every change."""

    def add(self, cached: CachedObject) -> None:
        """Add an object that was added to the cache."""

    def remove(self, cached: CachedObject) -> None:
        """Remove an object that was removed from the cache, or replaced by a new state."""

    def keys_to_enqueue(self, before: CachedObject | None, after: CachedObject | None) -> set[Key]:
        """Return the resources to enqueue after a change of an object, in addition to its owner.

        Args:
            before: The object before the change, None if it was created.
            after: The object after the change, None if it was deleted.
        """

    def clear(self) -> None:
        """Forget everything."""


class IndexedType(CachedType, Protocol):
    """The part of a resource type that the cache needs."""

    @property
    def index(self) -> Callable[["Cache"], Index] | None:
        """Return the function that makes its index, None if it has none."""

    @property
    def most_children(self) -> int | None:
        """Return how many children of one kind a pass reads, None if only their total size is limited."""


IndexT = TypeVar("IndexT", bound=Index)


class Cache:
    """Cached objects by key, and children by owner."""

    def __init__(self, types: Mapping[Kind, IndexedType]) -> None:
        """Begin with nothing.

        Args:
            types: The resource types by kind.
        """
        self.reader = Reader(types)
        self._types = types
        # By kind and namespace, so that a list of one namespace does not read all objects.
        self._objects: dict[tuple[Kind, str], dict[Key, CachedObject]] = {}
        self._children: dict[tuple[Key, Kind], dict[Key, CachedObject]] = {}
        # For the large specs of each kind, and for all large children, by namespace.
        self._rooms: dict[RoomGroup, Room] = {}
        self._common_room = CommonRoom()
        # Versions of objects that were deleted after the last list began. An older state in that list must not bring
        # them back.
        self._deleted: FairMemory[Key, int] = FairMemory(MOST_DELETED)
        # The resource version of the last list of each kind and namespace.
        self._listed: dict[tuple[Kind, str | None], int] = {}
        self._indexes = [resource_type.index(self) for resource_type in types.values() if resource_type.index]

    def index(self, kind: type[IndexT]) -> IndexT:
        """Return the index of this class."""
        return next(index for index in self._indexes if isinstance(index, kind))

    def get(self, key: Key) -> Manifest | None:
        """Return the manifest of an object, None if it is not cached. No code may change the manifest."""
        cached = self.find(key)
        return manifest_of(cached) if cached else None

    def find(self, key: Key) -> CachedObject | None:
        """Return a cached object, None if it is not cached."""
        return self._objects.get((key.kind, key.namespace), {}).get(key)

    def children(self, kind: Kind, key: Key, owner: str | None = None) -> list[Manifest]:
        """Return the children of one kind, sorted by name, at most as many as one pass may read.

        No code may change these manifests.

        Args:
            kind: The kind of the children.
            key: The resource that their label names.
            owner: Return only children that this UID owns, because users can set the label, too.
        """
        return list(map(manifest_of, self._children_to_read(kind, key, owner)))

    def unwanted_children(self, kind: Kind, key: Key, owner: str, wanted: Collection[Key]) -> list[CachedObject]:
        """Return those of the children in `children` that are not wanted, and that nobody has deleted yet.

        Args:
            kind: The kind of the children.
            key: The resource that their label names.
            owner: The UID of this resource.
            wanted: The keys of the wanted children.
        """
        to_read = self._children_to_read(kind, key, owner)
        return [cached for cached in to_read if cached.deletion is None and cached.key not in wanted]

    def _children_to_read(self, kind: Kind, key: Key, owner: str | None) -> Iterator[CachedObject]:
        labelled = self.cached_children(kind, key)
        own = sorted((cached for cached in labelled if owner is None or owner in cached.owners), key=_name_of)
        return _bounded(own[: self._types[key.kind].most_children])

    def cached_children(self, kind: Kind, key: Key) -> Collection[CachedObject]:
        """Return the cached objects of one kind whose label names a resource, in no particular order."""
        return self._children.get((key, kind), {}).values()

    def sizes(self, key: Key, kinds: Iterable[Kind]) -> Iterator[int]:
        """Yield about how many bytes a pass takes for a resource, and for each of its children of these kinds."""
        resource = self.find(key)
        children = chain.from_iterable(self.cached_children(kind, key) for kind in kinds)
        return (cached.decoded_size for cached in chain([resource] if resource else (), children))

    def is_progress(self, observed: CachedObject) -> bool:
        """Return whether this change can only affect a status, because the object is a pod or its spec is unchanged.

        A new value of the annotation `deployment.kubernetes.io/revision` also affects only a status. It raises the
        generation, because the API server raises the generation of a Deployment when its annotations change.
        """
        cached = self.find(observed.key)
        if observed.key.kind == POD or cached is None:
            return observed.key.kind == POD
        return 0 < observed.generation == cached.generation or observed.revision != cached.revision

    def is_past(self, kind: Kind, manifest: Manifest, version: int) -> bool:
        """Return whether a list shows an older state of an object than the cache, although the list itself is newer.

        This happens only if etcd was restored, and then somebody wrote to it.

        Args:
            kind: The kind of the object.
            manifest: The object in the list.
            version: The resource version of the list.
        """
        cached = self.find(key_of(kind, manifest))
        return cached is not None and version_of(manifest) < cached.version <= version

    def put(self, kind: Kind, manifest: Manifest) -> set[Key]:
        """Read a manifest and cache it, unless this state or a newer one is cached. Return the resources to enqueue."""
        cached = self.find(key_of(kind, manifest))
        if cached and version_of(manifest) <= cached.version and not self._is_cut_version(cached, version_of(manifest)):
            return self._put_defaults(cached, manifest)
        return self._take(self.reader.read(kind, manifest), cached)

    def _put_defaults(self, cached: CachedObject, manifest: Manifest) -> set[Key]:
        """Cache a resource again if the API server now shows it with other defaults. Return the resources to enqueue.

        After a change of its CRD, a resource has other defaults in each answer of the API server, although nobody has
        written it. The resource version stays the same, and there is no watch event. A list shows it.
        """
        is_same = self.reader.is_resource(cached.key.kind) and version_of(manifest) == cached.version and not cached.cut
        if not is_same or jsontext.encode(manifest.get("spec")) in cached.text.read():
            return set()
        observed = self.reader.read(cached.key.kind, manifest)
        if observed.large or observed.text == cached.text:
            return set()
        self._forget(observed.key)
        self._keep(observed)
        return self._keys_to_enqueue(cached, observed)

    def take(self, observed: CachedObject) -> set[Key]:
        """Cache or delete an object that a watch has shown, unless a newer state is known.

        Return the resources to enqueue.
        """
        key = observed.key
        cached = self.find(key)
        if observed.is_deleted:
            return self._delete(observed, cached)
        if cached is None and observed.version <= self._listed_version(key):
            return set()  # A newer list did not contain the object, so it was deleted. The watch shows an older event.
        return self._take(observed, cached)

    def _take(self, observed: CachedObject, cached: CachedObject | None) -> set[Key]:
        key = observed.key
        newest = max(self._deleted.get(key.namespace, key) or 0, cached.version if cached else 0)
        if observed.version <= newest and not (cached and self._is_cut_version(cached, observed.version)):
            return set()
        # `_with_room` may raise, so call it before the old state is dropped.
        kept = self._with_room(observed)
        if kept == cached:
            return set()  # There is still room only for the same part of the same version.
        self._forget(key)
        self._keep(kept)
        return self._keys_to_enqueue(cached, kept)

    def _listed_version(self, key: Key) -> int:
        """Return the version of the last list that covered an object, 0 without a list."""
        return max(self._listed.get((key.kind, namespace), 0) for namespace in (key.namespace, None))

    def _with_room(self, observed: CachedObject) -> CachedObject:
        """Return an observed object, or the largest part of it for which there is room."""
        if self._has_room(observed):
            return observed
        others = self._room(observed.key).largest() if observed.is_resource else ""
        for part in observed.parts(others):
            if self._has_room(part):
                break
        return part

    def _has_room(self, observed: CachedObject) -> bool:
        return self._can_hold(observed.key, observed.large, observed.held)

    def _can_hold(self, key: Key, large: int, held: int) -> bool:
        """Return whether there is room for an object.

        Args:
            key: Its key.
            large: The bytes that count towards the limit for large objects, 0 if it is not large.
            held: The bytes that the cache holds for it.
        """
        cached = self.find(key)
        has_room = large == 0 or self._room(key).can_hold(key, large)
        return has_room and self._common_room.can_hold(self._group(key), held - (cached.held if cached else 0))

    def _keep(self, cached: CachedObject) -> None:
        self._objects.setdefault((cached.key.kind, cached.key.namespace), {})[cached.key] = cached
        self._note_size(cached.key, cached.large)
        self._common_room.add(self._group(cached.key), cached.held)
        if cached.child_of:
            self._children.setdefault((cached.child_of, cached.key.kind), {})[cached.key] = cached
        for index in self._indexes:
            index.add(cached)

    def _room(self, key: Key) -> Room:
        return self._rooms.get(self._group(key)) or Room()

    def _group(self, key: Key) -> RoomGroup:
        """Return the group whose room an object takes: its own kind for a resource, all children for a child."""
        return key.namespace, key.kind if self.reader.is_resource(key.kind) else None

    def _is_cut_version(self, cached: CachedObject, version: int) -> bool:
        """Return whether only the essence of this version was cached, but the whole object would fit now."""
        large = cached.cut if cached.cut > LARGE_CHILD else 0
        is_cut = cached.cut > 0 and version == cached.version
        return is_cut and self._can_hold(cached.key, large, held_bytes(cached.cut))

    def _note_size(self, key: Key, size: int) -> None:
        """Note the bytes that a cached object takes of its room, 0 if it takes none."""
        group = self._group(key)
        room = self._rooms.setdefault(group, Room())
        room.put(key, size)
        if room.is_empty:
            del self._rooms[group]

    def _delete(self, deleted: CachedObject, cached: CachedObject | None) -> set[Key]:
        if cached and cached.version > deleted.version:
            return set()
        # An older deletion may come later, because large events overtake small ones.
        known = self._deleted.get(deleted.key.namespace, deleted.key) or 0
        self._deleted.put(deleted.key.namespace, deleted.key, max(known, deleted.version))
        self._forget(deleted.key)
        return self._keys_to_enqueue(cached, None) if cached else set()

    def _keys_to_enqueue(self, before: CachedObject | None, after: CachedObject | None) -> set[Key]:
        """Return the resources to enqueue after a change of an object.

        These are its owner, and the resources that the indexes name.
        """
        states = [state for state in (before, after) if state]
        owners = {owner for state in states for owner in (state.owner, state.parent) if owner}
        return owners.union(*(index.keys_to_enqueue(before, after) for index in self._indexes))

    def begin_list(self, kind: Kind, namespace: str | None = None) -> int:
        """Begin a complete list of a kind. Return the newest version of the cached objects of this kind.

        The list is of one namespace, or of all namespaces if that is None. Call this before the list is requested.
        Otherwise the list could bring back objects that are deleted in the meantime.
        """
        for covered in self._deleted.namespaces if namespace is None else (namespace,):
            for key in self._deleted.keys(covered):
                if key.kind == kind:
                    self._deleted.forget(covered, key)
        seen = (cached.version for cached in self._covered(kind, namespace))
        return max(self._listed.get((kind, namespace), 0), max(seen, default=0))

    def end_list(self, kind: Kind, namespace: str | None, listed: set[Key], version: int) -> set[Key]:
        """Drop the objects that are not in a complete list. Return the resources to enqueue."""
        self._listed[kind, namespace] = version
        to_enqueue: set[Key] = set()
        for cached in list(self._covered(kind, namespace)):
            if cached.key not in listed and cached.version <= version:
                self._forget(cached.key)
                to_enqueue |= self._keys_to_enqueue(cached, None)
        return to_enqueue

    def _covered(self, kind: Kind, namespace: str | None) -> Iterator[CachedObject]:
        """Yield the objects of a kind, in one namespace, or in all namespaces if that is None."""
        if namespace is not None:
            yield from self._objects.get((kind, namespace), {}).values()
            return
        for scope, objects in self._objects.items():
            if scope[0] == kind:
                yield from objects.values()

    def clear(self) -> None:
        """Forget everything. After a restore of etcd, cached versions cannot be compared with new versions."""
        for content in (self._objects, self._children, self._deleted, self._listed, self._rooms, self._common_room):
            content.clear()
        for index in self._indexes:
            index.clear()

    def resources(self, namespace: str | None = None) -> list[Key]:
        """Return the keys of our resources, in one namespace, or in all namespaces if that is None."""
        return [cached.key for kind in self.reader.kinds for cached in self._covered(kind, namespace)]

    def conditions(self, kind: Kind) -> dict[Key, Conditions]:
        """Return the conditions of every resource of a kind."""
        return {cached.key: cached.conditions for cached in self._covered(kind, None)}

    def snapshot(self) -> list[CachedObject]:
        """Return all cached objects. They never change, so any thread may read them."""
        return [cached for objects in self._objects.values() for cached in objects.values()]

    def _forget(self, key: Key) -> None:
        cached = self.find(key)
        if cached is None:
            return
        discard(self._objects, (key.kind, key.namespace), key)
        self._note_size(key, 0)
        self._common_room.add(self._group(key), -cached.held)
        if cached.child_of:
            discard(self._children, (cached.child_of, key.kind), key)
        for index in self._indexes:
            index.remove(cached)


def discard(index: dict[_Group, dict[_Item, _Value]], group: _Group, item: _Item) -> None:
    """Remove an item from a group. If the group is then empty, remove the group."""
    items = index.get(group, {})
    items.pop(item, None)
    if not items:
        index.pop(group, None)


def _name_of(cached: CachedObject) -> str:
    return cached.key.name


def _bounded(objects: Iterable[CachedObject]) -> Iterator[CachedObject]:
    """Yield the first objects, at most as many as one pass is allowed to read. No resource needs more."""
    size = weight = 0
    for cached in objects:
        size += cached.text.size
        weight += cached.weight
        if size > MOST_CHILDREN or weight > (MOST_WEIGHT if cached.key.kind == POD else MOST_WEIGHT_OF_FEW):
            return
        yield cached
