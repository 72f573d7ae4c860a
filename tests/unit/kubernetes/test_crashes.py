"""The message about a container that ended: the exception, how often it failed, and whether it was too slow."""

from pathlib import Path
from typing import Any

import pytest

from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.log_quotes import quoted
from kimi_linear_operator.server.observation import ServerObservation
from kimi_linear_operator.server.sglang.program import SGLANG
from kimi_linear_operator.server.spec import KimiLinearServer
from kimi_linear_operator.server.status import server_status
from make import make_deployment, make_failed_pod, make_pod, make_server

NOW = "2026-11-24T10:00:00Z"
TRACEBACK = """\
[2026-11-28 19:20:01 TP0] Scheduler hit an exception: Traceback (most recent call last):
  File "/sgl-workspace/sglang/python/sglang/srt/models/kimi_linear.py", line 412, in forward
    raise ValueError("not this line")
"""
SIGQUIT = "[2026-11-28 19:20:01] Received sigquit from a child process. It usually means the child failed.\n"
# PyTorch on a GPU for which its kernels were not built.
HIP = f"""{TRACEBACK}torch.AcceleratorError: HIP error: invalid device function
HIP kernel errors might be asynchronously reported at some other API call, so the stacktrace below might be incorrect.
For debugging consider passing AMD_SERIALIZE_KERNEL=3
Compile with `TORCH_USE_HIP_DSA` to enable device-side assertions.
{SIGQUIT}/usr/bin/python3: Error while finding module specification for 'x'
"""
PINNING = f"""{TRACEBACK}ValueError: CPU number 96 is not eligible; choose between [0, 1, 2, 127]
{SIGQUIT}/usr/lib/python3.12/multiprocessing/resource_tracker.py:254: UserWarning: resource_tracker: There appear \
to be 12 leaked semaphore objects to clean up at shutdown
  warnings.warn('resource_tracker: There appear to be %d '
"""
OTHER_RANKS = f"""{TRACEBACK}RuntimeError: Unexpected shape of the weights
{TRACEBACK}torch.distributed.DistBackendError: NCCL error: remote process exited or there was a network error
{TRACEBACK}RuntimeError: [../third_party/gloo/pair.cc:534] Connection closed by peer [127.0.0.1]:3400
{SIGQUIT}"""
AFTER_SIGQUIT = f"""{TRACEBACK}KeyError: 'model.layers.0.weight'
{SIGQUIT}{TRACEBACK}RuntimeError: cannot schedule new futures after shutdown
"""
# Release 0.5.7 without internet logs this three times for each rank, before the weights are loaded.
OFFLINE = f"""[2026-11-28 19:20:01] retry() failed once (0th try, maximum 3 retries). Will delay 0.75s and retry.
{TRACEBACK}huggingface_hub.errors.OfflineModeIsEnabled: Cannot reach https://huggingface.co/api/models/m: offline \
mode is enabled.
"""
CHAINED = f"""{TRACEBACK}KeyError: 'tp'

During handling of the above exception, another exception occurred:

{TRACEBACK}ValueError: tp must be
one of 1, 2, 4
{SIGQUIT}"""


