"""The start of a replica.

Its phases come from the kubelet and from the log. The tests show which phases are kept, and when a phase is late.
"""

from typing import Any

import pytest

from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.server.observation import ServerObservation
from kimi_linear_operator.server.spec import KimiLinearServer
from kimi_linear_operator.server.spec.status import StartupStatus
from kimi_linear_operator.server.startup import (
    EXPECTED,
    PHASES,
    LoggedPhases,
    describe,
    is_starting,
    newest_pod,
    seconds_to_serve,
    seconds_until_late,
    startup_status,
)
from kimi_linear_operator.server.status import server_status
from make import UID, make_deployment, make_pod, make_server

HOUR = 3600


def at(minute: int, second: int = 0) -> str:
    return f"2026-11-24T09:{minute:02}:{second:02}Z"


def since(kind: str, time: str, status: str = "True") -> Manifest:
    return {"type": kind, "status": status, "lastTransitionTime": time}


ON_NODE = [since("PodScheduled", at(0))]
PULLING = [*ON_NODE, since("PodReadyToStartContainers", at(1))]
RUNNING: Manifest = {"name": "sglang", "started": False, "restartCount": 0, "state": {"running": {"startedAt": at(5)}}}
SERVING: Manifest = {**RUNNING, "started": True, "ready": True}


def pod(*conditions: Manifest, name: str = "kimi-0", **status: Any) -> Manifest:
    return make_pod(name, conditions=list(conditions), **status)


def running(engine: Manifest = RUNNING, *conditions: Manifest) -> Manifest:
    return pod(*PULLING, *conditions, containerStatuses=[engine])


def logged(**times: str) -> LoggedPhases:
    return LoggedPhases(UID, at(5), {name.replace("_", "-"): time for name, time in times.items()})


def phases(startup: Manifest | None) -> dict[str, str]:
    return {phase["name"]: phase["time"] for phase in (startup or {"phases": []})["phases"]}


def test_a_pod_without_a_node_has_not_begun_to_start() -> None:
    assert startup_status([pod(since("PodScheduled", at(0), "False"))], None, None) is None


def test_the_kubelet_reports_the_first_phases_and_the_last() -> None:
    preflight = {"name": "preflight", "state": {"terminated": {"startedAt": at(4), "exitCode": 0}}}
    told = [
        pod(*ON_NODE),
        pod(*PULLING),
        pod(*PULLING, initContainerStatuses=[preflight]),
        pod(*PULLING, initContainerStatuses=[preflight], containerStatuses=[RUNNING]),
        pod(*PULLING, since("Ready", at(9)), initContainerStatuses=[preflight], containerStatuses=[SERVING]),
    ]
    found = [startup_status([each], None, None) or {} for each in told]
    assert [each["phase"] for each in found] == ["scheduled", "image", "preflight", "weights", "serving"]
    assert phases(found[-1]) == {
        "scheduled": at(0),
        "image": at(1),
        "preflight": at(4),
        "weights": at(5),
        "serving": at(9),
    }


def test_the_log_shows_the_phases_in_between() -> None:
    told = logged(loading=at(6), compiling=at(7), warm_up=at(8))
    startup = startup_status([running(SERVING, since("Ready", at(9)))], told, None)
    assert tuple(phases(startup)) == tuple(name for name in PHASES if name != "preflight")
    assert StartupStatus.model_validate(startup).phase == "serving"


@pytest.mark.parametrize(
    "told",
    [
        LoggedPhases("another pod", at(5), {"loading": at(6)}),
        LoggedPhases(UID, at(3), {"loading": at(6)}),
        LoggedPhases(UID, at(5), {"loading": at(4)}),
    ],
    ids=["of-another-pod", "of-an-earlier-start", "before-the-container"],
)
def test_a_log_of_another_start_is_ignored(told: LoggedPhases) -> None:
    assert "loading" not in phases(startup_status([running()], told, None))


def test_recorded_phases_stay_when_the_log_no_longer_shows_them() -> None:
    before = startup_status([running()], logged(loading=at(6)), None)
    assert startup_status([running()], logged(compiling=at(7)), before) == startup_status(
        [running()], logged(loading=at(6), compiling=at(7)), None
    )
    assert startup_status([running()], None, before) == before


def test_the_same_pods_give_the_same_start_so_that_nothing_is_written() -> None:
    before = startup_status([running(SERVING, since("Ready", at(9)))], None, None)
    flapped = running(SERVING, since("Ready", at(30)))
    unready = running({**SERVING, "ready": False}, since("Ready", at(20), "False"))
    assert startup_status([unready], None, before) == before
    assert startup_status([flapped], None, before) == before


def test_a_container_that_started_again_begins_a_new_start() -> None:
    before = startup_status([running(SERVING, since("Ready", at(9)))], logged(loading=at(6)), None)
    crashed = {"name": "sglang", "restartCount": 0, "state": {"terminated": {"startedAt": at(5), "exitCode": 1}}}
    assert startup_status([running(crashed, since("Ready", at(20), "False"))], None, before) == before
    again = {**RUNNING, "restartCount": 1, "state": {"running": {"startedAt": at(30)}}}
    startup = startup_status([running(again, since("Ready", at(20), "False"))], None, before)
    assert (startup or {})["phase"] == "weights"
    assert phases(startup) == {"weights": at(30)}


def test_phases_before_the_engine_do_not_belong_to_a_restart_of_its_container() -> None:
    before = startup_status([pod(*PULLING)], None, None)
    again = {**RUNNING, "restartCount": 1, "state": {"running": {"startedAt": at(30)}}}
    assert phases(startup_status([running(again)], None, before)) == {"weights": at(30)}


