"""What the cluster last showed of our resources and their children.

A cache, never a memory: everything in it was observed and can be observed again. Watches feed it as things
happen and lists put right what a watch lost; neither may overwrite something newer. Objects are kept as JSON
text: a fifth of the size of a tree of dictionaries, and nobody can change what is kept.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple, cast

from kimi_linear_operator.api import Manifest
from kimi_linear_operator.resources.kinds import POD, SERVER, Kind
from kimi_linear_operator.resources.metadata import SERVER_LABEL


class Key(NamedTuple):
    """Which server something concerns."""

    namespace: str
    name: str


class _Address(NamedTuple):
    kind: Kind
    namespace: str
    name: str


Conditions = tuple[tuple[str, str, str], ...]
"""Type, status and reason of each condition."""


@dataclass(frozen=True, slots=True)
class _Record:
    version: int
    owner: Key | None
    conditions: Conditions
    text: str

    def manifest(self) -> Manifest:
        return cast(Manifest, json.loads(self.text))


@dataclass
class Store:
    """Objects by kind and name, and by the server that they belong to."""

    _records: dict[_Address, _Record] = field(default_factory=dict)
    _children: dict[Key, set[_Address]] = field(default_factory=dict)
    # Deletions since the last list began: what a list read before them must not come back.
    _deleted: dict[_Address, int] = field(default_factory=dict)
    # The version of the last list of each kind and namespace.
    _listed: dict[tuple[Kind, str | None], int] = field(default_factory=dict)

    def get(self, kind: Kind, key: Key) -> Manifest | None:
        """Return an object by its namespace and name."""
        record = self._records.get(_Address(kind, *key))
        return record.manifest() if record else None

    def children(self, kind: Kind, key: Key) -> list[Manifest]:
        """Return a server's objects of a kind, by name."""
        addresses = sorted(address for address in self._children.get(key, ()) if address.kind == kind)
        return [self._records[address].manifest() for address in addresses]

    def put(self, kind: Kind, manifest: Manifest) -> set[Key]:
        """Keep an object unless a newer state of it is known; return the servers that it concerns."""
        address = _address(kind, manifest)
        text = json.dumps(_trimmed(kind, manifest))
        record = _Record(_version(manifest), _owner(kind, manifest), _shared(_conditions(kind, manifest)), text)
        known = self._records.get(address)
        newest = max(self._deleted.get(address, 0), known.version if known else 0)
        if record.version <= newest:
            return set()
        self._forget(address)
        self._records[address] = record
        if record.owner and kind != SERVER:
            self._children.setdefault(record.owner, set()).add(address)
        return {owner for owner in (record.owner, known.owner if known else None) if owner}

    def delete(self, kind: Kind, manifest: Manifest) -> set[Key]:
        """Drop an object that was deleted; return the servers that it concerned."""
        address = _address(kind, manifest)
        known = self._records.get(address)
        if known and known.version > _version(manifest):
            return set()
        self._deleted[address] = _version(manifest)
        self._forget(address)
        return {known.owner} if known and known.owner else set()

    def begin_list(self, kind: Kind, namespace: str | None = None) -> "Listing":
        """Begin to take over a complete list of a kind in a namespace, or in all.

        To be called before the list is asked for: what is deleted from now on must not come back with it.
        """
        self._deleted = {address: version for address, version in self._deleted.items() if address.kind != kind}
        return Listing(self, kind, namespace)

    def forget_missing(self, kind: Kind, namespace: str | None, listed: set[_Address], version: int) -> set[Key]:
        """Drop what a complete list of this version does not show; return the servers concerned."""
        concerned: set[Key] = set()
        for address, record in list(self._records.items()):
            if _is_covered(address, kind, namespace) and address not in listed and record.version <= version:
                self._forget(address)
                concerned |= {record.owner} if record.owner else set()
        return concerned

    def forget_if_restored(self, kind: Kind, namespace: str | None, version: int) -> set[Key]:
        """Drop everything if a list is older than the list before: etcd was restored from a backup."""
        before = self._listed.get((kind, namespace), 0)
        self._listed[kind, namespace] = version
        if version >= before:
            return set()
        concerned: set[Key] = set()
        for address in [address for address in self._records if _is_covered(address, kind, namespace)]:
            owner = self._records[address].owner
            concerned |= {owner} if owner else set()
            self._forget(address)
        return concerned

    def servers(self) -> list[Key]:
        """Return all servers."""
        return [Key(address.namespace, address.name) for address in self._records if address.kind == SERVER]

    def conditions(self) -> Iterator[tuple[Key, Conditions]]:
        """Yield every server with its conditions."""
        for address, record in self._records.items():
            if address.kind == SERVER:
                yield Key(address.namespace, address.name), record.conditions

    def _forget(self, address: _Address) -> None:
        record = self._records.pop(address, None)
        if record and record.owner in self._children:
            self._children[record.owner].discard(address)
            if not self._children[record.owner]:
                del self._children[record.owner]


@dataclass
class Listing:
    """A list that is being taken over, page by page: thousands of objects are never held at once."""

    store: Store
    kind: Kind
    namespace: str | None
    concerned: set[Key] = field(default_factory=set)
    _listed: set[_Address] = field(default_factory=set)
    _version: int = 0

    def take(self, page: Iterable[Manifest], version: int) -> None:
        """Take over a page.

        Args:
            page: Some of the objects.
            version: The resource version that the list shows; with another one, the list has begun anew.
        """
        if version != self._version:
            self._version = version
            self._listed.clear()
            self.concerned |= self.store.forget_if_restored(self.kind, self.namespace, version)
        for manifest in page:
            self._listed.add(_address(self.kind, manifest))
            self.concerned |= self.store.put(self.kind, manifest)

    def end(self) -> set[Key]:
        """Drop what was not on any page; return the servers whose objects were not as known."""
        missing = self.store.forget_missing(self.kind, self.namespace, self._listed, self._version)
        return self.concerned | missing


def _is_covered(address: _Address, kind: Kind, namespace: str | None) -> bool:
    return address.kind == kind and namespace in (None, address.namespace)


def _address(kind: Kind, manifest: Manifest) -> _Address:
    metadata = manifest["metadata"]
    return _Address(kind, metadata["namespace"], metadata["name"])


def _version(manifest: Manifest) -> int:
    """Return the resource version. Versions of one kind can be compared since Kubernetes 1.35 (KEP-5504).

    Older API servers on etcd keep the same order without promising it.
    """
    return int(manifest["metadata"]["resourceVersion"])


def _owner(kind: Kind, manifest: Manifest) -> Key | None:
    metadata = manifest["metadata"]
    name = metadata["name"] if kind == SERVER else metadata.get("labels", {}).get(SERVER_LABEL)
    return Key(metadata["namespace"], name) if name else None


def _conditions(kind: Kind, manifest: Manifest) -> Conditions:
    if kind != SERVER:
        return ()
    conditions = manifest.get("status", {}).get("conditions", [])
    return tuple((condition["type"], condition["status"], condition.get("reason", "")) for condition in conditions)


@lru_cache(maxsize=1024)
def _shared(conditions: Conditions) -> Conditions:
    """Return the same tuple for equal conditions: thousands of servers share a few."""
    return conditions


def _trimmed(kind: Kind, manifest: Manifest) -> dict[str, Any]:
    """Leave out what nobody reads: the record of who owns which field, and the spec of a running pod."""
    unread = ("spec",) if kind == POD else ()
    metadata = {key: value for key, value in manifest["metadata"].items() if key != "managedFields"}
    return {**{key: value for key, value in manifest.items() if key not in unread}, "metadata": metadata}
