"""Facts of servers, and an index of servers by the weights that they use. No object is decoded to decide."""

from dataclasses import dataclass
from typing import Any

from kimi_linear_operator.kubernetes.conditions import ready_condition
from kimi_linear_operator.kubernetes.kinds import Kind, Manifest
from kimi_linear_operator.reconcile.cache import Cache, discard
from kimi_linear_operator.reconcile.cached_object import CachedObject, Key
from kimi_linear_operator.server.spec import SERVER
from kimi_linear_operator.weights.spec import WEIGHTS

# Characters. The limit of `spec.engine.image`; anybody who may write a status may write any text there.
_LONGEST_IMAGE = 512


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What others read of a server. How many replicas serve, and how far a start is, is not among it.

    Attributes:
        weights: The KimiLinearWeights that it names, empty if it names none.
        uid: Its UID.
        generation: The generation of its spec.
        ready: Status, reason and observed generation of Ready.
        image: The image in its status.
    """

    weights: str
    uid: str
    generation: int
    ready: tuple[str, str, int]
    image: str


def facts(kind: Kind, manifest: Manifest) -> ServerFacts | None:
    """Return what others read of a server, None for a child."""
    if kind != SERVER:
        return None
    metadata, status = manifest["metadata"], manifest.get("status", {})
    ready = ready_condition(status)
    return ServerFacts(
        weights=_weights_of(manifest.get("spec")),
        uid=str(metadata.get("uid", "")),
        generation=int(metadata.get("generation", 0)),
        ready=(str(ready.get("status")), str(ready.get("reason")), int(ready.get("observedGeneration") or 0)),
        image=str(status.get("image", ""))[:_LONGEST_IMAGE],
    )


def _weights_of(spec: Any) -> str:
    model = spec.get("model") if isinstance(spec, dict) else None
    name = model.get("weights") if isinstance(model, dict) else None
    return name if isinstance(name, str) else ""


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
        """Return the servers to enqueue after something changed that they read of their weights."""
        versions = [cached for cached in (before, after) if cached]
        has_changed = len(versions) == 1 or versions[0].facts != versions[1].facts
        return {*self._users.get(versions[0].key, ())} if has_changed else set()


def _used(cached: CachedObject) -> Key | None:
    """Return the key of the weights that a server uses, None for other objects."""
    server = cached.facts
    if not isinstance(server, ServerFacts) or not server.weights:
        return None
    return Key(cached.key.namespace, server.weights, WEIGHTS)
