"""The fields that a client's pod copies from its server."""

from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.pod_template import ENGINE_CONTAINER
from kimi_linear_operator.server.sglang import command_line
from kimi_linear_operator.server.spec import ServerSpec

# The client pulls the same image, often from the same private registry. It perhaps needs nodes with the same taints.
_SHARED_POD_FIELDS = ("imagePullSecrets", "tolerations")


def shared_pod_fields(spec: ServerSpec) -> Manifest:
    """Return the fields of the pod spec that a client's pod copies from the server's pods."""
    pod = _overlaid_pod(spec)
    return {name: pod[name] for name in _SHARED_POD_FIELDS if pod.get(name)}


def _overlaid_pod(spec: ServerSpec) -> Manifest:
    """Return the pod's spec that a server has in `spec.podTemplate`."""
    template = spec.pod_template.model_dump(by_alias=True, exclude_none=True) if spec.pod_template else {}
    return dict(template.get("spec", {}))


def api_key_reference(spec: ServerSpec) -> Manifest | None:
    """Return the `secretKeyRef` of a server's API key, None if the server has no key or the key is not in a Secret.

    Servers of earlier versions have their key in `extraArgs` and `podTemplate`.
    """
    if key := spec.auth.api_key_secret_ref:
        return {"name": key.name, "key": key.key}
    name = command_line.api_key_variable(spec)
    containers = _overlaid_pod(spec).get("containers", ()) if name else ()
    variables = [
        variable
        for container in containers
        if container["name"] == ENGINE_CONTAINER
        for variable in container.get("env", ())
    ]
    for variable in variables:
        reference = (variable.get("valueFrom") or {}).get("secretKeyRef")
        if variable["name"] == name and reference:
            return dict(reference)
    return None
