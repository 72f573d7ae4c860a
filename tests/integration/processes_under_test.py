"""The product's command as real processes: the operator, and the verbs that talk to a cluster."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from integration.waiting import wait_for

COMMAND = str(Path(sys.executable).with_name("kimi-linear"))
SERVICE_ACCOUNT = "kimi-linear-operator"
USER = f"system:serviceaccount:kube-system:{SERVICE_ACCOUNT}"

_SECONDS_TO_STOP = 10
_SECONDS_TO_START = 30


@dataclass
class Operator:
    """`kimi-linear run`, as its own user, with its log in a file."""

    kubeconfig: Path
    log: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, unless it runs, and wait until it works."""
        if self.process and not self._ended():
            return
        begin = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [COMMAND, "run", "--listen=127.0.0.1:0"],
                stdout=log,
                stderr=log,
                env=_environment(self.kubeconfig),
                start_new_session=True,
            )
        wait_for(
            lambda: self.log.read_bytes()[begin:].decode(),
            "the operator says that it leads",
            lambda text: "Leading as" in text or self._ended(),
            _SECONDS_TO_START,
        )
        if self._ended():
            pytest.fail(f"The operator ended:\n{self.log.read_text()[-3000:]}")

    def stop(self) -> int:
        """Ask it to end with SIGTERM, as the kubelet does, and return its exit code."""
        if self.process is None:
            return 0
        process, self.process = self.process, None
        process.send_signal(signal.SIGTERM)
        try:
            return process.wait(timeout=_SECONDS_TO_STOP)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            pytest.fail(f"The operator did not end within {_SECONDS_TO_STOP} s:\n{self.log.read_text()[-3000:]}")

    @contextmanager
    def stopped(self) -> Iterator[int]:
        """Keep it stopped for a while; gives its exit code."""
        code = self.stop()
        try:
            yield code
        finally:
            self.start()

    def _ended(self) -> bool:
        return self.process is not None and self.process.poll() is not None


def run_command(kubeconfig: Path, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run a verb of `kimi-linear` and return what it printed and its exit code."""
    return subprocess.run(
        [COMMAND, *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        env=_environment(kubeconfig),
    )


def _environment(kubeconfig: Path) -> dict[str, str]:
    return {**os.environ, "KUBECONFIG": str(kubeconfig)}