def test_a_pod_whose_container_restarted_does_not_serve_before_it_is_ready_again() -> None:
    again = {**RUNNING, "restartCount": 1, "state": {"running": {"startedAt": at(30)}}}
    assert "serving" not in phases(startup_status([running(again, since("Ready", at(9)))], None, None))


def created(name: str, time: str, **status: Any) -> Manifest:
    made = pod(*ON_NODE, name=name, **status)
    return {**made, "metadata": {**made["metadata"], "creationTimestamp": time}}


def test_the_start_is_that_of_the_newest_replica() -> None:
    old, new, twin = created("z", at(0)), created("a", at(2)), created("b", at(2))
    assert [(newest_pod(pods) or {})["metadata"]["name"] for pods in ([old, new], [twin, new], [new, twin])] == list(
        "abb"
    )


def test_ending_and_failed_pods_do_not_count() -> None:
    ending = created("b", at(3))
    ending["metadata"]["deletionTimestamp"] = at(9)
    assert newest_pod([created("a", at(0)), ending, created("c", at(4), phase="Failed")]) == created("a", at(0))
    assert newest_pod([ending]) is None


def test_without_pods_only_a_complete_start_is_kept() -> None:
    complete = startup_status([running(SERVING, since("Ready", at(9)))], None, None)
    assert startup_status([], None, complete) == complete
    assert startup_status([], None, startup_status([running()], None, None)) is None


def test_an_engine_starts_from_its_container_until_its_startup_probe_succeeds() -> None:
    assert [is_starting(each) for each in (pod(*PULLING), running(), running(SERVING))] == [False, True, False]


def test_a_start_is_measured_once_from_its_first_phase_until_it_serves() -> None:
    before = startup_status([running()], None, None)
    after = startup_status([running(SERVING, since("Ready", at(9)))], None, before)
    assert seconds_to_serve(before, after) == 9 * 60
    assert seconds_to_serve(after, after) is None
    assert seconds_to_serve(None, after) is None


def test_a_start_that_was_not_followed_is_not_measured() -> None:
    complete = startup_status([running(SERVING, since("Ready", at(9)))], None, None) or {}
    assert seconds_to_serve({**complete, "pod": "another", "phase": "loading"}, complete) is None
    assert seconds_to_serve(
        {**complete, "phase": "weights", "phases": [{"name": "weights", "time": at(3)}]}, complete
    ) is (None)


def test_a_phase_is_named_with_its_time_and_explained_once_it_is_late() -> None:
    startup = startup_status([running()], logged(compiling=at(7)), None) or {}
    in_time, late = (describe(startup, HOUR, now) for now in (at(16, 59), at(17)))
    assert in_time == f"phase compiling since {at(7)}"
    assert late == (
        f"phase compiling since {at(7)}, longer than 10 minutes: it took 42 s on four H200, and according to SGLang "
        "several minutes are normal. Look at `kubectl logs kimi-0 -c sglang`; a volume named kernels keeps compiled "
        "kernels"
    )
    assert describe(startup, HOUR, at(50)) == late
    assert [seconds_until_late(startup, HOUR, now) for now in (at(7), at(16, 59), at(17))] == [600, 1, None]


@pytest.mark.parametrize("phase", EXPECTED)
def test_the_limit_of_an_engines_phase_is_at_most_half_of_the_start_timeout(phase: str) -> None:
    limits = [EXPECTED[phase].limit(seconds) for seconds in (600, HOUR, 24 * HOUR)]
    if phase == "image":
        assert limits == [900, 900, 900]  # startup.timeoutSeconds begins when the image is pulled
    else:
        assert all(limit <= seconds // 2 for limit, seconds in zip(limits, (600, HOUR, 24 * HOUR), strict=True))


def test_a_complete_start_is_never_late() -> None:
    complete = startup_status([running(SERVING, since("Ready", at(9)))], None, None) or {}
    assert seconds_until_late(complete, HOUR, at(59)) is None
    assert describe(complete, HOUR, at(59)) == f"phase serving since {at(9)}"


def ready_message(pods: list[Manifest], **observed: Any) -> str:
    manifest = make_server()
    deployment = make_deployment(observedGeneration=1, replicas=1, updatedReplicas=1)
    observation = ServerObservation(
        manifest, KimiLinearServer.model_validate(manifest), deployment=deployment, pods=pods, **observed
    )
    conditions = server_status(observation, at(8))["conditions"]
    return str(next(item for item in conditions if item["type"] == "Ready")["message"])


def test_the_condition_names_the_phase() -> None:
    message = ready_message([running()], logged=logged(loading=at(7)))
    assert message == f"0 of 1 replicas serve; pod kimi-0 is loading the model; phase loading since {at(7)}"


def test_a_start_that_took_too_long_names_the_phase_in_which_it_ended() -> None:
    probe = {"periodSeconds": 10, "failureThreshold": 12}
    ended = {"startedAt": at(5), "finishedAt": at(7, 30), "exitCode": 137, "reason": "Error"}
    engine = {
        "name": "sglang",
        "image": "sglang",
        "restartCount": 1,
        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": {"terminated": ended},
    }
    stopped = {**running(engine), "spec": {"containers": [{"name": "sglang", "startupProbe": probe}]}}
    manifest = make_server()
    manifest["status"] = {"startup": startup_status([running()], logged(loading=at(6)), None)}
    observation = ServerObservation(
        manifest, KimiLinearServer.model_validate(manifest), deployment=make_deployment(replicas=1), pods=[stopped]
    )
    ready = next(item for item in server_status(observation, at(8))["conditions"] if item["type"] == "Ready")
    assert ready["reason"] == "StartupTimedOut"
    assert ready["message"].endswith("; this happened in the phase loading")
