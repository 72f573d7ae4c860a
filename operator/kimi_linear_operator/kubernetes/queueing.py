"""Kueue: how a workload gets into one of its queues, and how to tell that it waits there.

A LocalQueue's name on a label is all that Kueue asks for: https://kueue.sigs.k8s.io/docs/tasks/run/
"""

from typing import Annotated

from pydantic import Field

from kimi_linear_operator.kubernetes.kinds import Manifest

QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
"""On a Deployment or Job, and on the pods of both: the LocalQueue in which it waits."""

# Kueue has one gate for quota and one for topology.
_GATE_PREFIX = "kueue.x-k8s.io/"

QueueName = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]


def put_into_queue(manifest: Manifest, queue: str | None) -> None:
    """Label a Deployment or Job that is being built with the name of its queue. This changes the object."""
    if queue:
        manifest["metadata"]["labels"] |= {QUEUE_LABEL: queue}


def is_held(pod: Manifest) -> bool:
    """Return whether Kueue holds a pod back."""
    gates = pod.get("spec", {}).get("schedulingGates") or ()
    return any(gate["name"].startswith(_GATE_PREFIX) for gate in gates)


def why_suspended(job: Manifest) -> str:
    """Return why somebody else has suspended a Job, after the Job's name."""
    if QUEUE_LABEL in _labels(job):
        return waits_in_queue(job)
    return "is suspended by somebody else, most likely by a queue such as Kueue: it starts when it is its turn"


def waits_in_queue(manifest: Manifest) -> str:
    """Return that an object waits for Kueue, and how to find out what for, after the object's name."""
    queue = _labels(manifest).get(QUEUE_LABEL)
    place = f"in Kueue's queue {queue}" if queue else "for Kueue"
    return f"waits {place}: `kubectl describe workloads` says what for"


def _labels(manifest: Manifest) -> Manifest:
    labels: Manifest = manifest["metadata"].get("labels") or {}
    return labels
