"""Strategic merge: a user's changes to a pod template, applied as `kubectl patch --type strategic` would.

Source of the keys: the patchMergeKey tags of Kubernetes' core/v1 types (PodSpec, Container, Volume).
"""

from collections.abc import Sequence
from typing import Any

from kimi_linear_operator.api import Manifest

MERGE_KEYS = {
    "containers": "name",
    "env": "name",
    "ephemeralContainers": "name",
    "hostAliases": "ip",
    "imagePullSecrets": "name",
    "initContainers": "name",
    "ports": "containerPort",
    "resourceClaims": "name",
    "schedulingGates": "name",
    "topologySpreadConstraints": "topologyKey",
    "volumeDevices": "devicePath",
    "volumeMounts": "mountPath",
    "volumes": "name",
}
# Lists whose items hold one of several alternatives: a patched item keeps none of the old fields.
_REPLACED_ITEMS = ("env", "volumes")


def merge(base: Manifest, patch: Manifest) -> Manifest:
    """Return the object with the patch applied; neither argument changes.

    Objects are merged field by field, lists with a merge key item by item, everything else is replaced. Directives are
    not followed: the API server finds a `$patch` in the result and refuses it by name.
    """
    merged = dict(base)
    for key, value in patch.items():
        merged[key] = _merge_field(key, base.get(key), value)
    return merged


def _merge_field(key: str, base: Any, patch: Any) -> Any:
    if isinstance(base, dict) and isinstance(patch, dict):
        return merge(base, patch)
    if key in MERGE_KEYS and isinstance(base, list) and isinstance(patch, list):
        return _merge_items(base, patch, MERGE_KEYS[key], replaced=key in _REPLACED_ITEMS)
    return patch


def _merge_items(base: Sequence[Manifest], patch: Sequence[Manifest], key: str, *, replaced: bool) -> list[Manifest]:
    items = {item[key]: item for item in base}
    for item in patch:
        name = item[key]
        items[name] = merge(items[name], item) if name in items and not replaced else item
    return list(items.values())
