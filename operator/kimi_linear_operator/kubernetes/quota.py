"""Pods that a quota refuses: for which old pods they wait, and when to wake the controller that creates pods.

While an old replica drains, it still counts towards a quota of GPUs. If the quota is full, it refuses the new pod. The
ReplicaSet controller tries again after a back-off, which doubles up to about 16 minutes
(kubernetes/pkg/controller/replicaset, AddRateLimited). The end of the old pod does not wake the controller, because the
old pod belongs to another ReplicaSet.

Any change of the new ReplicaSet wakes the controller (updateRS enqueues its key immediately). The operator can make
such a change: the Deployment controller copies the annotations of a Deployment to its ReplicaSet.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.metadata import is_being_deleted
from kimi_linear_operator.kubernetes.times import seconds_between

# The quota controller may need some seconds to notice the end of a pod, so one attempt may not be enough.
ATTEMPTS = 3
SECONDS_BETWEEN_ATTEMPTS = 5.0
# A limit on the number, because a user can write any number into the annotation.
_MOST_DIGITS = 4


@dataclass(frozen=True)
class Wake:
    """What to do about pods that a quota refuses.

    Attributes:
        mark: The new value of the Deployment's annotation, which wakes the controller; None to write nothing.
        again: Requeue after this many seconds; None if a watch event will follow.
    """

    mark: str | None = None
    again: float | None = None


def is_refused_by_quota(deployment: Manifest | None) -> bool:
    """Return whether a quota refuses pods of a Deployment."""
    conditions = (deployment or {}).get("status", {}).get("conditions", ())
    return any(
        item["type"] == "ReplicaFailure" and item["status"] == "True" and "exceeded quota" in item.get("message", "")
        for item in conditions
    )


def terminating(pods: Iterable[Manifest]) -> list[str]:
    """Return the names of the pods that were deleted and still exist."""
    return sorted(pod["metadata"]["name"] for pod in pods if is_being_deleted(pod))


def wake(deployment: Manifest | None, mark: str, pods: Sequence[Manifest], now: str) -> Wake:
    """Return whether to wake the ReplicaSet controller because a quota refused a pod.

    Wake the controller when no pod terminates any more. For the same remaining pods, wake it at most ATTEMPTS times, so
    that a quota that is too small does not cause endless writes.

    Args:
        deployment: The Deployment, if there is one.
        mark: The value of its annotation, empty if it has none.
        pods: Its pods.
        now: The time as RFC 3339.
    """
    if not is_refused_by_quota(deployment) or terminating(pods):
        return Wake()
    remaining = hashlib.sha256(" ".join(sorted(pod["metadata"]["uid"] for pod in pods)).encode()).hexdigest()[:8]
    last = _Attempt.parse(mark)
    if last is None or last.remaining != remaining:
        return Wake(str(_Attempt(remaining, 1, now)), SECONDS_BETWEEN_ATTEMPTS)
    if last.number >= ATTEMPTS:
        return Wake()
    waited = seconds_between(last.time, now) or 0.0
    if waited < SECONDS_BETWEEN_ATTEMPTS:
        return Wake(again=SECONDS_BETWEEN_ATTEMPTS - waited)
    return Wake(str(_Attempt(remaining, last.number + 1, now)), SECONDS_BETWEEN_ATTEMPTS)


@dataclass(frozen=True)
class _Attempt:
    """An attempt to wake the controller.

    Attributes:
        remaining: Digest of the UIDs of the remaining pods.
        number: Number of the attempt, from 1.
        time: Its time as RFC 3339.
    """

    remaining: str
    number: int
    time: str

    def __str__(self) -> str:
        return f"{self.remaining}.{self.number}.{self.time}"

    @classmethod
    def parse(cls, mark: str) -> "_Attempt | None":
        """Parse the value of the annotation, None if the operator did not write it."""
        remaining, _, rest = mark.partition(".")
        number, _, time = rest.partition(".")
        is_ours = number.isdecimal() and len(number) <= _MOST_DIGITS and seconds_between(time, time) is not None
        return cls(remaining, int(number), time) if is_ours else None
