"""Strategic merge of a user's changes into a pod template, as with `kubectl patch --type strategic`.

A merge finds an item of a list by its key. The keys are the patchMergeKey tags of Kubernetes' core/v1 types (PodSpec,
Container, Volume). As in the API server, ports have two keys, because a TCP port and a UDP port can have the same
number.
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from kimi_linear_operator.kubernetes.kinds import Manifest

MERGE_KEYS: Mapping[str, tuple[str, ...]] = {
    "containers": ("name",),
    "env": ("name",),
    "ephemeralContainers": ("name",),
    "hostAliases": ("ip",),
    "imagePullSecrets": ("name",),
    "initContainers": ("name",),
    "ports": ("containerPort", "protocol"),
    "resourceClaims": ("name",),
    "schedulingGates": ("name",),
    "topologySpreadConstraints": ("topologyKey",),
    "volumeDevices": ("devicePath",),
    "volumeMounts": ("mountPath",),
    "volumes": ("name",),
}
_KEY_DEFAULTS = {"protocol": "TCP"}
# Lists in which each item has one of several alternative fields. A patch replaces such an item as a whole.
_REPLACED_ITEMS = ("env", "resourceClaims", "volumes")
# Objects with one of several alternative handlers. A handler in the patch replaces a handler of another kind. `kubectl
# patch` would keep both, and the API server would refuse the result.
_HANDLERS = ("exec", "grpc", "httpGet", "sleep", "tcpSocket")
_HAVE_HANDLER = ("livenessProbe", "postStart", "preStop", "readinessProbe", "startupProbe")


def merge(base: Manifest, patch: Manifest) -> Manifest:
    """Return the patched object. The arguments do not change.

    Objects are merged field by field. Lists with a merge key are merged item by item. Any other value is replaced. A
    null in the patch removes the field. A directive such as `$patch` stays in the result, and the API server refuses
    it.
    """
    merged = dict(base)
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = _merge_field(key, base.get(key), value)
    return merged


def _merge_field(key: str, base: Any, patch: Any) -> Any:
    if isinstance(base, dict) and isinstance(patch, dict):
        return merge(_without_other_handlers(base, patch) if key in _HAVE_HANDLER else base, patch)
    if key in MERGE_KEYS and isinstance(base, list) and isinstance(patch, list):
        return _merge_items(base, patch, MERGE_KEYS[key], replaced=key in _REPLACED_ITEMS)
    return _without_nulls(patch)


def _without_other_handlers(base: Manifest, patch: Manifest) -> Manifest:
    """If the patch contains a handler, remove the handlers of other kinds from the probe or hook."""
    patched = {name for name in _HANDLERS if patch.get(name) is not None}
    if not patched:
        return base
    return {name: value for name, value in base.items() if name not in _HANDLERS or name in patched}


def _merge_items(base: Sequence[Any], patch: Sequence[Any], keys: tuple[str, ...], *, replaced: bool) -> list[Any]:
    """Merge lists by key. An item without a key is added as it is, and the API server refuses it."""
    items: dict[Hashable, Any] = {_identity(item, keys, index): item for index, item in enumerate(base)}
    for index, item in enumerate(patch, start=len(base)):
        identity = _identity(item, keys, index)
        items[identity] = merge(items[identity], item) if identity in items and not replaced else _without_nulls(item)
    return list(items.values())


def _identity(item: Any, keys: tuple[str, ...], index: int) -> Hashable:
    """Return the values of an item's keys. If a key is missing, return the item's index."""
    if not isinstance(item, dict):
        return index
    values = tuple(item.get(key, _KEY_DEFAULTS.get(key)) for key in keys)
    return values if all(isinstance(value, str | int) for value in values) else index


def has_same_items(field: str, one: Any, other: Any) -> bool:
    """Return whether two values are lists of objects with the same identities in the same order."""
    if not isinstance(one, list) or not isinstance(other, list) or len(one) != len(other):
        return False
    keys = MERGE_KEYS.get(field, ())
    pairs = zip(one, other, strict=True)
    return all(_is_object(pair) and _identity(pair[0], keys, 0) == _identity(pair[1], keys, 0) for pair in pairs)


def _is_object(pair: tuple[Any, Any]) -> bool:
    return all(isinstance(item, dict) for item in pair)


def _without_nulls(value: Any) -> Any:
    """Remove the nulls from a new value. A null removes a field, but a new value has no older fields."""
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value
