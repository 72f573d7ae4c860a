"""What the program that fetches says about itself: in the last line of its log, and at its end."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from kimi_linear_operator import jsontext
from kimi_linear_operator.foreigntext import one_line
from kimi_linear_operator.kubernetes.conditions import Reason
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.metadata import annotations
from kimi_linear_operator.reasons import ReasonName
from kimi_linear_operator.weights.job import CONTAINER
from kimi_linear_operator.weights.labels import RESULT_ANNOTATION
from kimi_linear_operator.weights.location import is_commit

COMPLETE = "Complete"
"""The state of a program that has ended well."""

_LONGEST_MESSAGE = 400
# Every word for a state is shorter, and so is every result that `text_of` returns.
_LONGEST_STATE = 32
_LONGEST_RESULT = 4096
# More bytes than any volume has: a pod may say anything.
_MOST = 2**53

# What to do about each state of the program that does not pass by itself.
LASTING: dict[str, tuple[ReasonName, str]] = {
    "RevisionMissing": ("RevisionMissing", "correct spec.source.revision"),
    "TokenRefused": (
        "TokenRefused",
        "name a Secret with a token that may read the model in spec.source.tokenSecretRef; a corrected Secret takes "
        "effect at the next attempt, within five minutes",
    ),
    "VolumeFull": ("VolumeFull", "raise spec.volume.size, or delete what else is on the volume"),
    "VolumeNotWritable": (
        "VolumeNotWritable",
        "let the pod's user write to the volume: with securityContext (runAsUser, fsGroup) in spec.podTemplate, or on "
        "the file server",
    ),
    "WeightsCorrupt": ("WeightsCorrupt", "if a mirror sends it, repair the mirror; if not, check the volume"),
}
_PASSING: dict[str, tuple[ReasonName, str]] = {
    "HubLimited": ("HubLimited", "it continues by itself"),
    "HubUnreachable": (
        "HubUnreachable",
        "check that the pod may reach the hub: set a proxy in its environment (spec.podTemplate), or a mirror in "
        "spec.source.endpoint",
    ),
    "VolumeBusy": ("VolumeBusy", "it continues when the other pod has ended"),
}


@dataclass(frozen=True)
class Progress:
    """How far the program is.

    Attributes:
        state: One word; COMPLETE at a good end.
        message: More about it, on one line.
        commit: The commit that it fetches, empty if it does not know it yet.
        size: Bytes on the volume.
        total: Bytes of the commit, 0 if unknown.
        rate: Bytes per second.
        seconds_left: Seconds until the end at this rate, None if unknown.
    """

    state: str
    message: str = ""
    commit: str = ""
    size: int = 0
    total: int = 0
    rate: int = 0
    seconds_left: int | None = None

    @property
    def percent(self) -> int:
        """Return the share that is on the volume. It is 100 only when all is."""
        return min(100, 100 * self.size // self.total) if self.total else 0

    @property
    def is_complete(self) -> bool:
        """Return whether the commit is complete on the volume."""
        return self.state == COMPLETE and bool(self.commit)

    def problem(self) -> Reason | None:
        """Return what is in the way, with a remedy; None if nothing is."""
        found = LASTING.get(self.state) or _PASSING.get(self.state)
        return Reason(found[0], f"{self.message} ({found[1]})") if found else None


def last_line(log: str) -> Progress | None:
    """Return what the last line of the program says; lines of others are passed over.

    Args:
        log: The log as the API server gives it with times: each line begins with its time and a space.
    """
    lines = (line.partition(" ")[2] for line in reversed(log.split("\n")))
    return next((found for line in lines if (found := read(line))), None)


def read(text: bytes | str) -> Progress | None:
    """Return what a line or a termination message of the program says, None if it is not the program's."""
    try:
        content = jsontext.decode(text)
    except ValueError:
        return None
    if not isinstance(content, dict) or not isinstance(content.get("state"), str):
        return None
    commit = content.get("commit")
    seconds_left = content.get("secondsLeft")
    return Progress(
        state=content["state"][:_LONGEST_STATE],
        message=one_line(str(content.get("message", "")))[:_LONGEST_MESSAGE],
        commit=str(commit) if is_commit(commit) else "",
        size=_number(content.get("bytes")),
        total=_number(content.get("totalBytes")),
        rate=_number(content.get("rate")),
        seconds_left=None if seconds_left is None else _number(seconds_left),
    )


def _number(value: Any) -> int:
    return min(value, _MOST) if type(value) is int and value > 0 else 0


def result_of(job: Manifest) -> Progress | None:
    """Return how a Job ended, as it was noted on it; None if nothing was, or somebody wrote something long."""
    text = annotations(job).get(RESULT_ANNOTATION, "")
    return read(text) if len(text) <= _LONGEST_RESULT else None


def text_of(result: Progress) -> str:
    """Return a result as it is noted on a Job."""
    content = {"state": result.state, "message": result.message, "commit": result.commit}
    return jsontext.encode({**content, "bytes": result.size, "totalBytes": result.total}).decode()


def has_ended(job: Manifest) -> bool:
    """Return whether a Job has ended."""
    return _end(job) is not None


def ended_at(job: Manifest) -> str | None:
    """Return when a Job ended, as RFC 3339; None if it has not ended."""
    end = _end(job)
    return str(end.get("lastTransitionTime")) if end else None


def _end(job: Manifest) -> Manifest | None:
    conditions = job.get("status", {}).get("conditions", ())
    final = (item for item in conditions if item["type"] in ("Complete", "Failed") and item["status"] == "True")
    return next((dict(item) for item in final), None)


def ends(pods: Iterable[Manifest]) -> list[Progress]:
    """Return the last words of the program in each of its containers in these pods, the latest last."""
    terminations = sorted(
        (item for pod in pods for item in _terminations(pod)), key=lambda item: str(item.get("finishedAt", ""))
    )
    return [said for item in terminations if (said := read(str(item.get("message", ""))))]


def _terminations(pod: Manifest) -> list[Manifest]:
    states = [state for item in _own(pod) for state in (item.get("lastState", {}), item.get("state", {}))]
    return [state["terminated"] for state in states if state.get("terminated")]


def is_running(pod: Manifest) -> bool:
    """Return whether the program runs in a pod."""
    return "deletionTimestamp" not in pod["metadata"] and any("running" in item.get("state", {}) for item in _own(pod))


def _own(pod: Manifest) -> list[Manifest]:
    """Return the status of the program's container; none if the kubelet has not reported it."""
    return [item for item in pod.get("status", {}).get("containerStatuses", ()) if item["name"] == CONTAINER]
