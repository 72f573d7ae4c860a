"""The cached objects that a pass has decoded.

Many parts of a pass read the same pods and children. Within a pass, each state of an object is decoded once, when the
first part reads it. All parts share the manifest, so no code may change it. After the pass, nothing of it is kept.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.reconcile.cached_object import CachedObject, Key

_Manifests = dict[Key, tuple[CachedObject, Manifest]]
# The objects that the current pass has decoded; None outside of a pass. Tasks that a pass starts share them.
_CURRENT: ContextVar[_Manifests | None] = ContextVar("_CURRENT", default=None)


@contextmanager
def decoded_once() -> Iterator[None]:
    """Within this context, decode each state of a cached object only once."""
    manifests: _Manifests = {}
    token = _CURRENT.set(manifests)
    try:
        yield
    finally:
        _CURRENT.reset(token)
        manifests.clear()  # a read of a log may outlive the pass that has started it


def share(cached: CachedObject, whole: CachedObject) -> None:
    """Let the current pass read a whole object of which the cache contains only the essence, if there is a pass."""
    manifests = _CURRENT.get()
    if manifests is not None:
        manifests[cached.key] = cached, whole.manifest()


def manifest_of(cached: CachedObject) -> Manifest:
    """Return the manifest of a cached object, which no code may change."""
    manifests = _CURRENT.get()
    if manifests is None:
        return cached.manifest()
    known = manifests.get(cached.key)
    if known is None or known[0] is not cached:
        known = manifests[cached.key] = cached, cached.manifest()
    return known[1]
