"""Messages about containers that failed. They quote the exception in the log, not the noise that follows it."""

import re
import signal
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import takewhile

from kimi_linear_operator import foreigntext
from kimi_linear_operator.kubernetes.conditions import Reason
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.times import moment

LONGEST_QUOTE = 400

# As in a shell, the exit code of a process that a signal ended is 128 plus the signal's number.
_SIGNAL_BASE = 128
# The time that the kubelet needs to record the end of a container, after the budget of its probe and its grace period.
_SLACK_SECONDS = 60

# The errors of PyTorch (no GPU memory left at runtime) and SGLang (model_runner.py: no memory left after the weights).
_GPU_REMEDIES = {
    re.compile("(HIP|CUDA) out of memory"): "lower engine.memoryFractionStatic or raise tensorParallelism",
    re.compile("Not enough memory"): "raise engine.memoryFractionStatic or tensorParallelism",
}

# SGLang's main process logs this when a child process has failed (http_server.py). The rest of the log is its shutdown.
_SHUTDOWN = re.compile("Received sigquit|SIGQUIT received", re.IGNORECASE)

_ERRORS: Mapping[str, re.Pattern[str]] = {
    "an exception of Python": re.compile(r"^(?:[\[(][^\])]*[\])]\s*)*[\w.]*(?:Error|Exception)(?::|$)"),
    "an exception in a log line": re.compile(r"\b[A-Z]\w*(?:Error|Exception): \S"),
    "arguments that argparse refuses": re.compile(r"^\S+: error: "),
    "an abort of ROCm": re.compile(r"Memory access fault by GPU|HSA_STATUS_ERROR|hipError[A-Z]\w+|HIP error"),
    "an abort of the process": re.compile(r"^Fatal Python error|^terminate called|^\s*what\(\): |panicked at|^panic: "),
}
# Errors without a cause: the watchdog of SGLang 0.5.23, for example, logs which process has ended, but not why.
_VAGUE_ERRORS = re.compile(
    r"Subprocess \S+ \(pid=\d+\) crashed|watchdog timeout|\b(?:ERROR|CRITICAL|FATAL)\b"
    r"|not found$|[Ee]xec format error|cannot execute|No such file or directory"
)

# Exceptions that follow from the end of another process, and those that SGLang catches: it tries three times to read
# hf_quant_config.json from the hub, and logs a traceback each time.
_CONSEQUENCES = re.compile(
    r"EOFError|ConnectionResetError|BrokenPipeError|CancelledError|KeyboardInterrupt|SystemExit"
    r"|[Cc]onnection (?:closed|reset|was closed) by (?:remote )?peer|remote process exited"
    r"|OfflineModeIsEnabled|hf_quant_config|retry\(\) failed once"
)
_NOISE: Mapping[str, re.Pattern[str]] = {
    "SGLang, shutting down": _SHUTDOWN,
    "PyTorch's advice": re.compile(
        r"(?:HIP|CUDA) kernel errors might be|For debugging consider passing|Compile with `TORCH_USE_|"
        r"Device-side assertions|destroy_process_group\(\) was not called|^Exception raised from|^frame #"
    ),
    "multiprocessing, cleaning up": re.compile(r"resource_tracker|leaked (?:semaphore|shared_memory)|warnings\.warn"),
    "the interpreter": re.compile(r"Error while finding module specification|^Exception ignored in"),
    "a traceback": re.compile(r"Traceback \(most recent call last\)|another exception occurred|direct cause of the"),
}
_FRAME = re.compile(r'^\s+File "')
_NO_MESSAGE = re.compile(r"^[\w.]+(?:Error|Exception)$")
# Python's markers below a line of source code.
_MARKERS = re.compile(r"^[\s^~]*$")
_LOG_RECORD = re.compile(r"^\[?\d{4}-\d\d-\d\d[ T]|^(?:INFO|WARNING|DEBUG)\b")


def crash_reason(where: str, pod: Manifest, container: Manifest, termination: Manifest) -> Reason:
    """Return the reason of a pod whose container failed.

    Args:
        where: The names of the pod and the container, for the message.
        pod: The pod.
        container: The status of the container.
        termination: Its last terminated state.
    """
    count = int(container.get("restartCount", 0)) + 1
    again = f" (failed {count} times)" if count > 1 else ""
    if termination.get("reason") == "OOMKilled":
        remedy = "raise its memory limit with podTemplate, or use nodes with more memory"
        return Reason("OutOfMemory", f"{where}{again}: killed because it used too much memory (OOMKilled): {remedy}")
    if quote := _gpu_memory_quote(termination):
        return Reason("OutOfMemory", f"{where}{again}: out of GPU memory; {quote}")
    if startup_budget_exceeded(pod, container, termination):
        return Reason("StartupTimedOut", f"{where}{again}: {describe_end(pod, container, termination)}")
    return Reason("CrashLooping", f"{where}{again}: {describe_end(pod, container, termination)}")


def history(pod: Manifest, container: Manifest) -> str:
    """Describe how often a running container has failed, and its last failure; empty if it has not failed."""
    termination = container.get("lastState", {}).get("terminated")
    if not termination:
        return ""
    count = max(int(container.get("restartCount", 0)), 1)
    return f"; it has failed {count} time{'s' * (count > 1)}, last: {describe_end(pod, container, termination)}"


def describe_end(pod: Manifest, container: Manifest, termination: Manifest) -> str:
    """Describe the end of a container: its exit code and the exception in its log, or that it was not ready in time."""
    message = failure_message(pod, container, termination)
    if startup_budget_exceeded(pod, container, termination):
        return message
    return f"{_exit_code(termination)}: {message}" if message else _exit_code(termination)


