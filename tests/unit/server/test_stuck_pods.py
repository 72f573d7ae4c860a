"""Pods whose problem is in no container's log. The condition Ready says what they wait for and what to check."""

from typing import Any

import pytest

from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.waits import next_look
from kimi_linear_operator.server.observation import ServerObservation
from kimi_linear_operator.server.spec import KimiLinearServer
from kimi_linear_operator.server.status import server_status
from make import make_deployment, make_failed_pod, make_pod, make_server

CREATED = "2026-11-24T09:00:00Z"
LATER = "2026-11-24T09:00:46Z"
MUCH_LATER = "2026-11-24T10:00:00Z"
ENGINE = {"name": "sglang", "image": "i", "restartCount": 0}
CREATING = ENGINE | {"state": {"waiting": {"reason": "ContainerCreating"}}}
RUNS = ENGINE | {"started": True, "ready": True, "state": {"running": {}}}


def told(pod: Manifest, now: str = MUCH_LATER) -> tuple[str, str]:
    """The reason and the message of the Ready condition, without how many replicas serve."""
    manifest = make_server()
    deployment = make_deployment(observedGeneration=1, replicas=1, updatedReplicas=1)
    view = ServerObservation(manifest, KimiLinearServer.model_validate(manifest), None, deployment, [pod])
    (ready,) = (item for item in server_status(view, now)["conditions"] if item["type"] == "Ready")
    return ready["reason"], ready["message"].removeprefix("0 of 1 replicas serve; ")


def pod(
    *conditions: tuple[str, str, str], containers: Any = (), spec: Manifest | None = None, **status: Any
) -> Manifest:
    """A pod with conditions of type, status and reason, which all changed when it was created."""
    items = [
        {"type": kind, "status": state, "reason": reason, "lastTransitionTime": CREATED}
        for kind, state, reason in conditions
    ]
    made = make_pod(**{"phase": "Pending", "conditions": items, "containerStatuses": list(containers), **status})
    made["metadata"]["creationTimestamp"] = CREATED
    return made | {"spec": spec or {}}


SCHEDULED = ("PodScheduled", "True", "")
NOT_READY = ("Ready", "False", "ContainersNotReady")
NOT_SET_UP = ("PodReadyToStartContainers", "False", "")
VOLUMES = [
    {"name": "dshm", "emptyDir": {}},
    {"name": "weights", "persistentVolumeClaim": {"claimName": "kimi-weights"}},
    {"name": "x", "secret": {"secretName": "typo"}},
    {"name": "p", "projected": {"sources": [{"serviceAccountToken": {}}, {"configMap": {"name": "ca"}}]}},
    {"name": "data", "nfs": {"server": "s", "path": "/"}},
]


@pytest.mark.parametrize(
    ("stuck", "reason", "message"),
    [
        (
            pod(("PodScheduled", "False", "SchedulingGated"), spec={"schedulingGates": [{"name": "test/gate"}]}),
            "Queued",
            "pod kimi-0 waits until its scheduling gate is removed: test/gate",
        ),
        (
            pod(
                ("PodScheduled", "False", "SchedulingGated"),
                spec={"schedulingGates": [{"name": "kueue.x-k8s.io/admission"}]},
            ),
            "Queued",
            "pod kimi-0 waits for Kueue: `kubectl describe workloads` shows the cause",
        ),
        (
            pod(spec={"schedulerName": "typo"}),
            "NotScheduled",
            "pod kimi-0: scheduler typo has not handled it: check that this scheduler runs",
        ),
        (
            pod(
                SCHEDULED,
                NOT_SET_UP,
                NOT_READY,
                containers=[CREATING],
                startTime=CREATED,
                spec={"nodeName": "n1", "volumes": VOLUMES},
            ),
            "VolumeNotMounted",
            "pod kimi-0: no container can start: a volume is not mounted (PersistentVolumeClaim kimi-weights, "
            "Secret typo, ConfigMap ca, nfs volume data); `kubectl describe pod kimi-0` says why",
        ),
        (
            pod(SCHEDULED, NOT_READY, containers=[CREATING], startTime=CREATED, spec={"volumes": VOLUMES[2:3]}),
            "Starting",
            "pod kimi-0: no container has started in 3 minutes: its image is still being pulled, or a volume is not "
            "mounted (Secret typo); `kubectl describe pod kimi-0` says why",
        ),
        (
            pod(SCHEDULED, spec={"nodeName": "n1"}),
            "NodeLost",
            "pod kimi-0: its node n1 has not started it: check that the node runs",
        ),
        (
            pod(("Ready", "False", "NodeLost"), containers=[RUNS], phase="Running", spec={"nodeName": "n1"}),
            "NodeLost",
            "pod kimi-0: its node n1 does not answer: repair it, or `kubectl delete node n1`",
        ),
        (
            pod(
                ("Ready", "False", "ReadinessGatesNotReady"),
                ("lb.example.com/open", "True", ""),
                containers=[RUNS],
                phase="Running",
                spec={"readinessGates": [{"conditionType": "lb.example.com/open"}, {"conditionType": "other/gate"}]},
            ),
            "ReadinessGateClosed",
            "pod kimi-0: its readiness gate other/gate is not open",
        ),
        (
            pod(phase="Failed", reason="Evicted", message="The node was low on resource: ephemeral-storage."),
            "Evicted",
            "pod kimi-0: Evicted: The node was low on resource: ephemeral-storage.",
        ),
        (
            pod(phase="Failed", reason="UnexpectedAdmissionError", message="no GPU"),
            "PodFailed",
            "pod kimi-0: UnexpectedAdmissionError: no GPU",
        ),
    ],
    ids=[
        "gate",
        "kueue",
        "scheduler",
        "volume",
        "image or volume",
        "node never began",
        "node",
        "readiness",
        "evicted",
        "refused",
    ],
)
def test_a_stuck_pod_says_why(stuck: Manifest, reason: str, message: str) -> None:
    assert told(stuck) == (reason, message)


