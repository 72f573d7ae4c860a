"""How a container ended, in words: the exception in its log rather than the noise that follows it."""

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

# A shell's way to report a signal: 128 and its number.
_BY_SIGNAL = 128
# What the kubelet needs beyond a probe's budget and the grace period until it records a container's end.
_SLACK_SECONDS = 60

# What PyTorch says when GPU memory runs out at work, and SGLang (model_runner.py) when the weights leave none.
_GPU_REMEDIES = {
    re.compile("(HIP|CUDA) out of memory"): "lower engine.memoryFractionStatic or raise tensorParallelism",
    re.compile("Not enough memory"): "raise engine.memoryFractionStatic or tensorParallelism",
}

# SGLang's main process logs this when a child has told it to end (http_server.py): all that follows is shutting down.
_SHUTDOWN = re.compile("Received sigquit|SIGQUIT received", re.IGNORECASE)

_ERRORS: Mapping[str, re.Pattern[str]] = {
    "an exception of Python": re.compile(r"^(?:[\[(][^\])]*[\])]\s*)*[\w.]*(?:Error|Exception)(?::|$)"),
    "an exception in a log line": re.compile(r"\b[A-Z]\w*(?:Error|Exception): \S"),
    "arguments that argparse refuses": re.compile(r"^\S+: error: "),
    "an abort of ROCm": re.compile(r"Memory access fault by GPU|HSA_STATUS_ERROR|hipError[A-Z]\w+|HIP error"),
    "an abort of the process": re.compile(r"^Fatal Python error|^terminate called|^\s*what\(\): |panicked at|^panic: "),
}
# What says less: 0.5.23's watchdog, for example, knows which process has ended, and not why.
_WEAKER = re.compile(
    r"Subprocess \S+ \(pid=\d+\) crashed|watchdog timeout|\b(?:ERROR|CRITICAL|FATAL)\b"
    r"|not found$|[Ee]xec format error|cannot execute|No such file or directory"
)

# Exceptions that follow from another process's end, and those that SGLang catches: it tries three times to read
# hf_quant_config.json from the hub, and prints a traceback each time.
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
_WORDLESS = re.compile(r"^[\w.]+(?:Error|Exception)$")
# What Python puts below a line of source code.
_MARKERS = re.compile(r"^[\s^~]*$")
_LOG_RECORD = re.compile(r"^\[?\d{4}-\d\d-\d\d[ T]|^(?:INFO|WARNING|DEBUG)\b")


def crash_reason(where: str, pod: Manifest, container: Manifest, ended: Manifest) -> Reason:
    """Return why a container that ended keeps its pod from serving.

    Args:
        where: The names of the pod and the container.
        pod: The pod.
        container: The container's status.
        ended: How it ended.
    """
    count = int(container.get("restartCount", 0)) + 1
    again = f" (failed {count} times)" if count > 1 else ""
    if ended.get("reason") == "OOMKilled":
        remedy = "raise its memory limit with podTemplate, or use nodes with more memory"
        return Reason("OutOfMemory", f"{where}{again}: killed for its use of memory (OOMKilled): {remedy}")
    if quote := _gpu_memory_quote(ended):
        return Reason("OutOfMemory", f"{where}{again}: out of GPU memory; {quote}")
    if startup_budget_exceeded(pod, container, ended):
        return Reason("StartupTimedOut", f"{where}{again}: {end_words(pod, container, ended)}")
    return Reason("CrashLooping", f"{where}{again}: {end_words(pod, container, ended)}")


def history(pod: Manifest, container: Manifest) -> str:
    """Return how often a container that runs again has failed, and how the last time; empty if it has not."""
    ended = container.get("lastState", {}).get("terminated")
    if not ended:
        return ""
    count = max(int(container.get("restartCount", 0)), 1)
    return f"; it has failed {count} time{'s' * (count > 1)}, last: {end_words(pod, container, ended)}"


def end_words(pod: Manifest, container: Manifest, ended: Manifest) -> str:
    """Return how a container ended, and the exception in its log."""
    message = failure_message(pod, container, ended)
    if startup_budget_exceeded(pod, container, ended):
        return message
    return f"{_exit_words(ended)}: {message}" if message else _exit_words(ended)


def failure_message(pod: Manifest, container: Manifest, ended: Manifest) -> str:
    """Return the exception in a container's log, or that it was stopped because it was not ready in time."""
    quote = quoted(ended.get("message", ""))
    if seconds := startup_budget_exceeded(pod, container, ended):
        remedy = "raise it, or keep the weights and compiled kernels on a volume (podTemplate, volume cache)"
        log = f"; its log ends with: {quote}" if quote else ""
        return f"not ready within {seconds} s (spec.startup.timeoutSeconds), so it was stopped: {remedy}{log}"
    return quote


