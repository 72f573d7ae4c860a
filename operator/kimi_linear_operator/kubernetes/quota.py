"""Pods that a quota refuses: which old pod they wait for, and when to wake the controller that creates them.

While an old replica drains, a GPU quota that is exactly full refuses its successor. The ReplicaSet controller tries
again with a back-off that doubles up to some 16 minutes (kubernetes/pkg/controller/replicaset, AddRateLimited), and
nothing wakes it when the old pod ends, because that belongs to another ReplicaSet. Any change of the ReplicaSet does
(updateRS puts its key into the queue at once), and the Deployment controller copies a Deployment's annotations to it.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.times import seconds_between

# The quota controller may be later than the pod's end: it is asked again, and then left alone.
ATTEMPTS = 3
SECONDS_BETWEEN_ATTEMPTS = 5.0
# Digits of the number of an attempt: anybody can write the annotation.
_LONGEST_NUMBER = 4


@dataclass(frozen=True)
class Wake:
    """What to do about pods that a quota refuses.

    Attributes:
        mark: A new value of the Deployment's annotation, which wakes the controller; None to write nothing.
        again: After how many seconds to look again, None where a change will be seen.
    """

    mark: str | None = None
    again: float | None = None


def is_refused_by_quota(deployment: Manifest | None) -> bool:
    """Return whether a quota keeps a Deployment from creating pods."""
    conditions = (deployment or {}).get("status", {}).get("conditions", ())
    return any(
        item["type"] == "ReplicaFailure" and item["status"] == "True" and "exceeded quota" in item.get("message", "")
        for item in conditions
    )


def terminating(pods: Iterable[Manifest]) -> list[str]:
    """Return the names of the pods that have been told to end and have not."""
    return sorted(pod["metadata"]["name"] for pod in pods if "deletionTimestamp" in pod["metadata"])


def wake(deployment: Manifest | None, mark: str, pods: Sequence[Manifest], now: str) -> Wake:
    """Return whether to wake the controller that a quota refuses.

    It is woken when no pod terminates any more, a few times for each set of pods that is left: a quota that is too
    small for good leads to no more writes.

    Args:
        deployment: The Deployment, if there is one.
        mark: The mark that it carries, empty if it has none.
        pods: The pods of the server.
        now: The time as RFC 3339.
    """
    if not is_refused_by_quota(deployment) or terminating(pods):
        return Wake()
    left = hashlib.sha256(" ".join(sorted(pod["metadata"]["uid"] for pod in pods)).encode()).hexdigest()[:8]
    last = _Attempt.parse(mark)
    if last is None or last.left != left:
        return Wake(str(_Attempt(left, 1, now)), SECONDS_BETWEEN_ATTEMPTS)
    if last.number >= ATTEMPTS:
        return Wake()
    waited = seconds_between(last.time, now) or 0.0
    if waited < SECONDS_BETWEEN_ATTEMPTS:
        return Wake(again=SECONDS_BETWEEN_ATTEMPTS - waited)
    return Wake(str(_Attempt(left, last.number + 1, now)), SECONDS_BETWEEN_ATTEMPTS)


@dataclass(frozen=True)
class _Attempt:
    """An attempt to wake the controller: which pods were left, the how many-eth, and when."""

    left: str
    number: int
    time: str

    def __str__(self) -> str:
        return f"{self.left}.{self.number}.{self.time}"

    @classmethod
    def parse(cls, mark: str) -> "_Attempt | None":
        """Return what a mark says, None if it is none of ours."""
        left, _, rest = mark.partition(".")
        number, _, time = rest.partition(".")
        is_ours = number.isdecimal() and len(number) <= _LONGEST_NUMBER and seconds_between(time, time) is not None
        return cls(left, int(number), time) if is_ours else None
