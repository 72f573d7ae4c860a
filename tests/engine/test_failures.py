"""Servers that fail.

Their scheduler is killed, or they start with a mistake. The servers are SGLang in two releases, and the stand-in.
"""

import signal
from pathlib import Path

import pytest

from engine.server import Server
from engine.targets import Target
from integration.waiting import wait_for
from kimi_linear_operator.kubernetes import log_quotes
from kimi_linear_operator.server.sglang import probes
from kimi_linear_operator.server.sglang.program import SGLANG

# The part of a log that the kubelet keeps (FallbackToLogsOnError).
_MESSAGE_BYTES, _MESSAGE_LINES = 2048, 80
_SECONDS_TO_FAIL = 300

MISTAKES = {
    "an argument that does not exist": ("--no-such-argument", 2, "unrecognized arguments: --no-such-argument"),
    "a context longer than the model's": ("--context-length=2000000", 1, "is greater than the derived context_length"),
}


def test_a_killed_scheduler_is_noticed_by_sglang_or_by_the_probes(target: Target, cache: Path, tmp_path: Path) -> None:
    liveness = probes.build_probes(target.spec())["livenessProbe"]
    with Server(target, tmp_path, cache) as server:
        server.wait_until_ready()
        server.kill_scheduler()
        if target.manner.watches_its_processes:
            # A shell and Kubernetes show this as 137.
            assert server.process.wait(timeout=60) == -signal.SIGKILL
            return
        assert server.status(liveness["httpGet"]["path"], seconds=liveness["timeoutSeconds"]) == 503
        assert server.status("/metrics") == 200
        assert server.process.poll() is None
        server.process.send_signal(signal.SIGTERM)
        wait_for(server.process.poll, "the server notices and ends at once", lambda code: code is not None, seconds=20)


@pytest.mark.parametrize(("argument", "code", "cause"), MISTAKES.values(), ids=MISTAKES)
def test_the_operator_quotes_the_cause_of_a_failed_start(
    argument: str, code: int, cause: str, target: Target, cache: Path, tmp_path: Path
) -> None:
    with Server(target, tmp_path, cache, argument) as server:
        assert server.process.wait(timeout=_SECONDS_TO_FAIL) == code
        assert cause in log_quotes.quoted(_termination_message(server.log), SGLANG)


def _termination_message(log: str) -> str:
    last = "\n".join(log.splitlines()[-_MESSAGE_LINES:]).encode()[-_MESSAGE_BYTES:]
    return last.decode(errors="replace")
