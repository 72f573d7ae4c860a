"""Messages of pods are reduced to their cause, in all their forms."""

import pytest

from kimi_linear_operator.kubernetes.conditions import Reason
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.server.observation import ServerObservation
from kimi_linear_operator.server.spec import KimiLinearServer
from kimi_linear_operator.server.status import server_status
from make import make_deployment, make_failed_pod, make_pod, make_server

TORCH = (
    "torch.OutOfMemoryError: HIP out of memory. Tried to allocate 1.13 GiB. GPU 0 has a total capacity of 191.98 GiB "
    "of which 722.00 MiB is free. Of the allocated memory 185.21 GiB is allocated by PyTorch, and 1.09 GiB is reserved "
    "by PyTorch but unallocated. If reserved but unallocated memory is large try setting "
    "PYTORCH_HIP_ALLOC_CONF=expandable_segments:True to avoid fragmentation.  See documentation for Memory Management  "
    "(https://pytorch.org/docs/stable/notes/cuda.html#environment-variables)\n"
)


def ready(pods: list[Manifest], *, server: Manifest | None = None, obstacle: Reason | None = None) -> Manifest:
    manifest = server or make_server()
    deployment = make_deployment(observedGeneration=1, replicas=1, updatedReplicas=1) | {"spec": {"replicas": 1}}
    view = ServerObservation(manifest, KimiLinearServer.model_validate(manifest), obstacle, deployment, pods)
    status = server_status(view, "2026-11-24T10:00:00Z")
    return next(item for item in status["conditions"] if item["type"] == "Ready")


def test_out_of_gpu_memory_is_recognised_in_the_whole_log() -> None:
    assert ready([make_failed_pod(log=TORCH)])["reason"] == "OutOfMemory"


def test_the_remedy_does_not_contradict_sglang() -> None:
    log = "RuntimeError: Not enough memory. Please try to increase --mem-fraction-static."
    assert "lower engine.memoryFractionStatic" not in ready([make_failed_pod(log=log)])["message"]


ENGINE = {"name": "sglang", "image": "i", "restartCount": 0, "state": {"running": {}}}


@pytest.mark.parametrize(
    "pods",
    [
        [make_pod(containerStatuses=[ENGINE | {"started": True, "ready": False}])],
        [
            make_pod(
                containerStatuses=[ENGINE | {"started": True, "ready": True}, ENGINE | {"name": "s", "ready": False}]
            )
        ],
    ],
    ids=["engine hangs", "sidecar is not ready"],
)
def test_an_engine_that_has_loaded_is_not_reported_as_loading(pods: list[Manifest]) -> None:
    assert ready(pods)["reason"] != "ModelLoading"


def test_an_engine_that_keeps_ending_without_an_error_is_crash_looping() -> None:
    state = {"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": {"exitCode": 0}}}
    assert ready([make_pod(containerStatuses=[ENGINE | state])])["reason"] == "CrashLooping"


@pytest.mark.parametrize(
    "log",
    [
        "Error: the API key is empty, or has a space or a letter beyond ASCII: correct its Secret\n",
        "Error: the API key cannot be read (Permission denied): see spec.auth.apiKeySecretRef of the server\n",
    ],
)
def test_a_key_that_no_server_can_use_is_reported_in_the_launchers_words(log: str) -> None:
    assert ready([make_failed_pod(log=log)])["message"].endswith(log.strip())


MISSING = "the pod has 3 of 4 GPUs (/dev/dri/renderD*)"


def checked(message: str, exit_code: int = 1, restarts: int = 0, name: str = "preflight") -> Manifest:
    """A pod whose first init container has ended like this."""
    ended = {"exitCode": exit_code, "reason": "Error", "message": message, "finishedAt": "2026-11-24T09:30:00Z"}
    state = {"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": ended}}
    init = {"name": name, "image": "i", "ready": False, "restartCount": restarts, **state}
    waits = ENGINE | {"state": {"waiting": {"reason": "PodInitializing"}}}
    return make_pod(initContainerStatuses=[init], containerStatuses=[waits]) | {"spec": {"nodeName": "n1"}}


def test_a_pod_that_does_not_fit_its_node_has_the_same_message_after_every_check() -> None:
    told = {ready([checked(MISSING, restarts=count)])["message"] for count in range(3)}
    assert ready([checked(MISSING)])["reason"] == "PreflightFailed"
    assert told == {f"0 of 1 replicas serve; pod kimi-0 on node n1: {MISSING}"}


@pytest.mark.parametrize(
    "pod",
    [checked(MISSING, exit_code=137), checked(""), checked(MISSING, name="warm")],
    ids=["the check was killed", "the check found nothing", "another init container"],
)
def test_an_init_container_that_fails_in_another_way_is_crash_looping(pod: Manifest) -> None:
    assert ready([pod])["reason"] == "CrashLooping"


def test_a_benchmarks_init_container_named_preflight_is_not_the_check() -> None:
    pod = checked(MISSING)
    pod["status"]["containerStatuses"][0]["name"] = "client"
    assert ready([pod])["reason"] == "CrashLooping"


def test_an_evicted_pod_does_not_hide_its_successor() -> None:
    evicted = make_pod("old", phase="Failed", reason="Evicted", message="low on ephemeral-storage")
    assert (
        ready([evicted, make_pod("new", containerStatuses=[ENGINE | {"started": False}])])["reason"] == "ModelLoading"
    )


def test_the_message_counts_replicas_of_the_applied_spec_and_not_of_a_refused_one() -> None:
    obstacle = Reason("InvalidSpec", "no", blames_spec=True)
    assert "of 1 replicas" in ready([], server=make_server(replicas=5), obstacle=obstacle)["message"]


@pytest.mark.parametrize("log", ['{"api_key": "sk-1"}', "--api-key sk-1", "--api-key=sk-1", "--admin-api-key sk-1"])
def test_keys_are_redacted_in_every_spelling(log: str) -> None:
    assert "sk-1" not in ready([make_failed_pod(log=log)])["message"]
