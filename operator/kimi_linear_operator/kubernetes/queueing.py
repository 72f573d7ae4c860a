"""Kueue: how a Deployment or Job gets into a queue, and how to recognise that it waits in the queue.

Kueue needs only a label with the name of a LocalQueue: https://kueue.sigs.k8s.io/docs/tasks/run/
"""

from typing import Annotated

from pydantic import Field

from kimi_linear_operator.kubernetes.kinds import Manifest

QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
"""On a Deployment or Job, and on the pods of both: the LocalQueue in which it waits."""

# Kueue uses one gate for quota and one for topology.
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
    """Return the words after a Job's name: why somebody else has suspended the Job."""
    if QUEUE_LABEL in _labels(job):
        return waits_in_queue(job)
    return (
        "was suspended by somebody else, most likely by a queue such as Kueue. The queue starts it when its turn comes"
    )


def waits_in_queue(manifest: Manifest) -> str:
    """Return the words after an object's name: that it waits for Kueue, and how to find the cause."""
    queue = _labels(manifest).get(QUEUE_LABEL)
    place = f"in Kueue's queue {queue}" if queue else "for Kueue"
    return f"waits {place}: `kubectl describe workloads` shows the cause"


def _labels(manifest: Manifest) -> Manifest:
    labels: Manifest = manifest["metadata"].get("labels") or {}
    return labels
