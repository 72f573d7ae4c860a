"""The status of KimiLinearWeights."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from kimi_linear_operator.kubernetes import deletion
from kimi_linear_operator.kubernetes.conditions import Reason, condition, reconciling, stalled, stamped
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.models import Condition
from kimi_linear_operator.kubernetes.pod_reasons import worst_reason
from kimi_linear_operator.kubernetes.queueing import why_suspended
from kimi_linear_operator.weights import progress
from kimi_linear_operator.weights.location import claim_name
from kimi_linear_operator.weights.program import FETCH
from kimi_linear_operator.weights.progress import LASTING, Progress
from kimi_linear_operator.weights.spec import KimiLinearWeights


@dataclass(frozen=True)
class WeightsObservation:
    """Everything from which the status is computed.

    Attributes:
        manifest: The stored weights, with their previous status.
        weights: The weights, None if they cannot be read.
        not_applied: Why the spec was not applied, None if it was.
        job: The Job for the spec, None if there is none.
        pods: The pods of the Job.
        said: The last message of the running program, None if unknown.
        refused: Why the Job has no pod. None if it has a pod, or if the cause is unknown.
        claim_uid: The UID of the claim that the operator has made, empty if the spec names another one.
        held: Children that are being deleted, but that finalizers hold.
    """

    manifest: Manifest
    weights: KimiLinearWeights | None
    not_applied: Reason | None = None
    job: Manifest | None = None
    pods: Sequence[Manifest] = field(default_factory=list)
    said: Progress | None = None
    refused: Reason | None = None
    claim_uid: str = ""
    held: Sequence[Manifest] = ()

    @property
    def result(self) -> Progress | None:
        """Return the result of the Job, None if it has not succeeded."""
        result = progress.result_of(self.job) if self.job else None
        return result if result and result.is_complete else None

    @property
    def failure(self) -> Progress | None:
        """Return the program's last failure, None if it has not failed."""
        latest = next(progress.latest_ends(self.pods), None)
        return latest if latest and not latest.is_complete else None

    @property
    def current(self) -> Progress | None:
        """Return the newest information about the program."""
        return self.result or self.said or self.failure


def weights_status(observation: WeightsObservation, now: str) -> Manifest:
    """Return the status of weights.

    Args:
        observation: What the status is derived from.
        now: The time as RFC 3339, for conditions that change.
    """
    previous: Manifest = observation.manifest.get("status", {})
    generation = int(observation.manifest["metadata"]["generation"])
    status = {
        "observedGeneration": generation,
        "conditions": stamped(_conditions(observation, now), previous, generation, now),
        **_place(observation, previous),
        **_numbers(observation, previous),
    }
    return {name: value for name, value in status.items() if value is not None}


def _place(observation: WeightsObservation, previous: Manifest) -> Manifest:
    """Return claim and commit. The last complete commit stays until another commit is complete on the claim.

    If the claim was deleted and created again, the commit is gone, although the new claim has the same name.
    """
    if observation.weights is None or observation.not_applied:
        return {name: previous.get(name) for name in ("claim", "claimUid", "commit")}
    claim, uid = claim_name(observation.weights), observation.claim_uid or None
    is_another = len({uid, previous.get("claimUid")} - {None}) > 1
    kept = previous.get("commit") if previous.get("claim") == claim and not is_another else None
    return {"claim": claim, "claimUid": uid, "commit": observation.result.commit if observation.result else kept}


def _numbers(observation: WeightsObservation, previous: Manifest) -> Manifest:
    """Return the progress of the download. Unknown numbers keep their last values."""
    current = observation.current
    if observation.not_applied or current is None or not current.total:
        kept = ("bytes", "totalBytes", "percent") if observation.job and not observation.not_applied else ()
        return {name: previous.get(name) for name in kept}
    is_moving = current is observation.said and current.rate > 0
    return {
        "bytes": current.size,
        "totalBytes": current.total,
        "percent": current.percent,
        "bytesPerSecond": current.rate if is_moving else None,
        "secondsLeft": current.seconds_left if is_moving else None,
    }


def _conditions(observation: WeightsObservation, now: str) -> list[Condition]:
    result = observation.result
    is_ready = result is not None and not observation.not_applied
    reason = observation.not_applied or (_complete(result) if result else _why_not_ready(observation, now))
    is_stalled = not is_ready and (reason.blames_spec or reason.name in LASTING)
    blocked = deletion.why_blocked(observation.held) if observation.held else None
    return [
        _accepted(observation),
        condition("Ready", is_ready, reason),
        reconciling(None if is_stalled else blocked if is_ready else reason),
        stalled(reason if is_stalled else None),
        *deletion.synced(observation.held, now),
    ]


def _accepted(observation: WeightsObservation) -> Condition:
    if observation.not_applied and observation.not_applied.blames_spec:
        return condition("Accepted", False, observation.not_applied)
    return condition("Accepted", True, Reason("SpecValid", "The spec passes all rules"))


def _complete(result: Progress) -> Reason:
    note = f"; {result.message}" if result.message else ""
    return Reason("WeightsComplete", f"commit {result.commit} is complete: {amount(result.total)}{note}")


def _why_not_ready(observation: WeightsObservation, now: str) -> Reason:
    """Return why the weights are not complete. The most certain cause is checked first."""
    job, pods = observation.job, observation.pods
    if job is None:
        return Reason("Starting", "the operator is about to create the Job that fetches the model")
    if deletion.finalizers_of(job) and not observation.said:
        return deletion.why_blocked([job])
    if job.get("spec", {}).get("suspend"):
        return Reason("JobSuspended", f"Job {job['metadata']['name']} {why_suspended(job)}")
    if progress.has_ended(job):
        message = (
            "ended without a result; the operator creates another Job after a minute, and later after longer pauses"
        )
        return Reason("NoResult", f"Job {job['metadata']['name']} {message}")
    if observation.said and (reason := _from_log(observation.said)):
        return reason
    if observation.failure and (problem := observation.failure.problem()):
        return problem
    reason = observation.refused or worst_reason(pods, now, FETCH) or Reason("Starting", "waiting for a pod")
    if reason.name == "Starting" and any(map(progress.is_running, pods)):
        return Reason("WeightsDownloading", "the pod for the download is running")
    return reason


def _from_log(said: Progress) -> Reason | None:
    """Return the state of a running program, None if it has not begun to download."""
    if problem := said.problem():
        return problem
    if said.state != "Downloading":
        return None
    trouble = f"; {said.message}" if said.message else ""
    return Reason("WeightsDownloading", f"{said.percent} % of {amount(said.total)} are on the volume{trouble}")


def amount(size: int) -> str:
    """Return a number of bytes as people read it."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
