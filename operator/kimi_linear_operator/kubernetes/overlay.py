"""Strategic merge: a user's changes to a pod template, applied as `kubectl patch --type strategic` would.

Source of the keys: the patchMergeKey tags of Kubernetes' core/v1 types (PodSpec, Container, Volume). Ports have two
keys, as the API server has it: of one number, TCP and UDP are two ports.
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
# Lists whose items hold one of several alternatives: a patched item keeps none of the old fields.
_REPLACED_ITEMS = ("env", "resourceClaims", "volumes")
# Objects that hold one of several handlers: another one takes the place of the old one. `kubectl patch` would leave
# both, which the API server refuses.
_HANDLERS = ("exec", "grpc", "httpGet", "sleep", "tcpSocket")
_WITH_HANDLER = ("livenessProbe", "postStart", "preStop", "readinessProbe", "startupProbe")


def merge(base: Manifest, patch: Manifest) -> Manifest:
    """Return the object with the patch applied; neither argument changes.

    Objects are merged field by field, lists with a merge key item by item, everything else is replaced; a field that is
    null in the patch is removed. Directives are not followed: the API server finds a `$patch` in the result and refuses
    it by name.
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
        return merge(_without_other_handlers(base, patch) if key in _WITH_HANDLER else base, patch)
    if key in MERGE_KEYS and isinstance(base, list) and isinstance(patch, list):
        return _merge_items(base, patch, MERGE_KEYS[key], replaced=key in _REPLACED_ITEMS)
    return _without_nulls(patch)


def _without_other_handlers(base: Manifest, patch: Manifest) -> Manifest:
    """Return a probe or hook without its handlers, if the patch brings one of another kind."""
    brought = {name for name in _HANDLERS if patch.get(name) is not None}
    if not brought:
        return base
    return {name: value for name, value in base.items() if name not in _HANDLERS or name in brought}


def _merge_items(base: Sequence[Any], patch: Sequence[Any], keys: tuple[str, ...], *, replaced: bool) -> list[Any]:
    """Merge lists by key; what has no key is added as it is, for the API server to name what is wrong with it."""
    items: dict[Hashable, Any] = {_identity(item, keys, number): item for number, item in enumerate(base)}
    for number, item in enumerate(patch, start=len(base)):
        name = _identity(item, keys, number)
        items[name] = merge(items[name], item) if name in items and not replaced else _without_nulls(item)
    return list(items.values())


def _identity(item: Any, keys: tuple[str, ...], number: int) -> Hashable:
    """Return what tells an item from the others: the values of its keys, or its place if it has none."""
    if not isinstance(item, dict):
        return number
    values = tuple(item.get(key, _KEY_DEFAULTS.get(key)) for key in keys)
    return values if all(isinstance(value, str | int) for value in values) else number


def has_same_items(field: str, one: Any, other: Any) -> bool:
    """Return whether two values of a field are lists of as many objects, and those of one place are the same ones."""
    if not isinstance(one, list) or not isinstance(other, list) or len(one) != len(other):
        return False
    keys = MERGE_KEYS.get(field, ())
    pairs = zip(one, other, strict=True)
    return all(_is_object(pair) and _identity(pair[0], keys, 0) == _identity(pair[1], keys, 0) for pair in pairs)


def _is_object(pair: tuple[Any, Any]) -> bool:
    return all(isinstance(item, dict) for item in pair)


def _without_nulls(value: Any) -> Any:
    """Return what a patch adds: a null in it has nothing to remove."""
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value