@pytest.mark.parametrize(
    ("log", "quote"),
    [
        (HIP, "torch.AcceleratorError: HIP error: invalid device function"),
        (PINNING, "ValueError: CPU number 96 is not eligible; choose between [0, 1, 2, 127]"),
        (OTHER_RANKS, "RuntimeError: Unexpected shape of the weights"),
        (AFTER_SIGQUIT, "KeyError: 'model.layers.0.weight'"),
        (
            f"{OFFLINE}{TRACEBACK}OSError: [Errno 28] No space left on device\n{OFFLINE}{SIGQUIT}",
            "OSError: [Errno 28] No space left on device",
        ),
        (
            OFFLINE,
            "huggingface_hub.errors.OfflineModeIsEnabled: Cannot reach https://huggingface.co/api/models/m: offline "
            "mode is enabled.",
        ),
        (CHAINED, "ValueError: tp must be | one of 1, 2, 4"),
        (f"{TRACEBACK}EOFError\n{SIGQUIT}", "EOFError"),
        (f"{TRACEBACK}queue.Empty\n{SIGQUIT}", "queue.Empty"),
        (
            f"{TRACEBACK}AssertionError\n",
            'AssertionError | File "/sgl-workspace/sglang/python/sglang/srt/models/kimi_linear.py", line 412, '
            'in forward | raise ValueError("not this line")',
        ),
        (
            "Exception: retry() exceed maximum number of retries.\n",
            "Exception: retry() exceed maximum number of retries.",
        ),
        (
            "[2026-11-28 19:20:01] Decode batch\n"
            "[2026-11-28 19:20:09] Subprocess scheduler_0 (pid=31) crashed with exit code -9. Triggering SIGQUIT for "
            "cleanup...\n[2026-11-28 19:20:09] SIGQUIT received. signum=3, frame=None. It usually means one child "
            "failed.\n",
            "[2026-11-28 19:20:09] Subprocess scheduler_0 (pid=31) crashed with exit code -9. Triggering SIGQUIT for "
            "cleanup...",
        ),
        (
            "usage: launch_server.py [-h]\nlaunch_server.py: error: unrecognized arguments: --foo",
            "launch_server.py: error: unrecognized arguments: --foo",
        ),
        (
            f"loading\nMemory access fault by GPU node-2 on address 0x7f. Reason: Unknown.\n{SIGQUIT}",
            "Memory access fault by GPU node-2 on address 0x7f. Reason: Unknown.",
        ),
        (
            "Fatal Python error: Segmentation fault\n\nThread 0x7f:\n",
            "Fatal Python error: Segmentation fault | Thread 0x7f:",
        ),
        (
            "Collecting x\nERROR: No matching distribution found for x\nnotice: a new release",
            "ERROR: No matching distribution found for x | notice: a new release",
        ),
        ("exec /usr/bin/python3: exec format error", "exec /usr/bin/python3: exec format error"),
        ("Loading safetensors: 60%\rLoading safetensors: 61%", "Loading safetensors: 60% | Loading safetensors: 61%"),
        ("", ""),
    ],
)
def test_a_log_is_quoted_for_its_exception(log: str, quote: str) -> None:
    assert quoted(log, SGLANG) == quote


@pytest.mark.parametrize("log", [HIP, PINNING, OTHER_RANKS, AFTER_SIGQUIT, CHAINED])
def test_an_exception_is_found_in_the_part_of_a_log_that_the_kubelet_keeps(log: str) -> None:
    """The last 2048 bytes, which can begin within a line."""
    noise = "\n".join(f"[2026-11-28 19:19:{second:02}] Load weight begin. avail mem=191.4 GB" for second in range(40))
    assert quoted((noise + "\n" + log)[-2048:], SGLANG) == quoted(log, SGLANG)


def ready(*pods: Manifest) -> Manifest:
    manifest = make_server()
    deployment = make_deployment(observedGeneration=1, replicas=1, updatedReplicas=1)
    view = ServerObservation(manifest, KimiLinearServer.model_validate(manifest), None, deployment, list(pods))
    return server_status(view, NOW)


def told(*pods: Manifest) -> tuple[str, str]:
    (condition,) = (item for item in ready(*pods)["conditions"] if item["type"] == "Ready")
    return condition["reason"], condition["message"].removeprefix("0 of 1 replicas serve; ")


