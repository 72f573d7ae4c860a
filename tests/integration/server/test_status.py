"""The status of servers that do not serve, on a real control plane with pods that fail in realistic ways."""

from typing import Any

import pytest

from integration.kubelet import HELD_SPEC, crashing, held_pod, is_ready, report, report_ready, waiting
from integration.namespace import Namespace
from integration.processes_under_test import Operator
from integration.waiting import stays, wait_for
from kimi_linear_operator.kubernetes.kinds import EVENT, POD, Manifest

pytestmark = pytest.mark.usefixtures("operator")

# Longer than the operator's wait for the end of a burst of pod events.
_QUIET_SECONDS = 1.6


_BACK_OFF = {"state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 20s restarting"}}}
_BAD_ARGUMENT = crashing(2, "Error", "launch_server.py: error: unrecognized arguments: --nope")
_NO_SECRET = waiting("CreateContainerConfigError", 'secret "hf-token" not found')

# The kubelet's report, and its report after it has tried again.
_TROUBLES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "image": (
        waiting("ImagePullBackOff", 'Back-off pulling image "x": ErrImagePull: manifest unknown'),
        waiting("ErrImagePull", "manifest unknown"),
    ),
    "secret": (_NO_SECRET, _NO_SECRET),
    "memory": (crashing(137, "OOMKilled", ""), _BACK_OFF),
    "gpu-memory": (
        crashing(1, "Error", "Loading\ntorch.OutOfMemoryError: HIP out of memory. Tried to allocate 2 GiB"),
        _BACK_OFF,
    ),
    "argument": (_BAD_ARGUMENT, _BACK_OFF),
}
_WORDS = {
    "image": ("ImagePullFailed", "image lmsysorg/sglang:v0.5.7-rocm700-mi30x", "manifest unknown"),
    "secret": ("SecretMissing", 'secret "hf-token" not found'),
    "memory": ("OutOfMemory", "OOMKilled", "memory limit"),
    "gpu-memory": ("OutOfMemory", "out of GPU memory", "engine.memoryFractionStatic", "Tried to allocate 2 GiB"),
    "argument": ("CrashLooping", "exit code 2", "unrecognized arguments: --nope"),
}


@pytest.fixture(scope="module")
def troubled(operator_process: Operator, shared_namespace: Namespace) -> Namespace:
    """A namespace with a server for each kind of problem. Each server is named after its problem."""
    operator_process.start()
    for name in _TROUBLES:
        shared_namespace.create_server(name, HELD_SPEC)
    for name, (container, _) in _TROUBLES.items():
        report(shared_namespace, held_pod(shared_namespace, name), "Pending", container)
    return shared_namespace


@pytest.mark.parametrize("name", _TROUBLES)
def test_a_pod_in_trouble_is_explained(troubled: Namespace, name: str) -> None:
    reason, *words = _WORDS[name]
    ready = troubled.wait_for_condition(name, "Ready", "False", reason)
    [pod] = troubled.pods(name)
    missing = [word for word in (*words, pod["metadata"]["name"]) if word not in ready["message"]]
    assert not missing, ready["message"]
    assert troubled.condition(name, "Available")["reason"] == reason
    [event] = _wait_for_events(troubled, name, reason)
    assert (event["type"], event["message"]) == ("Warning", ready["message"])


def test_trouble_that_continues_is_reported_once(troubled: Namespace) -> None:
    for name in _TROUBLES:
        _wait_for_events(troubled, name, _WORDS[name][0])
    told = {name: _told(troubled, name) for name in _TROUBLES}
    for changed in (True, False, True):
        for name, (container, again) in _TROUBLES.items():
            [pod] = troubled.pods(name)
            report(troubled, pod, "Pending", {**container, **(again if changed else {})})
    stays(
        lambda: {name: _told(troubled, name) for name in _TROUBLES},
        "the same conditions and no other event",
        lambda seen: seen == told,
        _QUIET_SECONDS,
    )


def test_another_failure_is_counted_without_another_event(namespace: Namespace) -> None:
    namespace.create_server("kimi", HELD_SPEC)
    pod = held_pod(namespace)
    for restarts in (1, 2):
        report(namespace, pod, "Running", {**_BAD_ARGUMENT, "restartCount": restarts})
        _wait_for_words(namespace, "kimi", f"failed {restarts + 1} times")
    running = {**_BAD_ARGUMENT, "restartCount": 3, "state": {"running": {}}, "started": False}
    report(namespace, pod, "Running", running)
    ready = namespace.wait_for_condition("kimi", "Ready", "False", "ModelLoading")
    assert "it has failed 3 times, last: exit code 2 (Error): launch_server.py: error: unrec" in ready["message"]
    assert len(_wait_for_events(namespace, "kimi", "CrashLooping")) == 1


