"""The readiness gate of pods. With `spec.verification.mode: Block`, a pod serves only after its template was verified.

Kubernetes keeps a pod unready until the condition of its gate is True. Only the operator writes this condition. An open
gate stays open, also while no operator runs.
https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-readiness-gate
"""

from collections.abc import Iterable

from kimi_linear_operator.kubernetes.conditions import find_condition
from kimi_linear_operator.kubernetes.kinds import GROUP, Manifest
from kimi_linear_operator.kubernetes.metadata import hash_of
from kimi_linear_operator.server.labels import TEMPLATE_LABEL
from kimi_linear_operator.server.revision import Revision
from kimi_linear_operator.server.spec import ServerSpec

GATE = f"{GROUP}/verified"
"""The name of the readiness gate, and of the pod's condition that opens the gate."""

# Maximum number of suites in a verification: the questions and the tool calls.
_SUITES = 2


def has_gate(spec: ServerSpec) -> bool:
    """Return whether the pods of a server have a gate."""
    return spec.verification.mode == "Block"


def gate_seconds(spec: ServerSpec) -> int:
    """Return for how many seconds a gate may stay closed after the pod is able to serve."""
    return _SUITES * spec.verification.timeout_seconds if has_gate(spec) else 0


def with_gate(template: Manifest) -> Manifest:
    """Return a pod template with the gate, and with the template's hash as a label of its pods."""
    about, pod = template["metadata"], template["spec"]
    gates = [*pod.get("readinessGates", ()), {"conditionType": GATE}]
    return {
        **template,
        "metadata": {**about, "labels": {**about["labels"], TEMPLATE_LABEL: hash_of(template)}},
        "spec": {**pod, "readinessGates": gates},
    }


def template_label(manifest: Manifest) -> str | None:
    """Return the hash on a pod or pod template, None if it lacks our gate."""
    labels: dict[str, str] = manifest.get("metadata", {}).get("labels") or {}
    return labels.get(TEMPLATE_LABEL)


def pods_to_open(revisions: Iterable[Revision], pods: Iterable[Manifest]) -> list[Manifest]:
    """Return the pods with a closed gate whose template was verified."""
    verified = {template_label(item.template) for item in revisions if item.has_passed} - {None}
    return [pod for pod in pods if template_label(pod) in verified and not _is_open(pod)]


def _is_open(pod: Manifest) -> bool:
    return find_condition(pod.get("status", {}), GATE).get("status") == "True"


def opened(now: str) -> Manifest:
    """Return the condition that opens the gate of a pod.

    Args:
        now: The time as RFC 3339.
    """
    message = "the pod template was verified"
    return {"type": GATE, "status": "True", "reason": "Verified", "message": message, "lastTransitionTime": now}
