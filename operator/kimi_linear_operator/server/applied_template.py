"""The pod template of a Deployment without a revision. It is read from the fields that the operator applied."""

from typing import Any

from kimi_linear_operator import jsontext
from kimi_linear_operator.kubernetes import metadata, ownership
from kimi_linear_operator.kubernetes.drift import has_drifted
from kimi_linear_operator.kubernetes.kinds import Manifest

# A Deployment usually has one or two field managers in addition to the operator and the Deployment controller. If there
# are more than this number, their changes are not examined.
_MOST_MANAGERS = 100
# The greatest weight (`jsontext.weight`) of managed fields that are read. This takes a tenth of a second, because it
# takes long to decode the key fields of list items. Our own fields of the largest template have half of this weight.
_MOST_OWNED = 50_000
# The greatest weight of all comparisons of the template with the fields of other managers. This takes a tenth of a
# second, too, and is enough for four other managers of the largest template. Usually there is no other manager.
_MOST_COMPARED = 100_000


def running_template(built: Manifest, deployment: Manifest) -> Manifest | None:
    """Return the pod template that the operator applied to a Deployment without a revision.

    The result has no fields of other managers. It is None if somebody changed one of our fields. The operator then
    builds a new template, which repairs the field.

    Args:
        built: The pod template that this version builds.
        deployment: The Deployment, with its managed fields. They are None if they were too heavy (`light.py`).
    """
    template: Manifest = deployment["spec"]["template"]
    managed_fields = deployment["metadata"].get("managedFields", ())
    if managed_fields is None or len(managed_fields) > _MOST_MANAGERS or _weight(managed_fields) > _MOST_OWNED:
        return None
    owned = [_in_template(fields) for _, fields in ownership.other_fields(managed_fields, metadata.MANAGER)]
    others = [fields for fields in owned if fields]
    if len(others) * _weight(template) > _MOST_COMPARED:
        return None
    if any(_is_edited(template, built, fields) for fields in others):
        return None
    applied = _in_template(ownership.applied_fields(managed_fields, metadata.MANAGER))
    return dict(ownership.extract(template, applied)) if applied else template


def _is_edited(live: Manifest, built: Manifest, fields: ownership.Fields) -> bool:
    """Return whether the manager that owns these fields changed one of our fields.

    In our volumes, any change counts. A volume has exactly one source, so an added source replaces ours.
    """
    of_volumes = fields.get("f:spec", {}).get("f:volumes", {})
    touched = [item.value for item in ownership.selected_items(built["spec"]["volumes"], of_volumes)]
    return has_drifted(live, ownership.extract(built, fields)) or has_drifted(live, {"spec": {"volumes": touched}})


def _weight(value: object) -> int:
    return jsontext.weight(jsontext.encode(value))


def _in_template(fields: ownership.Fields) -> ownership.Fields:
    below: Any = fields
    for name in ("f:spec", "f:template"):
        below = below.get(name, {})
    return dict(below)