def test_a_scheduling_gate_is_reported_by_its_name(namespace: Namespace) -> None:
    namespace.create_server("kimi", {"podTemplate": {"spec": {"schedulingGates": [{"name": "example.com/queue"}]}}})
    assert "example.com/queue" in namespace.wait_for_condition("kimi", "Ready", "False", "Queued")["message"]
    [pod] = namespace.pods("kimi")
    namespace.edit(POD, pod["metadata"]["name"], {"spec": {"schedulingGates": None}})
    namespace.wait_until_ready("kimi")


def test_problems_without_watch_events_are_reported_within_a_minute(namespace: Namespace) -> None:
    """No watch event comes when nothing happens, so the operator must requeue the server itself.

    It creates one Event.
    """
    secret = {"name": "x", "secret": {"secretName": "typo"}}
    namespace.create_server("volume", {"podTemplate": {**HELD_SPEC["podTemplate"], "spec": {"volumes": [secret]}}})
    namespace.create_server("scheduler", {"podTemplate": {"spec": {"schedulerName": "nobody"}}})
    pod = held_pod(namespace, "volume")
    [scheduled] = (item for item in pod["status"]["conditions"] if item["type"] == "PodScheduled")
    not_set_up = {"type": "PodReadyToStartContainers", "status": "False"}
    status = {"startTime": scheduled["lastTransitionTime"], "conditions": [scheduled, not_set_up]}
    namespace.client.patch(POD, namespace.name, pod["metadata"]["name"], {"status": status}, "status")
    volume = namespace.wait_for_condition("volume", "Ready", "False", "VolumeNotMounted")
    assert "a volume is not mounted (Secret typo)" in volume["message"]
    assert f"kubectl describe pod {pod['metadata']['name']}" in volume["message"]
    scheduler = namespace.wait_for_condition("scheduler", "Ready", "False", "NotScheduled")
    assert "scheduler nobody has not handled it" in scheduler["message"]
    for server, reason in (("volume", "VolumeNotMounted"), ("scheduler", "NotScheduled")):
        [event] = _wait_for_events(namespace, server, reason)
        assert event["type"] == "Warning"


def test_a_lost_node_is_named(namespace: Namespace) -> None:
    namespace.create_server("kimi", HELD_SPEC)
    pod = held_pod(namespace)
    running = {"state": {"running": {}}, "started": True}
    report(namespace, pod, "Running", running, ready=True)
    namespace.wait_until_ready("kimi")
    # The state after the node controller's write. The kubelet's last report about the containers stays.
    [now] = namespace.pods("kimi")
    conditions = [item for item in now["status"]["conditions"] if item["type"] != "Ready"]
    lost = {"conditions": [*conditions, {"type": "Ready", "status": "False"}]}
    namespace.client.patch(POD, namespace.name, pod["metadata"]["name"], {"status": lost}, "status")
    assert pod["spec"]["nodeName"] in namespace.wait_for_condition("kimi", "Ready", "False", "NodeLost")["message"]


def _wait_for_words(namespace: Namespace, server: str, words: str) -> None:
    wait_for(lambda: str(namespace.condition(server, "Ready").get("message")), words, lambda message: words in message)


def _told(namespace: Namespace, server: str) -> Manifest:
    """Return the condition of a server, and the reasons of all its Events."""
    events = namespace.client.list(EVENT, namespace.name, {"fieldSelector": f"involvedObject.name={server}"})
    own = [event["reason"] for event in events if event["involvedObject"]["kind"] == "KimiLinearServer"]
    return {"ready": namespace.condition(server, "Ready"), "events": own}


def test_a_crash_is_remembered_when_its_pod_is_gone(namespace: Namespace) -> None:
    namespace.create_server("kimi", HELD_SPEC)
    pod = held_pod(namespace)
    report(namespace, pod, "Running", crashing(1, "Error", "RuntimeError: token=hf_abcdefghijkl is wrong"))
    namespace.wait_for_condition("kimi", "Ready", "False", "CrashLooping")
    namespace.change_server("kimi", {"podTemplate": None})
    failure = namespace.wait_until_ready("kimi")["status"]["lastFailure"]
    assert (failure["pod"], failure["exitCode"], failure["reason"]) == (pod["metadata"]["name"], 1, "Error")
    assert "RuntimeError" in failure["message"]
    assert "hf_abcdefghijkl" not in failure["message"]


