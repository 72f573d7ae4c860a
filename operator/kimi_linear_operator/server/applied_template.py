"""The pod template of a Deployment without a revision. It is read from the fields that the operator applied."""

from typing import Any

from kimi_linear_operator import jsontext
from kimi_linear_operator.kubernetes import metadata, ownership
from kimi_linear_operator.kubernetes.drift import has_drifted
from kimi_linear_operator.kubernetes.kinds import Manifest

# A Deployment usually has one or two field managers in addition to the operator and the Deployment controller. If there
# are more than this number, their changes are not examined.
_MOST_MANAGERS = 100
# The pod template is compared with our fields of each manager. This is the largest weight of all these comparisons
# together (`jsontext.weight`). They then take a few tenths of a second. A usual template with 100 managers has less
# than a tenth of it, and the largest template that the operator builds can have 20 managers.
_MOST_WEIGHT = 500_000


def running_template(built: Manifest, deployment: Manifest) -> Manifest | None:
    """Return the pod template that the operator applied to a Deployment without a revision.

    The result has no fields of other managers. It is None if somebody changed one of our fields. The operator then
    builds a new template, which repairs the field.

    Args:
        built: The pod template that this version builds.
        deployment: The Deployment, with its managed fields.
    """
    template: Manifest = deployment["spec"]["template"]
    managed_fields = deployment["metadata"].get("managedFields", ())
    weight = jsontext.weight(jsontext.encode(template))
    if len(managed_fields) > _MOST_MANAGERS or len(managed_fields) * weight > _MOST_WEIGHT:
        return None
    others = (_in_template(fields) for _, fields in ownership.other_fields(managed_fields, metadata.MANAGER))
    if any(_is_edited(template, built, fields) for fields in others):
        return None
    applied = _in_template(ownership.applied_fields(managed_fields, metadata.MANAGER))
    return dict(ownership.extract(template, applied)) if applied else template


def _is_edited(live: Manifest, built: Manifest, fields: ownership.Fields) -> bool:
    """Return whether the manager that owns these fields changed one of our fields.

    In our volumes, any change counts. A volume has exactly one source, so an added source replaces ours.
    """
    if not fields:
        return False
    of_volumes = fields.get("f:spec", {}).get("f:volumes", {})
    touched = [item.value for item in ownership.selected_items(built["spec"]["volumes"], of_volumes)]
    return has_drifted(live, ownership.extract(built, fields)) or has_drifted(live, {"spec": {"volumes": touched}})


def _in_template(fields: ownership.Fields) -> ownership.Fields:
    below: Any = fields
    for name in ("f:spec", "f:template"):
        below = below.get(name, {})
    return dict(below)
