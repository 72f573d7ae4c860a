"""Messages about containers that failed: why they failed, how often, and what helps."""

import signal
from dataclasses import dataclass
from datetime import datetime

from kimi_linear_operator import foreigntext
from kimi_linear_operator.kubernetes.conditions import Reason
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.log_quotes import LONGEST_QUOTE, quoted
from kimi_linear_operator.kubernetes.program import Program
from kimi_linear_operator.kubernetes.times import moment

# As in a shell, the exit code of a process that a signal ended is 128 plus the signal's number.
_SIGNAL_BASE = 128
# After the time of a container's probe and its grace period, the kubelet needs this time to record the container's end.
_SLACK_SECONDS = 60


@dataclass(frozen=True)
class Crash:
    """A container that failed.

    Attributes:
        pod: The pod.
        container: The status of the container.
        termination: A terminated state of the container.
        program: The program of the pod.
    """

    pod: Manifest
    container: Manifest
    termination: Manifest
    program: Program

    def reason(self, where: str) -> Reason:
        """Return the reason of the pod.

        Args:
            where: The names of the pod and the container, for the message.
        """
        if found := self._check_result():
            return Reason("PreflightFailed", found)
        count = int(self.container.get("restartCount", 0)) + 1
        again = f" (failed {count} times)" if count > 1 else ""
        if self.termination.get("reason") == "OOMKilled":
            remedy = "raise its memory limit with podTemplate, or use nodes with more memory"
            return Reason(
                "OutOfMemory", f"{where}{again}: killed because it used too much memory (OOMKilled): {remedy}"
            )
        if quote := self._gpu_memory_quote():
            return Reason("OutOfMemory", f"{where}{again}: out of GPU memory; {quote}")
        if self.startup_budget_exceeded():
            return Reason("StartupTimedOut", f"{where}{again}: {self.describe()}")
        return Reason("CrashLooping", f"{where}{again}: {self.describe()}")

    def describe(self) -> str:
        """Describe the failure.

        The text contains the exit code and the exception in the log, or says that the container was not ready in time.
        """
        message = self.message()
        if self.startup_budget_exceeded():
            return message
        return f"{self._exit_code()}: {message}" if message else self._exit_code()

    def message(self) -> str:
        """Return the exception in the log, or say that the kubelet stopped a container that was not ready in time."""
        quote = quoted(self.termination.get("message", ""), self.program)
        if seconds := self.startup_budget_exceeded():
            remedy = f"raise it, or {self.program.startup_remedy}"
            log = f"; its log ends with: {quote}" if quote else ""
            return (
                f"not ready within {seconds} s ({self.program.startup_limit}), so the kubelet stopped it: {remedy}{log}"
            )
        return quote

    def startup_budget_exceeded(self) -> int:
        """Return the seconds that a startup probe allows, if this probe made the kubelet stop the container.

        Otherwise return 0. The kubelet does not record why it stops a container. The probe was the cause if three
        things are true: a signal ended the container, the container ran as long as the probe and the grace period
        allow, and the pod was not ready in that time.
        """
        spec: Manifest = self.pod.get("spec", {})
        containers = spec.get("containers", ())
        own = (item.get("startupProbe", {}) for item in containers if item["name"] == self.container["name"])
        probe: Manifest = next(own, {})
        if not probe or self.termination["exitCode"] <= _SIGNAL_BASE or self.termination.get("reason") == "OOMKilled":
            return 0
        start, end = (moment(self.termination.get(name)) for name in ("startedAt", "finishedAt"))
        if start is None or end is None or _was_ready_since(self.pod, start):
            return 0
        period = probe.get("periodSeconds", 10)
        budget = int(probe.get("initialDelaySeconds", 0) + period * probe.get("failureThreshold", 3))
        grace = int(probe.get("terminationGracePeriodSeconds") or spec.get("terminationGracePeriodSeconds") or 30)
        duration = (end - start).total_seconds()
        return budget if budget - period <= duration <= budget + grace + _SLACK_SECONDS else 0

    def _check_result(self) -> str:
        """Return the problem that the program's own check found.

        Empty if the container is not a check, or the check passed.

        The message does not count failures, so it stays the same while the check is repeated.
        """
        containers = self.pod.get("status", {}).get("containerStatuses", ())
        is_own = any(item["name"] == self.program.container for item in containers)
        if not is_own or self.container["name"] != self.program.check or self.termination["exitCode"] != 1:
            return ""
        message = foreigntext.one_line(self.termination.get("message", ""))[:LONGEST_QUOTE]
        node = self.pod.get("spec", {}).get("nodeName", "unknown")
        return f"pod {self.pod['metadata']['name']} on node {node}: {message}" if message else ""

    def _exit_code(self) -> str:
        code = int(self.termination["exitCode"])
        names = {each.value: each.name for each in signal.Signals}
        signal_name = f", {name}" if (name := names.get(code - _SIGNAL_BASE)) else ""
        return f"exit code {code}{signal_name} ({self.termination.get('reason')})"

    def _gpu_memory_quote(self) -> str:
        log = foreigntext.one_line(self.termination.get("message", ""))
        for pattern, remedy in self.program.memory_remedies.items():
            if match := pattern.search(log):
                return f"{remedy}: {log[match.start() :].split(' | ')[0][:LONGEST_QUOTE]}"
        return ""


def history(pod: Manifest, container: Manifest, program: Program) -> str:
    """Describe how often a running container has failed, and its last failure; empty if it has not failed."""
    termination = container.get("lastState", {}).get("terminated")
    if not termination:
        return ""
    count = max(int(container.get("restartCount", 0)), 1)
    last = Crash(pod, container, termination, program).describe()
    return f"; it has failed {count} time{'s' * (count > 1)}, last: {last}"


def _was_ready_since(pod: Manifest, start: datetime) -> bool:
    """Return whether a pod that is not ready now was ready after this time."""
    conditions = pod.get("status", {}).get("conditions", ())
    changes = (moment(item.get("lastTransitionTime")) for item in conditions if item["type"] == "Ready")
    return any(time is not None and time > start for time in changes)
