"""Comparing a live object with the wanted one, so that nothing is written when nothing differs.

Only wanted fields count: what the API server defaults and what other managers add is theirs.
"""

from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

from kimi_linear_operator.api import Manifest
from kimi_linear_operator.resources.overlay import MERGE_KEYS

# Fields that Kubernetes' types cannot tell from absent when they hold their zero value (`omitempty`, no pointer).
_ABSENT_WHEN_FALSE = ("hostIPC", "hostNetwork", "hostPID", "readOnly", "stdin", "stdinOnce", "tty")
_ABSENT_WHEN_EMPTY = ("annotations", "initialDelaySeconds", "labels", "limits", "nodeSelector", "requests")
_QUANTITY_MAPS = ("limits", "requests")
_QUANTITY_FIELDS = ("divisor", "sizeLimit")

# https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
_SUFFIXES: dict[str, int | Decimal] = {
    "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50, "Ei": 2**60,
    "n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"),
    "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15, "E": 10**18,
}  # fmt: skip


def has_drifted(live: Manifest, wanted: Manifest) -> bool:
    """Return whether a live object lacks or contradicts a wanted field."""
    return not _holds(live, wanted)


def _holds(live: Any, wanted: Any, field: str = "") -> bool:
    if isinstance(wanted, dict):
        return isinstance(live, dict) and all(_holds_field(live, key, value, field) for key, value in wanted.items())
    if isinstance(wanted, list):
        return isinstance(live, list) and _holds_items(live, wanted, field)
    if field in _QUANTITY_FIELDS:
        return _quantity(live) == _quantity(wanted)
    return bool(live == wanted)


def _holds_field(live: Manifest, key: str, wanted: Any, parent: str) -> bool:
    if key not in live:
        return _is_stored_as_absent(key, wanted)
    if parent in _QUANTITY_MAPS:
        return _quantity(live[key]) == _quantity(wanted)
    return _holds(live[key], wanted, key)


def _is_stored_as_absent(key: str, wanted: Any) -> bool:
    """Return whether the API server leaves a field out that holds this, because its type has no other way."""
    if wanted is False:
        return key in _ABSENT_WHEN_FALSE
    return wanted in ("", [], None) or (not wanted and key in _ABSENT_WHEN_EMPTY)


def _holds_items(live: Sequence[Any], wanted: Sequence[Any], field: str) -> bool:
    """Compare lists: where Kubernetes merges by key, and only there, other managers may add items such as a sidecar."""
    if field in MERGE_KEYS or field == "ownerReferences":
        return all(any(_holds(candidate, item) for candidate in live) for item in wanted)
    return len(live) == len(wanted) and all(map(_holds, live, wanted))


def _quantity(value: object) -> Decimal | str:
    """Return a quantity's number, so that 1024Mi equals 1Gi as it does for the API server."""
    text = str(value)
    number = text.rstrip("KMGTPEikmnu")
    try:
        return Decimal(number) * _SUFFIXES.get(text[len(number) :], 1)
    except InvalidOperation:
        return text
