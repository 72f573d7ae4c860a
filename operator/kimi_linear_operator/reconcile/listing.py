"""Puts a list into the cache page by page, so that thousands of objects are never decoded at the same time."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from kimi_linear_operator.kubernetes.kinds import Kind, Manifest
from kimi_linear_operator.kubernetes.metadata import version_of
from kimi_linear_operator.reconcile.cache import Cache
from kimi_linear_operator.reconcile.cached_object import Key, key_of


@dataclass
class Listing:
    """A list of a kind, in one namespace or in all.

    Create this object before the list is requested. Otherwise the list could bring back objects that are deleted in the
    meantime. If an object cannot be read, the cache keeps its last state.

    Attributes:
        cache: The cache to fill.
        kind: The kind to list.
        namespace: The namespace to list, None for all.
        skip: Called from an exception handler, for each object that cannot be read.
        is_restored: Whether the list or one of its objects is older than the cache, because etcd was restored. If so,
            no more objects of the list are cached.
        to_enqueue: The resources to enqueue, because the list has changed cached objects.
        newest_object: The newest version of an object in the list, 0 if there is none.
    """

    cache: Cache
    kind: Kind
    namespace: str | None = None
    skip: Callable[[Key, Exception], None] = lambda *_: None
    is_restored: bool = False
    to_enqueue: set[Key] = field(default_factory=set)
    newest_object: int = 0
    _listed: set[Key] = field(default_factory=set)
    _version: int = 0
    # The newest version seen so far. A list is older only if etcd was restored.
    _newest: int = field(init=False)

    def __post_init__(self) -> None:
        """Begin the list in the cache."""
        self._newest = self.cache.begin_list(self.kind, self.namespace)

    def take(self, page: Iterable[Manifest], version: int) -> None:
        """Put a page into the cache.

        Args:
            page: Some of the objects.
            version: The resource version of the list. If it changes, this page is the first of a new list.
        """
        self.is_restored = version < self._newest
        if self.is_restored:
            return
        if version != self._version:
            self._version = version
            self._listed.clear()
        for manifest in page:
            self.is_restored = self._take(manifest)
            if self.is_restored:
                return

    def _take(self, manifest: Manifest) -> bool:
        """Put an object into the cache. Return whether it was too old for that, because etcd was restored."""
        try:
            if self.cache.is_past(self.kind, manifest, self._version):
                return True
            self._listed.add(key_of(self.kind, manifest))
            self.to_enqueue |= self.cache.put(self.kind, manifest)
            self.newest_object = max(self.newest_object, version_of(manifest))
        except Exception as error:
            # Any error affects only this object. The other objects are cached.
            key = _readable_key(self.kind, manifest)
            self._listed.add(key)
            self.skip(key, error)
        return False

    def end(self) -> set[Key]:
        """Drop cached objects that were on no page; return the resources to enqueue."""
        missing = self.cache.end_list(self.kind, self.namespace, self._listed, self._version)
        return self.to_enqueue | missing


def _readable_key(kind: Kind, manifest: Manifest) -> Key:
    """Return the key of an object. Any of its fields may be missing or wrong."""
    metadata = manifest.get("metadata")
    readable = metadata if isinstance(metadata, dict) else {}
    return Key(str(readable.get("namespace", "")), str(readable.get("name", "")), kind)
