"""The inputs of a pod template: the part of a server's spec from which the template is built."""

from collections.abc import Iterator

from pydantic import ValidationError

from kimi_linear_operator.kubernetes import stored
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.stored import FieldPath, changed_fields
from kimi_linear_operator.server.spec import ServerSpec

# Fields of the spec on which the pod template does not depend.
_NOT_IN_TEMPLATE = {
    "autoscaling",
    "http_route",
    "ingress",
    "monitoring",
    "network_policy",
    "queue_name",
    "replicas",
    "rollout",
    "router",
    "service",
    "suspend",
    "verification",
}
# The part of `spec.router` on which the router's pod template does not depend.
_NOT_IN_ROUTER = {"router": {"replicas"}}


def template_inputs(spec: ServerSpec) -> Manifest:
    """Return the part of the spec from which the pod template is built, with all defaults."""
    inputs = spec.model_dump(by_alias=True, exclude_none=True, exclude=_NOT_IN_TEMPLATE)
    # The nulls of podTemplate stay, because each null removes a field.
    return inputs | _gate(spec) | ({"podTemplate": spec.pod_template.changes()} if spec.pod_template else {})


def explicit_inputs(spec: ServerSpec) -> Manifest:
    """Return the part of the spec from which the pod template is built, with only the fields of the stored spec."""
    return spec.model_dump(by_alias=True, exclude_unset=True, exclude=_NOT_IN_TEMPLATE) | _gate(spec)


def router_inputs(spec: ServerSpec) -> Manifest:
    """Return the part of `spec.router` from which the router's pod template is built, with all defaults."""
    return spec.model_dump(by_alias=True, exclude_none=True, include={"router"}, exclude=_NOT_IN_ROUTER)


def explicit_router_inputs(spec: ServerSpec) -> Manifest:
    """Return the part of `spec.router` from which the template is built, with only the fields of the stored spec."""
    return spec.model_dump(by_alias=True, exclude_unset=True, include={"router"}, exclude=_NOT_IN_ROUTER)


def _gate(spec: ServerSpec) -> Manifest:
    """Return the only part of `spec.verification` on which the pod template depends: whether pods have a gate."""
    return {"verification": {"mode": "Block"}} if spec.verification.mode == "Block" else {}


def as_this_version_reads(inputs: Manifest) -> Manifest:
    """Return the inputs of any version in the form of this version: with its defaults, and without unknown fields."""
    spec = spec_of(inputs)
    return template_inputs(spec) if spec else inputs


def spec_of(inputs: Manifest) -> ServerSpec | None:
    """Return the spec with these inputs of any version, without unknown fields; None if they cannot be read."""
    try:
        return ServerSpec.model_validate(stored.without_unknown_fields(inputs, ServerSpec))
    except ValidationError:
        return None


def unknown_fields(inputs: Manifest) -> tuple[FieldPath, ...]:
    """Return those inputs of any version that this version does not know. A list counts as one field."""
    return tuple(changed_fields(stored.without_unknown_fields(inputs, ServerSpec), inputs))


def missing_fields(part: Manifest, whole: Manifest, path: FieldPath = ()) -> Iterator[FieldPath]:
    """Yield the outermost fields that are in an object but not in a part of it. A list counts as one field."""
    for name, value in whole.items():
        if name not in part:
            yield (*path, name)
        elif isinstance(value, dict) and isinstance(part[name], dict):
            yield from missing_fields(part[name], value, (*path, name))