def engine_pod(ended: Manifest, restarts: int = 0, *, running: bool = False, ready_since: str = "") -> Manifest:
    """A pod whose engine has ended like this. It has started again, or is about to start."""
    state = {"running": {}} if running else {"waiting": {"reason": "CrashLoopBackOff"}}
    container = {
        "name": "sglang",
        "image": "i",
        "restartCount": restarts,
        "started": False,
        "ready": False,
        "state": state,
        "lastState": {"terminated": {"reason": "Error", **ended}},
    }
    conditions = [{"type": "Ready", "status": "False", "lastTransitionTime": ready_since}] if ready_since else []
    probe = {"periodSeconds": 10, "failureThreshold": 360}
    spec = {"terminationGracePeriodSeconds": 315, "containers": [{"name": "sglang", "startupProbe": probe}]}
    return make_pod(phase="Running", containerStatuses=[container], conditions=conditions) | {"spec": spec}


CRASH: Manifest = {
    "exitCode": 1,
    "message": HIP,
    "startedAt": "2026-11-24T09:00:00Z",
    "finishedAt": "2026-11-24T09:01:00Z",
}


@pytest.mark.parametrize(("restarts", "count"), [(7, "7 times"), (1, "1 time")])
def test_failures_stay_visible_while_the_engine_starts_again(restarts: int, count: str) -> None:
    reason, message = told(engine_pod(CRASH, restarts, running=True))
    assert reason == "ModelLoading"
    assert message.startswith(
        f"pod kimi-0 is loading the model; it has failed {count}, last: exit code 1 (Error): "
        "torch.AcceleratorError: HIP error: invalid device function; phase "
    )


def test_a_crash_loop_counts_its_failures() -> None:
    assert told(engine_pod(CRASH, 7)) == (
        "CrashLooping",
        "pod kimi-0, container sglang (failed 8 times): exit code 1 (Error): torch.AcceleratorError: HIP error: "
        "invalid device function",
    )


def test_the_signal_of_an_exit_code_is_named() -> None:
    assert "exit code 139, SIGSEGV (Error): " in told(engine_pod({**CRASH, "exitCode": 139}))[1]


def lived(seconds: int, code: int = 137, **more: Any) -> Manifest:
    """The end of a container, in seconds after midnight. The engine began at midnight."""
    hours, rest = divmod(seconds, 3600)
    time = f"2026-11-24T{hours:02}:{rest // 60:02}:{rest % 60:02}Z"
    log = "Loading safetensors checkpoint shards: 61% Completed"
    return {"exitCode": code, "message": log, "startedAt": "2026-11-24T00:00:00Z", "finishedAt": time, **more}


TIMED_OUT = (
    "not ready within 3600 s (spec.startup.timeoutSeconds), so the kubelet stopped it: raise it, or keep the weights "
    "and compiled kernels on a volume (podTemplate, volume cache); its log ends with: Loading safetensors checkpoint "
    "shards: 61% Completed"
)


@pytest.mark.parametrize("code", [137, 143])
@pytest.mark.parametrize("seconds", [3590, 3600, 3915])
def test_a_start_that_ran_out_of_time_is_reported_as_such(seconds: int, code: int) -> None:
    pod = engine_pod(lived(seconds, code), ready_since="2026-11-23T23:59:00Z")
    ended = "this happened in the phase weights"
    assert told(pod) == ("StartupTimedOut", f"pod kimi-0, container sglang: {TIMED_OUT}; {ended}")
    assert ready(pod)["lastFailure"]["message"] == TIMED_OUT
    again = engine_pod(lived(seconds, code), 1, running=True)
    reason, message = told(again)
    assert reason == "ModelLoading"
    assert message.startswith(
        f"pod kimi-0 is loading the model; it has failed 1 time, last: {TIMED_OUT}; phase weights"
    )


@pytest.mark.parametrize(
    "pod",
    [
        engine_pod(lived(60)),
        engine_pod(lived(8000)),
        engine_pod(lived(3600, code=1)),
        engine_pod(lived(3600, reason="OOMKilled")),
        engine_pod(lived(3700), ready_since="2026-11-24T01:00:00Z"),
    ],
    ids=["too early", "too late", "by itself", "killed for its memory", "after it was ready"],
)
def test_other_ends_are_not_reported_as_a_start_that_ran_out_of_time(pod: Manifest) -> None:
    assert told(pod)[0] in ("CrashLooping", "OutOfMemory")


