"""Drift: the fields in which a live object differs from the wanted object. Without drift, the operator writes nothing.

Only wanted fields count. Defaults of the API server and fields of other managers are not drift.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from kimi_linear_operator import jsontext
from kimi_linear_operator.kubernetes.bounds import count_values
from kimi_linear_operator.kubernetes.kinds import CONFIG_MAP, Manifest
from kimi_linear_operator.kubernetes.overlay import MERGE_KEYS

# Fields that the API server drops when they hold their zero value (`omitempty` and no pointer in Go's types).
_ABSENT_WHEN_FALSE = ("hostIPC", "hostNetwork", "hostPID", "readOnly", "stdin", "stdinOnce", "tty")
_ABSENT_WHEN_EMPTY = (
    "annotations",
    "initialDelaySeconds",
    "labels",
    "limits",
    "matchLabels",
    "nodeSelector",
    "requests",
)
# The fields by which Kubernetes merges the items of a list.
_ITEM_KEYS = {**MERGE_KEYS, "ownerReferences": ("uid",)}
# Paths of the lists in a NetworkPolicy. Kubernetes replaces these lists as a whole, also `ports`.
_WHOLE_LISTS = ("spec.ingress[", "spec.egress[")
# How many values a comparison reads to match items with the same key in any order. Twenty variables with the same name
# need 4,000. Without this limit, one pass over nested lists of such items would take seconds.
_MOST_STEPS = 8_000
_QUANTITY_MAPS = ("limits", "requests")
_QUANTITY_FIELDS = ("averageValue", "divisor", "sizeLimit")

# https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
_SUFFIXES: dict[str, int | Decimal] = {
    "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50, "Ei": 2**60,
    "n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"),
    "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15, "E": 10**18,
}  # fmt: skip


_CONTENTS = ("binaryData", "data")
# Our ConfigMaps have a few keys. A ConfigMap of 1 MiB can have 75,000 keys, whose digests would need ten times as much
# memory as the ConfigMap.
_MOST_DIGESTS = 64
# No key of a ConfigMap can have this name.
_ALL = "*"


def has_drifted(live: Manifest, wanted: Manifest) -> bool:
    """Return whether a live object lacks or contradicts a wanted field."""
    return next(differences(live, wanted), None) is not None


def with_digests(manifest: Any) -> Any:
    """Replace the contents of a ConfigMap by their digests. Return any other object as it is.

    Digests are enough to find drift, and need a hundredth of the memory.
    """
    if not isinstance(manifest, dict) or manifest.get("kind") != CONFIG_MAP.kind:
        return manifest
    contents = {name: manifest[name] for name in _CONTENTS if isinstance(manifest.get(name), dict)}
    return {**manifest, **{name: _digests(content) for name, content in contents.items()}}


def _digests(content: Manifest) -> Manifest:
    """Return the digest of each text, or one digest of all texts if there are many. A digest stays as it is."""
    if len(content) > _MOST_DIGESTS:
        return {_ALL: _digest(jsontext.encode(content))}
    return {key: value if isinstance(value, dict) else _digest(str(value).encode()) for key, value in content.items()}


def _digest(content: bytes) -> Manifest:
    return {"sha256": hashlib.sha256(content).hexdigest()}


def differences(live: Manifest, wanted: Manifest) -> Iterator[str]:
    """Yield the paths of wanted fields that a live object lacks or contradicts.

    In a path, the name or key of an item stands for the item: `spec.template.spec.containers[sglang].image`.
    """
    return _Comparison().differences(with_digests(live), with_digests(wanted))


def all_differences(first: Manifest, second: Manifest) -> tuple[str, ...]:
    """Return the paths of the fields in which two objects differ, also of fields that only one of them has."""
    return () if first == second else tuple(sorted({*differences(first, second), *differences(second, first)}))


@dataclass
class _Comparison:
    """A comparison of a live object with a wanted object.

    Attributes:
        steps: How many more values it can read to match items in any order.
    """

    steps: int = _MOST_STEPS

    def differences(self, live: Any, wanted: Any, path: str = "", field: str = "") -> Iterator[str]:
        """Yield the paths of wanted fields in which two values differ.

        Args:
            live: The live value.
            wanted: The wanted value.
            path: The path of both values, "" for the whole object.
            field: The last name in the path.
        """
        if isinstance(wanted, dict) and isinstance(live, dict):
            for key, value in wanted.items():
                # Most values are equal, and one `!=` for a whole value is many times faster than this recursion.
                if key not in live or live[key] != value:
                    yield from self._of_fields(live, key, value, parent_path=path, parent=field)
        elif isinstance(wanted, list) and isinstance(live, list):
            yield from self._of_lists(live, wanted, path, field)
        elif not _is_equal(live, wanted, field):
            yield path

    def _of_fields(self, live: Manifest, key: str, wanted: Any, *, parent_path: str, parent: str) -> Iterator[str]:
        path = f"{parent_path}.{key}".removeprefix(".")
        if key not in live:
            if not _is_stored_as_absent(key, wanted):
                yield path
        elif parent in _QUANTITY_MAPS:
            if _quantity(live[key]) != _quantity(wanted):
                yield path
        else:
            yield from self.differences(live[key], wanted, path, key)

    def _of_lists(self, live: Sequence[Any], wanted: Sequence[Any], path: str, field: str) -> Iterator[str]:
        """Compare lists. Other managers may add items, such as a sidecar, to lists that Kubernetes merges by key."""
        if field in _ITEM_KEYS and not path.startswith(_WHOLE_LISTS):
            live_by_key = _by_key(live, field)
            for key, items in _by_key(wanted, field).items():
                yield from self._of_alike_items(live_by_key.get(key, []), items, f"{path}[{_name(items[0], key)}]")
        elif len(live) != len(wanted):
            yield path
        else:
            for index, (live_item, wanted_item) in enumerate(zip(live, wanted, strict=True)):
                yield from self.differences(live_item, wanted_item, f"{path}[{index}]")

    def _of_alike_items(self, live: Sequence[Any], wanted: Sequence[Any], path: str) -> Iterator[str]:
        """Compare items with the same key. If two variables of a container have the same name, the last one counts."""
        if len(live) == len(wanted) == 1:
            yield from self.differences(live[0], wanted[0], path)
        elif not self._match(live, wanted):
            yield path

    def _match(self, live: Sequence[Any], wanted: Sequence[Any]) -> bool:
        """Return whether each item matches an item of the other list.

        The order counts only if there are too many values to try all pairs.
        """
        if not self._can_try_all(live, wanted):
            return len(live) == len(wanted) and all(map(self._matches, live, wanted))
        matches = [[self._matches(live_item, wanted_item) for wanted_item in wanted] for live_item in live]
        return bool(matches) and all(map(any, matches)) and all(map(any, zip(*matches, strict=True)))

    def _can_try_all(self, live: Sequence[Any], wanted: Sequence[Any]) -> bool:
        """Return whether all pairs of two lists are within the limit, and count their values."""
        if self.steps > 0:
            self.steps -= len(live) * count_values(wanted) + len(wanted) * count_values(live)
        return self.steps > 0

    def _matches(self, live: Any, wanted: Any) -> bool:
        return next(self.differences(live, wanted), None) is None


def _is_equal(live: Any, wanted: Any, field: str) -> bool:
    if field in _QUANTITY_FIELDS:
        return _quantity(live) == _quantity(wanted)
    return bool(live == wanted)


def _is_stored_as_absent(key: str, wanted: Any) -> bool:
    """Return whether the API server drops a field with this value (see `_ABSENT_WHEN_FALSE`)."""
    if wanted is False:
        return key in _ABSENT_WHEN_FALSE
    return wanted in ("", [], None) or (not wanted and key in _ABSENT_WHEN_EMPTY)


def _by_key(items: Sequence[Any], field: str) -> dict[tuple[object, ...], list[Any]]:
    """Group items by key, because comparing all pairs of a large list takes seconds."""
    groups: dict[tuple[object, ...], list[Any]] = {}
    for item in items:
        groups.setdefault(_key(item, field), []).append(item)
    return groups


def _name(item: Any, key: tuple[object, ...]) -> object:
    return item.get("name", key[0]) if isinstance(item, dict) else key[0]


def _key(item: Any, field: str) -> tuple[object, ...]:
    """Return the key of an item in a list. The key of a port includes its protocol.

    Items can have any shape. The API server refuses wrong ones.
    """
    if not isinstance(item, dict):
        return (str(item),)
    if field == "ports":
        return str(item.get("containerPort", item.get("port"))), str(item.get("protocol", "TCP"))
    return tuple(str(item.get(key)) for key in _ITEM_KEYS[field])


def _quantity(value: object) -> Decimal | str:
    """Return the number of a quantity, so that 1024Mi equals 1Gi. If the text is not a quantity, return the text."""
    text = str(value)
    number = text.rstrip("KMGTPEikmnu")
    try:
        return Decimal(number) * _SUFFIXES.get(text[len(number) :], 1)
    except ArithmeticError:  # not a number, or a number that Decimal cannot represent
        return text
