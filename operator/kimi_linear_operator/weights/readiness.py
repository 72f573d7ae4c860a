"""What servers read from weights.

The progress of a download is not included, because it changes every few seconds.
"""

from dataclasses import dataclass

from kimi_linear_operator.kubernetes.conditions import LONGEST_MESSAGE, find_condition, ready_condition
from kimi_linear_operator.kubernetes.kinds import Kind, Manifest
from kimi_linear_operator.weights.spec import WEIGHTS

# The maximum length of a name, in characters. Everyone who can write a status can write any text into it.
_LONGEST_NAME = 256


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether servers can use weights.

    Attributes:
        uid: The UID of the weights.
        generation: The generation of their spec.
        claim: The claim in their status.
        commit: The complete commit in their status.
        is_stalled: Whether they cannot become complete without help.
        cause: Why the weights are not complete.
    """

    uid: str
    generation: int
    claim: str
    commit: str
    is_stalled: bool
    cause: str


def facts(kind: Kind, manifest: Manifest) -> Readiness | None:
    """Return what servers read from weights, None for a child."""
    return readiness_of(manifest) if kind == WEIGHTS else None


def readiness_of(manifest: Manifest) -> Readiness:
    """Return whether servers can use these stored weights."""
    metadata, status = manifest["metadata"], manifest.get("status", {})
    return Readiness(
        uid=str(metadata.get("uid", "")),
        generation=int(metadata.get("generation", 0)),
        claim=str(status.get("claim", ""))[:_LONGEST_NAME],
        commit=str(status.get("commit", ""))[:_LONGEST_NAME],
        is_stalled=find_condition(status, "Stalled").get("status") == "True",
        cause=_cause(ready_condition(status)),
    )


def _cause(ready: Manifest) -> str:
    """Return reason and message of Ready.

    For a download, return only the reason, because the percentage in the message changes often.
    """
    reason = str(ready.get("reason", "Pending"))
    message = str(ready.get("message", "Waiting for the operator"))
    return reason if reason == "WeightsDownloading" else f"{reason}: {message}"[:LONGEST_MESSAGE]
