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
        whole: Whole objects that the pass has seen. The cache may contain only a part of them now.
        read: What a function read in some of the manifests, by the function and the IDs of the manifests. The entry
            also contains these manifests, because an ID stays valid only while its object exists.
    """

    manifests: dict[Key, tuple[CachedObject, Manifest]] = field(default_factory=dict)
    whole: dict[Key, CachedObject] = field(default_factory=dict)
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
        current.whole.clear()
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


def share(whole: CachedObject) -> None:
    """Let the current pass, if there is one, read this whole object if the cache contains only a part of it.

    This is also true if the part is newer: the event of the newer state makes another pass, which reads it whole.
    """
    current = _CURRENT.get()
    if current is not None:
        current.whole[whole.key] = whole


def manifest_of(cached: CachedObject) -> Manifest:
    """Return the manifest of a cached object, which no code may change."""
    current = _CURRENT.get()
    if current is None:
        return cached.manifest()
    found = current.whole.get(cached.key, cached) if cached.cut else cached
    known = current.manifests.get(cached.key)
    if known is None or known[0] is not found:
        known = current.manifests[cached.key] = found, found.manifest()
    return known[1]
