"""An index of servers by the weights that they use. It decides from facts, without decoding any object."""

from dataclasses import dataclass
from typing import Any

from kimi_linear_operator.kubernetes.kinds import Kind, Manifest
from kimi_linear_operator.reconcile.cache import Cache, discard
from kimi_linear_operator.reconcile.cached_object import CachedObject, Key
from kimi_linear_operator.server.spec import SERVER
from kimi_linear_operator.weights.spec import WEIGHTS


@dataclass(frozen=True, slots=True)
class References:
    """The other resources that a server needs.

    Attributes:
        weights: The name of its KimiLinearWeights, None if it names none.
        is_verified: Whether benchmarks verify it.
    """

    weights: str | None
    is_verified: bool


def facts(kind: Kind, manifest: Manifest) -> References | None:
    """Return what a server refers to, None if it refers to nothing or the object is a child."""
    if kind != SERVER:
        return None
    name = _value_in(manifest, "model", "weights")
    found = References(
        name if isinstance(name, str) else None, _value_in(manifest, "verification", "mode") in _VERIFIED
    )
    return found if found.weights or found.is_verified else None


_VERIFIED = ("Warn", "Block")


def _value_in(manifest: Manifest, group: str, name: str) -> Any:
    """Return a field of a group of fields in a spec that may have any shape, None if it is missing."""
    spec: Any = manifest.get("spec")
    fields = spec.get(group) if isinstance(spec, dict) else None
    return fields.get(name) if isinstance(fields, dict) else None


class ServerIndex:
    """The servers that use weights, by these."""

    def __init__(self, _: Cache) -> None:
        """Create an empty index."""
        self._users: dict[Key, dict[Key, None]] = {}

    def add(self, cached: CachedObject) -> None:
        """Add an object that is new in the cache."""
        if used := _used(cached):
            self._users.setdefault(used, {})[cached.key] = None

    def remove(self, cached: CachedObject) -> None:
        """Remove an object that the cache has dropped or replaced."""
        if used := _used(cached):
            discard(self._users, used, cached.key)

    def clear(self) -> None:
        """Remove everything."""
        self._users.clear()

    def keys_to_enqueue(self, before: CachedObject | None, after: CachedObject | None) -> set[Key]:
        """Return the servers to enqueue after their weights changed."""
        key = next(cached.key for cached in (before, after) if cached)
        return {*self._users.get(key, ())}


def _used(cached: CachedObject) -> Key | None:
    """Return the key of the weights that a server uses, None for other objects."""
    used = cached.facts
    name = used.weights if isinstance(used, References) else None
    return Key(cached.key.namespace, name, WEIGHTS) if name else None
