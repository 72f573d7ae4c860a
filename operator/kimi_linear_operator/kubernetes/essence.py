"""The essence of an object: the fields that show its identity, owners and state, limited in size.

If an object is too large, the cache keeps only its essence. The essence contains no pod template, no data and no ports.
So a child that is too large by itself always shows drift, and the operator applies it again. If only the room of its
namespace is full, a pass first reads the whole child (`Children.read_whole`).
"""

from collections.abc import Iterable, Mapping
from heapq import nsmallest
from itertools import accumulate, islice
from typing import Any

from kimi_linear_operator import jsontext
from kimi_linear_operator.kubernetes.conditions import CONDITION_TYPES
from kimi_linear_operator.kubernetes.kinds import GROUP, Manifest
from kimi_linear_operator.kubernetes.metadata import MANAGED_BY
from kimi_linear_operator.kubernetes.ownership import mark_of_second_manager

# Characters. The API server bounds names and UIDs of objects, but not those in an owner reference.
_LONGEST_TEXT = 256
# Our pods and children have one owner. A user can create an object with thousands of owners.
_MOST_OWNERS = 4
_MOST_ANNOTATIONS = 32
_MOST_LABELS = 16
# Characters of all names and values together.
_LONGEST_OURS = 1024
_MOST_FINALIZERS = 8
# Bytes of JSON. Only controllers and kubelets write a status. All termination messages of a pod together have at most
# 12 KiB.
_LARGEST_STATUS = 64 * 1024
# Characters. A status quotes less of an Event.
_LONGEST_MESSAGE = 4096
# Bytes of JSON. A pod of a server that has crashed takes half of this.
_USUAL_STATE = 8 * 1024
# A pod has five conditions, and one for each readiness gate.
_MOST_CONDITIONS = 16
_TIMES = ("eventTime", "firstTimestamp", "lastTimestamp")
_METADATA = (
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
)
_LABELS = (
    *(f"app.kubernetes.io/{name}" for name in ("name", "instance", "component")),
    MANAGED_BY,
)


def essence(manifest: Manifest) -> Manifest:
    """Return the essence of an object: essential metadata, plain fields, and the status unless it is too large."""
    status = manifest.get("status") or {}
    return {
        **_plain(manifest),
        "metadata": essential_metadata(manifest["metadata"]),
        "spec": _plain(manifest.get("spec") or {}),
        "status": status if len(jsontext.encode(status)) <= _LARGEST_STATUS else {},
    }


def head(manifest: Manifest) -> Manifest:
    """Return the parts of a live object that a write needs.

    These are its identity, its owners, our annotations, and whether the operator has also patched the object.
    """
    about = essential_metadata(manifest["metadata"]) | mark_of_second_manager(manifest)
    return {**_plain(manifest), "metadata": about}


def compact(manifest: Manifest) -> Manifest:
    """Return the smallest part of an object that still shows its state. It is shorter than an essence.

    The spec is already trimmed. If spec and status are longer than usual, only plain fields and conditions are left.
    """
    spec, status = manifest.get("spec") or {}, manifest.get("status") or {}
    is_usual = len(jsontext.encode([spec, status])) <= _USUAL_STATE
    state = {"conditions": _known_parts(status.get("conditions") or ())} | _plain(status)
    about = essential_metadata(manifest["metadata"])
    return {
        **_plain(manifest),
        "metadata": {**about, "ownerReferences": about["ownerReferences"][:1]},
        "spec": spec if is_usual else _plain(spec),
        "status": status if is_usual else state,
    }


def _known_parts(conditions: Iterable[Manifest]) -> list[Manifest]:
    """Return the plain fields of the first conditions."""
    return [_plain(condition) for condition in islice(conditions, _MOST_CONDITIONS)]


def essential_status(status: Manifest) -> Manifest:
    """Return the plain fields and the known conditions in a readable status (`stored.readable_status`)."""
    conditions = [item for item in status.get("conditions", ()) if item["type"] in CONDITION_TYPES]
    return {**_plain(status), **({"conditions": conditions} if conditions else {})}


def event_essence(event: Manifest) -> Manifest:
    """Return reason, times, series and message of an Event, each cut to a bounded size."""
    series: Any = event.get("series")
    fields = _plain({name: event[name] for name in ("reason", *_TIMES) if name in event})
    message = str(event.get("message") or "")[:_LONGEST_MESSAGE]
    return {**fields, "message": message, "series": _plain(series) if isinstance(series, dict) else {}}


def essential_metadata(metadata: Manifest) -> Manifest:
    """Return an object's identity, its owners, and our own labels and annotations. Long values are left out."""
    labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
    return {
        **{name: metadata[name] for name in _METADATA if name in metadata},
        "labels": {**{name: labels[name] for name in _LABELS if name in labels}, **_ours(labels, _MOST_LABELS)},
        "annotations": _ours(annotations, _MOST_ANNOTATIONS),
        "ownerReferences": essential_owners(metadata.get("ownerReferences") or ()),
        **_finalizers(metadata),
    }


def _finalizers(metadata: Manifest) -> Manifest:
    """Return the first finalizers of an object that is being deleted. Users can set thousands of them."""
    if "deletionTimestamp" not in metadata:
        return {}
    return {
        "finalizers": [
            name for name in islice(metadata.get("finalizers") or (), _MOST_FINALIZERS) if len(name) <= _LONGEST_TEXT
        ]
    }


def _ours(fields: Mapping[str, Any], most: int) -> dict[str, Any]:
    """Return our own labels or annotations with short values, up to this number and up to a total length."""
    ours = [(name, value) for name, value in _plain(fields).items() if name.startswith(f"{GROUP}/")][:most]
    lengths = accumulate(len(name) + len(str(value)) for name, value in ours)
    return dict(item for item, length in zip(ours, lengths, strict=True) if length <= _LONGEST_OURS)


def essential_owners(references: Iterable[Manifest]) -> list[Manifest]:
    """Return the most important owner references: first the controller, of which an object has one, then our resources.

    References with long values are left out.
    """
    short = (reference for reference in references if _plain(reference) == reference)
    return nsmallest(_MOST_OWNERS, short, key=_importance)


def main_owner(manifest: Manifest) -> str:
    """Return the UID of an object's controller, else of its first owner; empty if it has none, or only a long one."""
    [first] = essential_owners(manifest["metadata"].get("ownerReferences") or ())[:1] or [{}]
    return str(first.get("uid", ""))


def _importance(reference: Manifest) -> tuple[bool, bool]:
    is_ours = str(reference.get("apiVersion", "")).startswith(f"{GROUP}/")
    return not reference.get("controller"), not is_ours


def _plain(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that hold a boolean, a number or a short text."""
    return {
        name: value
        for name, value in fields.items()
        if isinstance(value, bool | int | float) or (isinstance(value, str) and len(value) <= _LONGEST_TEXT)
    }