def _exit_words(ended: Manifest) -> str:
    code = int(ended["exitCode"])
    names = {each.value: each.name for each in signal.Signals}
    by = f", {name}" if (name := names.get(code - _BY_SIGNAL)) else ""
    return f"exit code {code}{by} ({ended.get('reason')})"


def _gpu_memory_quote(ended: Manifest) -> str:
    log = foreigntext.one_line(ended.get("message", ""))
    for pattern, remedy in _GPU_REMEDIES.items():
        if found := pattern.search(log):
            return f"{remedy}: {log[found.start() :].split(' | ')[0][:LONGEST_QUOTE]}"
    return ""


def startup_budget_exceeded(pod: Manifest, container: Manifest, ended: Manifest) -> int:
    """Return the seconds of a startup probe for which the kubelet ended a container, 0 if that is not why it ended.

    The kubelet does not record why it stops a container. This one was stopped by a signal, lived as long as its startup
    probe and its grace period allow, and its pod was not ready meanwhile.
    """
    spec: Manifest = pod.get("spec", {})
    probe: Manifest = next(
        (item.get("startupProbe", {}) for item in spec.get("containers", ()) if item["name"] == container["name"]), {}
    )
    if not probe or ended["exitCode"] <= _BY_SIGNAL or ended.get("reason") == "OOMKilled":
        return 0
    began, end = (moment(ended.get(name)) for name in ("startedAt", "finishedAt"))
    if began is None or end is None or _was_ready_since(pod, began):
        return 0
    period = probe.get("periodSeconds", 10)
    budget = int(probe.get("initialDelaySeconds", 0) + period * probe.get("failureThreshold", 3))
    grace = int(probe.get("terminationGracePeriodSeconds") or spec.get("terminationGracePeriodSeconds") or 30)
    lived = (end - began).total_seconds()
    return budget if budget - period <= lived <= budget + grace + _SLACK_SECONDS else 0


def _was_ready_since(pod: Manifest, began: datetime) -> bool:
    """Return whether a pod that is not ready has been ready after this time."""
    conditions = pod.get("status", {}).get("conditions", ())
    changed = (moment(item.get("lastTransitionTime")) for item in conditions if item["type"] == "Ready")
    return any(time is not None and time > began for time in changed)


def quoted(log: str) -> str:
    """Return a log's exception, or its end where none is found: one line without secrets, of at most LONGEST_QUOTE."""
    lines = [line for line in foreigntext.cleaned(log).split("\n") if line.strip()]
    passage = _passage(lines)
    if passage:
        return " | ".join(line.strip() for line in passage)[:LONGEST_QUOTE]
    return " | ".join(line.strip() for line in lines)[-LONGEST_QUOTE:]


def _passage(lines: Sequence[str]) -> list[str]:
    """Return the lines of the exception that ended a process, none if there is no exception."""
    shutdown = next((number for number, line in enumerate(lines) if _SHUTDOWN.search(line)), len(lines))
    found = max(_evidence(lines[:shutdown]), default=None) or max(_evidence(lines), default=None)
    if found is None:
        return []
    _, first = found
    rest = list(takewhile(lambda line: not _is_something_else(line), lines[first + 1 :]))
    return [lines[first], *rest, *([] if rest else _raised_at(lines, first))]


def _raised_at(lines: Sequence[str], first: int) -> list[str]:
    """Return the place and the source of an exception that has no words of its own, such as a failed assertion."""
    if not _WORDLESS.search(lines[first]) or _CONSEQUENCES.search(lines[first]):
        return []
    frame = next((number for number in range(first - 1, -1, -1) if _FRAME.match(lines[number])), None)
    return [] if frame is None else [line for line in lines[frame:first][:2] if not _MARKERS.match(line)]


def _evidence(lines: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Yield how much a line says about the end of the process, and its number: of equal ones, the last counts."""
    in_traceback = False
    for number, line in enumerate(lines):
        is_indented = line.startswith((" ", "\t"))
        ends_traceback = in_traceback and not is_indented
        in_traceback = is_indented and (in_traceback or bool(_FRAME.match(line)))
        # What is indented in a traceback is source code.
        if in_traceback or _is_noise(line):
            continue
        if ends_traceback or any(pattern.search(line) for pattern in _ERRORS.values()):
            yield (1 if _CONSEQUENCES.search(line) else 3), number
        elif _WEAKER.search(line):
            yield 2, number


def _is_noise(line: str) -> bool:
    return any(pattern.search(line) for pattern in _NOISE.values())


def _is_something_else(line: str) -> bool:
    """Return whether a line is no further line of an exception's message."""
    return _is_noise(line) or bool(_LOG_RECORD.match(line) or _FRAME.match(line))