def test_a_server_in_a_queue_is_never_stalled() -> None:
    late = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}
    gate = {"schedulingGates": [{"name": "kueue.x-k8s.io/admission"}]}
    queued = pod(("PodScheduled", "False", "SchedulingGated"), spec=gate)
    manifest = make_server()
    server = KimiLinearServer.model_validate(manifest)
    deployment = make_deployment(observedGeneration=1, replicas=1, updatedReplicas=1, conditions=[late]) | {"spec": {}}
    stalled = [
        item["status"]
        for pods in ([queued], [pod(SCHEDULED)])
        for item in server_status(ServerObservation(manifest, server, None, deployment, pods), MUCH_LATER)["conditions"]
        if item["type"] == "Stalled"
    ]
    assert stalled == ["False", "True"]


def test_a_missing_key_of_a_secret_is_named_with_its_secret() -> None:
    items = [{"key": "token", "path": "api-key"}]
    volumes = [{"name": "api-key", "secret": {"secretName": "clients", "items": items}}]
    sources = [{"secret": {"name": "more", "items": [{"key": "a", "path": "a"}, {"key": "b", "path": "b"}]}}]
    for found, words in (
        (volumes, "(Secret clients with token)"),
        ([{"name": "p", "projected": {"sources": sources}}], "(Secret more with a, b)"),
    ):
        stuck = pod(SCHEDULED, NOT_SET_UP, NOT_READY, containers=[CREATING], startTime=CREATED, spec={"volumes": found})
        reason, message = told(stuck)
        assert (reason, words in message) == ("VolumeNotMounted", True)


def with_gpus(container: Manifest, **health: str) -> Manifest:
    """Return a container that has GPUs, as kubelets report them: in any order."""
    devices = [{"resourceID": f"0000:{bus}:00.0", "health": state} for bus, state in health.items()]
    return container | {"allocatedResourcesStatus": [{"name": "amd.com/gpu", "resources": devices}]}


SILENT = RUNS | {"ready": False}
LOST = (
    "; the node reports as unhealthy: amd.com/gpu 0000:b5:00.0, amd.com/gpu 0000:c5:00.0: `kubectl delete pod "
    "kimi-0` replaces it by a pod that can get other devices"
)


def test_a_pod_that_does_not_answer_names_its_lost_gpus_in_a_stable_order() -> None:
    for health in ({"b5": "Unhealthy", "d5": "Healthy", "c5": "Unhealthy"}, {"c5": "Unhealthy", "b5": "Unhealthy"}):
        reason, message = told(pod(SCHEDULED, NOT_READY, containers=[with_gpus(SILENT, **health)], phase="Running"))
        assert (reason, message.endswith(f"readiness probe{LOST}")) == ("NotResponding", True), message


def test_an_engine_that_crashes_names_its_lost_gpus() -> None:
    failed = make_failed_pod(log="RuntimeError: HIP error: no device")
    failed["status"]["containerStatuses"] = [
        with_gpus(container, b5="Unhealthy", c5="Unhealthy") for container in failed["status"]["containerStatuses"]
    ]
    reason, message = told(failed)
    assert reason == "CrashLooping"
    assert "HIP error: no device" in message
    assert message.endswith(LOST)


