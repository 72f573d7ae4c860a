"""The program that fetches describes its state in the last line of its log and in its termination message.

This module reads both.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from kimi_linear_operator import jsontext
from kimi_linear_operator.foreigntext import one_line
from kimi_linear_operator.kubernetes.conditions import Reason
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.metadata import annotations, is_being_deleted
from kimi_linear_operator.reasons import ReasonName
from kimi_linear_operator.weights.job import CONTAINER
from kimi_linear_operator.weights.labels import RESULT_ANNOTATION
from kimi_linear_operator.weights.location import is_commit

COMPLETE = "Complete"
"""The state of a program that has succeeded."""

_LONGEST_MESSAGE = 400
# A Job has one pod after the other. Users can add pods that look like the Job's pods, and it takes time to read each
# message.
_MOST_ENDS = 16
# Every state and every result of `text_of` is shorter than this.
_LONGEST_STATE = 32
_LONGEST_RESULT = 4096
# This number is larger than any volume. A limit is needed because a pod can report any number.
_MOST = 2**53

# The remedy for each state that does not end by itself.
LASTING: dict[str, tuple[ReasonName, str]] = {
    "RevisionMissing": ("RevisionMissing", "correct spec.source.revision"),
    "TokenRefused": (
        "TokenRefused",
        "let spec.source.tokenSecretRef name a Secret whose token has permission to read the model; a corrected "
        "Secret takes effect within five minutes",
    ),
    "VolumeFull": ("VolumeFull", "raise spec.volume.size, or delete other files on the volume"),
    "VolumeNotWritable": (
        "VolumeNotWritable",
        "give the pod's user permission to write to the volume: set securityContext (runAsUser, fsGroup) in "
        "spec.podTemplate, or change the permissions on the file server",
    ),
    "WeightsCorrupt": (
        "WeightsCorrupt",
        "if the files come from a mirror, repair the mirror; otherwise check the volume",
    ),
}
_PASSING: dict[str, tuple[ReasonName, str]] = {
    "HubLimited": ("HubLimited", "the download continues by itself"),
    "HubUnreachable": (
        "HubUnreachable",
        "check that the pod can reach the hub; if it cannot, set a proxy in its environment (spec.podTemplate), or "
        "a mirror in spec.source.endpoint",
    ),
    "VolumeBusy": ("VolumeBusy", "the download continues when the other pod has ended"),
}


@dataclass(frozen=True)
class Progress:
    """How far the program is.

    Attributes:
        state: One word; COMPLETE if the program succeeded.
        message: More about the state, on one line.
        commit: The commit that the program fetches, empty if the program does not know it yet.
        size: Bytes on the volume.
        total: Bytes of the whole commit, 0 if unknown.
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
        """Return how many percent of the bytes are on the volume. It is 100 only when all bytes are there."""
        return min(100, 100 * self.size // self.total) if self.total else 0

    @property
    def is_complete(self) -> bool:
        """Return whether the commit is complete on the volume."""
        return self.state == COMPLETE and bool(self.commit)

    def problem(self) -> Reason | None:
        """Return the problem with its remedy, None if there is none."""
        found = LASTING.get(self.state) or _PASSING.get(self.state)
        return Reason(found[0], f"{self.message} ({found[1]})") if found else None


def last_line(log: str) -> Progress | None:
    """Return what the program's last line says. Lines of other processes are skipped.

    Args:
        log: The log as the API server gives it with times: each line begins with its time and a space.
    """
    lines = (line.partition(" ")[2] for line in reversed(log.split("\n")))
    return next((found for line in lines if (found := read(line))), None)


def read(text: bytes | str) -> Progress | None:
    """Return what a log line or a termination message says, None if the program did not write it."""
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
    """Return the result in a Job's annotation, None if it is missing or too long to be the operator's."""
    text = annotations(job).get(RESULT_ANNOTATION, "")
    return read(text) if len(text) <= _LONGEST_RESULT else None


def text_of(result: Progress) -> str:
    """Return a result as text for a Job's annotation."""
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


def latest_ends(pods: Iterable[Manifest]) -> Iterator[Progress]:
    """Yield the last termination messages of the program in these pods, the latest first."""
    terminations = [item for pod in pods for item in _terminations(pod)]
    terminations.sort(key=lambda item: str(item.get("finishedAt", "")), reverse=True)
    return (said for item in terminations[:_MOST_ENDS] if (said := read(str(item.get("message", "")))))


def _terminations(pod: Manifest) -> list[Manifest]:
    states = [state for item in _own(pod) for state in (item.get("lastState", {}), item.get("state", {}))]
    return [state["terminated"] for state in states if state.get("terminated")]


def is_running(pod: Manifest) -> bool:
    """Return whether the program runs in a pod."""
    return not is_being_deleted(pod) and any("running" in item.get("state", {}) for item in _own(pod))


def _own(pod: Manifest) -> list[Manifest]:
    """Return the statuses of the program's container; empty if the kubelet has not reported any."""
    return [item for item in pod.get("status", {}).get("containerStatuses", ()) if item["name"] == CONTAINER]