def failure_message(pod: Manifest, container: Manifest, termination: Manifest) -> str:
    """Return the exception in a container's log, or that the kubelet stopped it because it was not ready in time."""
    quote = quoted(termination.get("message", ""))
    if seconds := startup_budget_exceeded(pod, container, termination):
        remedy = "raise it, or keep the weights and compiled kernels on a volume (podTemplate, volume cache)"
        log = f"; its log ends with: {quote}" if quote else ""
        return f"not ready within {seconds} s (spec.startup.timeoutSeconds), so it was stopped: {remedy}{log}"
    return quote


def _exit_code(termination: Manifest) -> str:
    code = int(termination["exitCode"])
    names = {each.value: each.name for each in signal.Signals}
    signal_name = f", {name}" if (name := names.get(code - _SIGNAL_BASE)) else ""
    return f"exit code {code}{signal_name} ({termination.get('reason')})"


def _gpu_memory_quote(termination: Manifest) -> str:
    log = foreigntext.one_line(termination.get("message", ""))
    for pattern, remedy in _GPU_REMEDIES.items():
        if match := pattern.search(log):
            return f"{remedy}: {log[match.start() :].split(' | ')[0][:LONGEST_QUOTE]}"
    return ""


def startup_budget_exceeded(pod: Manifest, container: Manifest, termination: Manifest) -> int:
    """Return the seconds that a startup probe allows, if the kubelet stopped the container for it; otherwise 0.

    The kubelet does not record why it stops a container. The probe was the cause if a signal ended the container, if it
    ran as long as the probe and the grace period allow, and if its pod was not ready in that time.
    """
    spec: Manifest = pod.get("spec", {})
    probe: Manifest = next(
        (item.get("startupProbe", {}) for item in spec.get("containers", ()) if item["name"] == container["name"]), {}
    )
    if not probe or termination["exitCode"] <= _SIGNAL_BASE or termination.get("reason") == "OOMKilled":
        return 0
    start, end = (moment(termination.get(name)) for name in ("startedAt", "finishedAt"))
    if start is None or end is None or _was_ready_since(pod, start):
        return 0
    period = probe.get("periodSeconds", 10)
    budget = int(probe.get("initialDelaySeconds", 0) + period * probe.get("failureThreshold", 3))
    grace = int(probe.get("terminationGracePeriodSeconds") or spec.get("terminationGracePeriodSeconds") or 30)
    duration = (end - start).total_seconds()
    return budget if budget - period <= duration <= budget + grace + _SLACK_SECONDS else 0


def _was_ready_since(pod: Manifest, start: datetime) -> bool:
    """Return whether a pod that is not ready now was ready after this time."""
    conditions = pod.get("status", {}).get("conditions", ())
    changes = (moment(item.get("lastTransitionTime")) for item in conditions if item["type"] == "Ready")
    return any(time is not None and time > start for time in changes)


def quoted(log: str) -> str:
    """Return the exception in a log, or else its end: one line without secrets, of at most LONGEST_QUOTE characters."""
    lines = [line for line in foreigntext.cleaned(log).split("\n") if line.strip()]
    passage = _passage(lines)
    if passage:
        return " | ".join(line.strip() for line in passage)[:LONGEST_QUOTE]
    return " | ".join(line.strip() for line in lines)[-LONGEST_QUOTE:]


def _passage(lines: Sequence[str]) -> list[str]:
    """Return the lines of the exception that ended a process, none if there is no exception."""
    shutdown = next((index for index, line in enumerate(lines) if _SHUTDOWN.search(line)), len(lines))
    best = max(_errors(lines[:shutdown]), default=None) or max(_errors(lines), default=None)
    if best is None:
        return []
    _, first = best
    rest = list(takewhile(lambda line: not _ends_message(line), lines[first + 1 :]))
    return [lines[first], *rest, *([] if rest else _source_lines(lines, first))]


def _source_lines(lines: Sequence[str], first: int) -> list[str]:
    """Return the last frame of an exception without a message, such as a failed assertion; otherwise nothing."""
    if not _NO_MESSAGE.search(lines[first]) or _CONSEQUENCES.search(lines[first]):
        return []
    frame = next((index for index in range(first - 1, -1, -1) if _FRAME.match(lines[index])), None)
    return [] if frame is None else [line for line in lines[frame:first][:2] if not _MARKERS.match(line)]


def _errors(lines: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Yield rank and index of each line with an error; the higher the rank, the more it says about the cause."""
    in_traceback = False
    for index, line in enumerate(lines):
        is_indented = line.startswith((" ", "\t"))
        ends_traceback = in_traceback and not is_indented
        in_traceback = is_indented and (in_traceback or bool(_FRAME.match(line)))
        # Indented lines of a traceback are source code.
        if in_traceback or _is_noise(line):
            continue
        if ends_traceback or any(pattern.search(line) for pattern in _ERRORS.values()):
            yield (1 if _CONSEQUENCES.search(line) else 3), index
        elif _VAGUE_ERRORS.search(line):
            yield 2, index


def _is_noise(line: str) -> bool:
    return any(pattern.search(line) for pattern in _NOISE.values())


def _ends_message(line: str) -> bool:
    """Return whether a line no longer belongs to the message of an exception."""
    return _is_noise(line) or bool(_LOG_RECORD.match(line) or _FRAME.match(line))