@pytest.mark.parametrize(
    "container",
    [SILENT, with_gpus(SILENT, b5="Healthy"), with_gpus(SILENT, b5="Unknown"), with_gpus(CREATING, b5="Unhealthy")],
    ids=["an older kubelet", "healthy", "unknown", "a pod that is being started"],
)
def test_gpus_are_not_named_if_they_are_not_the_cause(container: Manifest) -> None:
    assert "unhealthy" not in told(pod(SCHEDULED, NOT_READY, containers=[container], phase="Running"))[1]


def test_a_deleted_pod_that_does_not_end_is_reported_with_its_node() -> None:
    gone = pod(containers=[RUNS], phase="Running", spec={"nodeName": "n1"})
    gone["metadata"]["deletionTimestamp"] = "2026-11-24T09:05:00Z"
    assert told(gone, "2026-11-24T09:05:59Z")[0] == "Starting"
    assert told(gone, "2026-11-24T09:06:00Z") == (
        "TerminationStuck",
        "pod kimi-0 should have ended by 2026-11-24T09:05:00Z: is its node n1 lost?",
    )


@pytest.mark.parametrize(
    "fresh",
    [
        pod(),
        pod(SCHEDULED, spec={"nodeName": "n1"}),
        pod(SCHEDULED, NOT_SET_UP, containers=[CREATING], startTime=CREATED, spec={"volumes": VOLUMES}),
    ],
    ids=["not scheduled yet", "not begun yet", "not mounted yet"],
)
def test_a_pod_is_not_stuck_at_once_and_is_checked_again_within_a_minute(fresh: Manifest) -> None:
    assert told(fresh, "2026-11-24T09:00:44Z")[0] == "Starting"
    assert next_look([fresh], "2026-11-24T09:00:44Z") == 1.0
    assert told(fresh, "2026-11-24T09:00:45Z")[0] != "Starting"


def test_a_message_stays_the_same_after_its_time_limit() -> None:
    stuck = pod(SCHEDULED, NOT_SET_UP, containers=[CREATING], startTime=CREATED, spec={"volumes": VOLUMES})
    assert told(stuck, LATER) == told(stuck, MUCH_LATER)
    assert next_look([stuck], MUCH_LATER) is None


def test_an_image_that_is_pulled_for_long_is_not_reported_as_a_missing_volume() -> None:
    pulls = pod(
        SCHEDULED,
        ("PodReadyToStartContainers", "True", ""),
        containers=[CREATING],
        startTime=CREATED,
        spec={"volumes": VOLUMES},
    )
    assert told(pulls) == (
        "Starting",
        f"pod kimi-0 is being started: its image is pulled and its volumes are mounted; phase image since {CREATED}, "
        "longer than 15 minutes: an image of tens of gigabytes takes up to 15 minutes. Look at `kubectl describe "
        "pod kimi-0`, and the connection from the node to the registry",
    )


def test_an_init_container_that_runs_is_named() -> None:
    runs = {"name": "fetch", "state": {"running": {}}}
    starts = pod(SCHEDULED, NOT_READY, containers=[CREATING], startTime=CREATED, initContainerStatuses=[runs])
    assert told(starts) == ("Starting", "pod kimi-0 is being started: its init container fetch runs")


def test_no_further_check_is_due_once_a_container_has_begun() -> None:
    loading = ENGINE | {"started": False, "state": {"running": {}}}
    assert next_look([pod(SCHEDULED, containers=[loading])], CREATED) is None


def test_foreign_text_from_a_node_cannot_control_a_terminal() -> None:
    evicted = pod(phase="Failed", reason="Evicted", message="\x1b]0;owned\x07low on disk\ntoken=abcdef")
    assert told(evicted) == ("Evicted", "pod kimi-0: Evicted: low on disk | token=[redacted]")


@pytest.mark.parametrize("time", ["2026-11-24T09:00:00", "2026-11-24", "never", "9" * 5000, ""])
def test_times_without_a_zone_or_of_a_wrong_form_cause_no_error(time: str) -> None:
    odd = pod(("PodScheduled", "True", ""), containers=[CREATING])
    for condition in odd["status"]["conditions"]:
        condition["lastTransitionTime"] = time
    ended = {"exitCode": 143, "reason": "Error", "startedAt": time, "finishedAt": CREATED}
    odd["status"]["containerStatuses"][0]["lastState"] = {"terminated": ended}
    odd["metadata"] |= {"creationTimestamp": time, "deletionTimestamp": time}
    odd["spec"] = {"containers": [{"name": "sglang", "startupProbe": {"periodSeconds": 10}}]}
    assert told(odd)
    assert (next_look([odd], LATER) or 0) >= 0
