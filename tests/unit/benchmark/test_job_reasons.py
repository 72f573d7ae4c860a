"""Reasons why pods are not created or do not run although no container has failed."""

from typing import Any

import pytest

from kimi_linear_operator.benchmark import job_reasons
from kimi_linear_operator.kubernetes.conditions import Reason
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.refusals import refusal
from make import owned

START, SOON, LATER = "2026-11-24T09:00:00Z", "2026-11-24T09:00:29Z", "2026-11-24T09:00:30Z"


def job(**spec: Any) -> Manifest:
    metadata = {"name": "nightly-gsm8k", "creationTimestamp": START}
    return owned({"kind": "Job", "metadata": metadata, "spec": spec, "status": {"startTime": START}}, "nightly")


def pod(*conditions: Manifest, spec: Manifest | None = None, **status: Any) -> Manifest:
    given = {"phase": "Pending", "conditions": list(conditions), **status}
    return {"metadata": {"name": "p", "creationTimestamp": START}, "spec": spec or {}, "status": given}


def condition(kind: str, status: str = "True", **more: str) -> Manifest:
    return {"type": kind, "status": status, "lastTransitionTime": START, **more}


def event(reason: str, message: str = "", time: str = SOON) -> Manifest:
    return {"reason": reason, "message": message, "lastTimestamp": time}


SCHEDULED = condition("PodScheduled")
CREATING = {"name": "client", "state": {"waiting": {"reason": "ContainerCreating"}}}
RUNS = {"name": "client", "ready": True, "state": {"running": {}}}


@pytest.mark.parametrize(
    ("message", "words", "remedy"),
    [
        ('Error creating: pods "n-x7k2p" is forbidden: exceeded quota: q, requested: cpu=1, used: cpu=4',
         "exceeded quota: q, requested: cpu=1, used: cpu=4", "raise the quota"),
        ('Error creating: pods "n-aaaaa" is forbidden: failed quota: q: must specify limits.cpu for: client',
         "failed quota: q: must specify limits.cpu for: client", "set the resources that the quota names"),
        ('Error creating: pods "n-bbbbb" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot != true',
         'violates PodSecurity "restricted:latest": runAsNonRoot != true', "enforce=baseline"),
        ('Error creating: Pod "n-ccccc" is invalid: spec.x: Invalid value: "2Gi": must be less than or equal to memory '
         "limit of 1Gi", 'spec.x: Invalid value: "2Gi": must be less than or equal to memory limit of 1Gi',
         "a LimitRange of the namespace"),
        ('Error creating: admission webhook "a.b" denied the request', 'admission webhook "a.b" denied the request',
         "a cluster policy"),
        ("Error creating: no idea", "no idea", "see its message"),
    ],
    ids=["quota", "quota without limits", "Pod Security", "LimitRange", "webhook", "unknown"],
)  # fmt: skip
def test_a_refusal_is_quoted_without_generated_names_and_with_a_remedy(message: str, words: str, remedy: str) -> None:
    told = refusal(message)
    assert told.name == "PodCreationFailed"
    assert told.message.startswith(f"{words} (")
    assert remedy in told.message
    assert refusal(message.replace("n-x7k2p", "n-other")) == told


def test_events_are_read_only_when_a_step_takes_too_long() -> None:
    assert job_reasons.asks_events_of(job(), [], SOON) is None
    assert job_reasons.asks_events_of(job(), [], LATER) == job()
    being_brought_up = pod(SCHEDULED, containerStatuses=[CREATING])
    assert job_reasons.asks_events_of(job(), [being_brought_up], SOON) is None
    assert job_reasons.asks_events_of(job(), [being_brought_up], LATER) == being_brought_up
    assert job_reasons.asks_events_of(job(), [pod(SCHEDULED, phase="Running", containerStatuses=[RUNS])], LATER) is None
    assert job_reasons.asks_events_of(job(suspend=True), [], LATER) is None


