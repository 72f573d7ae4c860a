"""Comparing a live object with the wanted one, so that nothing is written when nothing differs.

Only wanted fields count: what the API server defaults and what other managers add is theirs.
"""

import hashlib
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

from kimi_linear_operator import jsontext
from kimi_linear_operator.kubernetes.kinds import CONFIG_MAP, Manifest
from kimi_linear_operator.kubernetes.overlay import MERGE_KEYS

# Fields that Kubernetes' types cannot tell from absent when they hold their zero value (`omitempty`, no pointer).
_ABSENT_WHEN_FALSE = ("hostIPC", "hostNetwork", "hostPID", "readOnly", "stdin", "stdinOnce", "tty")
_ABSENT_WHEN_EMPTY = ("annotations", "initialDelaySeconds", "labels", "limits", "nodeSelector", "requests")
# By which fields of its items a list is merged.
_ITEM_KEYS = {**MERGE_KEYS, "ownerReferences": ("uid",)}
# Items of one key that are compared each with each.
_MOST_PAIRS = 1024
_QUANTITY_MAPS = ("limits", "requests")
_QUANTITY_FIELDS = ("divisor", "sizeLimit")

# https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
_SUFFIXES: dict[str, int | Decimal] = {
    "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50, "Ei": 2**60,
    "n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"),
    "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15, "E": 10**18,
}  # fmt: skip


_CONTENTS = ("binaryData", "data")
# A ConfigMap of ours has a few. One of 1 MiB can have 75,000, whose digests take ten times as much.
_MOST_DIGESTS = 64
# No content can have this name.
_ALL = "*"


def has_drifted(live: Manifest, wanted: Manifest) -> bool:
    """Return whether a live object lacks or contradicts a wanted field."""
    return next(differences(live, wanted), None) is not None


def with_digests(manifest: Any) -> Any:
    """Return a ConfigMap with the digest of each of its contents in their place, any other object as it is.

    That is enough to see whether they are as wanted, and takes a hundredth of the memory.
    """
    if not isinstance(manifest, dict) or manifest.get("kind") != CONFIG_MAP.kind:
        return manifest
    contents = {name: manifest[name] for name in _CONTENTS if isinstance(manifest.get(name), dict)}
    return {**manifest, **{name: _digests(content) for name, content in contents.items()}}


def _digests(content: Manifest) -> Manifest:
    """Return the digests of texts, or one of all if they are very many; what is a digest already stays."""
    if len(content) > _MOST_DIGESTS:
        return {_ALL: _digest(jsontext.encode(content))}
    return {key: value if isinstance(value, dict) else _digest(str(value).encode()) for key, value in content.items()}


def _digest(content: bytes) -> Manifest:
    return {"sha256": hashlib.sha256(content).hexdigest()}


def differences(live: Any, wanted: Any, path: str = "", field: str = "") -> Iterator[str]:
    """Yield the wanted fields that a live object lacks or contradicts, as `kubectl` writes them.

    Items of a list that have a name are named by it: `spec.template.spec.containers[sglang].image`.
    """
    if not path:
        live, wanted = with_digests(live), with_digests(wanted)
    if isinstance(wanted, dict) and isinstance(live, dict):
        for key, value in wanted.items():
            # Most are the same, and comparing them as a whole is many times faster.
            if key not in live or live[key] != value:
                yield from _field_differences(live, key, value, path, field)
    elif isinstance(wanted, list) and isinstance(live, list):
        yield from _item_differences(live, wanted, path, field)
    elif not _is_equal(live, wanted, field):
        yield path


def _field_differences(live: Manifest, key: str, wanted: Any, parent_path: str, parent: str) -> Iterator[str]:
    path = f"{parent_path}.{key}".removeprefix(".")
    if key not in live:
        if not _is_stored_as_absent(key, wanted):
            yield path
    elif parent in _QUANTITY_MAPS:
        if _quantity(live[key]) != _quantity(wanted):
            yield path
    else:
        yield from differences(live[key], wanted, path, key)


def _is_equal(live: Any, wanted: Any, field: str) -> bool:
    if field in _QUANTITY_FIELDS:
        return _quantity(live) == _quantity(wanted)
    return bool(live == wanted)


def _is_stored_as_absent(key: str, wanted: Any) -> bool:
    """Return whether the API server leaves a field out that holds this, because its type has no other way."""
    if wanted is False:
        return key in _ABSENT_WHEN_FALSE
    return wanted in ("", [], None) or (not wanted and key in _ABSENT_WHEN_EMPTY)


def _item_differences(live: Sequence[Any], wanted: Sequence[Any], path: str, field: str) -> Iterator[str]:
    """Compare lists: where Kubernetes merges by key, and only there, other managers may add items such as a sidecar."""
    if field in _ITEM_KEYS:
        known = _by_key(live, field)
        for key, items in _by_key(wanted, field).items():
            yield from _keyed_differences(known.get(key, []), items, f"{path}[{_name(items[0], key)}]")
    elif len(live) != len(wanted):
        yield path
    else:
        for index, (found, item) in enumerate(zip(live, wanted, strict=True)):
            yield from differences(found, item, f"{path}[{index}]")


def _keyed_differences(live: Sequence[Manifest], wanted: Sequence[Manifest], path: str) -> Iterator[str]:
    """Compare items of one key. There is one of each, or somebody added another: of two variables, the last counts."""
    if len(live) == len(wanted) == 1:
        yield from differences(live[0], wanted[0], path)
    elif not _hold_each_other(live, wanted):
        yield path


def _hold_each_other(live: Sequence[Manifest], wanted: Sequence[Manifest]) -> bool:
    """Return whether each item has its like on the other side, in whatever order. Of very many, the order counts."""
    if len(live) * len(wanted) > _MOST_PAIRS:
        return len(live) == len(wanted) and not any(map(has_drifted, live, wanted))
    pairs = [[not has_drifted(one, other) for other in wanted] for one in live]
    return bool(pairs) and all(map(any, pairs)) and all(map(any, zip(*pairs, strict=True)))


def _by_key(items: Sequence[Any], field: str) -> dict[tuple[object, ...], list[Any]]:
    """Return items by what tells them apart: comparing each with each takes seconds for what one spec may hold."""
    found: dict[tuple[object, ...], list[Any]] = {}
    for item in items:
        found.setdefault(_key(item, field), []).append(item)
    return found


def _name(item: Any, key: tuple[object, ...]) -> object:
    return item.get("name", key[0]) if isinstance(item, dict) else key[0]


def _key(item: Any, field: str) -> tuple[object, ...]:
    """Return what tells an item of a list from others. Ports are told apart by their protocol, too.

    Users can write items of any shape; what is wrong with one is for the API server to say.
    """
    if not isinstance(item, dict):
        return (str(item),)
    if field == "ports":
        return item.get("containerPort", item.get("port")), item.get("protocol", "TCP")
    return tuple(str(item.get(key)) for key in _ITEM_KEYS[field])


def _quantity(value: object) -> Decimal | str:
    """Return a quantity's number, so that 1024Mi equals 1Gi as it does for the API server."""
    text = str(value)
    number = text.rstrip("KMGTPEikmnu")
    try:
        return Decimal(number) * _SUFFIXES.get(text[len(number) :], 1)
    except ArithmeticError:  # no number, or one that is beyond all reason
        return text
