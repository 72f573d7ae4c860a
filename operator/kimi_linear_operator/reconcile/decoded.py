"""The cached objects that a pass has decoded.

Many parts of a pass read the same pods and children. Within a pass, each state of an object is decoded once, when the
first part reads it. All parts share the decoded manifest, so no code may change it. After the pass, nothing of it is
kept.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, TypeVar

from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.reconcile.cached_object import CachedObject, Key

T = TypeVar("T")


@dataclass(frozen=True)
class _Pass:
    """What the current pass has decoded.

    Attributes:
        manifests: The objects.
        read: What a function read in some of the manifests, by the function and the IDs of the manifests. The entry
            also contains these manifests, because an ID stays valid only while its object exists.
    """

    manifests: dict[Key, tuple[CachedObject, Manifest]] = field(default_factory=dict)
    read: dict[tuple[object, tuple[int, ...]], tuple[Any, Any]] = field(default_factory=dict)


# None outside of a pass. Tasks that a pass starts share it.
_CURRENT: ContextVar[_Pass | None] = ContextVar("_CURRENT", default=None)


@contextmanager
def decoded_once() -> Iterator[None]:
    """Within this context, decode each state of a cached object only once."""
    current = _Pass()
    token = _CURRENT.set(current)
    try:
        yield
    finally:
        _CURRENT.reset(token)
        # A read of a log may outlive the pass that has started it.
        current.manifests.clear()
        current.read.clear()


def once(read: Callable[[tuple[Manifest, ...]], T], manifests: tuple[Manifest, ...]) -> T:
    """Return what a function reads in these manifests. Within a pass, it reads the same manifests only once."""
    current = _CURRENT.get()
    if current is None:
        return read(manifests)
    key = read, tuple(map(id, manifests))
    if key not in current.read:
        current.read[key] = manifests, read(manifests)
    found: T = current.read[key][1]
    return found


def share(cached: CachedObject, whole: CachedObject) -> None:
    """Let the current pass read a whole object of which the cache contains only the essence, if there is a pass."""
    current = _CURRENT.get()
    if current is not None:
        current.manifests[cached.key] = cached, whole.manifest()


def manifest_of(cached: CachedObject) -> Manifest:
    """Return the manifest of a cached object, which no code may change."""
    current = _CURRENT.get()
    if current is None:
        return cached.manifest()
    known = current.manifests.get(cached.key)
    if known is None or known[0] is not cached:
        known = current.manifests[cached.key] = cached, cached.manifest()
    return known[1]