def test_a_job_without_a_pod_says_why() -> None:
    refused = event("FailedCreate", 'Error creating: pods "n-x" is forbidden: exceeded quota: q')
    assert job_reasons.job_reason(job(), [], [], SOON) is None
    assert job_reasons.job_reason(job(), [], [refused], LATER) == refusal(refused["message"])
    told = job_reasons.job_reason(job(), [], [], LATER)
    assert told
    assert told.message == (
        "Job nightly-gsm8k has no pod, and no Event says why: see `kubectl describe job nightly-gsm8k`"
    )


def test_a_job_that_waits_before_its_next_attempt_is_not_held() -> None:
    ended = {"name": "client", "state": {"terminated": {"exitCode": 1, "finishedAt": SOON}}}
    failed = pod(SCHEDULED, phase="Failed", containerStatuses=[ended])
    former = event("FailedCreate", "quota", START)
    assert job_reasons.job_reason(job(), [failed], [former], "2026-11-24T09:10:00Z") is None
    again = event("FailedCreate", "quota", "2026-11-24T09:09:00Z")
    assert job_reasons.job_reason(job(), [failed], [again], "2026-11-24T09:10:00Z") == refusal("quota")


def test_a_job_that_somebody_else_suspends_is_reported() -> None:
    told = job_reasons.job_reason(job(suspend=True), [], [], START)
    assert told
    assert (told.name, "suspended by somebody else" in told.message) == ("JobSuspended", True)


def test_a_job_in_a_queue_of_kueue_names_the_queue_and_the_next_step() -> None:
    queued = job(suspend=True)
    queued["metadata"]["labels"] = {"kueue.x-k8s.io/queue-name": "measurements"}
    told = job_reasons.job_reason(queued, [], [], START)
    assert told
    assert told.name == "JobSuspended"
    assert "waits in Kueue's queue measurements: `kubectl describe workloads`" in told.message


UNMOUNTED = event("FailedMount", 'MountVolume.SetUp failed for volume "x" : configmap "typo" not found')
VAGUE = event("FailedMount", "Unable to attach or mount volumes: unmounted volumes=[x]: timed out", LATER)
BROUGHT_UP = pod(SCHEDULED, startTime=START, containerStatuses=[CREATING])


def reason(pod: Manifest, *events: Manifest) -> str | None:
    told = job_reasons.pod_reason(pod, events, LATER)
    return told.name if told else None


def test_a_missing_volume_is_reported_in_the_kubelets_words() -> None:
    told = job_reasons.pod_reason(BROUGHT_UP, [UNMOUNTED, VAGUE], LATER)
    assert told
    assert (told.name, 'configmap "typo" not found' in told.message) == ("VolumeNotMounted", True)


def test_a_volume_that_was_mounted_later_is_no_reason() -> None:
    assert reason(BROUGHT_UP) == "Starting"
    assert reason(BROUGHT_UP, UNMOUNTED, event("Pulling", "", LATER)) == "Starting"
    assert reason(pod(SCHEDULED, condition("Ready"), phase="Running", containerStatuses=[RUNS]), UNMOUNTED) is None


def test_reasons_of_every_pod_are_reported_for_a_clients_pod_too() -> None:
    gated = pod(
        condition("PodScheduled", "False", reason="SchedulingGated"), spec={"schedulingGates": [{"name": "a/b"}]}
    )
    assert reason(gated) == "Queued"
    assert reason(pod(condition("PodScheduled", "False", reason="Unschedulable"))) == "Unschedulable"


def test_only_a_lost_node_is_reported_for_a_running_client() -> None:
    lost = pod(
        SCHEDULED, condition("Ready", "False"), phase="Running", containerStatuses=[RUNS], spec={"nodeName": "n7"}
    )
    told = job_reasons.pod_reason(lost, [], LATER)
    assert told
    assert (told.name, "node n7 does not answer" in told.message) == ("NodeLost", True)
    sidecar = {"name": "proxy", "ready": False, "state": {"running": {}}}
    beside = pod(SCHEDULED, condition("Ready", "False"), phase="Running", containerStatuses=[RUNS, sidecar])
    assert reason(beside) is None


def test_reasons_can_be_compared_by_value() -> None:
    assert refusal("x") == Reason("PodCreationFailed", "x (the API server refuses the pod: see its message)")
