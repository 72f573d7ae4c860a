"""An index of servers by the weights that they use. It decides from facts, without decoding any object."""

from dataclasses import dataclass
from typing import Any

from kimi_linear_operator.kubernetes.kinds import Kind, Manifest
from kimi_linear_operator.reconcile.cache import Cache, discard
from kimi_linear_operator.reconcile.cached_object import CachedObject, Key
from kimi_linear_operator.server.spec import SERVER
from kimi_linear_operator.weights.spec import WEIGHTS


@dataclass(frozen=True, slots=True)
class UsedWeights:
    """The KimiLinearWeights that a server names."""

    name: str


def facts(kind: Kind, manifest: Manifest) -> UsedWeights | None:
    """Return the weights that a server names, None if it names none or the object is a child."""
    if kind != SERVER:
        return None
    spec: Any = manifest.get("spec")
    model = spec.get("model") if isinstance(spec, dict) else None
    name = model.get("weights") if isinstance(model, dict) else None
    return UsedWeights(name) if isinstance(name, str) else None


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
    return Key(cached.key.namespace, used.name, WEIGHTS) if isinstance(used, UsedWeights) else None
