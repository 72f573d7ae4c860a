"""A list that is being taken over by the cache, page by page: thousands of objects are never held at once."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from kimi_linear_operator.kubernetes.kinds import Kind, Manifest
from kimi_linear_operator.reconcile.cache import Cache
from kimi_linear_operator.reconcile.cached_object import Key, key_of


@dataclass
class Listing:
    """A list of a kind, in one namespace or in all.

    It begins before the list is asked for: what is deleted from then on does not come back with it. An object that
    cannot be read is left as it was known.

    Attributes:
        cache: Where it goes.
        kind: What is listed.
        namespace: Where; in all namespaces if it is None.
        skip: Called for each object that cannot be read, where the error is handled.
        is_restored: Whether the cluster, or an object in it, is older than what was seen of it. Then nothing more is
            taken over.
        concerned: The resources whose objects were not as known.
    """

    cache: Cache
    kind: Kind
    namespace: str | None = None
    skip: Callable[[Key, Exception], None] = lambda *_: None
    is_restored: bool = False
    concerned: set[Key] = field(default_factory=set)
    _listed: set[Key] = field(default_factory=set)
    _version: int = 0
    # The newest version that was seen there before. Lists are never older, unless etcd was restored.
    _newest: int = field(init=False)

    def __post_init__(self) -> None:
        """Begin."""
        self._newest = self.cache.begin_list(self.kind, self.namespace)

    def take(self, page: Iterable[Manifest], version: int) -> None:
        """Take over a page.

        Args:
            page: Some of the objects.
            version: The resource version that the list shows; with another one, the list has begun anew.
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
        """Take over an object unless it is older than it may be, and return whether it is."""
        try:
            if self.cache.is_past(self.kind, manifest, self._version):
                return True
            self._listed.add(key_of(self.kind, manifest))
            self.concerned |= self.cache.put(self.kind, manifest)
        except Exception as error:
            # Whatever it is, it is the fault of this object.
            key = _stated_key(self.kind, manifest)
            self._listed.add(key)
            self.skip(key, error)
        return False

    def end(self) -> set[Key]:
        """Drop what was not on any page; return the resources whose objects were not as known."""
        missing = self.cache.end_list(self.kind, self.namespace, self._listed, self._version)
        return self.concerned | missing


def _stated_key(kind: Kind, manifest: Manifest) -> Key:
    """Return the key of an object of which nothing is certain."""
    metadata = manifest.get("metadata")
    stated = metadata if isinstance(metadata, dict) else {}
    return Key(str(stated.get("namespace", "")), str(stated.get("name", "")), kind)