def drained(**status: Any) -> Manifest:
    """A replica of 0.5.7 that has drained. At the end, it kills itself."""
    ended = {"terminated": {"exitCode": 137, "reason": "Error", "finishedAt": NOW, "message": "Gracefully exiting..."}}
    return make_pod(containerStatuses=[{"name": "sglang", "restartCount": 0, "state": ended}], **status)


def test_a_replica_that_drained_is_no_failure() -> None:
    deleted = drained(phase="Running")
    deleted["metadata"]["deletionTimestamp"] = NOW
    shut_down = drained(
        phase="Failed", reason="Terminated", message="Pod was terminated in response to imminent node shutdown."
    )
    assert "lastFailure" not in ready(deleted)
    assert "lastFailure" not in ready(shut_down)


def test_an_eviction_keeps_its_reason_when_the_pod_is_replaced() -> None:
    message = "The node was low on resource: ephemeral-storage. Container sglang was using 98Gi, request is 0."
    failure = ready(drained(phase="Failed", reason="Evicted", message=message), make_pod("kimi-1"))["lastFailure"]
    assert failure == {
        "pod": "kimi-0",
        "container": "sglang",
        "reason": "Evicted",
        "exitCode": 137,
        "message": message,
        "time": NOW,
    }


def test_the_kubelets_words_are_cleaned_too() -> None:
    message = "failed to pull: Get https://user:pass@registry.example.com/v2/: \x1b[31munauthorized\x1b[0m"
    waiting = {"name": "sglang", "image": "i", "state": {"waiting": {"reason": "ErrImagePull", "message": message}}}
    assert told(make_pod(containerStatuses=[waiting])) == (
        "ImagePullFailed",
        "pod kimi-0, container sglang: image i: failed to pull: Get https://[redacted]@registry.example.com/v2/: "
        "unauthorized",
    )


def test_stored_messages_contain_no_secrets_and_no_escape_sequences() -> None:
    pod = make_failed_pod(log="\x1b]0;owned\x07\x1b[31mValueError: password='a,b'\x1b[0m")
    status = ready(pod)
    assert status["lastFailure"]["message"] == "ValueError: password='[redacted]'"
    assert told(pod)[1].endswith("exit code 1 (Error): ValueError: password='[redacted]'")


# Logs of failed starts of SGLang 0.5.7 itself, cut to the part that the kubelet keeps.
SGLANG_LOGS = Path(__file__).parents[1] / "sglang_logs"


@pytest.mark.parametrize(
    ("start", "quote"),
    [
        ("bad_memory", "RuntimeError: Not enough memory. Please try to increase --mem-fraction-static."),
        ("context_too_long", "ValueError: Warning: User-specified context_length (2000000) is greater than"),
        ("no_such_argument", "launch_server.py: error: unrecognized arguments: --no-such"),
        ("no_such_model", "OSError: Can't load the configuration of '/nowhere/model'."),
        ("not_in_cache", "OSError: We couldn't connect to 'https://huggingface.co' to load the files"),
        ("sigterm_port", "requests.exceptions.ConnectionError: HTTPConnectionPool(host='127.0.0.1', port=30333)"),
        (
            "tp3",
            'AssertionError | File "/sgl-workspace/sglang/python/sglang/srt/models/kimi_linear.py", line 180, '
            "in __init__ | assert self.num_heads % self.tp_size == 0",
        ),
    ],
)
def test_the_cause_is_found_in_sglangs_own_logs(start: str, quote: str) -> None:
    log = (SGLANG_LOGS / f"{start}.log").read_text()
    assert quoted(log, SGLANG).startswith(quote)
