"""Reduces a large object in an answer of the API server, before other code can keep it in memory.

The API server stores up to 1.5 MB in an object. Decoded, that can take 30 MiB, and many requests run at the same time.
"""

from collections.abc import Iterator, Sequence

from kimi_linear_operator import jsontext
from kimi_linear_operator.cluster.request import METADATA_KIND
from kimi_linear_operator.kubernetes import ownership
from kimi_linear_operator.kubernetes.bounds import (
    HEAVIEST_CHILD,
    HEAVIEST_OBJECT,
    LARGEST_CHILD,
    LARGEST_SPEC,
    LONGEST_OBJECT,
    unread,
    within_bounds,
)
from kimi_linear_operator.kubernetes.essence import essence, essential_metadata
from kimi_linear_operator.kubernetes.kinds import GROUP, REVISION, Manifest
from kimi_linear_operator.kubernetes.metadata import MANAGER

HEAVIEST_MANAGED_FIELDS = 50_000
"""In units of `jsontext.weight`. The managed fields of the largest spec or pod template have half of this weight."""

# In bytes. The managed fields repeat the names in a spec, for example those of environment variables.
_LONGEST_MANAGED_FIELDS = 2 * LARGEST_SPEC

# The last field of the metadata as Go writes it (k8s.io/apimachinery, ObjectMeta). In strings, quotes are escaped.
_MANAGED_FIELDS = b',"managedFields":['


def may_decode(text: bytes) -> bool:
    """Return whether an object with this JSON text is small enough to decode it whole."""
    return _is_within(text, LONGEST_OBJECT, HEAVIEST_OBJECT)


def without_managed_fields(text: bytes, end: bytes) -> bytes:
    """Return the JSON text of an object that has only metadata, or of a list of one such object.

    The managed fields are left out: they can be long, heavy and nested deeply. Nothing else in the metadata is.

    Args:
        text: The JSON text, as Go writes it.
        end: What follows the metadata.
    """
    before, found, _ = text.partition(_MANAGED_FIELDS)
    return before + end if found else text


def unread_object(api_version: str, kind: str, metadata: Manifest) -> Manifest:
    """Return the essence of an object of which only the metadata was read. Its managed fields are unknown.

    A resource of ours gets a spec that the check refuses. A ControllerRevision gets the number before all others.
    """
    number = {"revision": 0} if kind == REVISION.kind else {}
    known = essence({"apiVersion": api_version, "kind": kind, "metadata": metadata, **number})
    manifest = {**known, "metadata": {**known["metadata"], "managedFields": None}}
    return unread(manifest) if _is_ours(manifest) else manifest


def light(manifest: Manifest, text: bytes) -> Manifest:
    """Return an object without the parts that are too large to hold.

    Heavy managed fields of our own resources get one entry for all other managers. Those of other objects lose all but
    the entries that `Cluster.unify` needs. Managed fields that are still too heavy become None. If the rest is larger
    than any object of the operator can be, only its essence is left, as in the cache. A spec of ours that is too large
    becomes a small one that the check refuses, too.

    Args:
        manifest: The object, with complete metadata.
        text: The object as JSON.
    """
    if _is_within(text, LARGEST_CHILD, HEAVIEST_MANAGED_FIELDS):
        return manifest
    for part in _reductions(manifest):
        if _is_within(jsontext.encode(_without_managed_fields(part)), LARGEST_CHILD, HEAVIEST_CHILD):
            break
    return part


def _reductions(manifest: Manifest) -> Iterator[Manifest]:
    """Yield smaller and smaller parts of an object."""
    managed, rest = _managed_fields(manifest), _without_managed_fields(manifest)
    yield {**manifest, "metadata": rest["metadata"] | managed}
    essential = essential_metadata(manifest["metadata"]) | managed
    yield {**manifest, "metadata": essential}
    reduced = {**essence(manifest), "metadata": essential}
    # A part of a spec could be a valid spec. So a spec of ours stays whole, or becomes one that the check refuses.
    yield (
        {**within_bounds(manifest), "status": reduced["status"], "metadata": essential}
        if _is_ours(manifest)
        else reduced
    )


def _managed_fields(manifest: Manifest) -> Manifest:
    """Return the managed fields of an object as a part of its metadata: None if they are too heavy."""
    found: Sequence[Manifest] = manifest["metadata"].get("managedFields") or ()
    if _is_light(found):
        return {"managedFields": found}
    # The operator never applies its own resources. It asks for metadata alone only when it writes their status.
    if _is_ours(manifest) or manifest.get("kind") == METADATA_KIND:
        merged = ownership.merged(found, MANAGER)
        return {"managedFields": merged if _is_light(merged) else None}
    return {"managedFields": ownership.reduced(found, MANAGER) or None}


def _is_light(managed_fields: Sequence[Manifest]) -> bool:
    return _is_within(jsontext.encode(managed_fields), _LONGEST_MANAGED_FIELDS, HEAVIEST_MANAGED_FIELDS)


def _is_ours(manifest: Manifest) -> bool:
    """Return whether this is one of our own resources."""
    return str(manifest.get("apiVersion")).startswith(f"{GROUP}/")


def _without_managed_fields(manifest: Manifest) -> Manifest:
    about = {name: value for name, value in manifest["metadata"].items() if name != "managedFields"}
    return {**manifest, "metadata": about}


def _is_within(text: bytes, longest: int, heaviest: int) -> bool:
    # Compare the length first, because it takes long to compute the weight of a long text.
    return len(text) <= longest and jsontext.weight(text) <= heaviest