def test_loading_counts_as_progress_and_not_as_trouble(namespace: Namespace) -> None:
    namespace.create_server("kimi", HELD_SPEC)
    pod = held_pod(namespace)
    report(namespace, pod, "Running", {"state": {"running": {"startedAt": "2026-11-24T09:30:00Z"}}})
    namespace.wait_for_condition("kimi", "Ready", "False", "ModelLoading")
    namespace.wait_for_condition("kimi", "Reconciling", "True", "ModelLoading")
    namespace.wait_for_condition("kimi", "Stalled", "False")
    report_ready(namespace, pod)
    namespace.wait_until_ready("kimi")
    _wait_for_events(namespace, "kimi", "AllReplicasServe")
    events = namespace.client.list(EVENT, namespace.name, {"fieldSelector": "involvedObject.kind=KimiLinearServer"})
    assert [(event["type"], event["reason"]) for event in events] == [("Normal", "AllReplicasServe")]


def test_a_replica_without_free_gpus_names_what_it_needs(namespace: Namespace, scarce: str) -> None:
    namespace.create_server("kimi", {"hardware": scarce, "replicas": 3})
    ready = wait_for(
        lambda: namespace.condition("kimi", "Ready"),
        "two of three replicas serve",
        lambda condition: "2 of 3 replicas serve" in condition["message"] and condition["reason"] == "Unschedulable",
    )
    assert "Insufficient amd.com/gpu" in ready["message"]
    assert "a replica needs 4 free amd.com/gpu on one node whose GPUs are all mi325x" in ready["message"]
    assert namespace.condition("kimi", "Available")["status"] == "True"
    namespace.change_server("kimi", {"replicas": 2})
    namespace.wait_until_ready("kimi")


def test_a_server_that_does_not_fit_is_reported_and_disturbs_no_other(namespace: Namespace, scarce: str) -> None:
    namespace.create_server("first", {"hardware": scarce})
    namespace.wait_until_ready("first")
    namespace.create_server("second", {"hardware": scarce, "tensorParallelism": 8})
    namespace.wait_for_condition("second", "Ready", "False", "Unschedulable")
    namespace.wait_for_condition("second", "Available", "False", "Unschedulable")
    assert namespace.condition("first", "Ready")["status"] == "True"


def test_an_update_without_spare_gpus_goes_replica_by_replica(namespace: Namespace, scarce: str) -> None:
    namespace.create_server("kimi", {"hardware": scarce, "replicas": 2})
    namespace.wait_until_ready("kimi")
    namespace.change_server("kimi", {"toolCallParser": "enabled", **HELD_SPEC})
    # The first new replica uses the GPUs of an old replica, and the other old replica serves.
    first = held_pod(namespace)
    stays(lambda: namespace.pods("kimi"), "one of two pods serves", lambda pods: _ready(pods) == [False, True], 1.5)
    namespace.wait_for_condition("kimi", "Available", "True")
    assert namespace.condition("kimi", "Ready")["status"] == "False"
    report_ready(namespace, first)
    # Only now the second new replica starts, and the first one serves.
    second = held_pod(namespace)
    assert second["metadata"]["name"] != first["metadata"]["name"]
    stays(lambda: namespace.pods("kimi"), "one of two pods serves", lambda pods: _ready(pods) == [False, True], 1.0)
    report_ready(namespace, second)
    status = namespace.wait_until_ready("kimi")["status"]
    assert (status["replicas"], status["readyReplicas"], status["updatedReplicas"]) == (2, 2, 2)


def _ready(pods: list[Manifest]) -> list[bool]:
    return sorted(is_ready(pod) for pod in pods)


def test_pods_that_a_quota_forbids_are_reported(namespace: Namespace) -> None:
    namespace.set_quota("none", {"pods": "0"})
    namespace.create_server("kimi")
    ready = namespace.wait_for_condition("kimi", "Ready", "False", "PodCreationFailed")
    assert "exceeded quota: none" in ready["message"]
    [event] = _wait_for_events(namespace, "kimi", "PodCreationFailed")
    assert event["type"] == "Warning"


def _wait_for_events(namespace: Namespace, server: str, reason: str) -> list[Manifest]:
    return wait_for(lambda: namespace.events(server, reason), f"an event for {reason}")
