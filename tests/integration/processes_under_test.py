"""The project's command as real processes: the operator, and the verbs that use a cluster."""

import logging
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from chart import NAMESPACE, RELEASE
from control_plane import LocalCluster
from integration.waiting import wait_for

logger = logging.getLogger(__name__)

COMMAND = str(Path(sys.executable).with_name("kimi-linear"))
Program = tuple[str, ...]
THIS_VERSION: Program = (COMMAND,)
OTHER_VERSION: Program = (sys.executable, str(Path(__file__).with_name("other_version.py")))
"""A version that builds different pods."""
OTHER_ROUTER: Program = (sys.executable, str(Path(__file__).with_name("other_router.py")))
"""A version that builds different pods only for routers."""
NEWER_VERSION: Program = (sys.executable, str(Path(__file__).with_name("newer_version.py")))
"""A version in which a field has a new default, as in `schema.newer_definition`."""

USER = f"system:serviceaccount:{NAMESPACE}:{RELEASE}"
"""The user name, in the audit log, of the operator for all namespaces."""

USER_OF_THE_BUNDLE = f"system:serviceaccount:operators:{RELEASE}"
"""The user name of the operator that OLM would install. With the chart's default rights, it may read no Ingresses."""

# The same time as for a pod.
_SECONDS_TO_STOP = 30
# For the tests of outages, fifteen operators start at the same time.
_SECONDS_TO_START = 120
_LONGEST_LOG = 6000
_LISTENING = re.compile(r"Listening on (127\.0\.0\.1:\d+)")


@contextmanager
def log_for_failures(file: Path) -> Iterator[None]:
    """Log the end of the operator's log for this block. pytest shows it if a test fails."""
    begin = file.stat().st_size if file.exists() else 0
    try:
        yield
    finally:
        told = file.read_bytes()[begin:].decode(errors="replace") if file.exists() else ""
        logger.warning("The log of %s ends with:\n%s", file.name, told[-_LONGEST_LOG:])


@dataclass
class Operator:
    """`kimi-linear run` with its own user. Its log is in a file."""

    kubeconfig: Path
    log: Path
    arguments: tuple[str, ...] = ()
    program: Program = THIS_VERSION
    process: subprocess.Popen[bytes] | None = None
    _begin: int = 0

    def start(self) -> None:
        """Start it, unless it runs, and wait until it works."""
        if self.is_running:
            return
        self.launch()
        self.wait_until_leading()

    def launch(self) -> None:
        """Start it without a wait."""
        self._begin = self.log.stat().st_size if self.log.exists() else 0
        command = [*self.program, "run", "--listen=127.0.0.1:0", *self.arguments]
        environment = _environment(self.kubeconfig)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)

    def wait_until_leading(self) -> None:
        wait_for(
            self.told,
            "the operator says that it leads",
            lambda text: "Leading as" in text or not self.is_running,
            _SECONDS_TO_START,
        )
        if not self.is_running:
            pytest.fail(f"The operator ended:\n{self.log.read_text()[-3000:]}")

    def told(self) -> str:
        """Return its log since the last start."""
        return self.log.read_bytes()[self._begin :].decode()

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        """Kill it like a crash, so that it cannot finish its work."""
        if self.process:
            self.process.kill()
            self.process.wait()

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

    def ask(self, path: str) -> tuple[int, str]:
        """Return the status and the text of an answer on its port."""
        address = wait_for(lambda: _LISTENING.search(self.told()), "the operator says where it listens")
        assert address
        try:
            with urllib.request.urlopen(f"http://{address[1]}{path}", timeout=30) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    @contextmanager
    def stopped(self) -> Iterator[int]:
        """Keep it stopped during the block; yields its exit code."""
        code = self.stop()
        try:
            yield code
        finally:
            self.start()


def operator_of_release(cluster: LocalCluster, log: Path) -> Operator:
    """Return the operator of the release, not started yet, with its service account and its Lease."""
    return Operator(cluster.kubeconfig_of(RELEASE, NAMESPACE), log, (f"--lease={NAMESPACE}/{RELEASE}",))


def run_command(kubeconfig: Path, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run a verb of `kimi-linear`. Return its output and its exit code."""
    return subprocess.run(
        [COMMAND, *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        env=_environment(kubeconfig),
    )


def start_command(kubeconfig: Path, output: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """Start a verb of `kimi-linear`. Its output goes to a file, so that a test can read it at once."""
    with output.open("wb") as file:
        return subprocess.Popen([COMMAND, *arguments], stdout=file, stderr=file, env=_environment(kubeconfig))


def _environment(kubeconfig: Path) -> dict[str, str]:
    # Compiled modules are in the image, too. Without them, each start would compile all modules.
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**inherited, "KUBECONFIG": str(kubeconfig)}
