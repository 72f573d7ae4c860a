"""The essence of an object: enough to tell whose it is and how it is, whatever else somebody has put into it.

It lacks what makes a child as wanted (a template, data, ports), so it differs from every wanted object: a child whose
essence alone is known is applied again, as one that somebody has changed.
"""

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

from kimi_linear_operator import jsontext
from kimi_linear_operator.kubernetes.kinds import GROUP, Manifest
from kimi_linear_operator.kubernetes.metadata import MANAGED_BY

# Characters. The API server bounds names and UIDs of objects, but not those in an owner reference.
_LONGEST_TEXT = 256
# A pod of ours has one, and so has a child.
_MOST_OWNERS = 16
_MOST_ANNOTATIONS = 32
_MOST_LABELS = 16
# Only controllers and kubelets write it, and what the containers of a pod leave behind is 12 KiB at most.
_LARGEST_STATUS = 64 * 1024
# Of an Event's message, longer than anything that a status tells of it.
_LONGEST_MESSAGE = 4096
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
    """Return an object with its address, its owners, what we have noted on it, what is plain in it, and its status."""
    status = manifest.get("status") or {}
    return {
        **_plain(manifest),
        "metadata": essential_metadata(manifest["metadata"]),
        "spec": _plain(manifest.get("spec") or {}),
        "status": status if len(jsontext.encode(status)) <= _LARGEST_STATUS else {},
    }


def event_essence(event: Manifest) -> Manifest:
    """Return what an Event tells: its reason, its times and, as far as one would read it, its message."""
    series: Any = event.get("series")
    told = _plain({name: event[name] for name in ("reason", *_TIMES) if name in event})
    message = str(event.get("message") or "")[:_LONGEST_MESSAGE]
    return {**told, "message": message, "series": _plain(series) if isinstance(series, dict) else {}}


def essential_metadata(metadata: Manifest) -> Manifest:
    """Return the metadata that tells objects apart, with our own labels and annotations, as far as they are short."""
    labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
    return {
        **{name: metadata[name] for name in _METADATA if name in metadata},
        "labels": {**{name: labels[name] for name in _LABELS if name in labels}, **_ours(labels, _MOST_LABELS)},
        "annotations": _ours(annotations, _MOST_ANNOTATIONS),
        "ownerReferences": _short_references(metadata.get("ownerReferences") or ()),
    }


def _ours(fields: Mapping[str, Any], most: int) -> dict[str, Any]:
    """Return those of labels or annotations that we give, as far as they are short; not more than so many."""
    found = ((name, value) for name, value in _plain(fields).items() if name.startswith(f"{GROUP}/"))
    return dict(islice(found, most))


def _short_references(references: Iterable[Manifest]) -> list[Manifest]:
    short = (reference for reference in references if _plain(reference) == reference)
    return list(islice(short, _MOST_OWNERS))


def _plain(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that hold a number or a short text."""
    return {
        name: value
        for name, value in fields.items()
        if isinstance(value, bool | int | float) or (isinstance(value, str) and len(value) <= _LONGEST_TEXT)
    }
